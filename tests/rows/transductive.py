"""Rows of the transductive learners."""

from torch import nn

from quickstudy.learners.alphatim import AlphaTIM
from quickstudy.learners.bdcspn import BDCSPN
from quickstudy.learners.laplacianshot import LaplacianShot
from quickstudy.learners.ptmap import PTMAP
from quickstudy.learners.tim import TIM
from quickstudy.learners.transductivefinetune import TransductiveFineTune
from tests.rows.baselines import centred
from tests.smalltasks import Row, mlp

ROWS: list[Row] = [
    Row("bd-cspn", lambda: BDCSPN(mlp(), classes=9, confident=2)),
    Row("bd-cspn-batchnorm", lambda: centred(BDCSPN(mlp("batch"), classes=9, confident=None, transform="cl2n"))),
    Row("laplacianshot", lambda: centred(LaplacianShot(mlp(), classes=9))),
    Row("laplacianshot-plain", lambda: LaplacianShot(mlp(), rectify=False, transform="none", neighbours=99)),
    Row("tim", lambda: TIM(mlp(), classes=9, steps=5, lr=0.1)),
    Row("tim-adm", lambda: TIM(mlp(), solver="adm", steps=5)),
    Row("alpha-tim", lambda: AlphaTIM(mlp(), classes=9, steps=5, lr=0.1)),
    Row("alpha-tim-7", lambda: AlphaTIM(mlp("batch"), alpha=7.0, steps=3, lr=0.1)),
    # Its features are above 0, as behind the authors' ReLU: of negative ones the power transform leaves so little that
    # queries may be all but equal, and centred and of length 1 again have too few digits for finite differences.
    Row("pt-map", lambda: PTMAP(nn.Sequential(mlp(), nn.Softplus()), classes=9, iterations=5, out_features=5)),
    Row("transductive-fine-tune", lambda: TransductiveFineTune(mlp(), classes=9, steps=3, lr=0.05)),
    Row("transductive-fine-tune-sgd", lambda: TransductiveFineTune(mlp(), steps=2, lr=0.1, optimizer="sgd")),
]
