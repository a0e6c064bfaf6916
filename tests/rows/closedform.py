"""Rows of the learners that solve each task in closed form, or by a convex problem."""

from quickstudy.learners.boosting import Boosting
from quickstudy.learners.dkt import DKT
from quickstudy.learners.lrd2 import LRD2
from quickstudy.learners.metaoptnet import MetaOptNet
from quickstudy.learners.r2d2 import R2D2
from quickstudy.learners.ridge import Ridge
from tests.smalltasks import Row, mlp

ROWS: list[Row] = [
    Row("r2d2", lambda: R2D2(mlp(), penalty=0.5)),
    Row("r2d2-fixed-penalty", lambda: R2D2(mlp(), penalty=50.0, learn_penalty=False)),
    Row("r2d2-batchnorm", lambda: R2D2(mlp("batch"), penalty=0.5)),
    Row("r2d2-tasknorm", lambda: R2D2(mlp("task"), penalty=0.5)),
    Row("r2d2-transductive", lambda: R2D2(mlp("transductive"), penalty=0.5)),
    Row("r2d2-real", lambda: R2D2(mlp(), penalty=0.1, scale=1.0), target="real"),
    Row("lr-d2", lambda: LRD2(mlp(), penalty=0.5)),
    Row("lr-d2-batchnorm", lambda: LRD2(mlp("batch"), penalty=0.5, iterations=2)),
    Row("lr-d2-multinomial", lambda: LRD2(mlp(), form="multinomial", penalty=0.5)),
    Row("metaoptnet", lambda: MetaOptNet(mlp())),
    Row("metaoptnet-large-c", lambda: MetaOptNet(mlp(), c=5.0, smoothing=0.0)),
    Row("metaoptnet-identity", lambda: MetaOptNet(mlp(), identity=True)),
    Row("metaoptnet-batchnorm", lambda: MetaOptNet(mlp("batch"))),
    Row("metaoptnet-ridge", lambda: MetaOptNet(mlp(), head="ridge", penalty=0.5)),
    Row("dkt", lambda: DKT(mlp())),
    Row("dkt-bn-cosine", lambda: DKT(mlp(), kernel="bn-cosine")),
    Row("dkt-linear", lambda: DKT(mlp(), kernel="linear", learn_noise=True)),
    Row("dkt-rbf-batchnorm", lambda: DKT(mlp("batch"), kernel="rbf")),
    Row("dkt-multi-label", lambda: DKT(mlp(), "multi-label"), target="multi-label"),
    Row("dkt-real", lambda: DKT(mlp(), "real", kernel="rbf"), target="real"),
    Row("dkt-spectral", lambda: DKT(mlp(), "real", kernel="spectral", mixtures=2), target="real"),
    Row("ridge", Ridge),
    Row("ridge-features", lambda: Ridge(mlp(), penalty=0.1)),
    Row("ridge-real", Ridge, target="real"),
    Row("boosting", lambda: Boosting(trees=10)),
    Row("boosting-features", lambda: Boosting(mlp(), trees=5)),
    Row("boosting-real", lambda: Boosting(trees=10), target="real"),
]
