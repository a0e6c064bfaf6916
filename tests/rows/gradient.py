"""Rows of the kin of MAML, and of adapting a part of a network."""

from torch import nn

from quickstudy.learners.anil import ANIL
from quickstudy.learners.boil import BOIL
from quickstudy.learners.fomaml import FOMAML
from quickstudy.learners.maml import MAML
from quickstudy.learners.metacurvature import MetaCurvature
from quickstudy.learners.metasgd import MetaSGD
from quickstudy.learners.protomaml import FOProtoMAML, ProtoMAML
from quickstudy.learners.reptile import Reptile
from quickstudy.learners.unicornmaml import UnicornMAML
from quickstudy.nets import Conv4
from tests.smalltasks import WAY, Picture, Row, mlp, smooth_conv


def pictures(norm: str = "task") -> nn.Sequential:
    return nn.Sequential(Picture(), Conv4(1, 16, filters=4, norm=norm))  # type: ignore[arg-type]


ROWS = [
    Row("maml-multi-label", lambda: MAML(mlp(), WAY, "multi-label", inner_steps=2), target="multi-label"),
    Row("maml-head-shared", lambda: MAML(mlp(), head="shared", part="head", inner_steps=2, inner_lr=0.3)),
    Row("maml-head-proto", lambda: MAML(mlp(), head="proto", part="head", inner_steps=2, inner_lr=0.05)),
    Row("maml-body", lambda: MAML(mlp(), WAY, part="body", inner_steps=2, inner_lr=0.3)),
    Row("maml-biases", lambda: MAML(mlp(), head="proto", part="biases", inner_steps=2, inner_lr=0.1)),
    Row("maml-norms", lambda: MAML(mlp("task"), head="shared", part="norms", inner_steps=3, inner_lr=0.3)),
    Row("maml-film", lambda: MAML(mlp("layer"), WAY, part="film", inner_steps=2, inner_lr=0.3)),
    Row("maml-film-no-norms", lambda: MAML(mlp(), head="shared", part="film", inner_steps=3, inner_lr=0.3)),
    Row("maml-film-conv4", lambda: MAML(pictures(), WAY, part="film", inner_steps=2, out_features=4), smooth=False),
    Row("maml-smooth-conv", lambda: MAML(smooth_conv(), WAY, inner_steps=2, inner_lr=0.1, out_features=12)),
    Row(
        "maml-film-smooth-conv",
        lambda: MAML(smooth_conv("none"), WAY, part="film", inner_steps=2, inner_lr=0.3, out_features=12),
    ),
    Row(
        "maml-lora-smooth-conv",
        lambda: MAML(smooth_conv("group"), WAY, part="lora", inner_steps=2, inner_lr=0.3, out_features=12),
    ),
    Row("maml-lora", lambda: MAML(mlp(), head="proto", part="lora", rank=2, inner_steps=2, inner_lr=0.1)),
    Row("maml-lora-tasknorm", lambda: MAML(mlp("task"), WAY, part="lora", rank=3, inner_steps=2, inner_lr=0.3)),
    Row("maml-lora-conv4", lambda: MAML(pictures(), WAY, part="lora", inner_steps=2, out_features=4), smooth=False),
    Row(
        "reptile-lora",
        lambda: Reptile(mlp().requires_grad_(False), WAY, part="lora", inner_batch=None, test_inner_batch=None),
        follows_query=False,
    ),
    Row(
        "reptile-multi-label",
        lambda: Reptile(mlp(), WAY, "multi-label", test_inner_steps=4),
        target="multi-label",
        follows_query=False,
    ),
    Row("fomaml", lambda: FOMAML(mlp(), WAY, inner_steps=2, inner_lr=0.3)),
    Row("fomaml-lora", lambda: FOMAML(mlp(), head="shared", part="lora", inner_steps=3, inner_lr=0.3)),
    Row("anil", lambda: ANIL(mlp(), WAY, inner_steps=3, inner_lr=0.3)),
    Row("anil-shared", lambda: ANIL(mlp("task"), head="shared", inner_steps=2, inner_lr=0.3)),
    Row("anil-real", lambda: ANIL(mlp(), 2, "real", inner_steps=3, test_inner_steps=5), target="real"),
    Row("anil-first-order", lambda: ANIL(mlp(), WAY, inner_steps=3, inner_lr=0.3, first_order=True)),
    Row("boil", lambda: BOIL(mlp(), WAY, inner_steps=2)),
    Row("boil-tasknorm", lambda: BOIL(mlp("task"), WAY, inner_lr=0.1)),
    Row("boil-first-order", lambda: BOIL(mlp(), WAY, inner_steps=2, inner_lr=0.3, first_order=True)),
    Row("boil-multi-label", lambda: BOIL(mlp(), WAY, "multi-label"), target="multi-label"),
    Row("meta-sgd", lambda: MetaSGD(mlp(), WAY, inner_lr=0.3)),
    Row("meta-sgd-shared", lambda: MetaSGD(mlp(), head="shared", random_rates=True, inner_steps=3)),
    Row("meta-sgd-proto-film", lambda: MetaSGD(mlp("task"), head="proto", part="film", inner_steps=2)),
    Row("meta-sgd-real", lambda: MetaSGD(mlp(), 2, "real", test_inner_steps=2), target="real"),
    Row("meta-sgd-first-order", lambda: MetaSGD(mlp(), WAY, inner_lr=0.3, inner_steps=2, first_order=True)),
    Row("protomaml", lambda: ProtoMAML(mlp("layer"), inner_steps=2, inner_lr=0.05)),
    Row("protomaml-tasknorm", lambda: ProtoMAML(mlp("task"), inner_steps=2, inner_lr=0.05)),
    Row("fo-protomaml", lambda: FOProtoMAML(mlp(), inner_steps=2, inner_lr=0.1)),
    Row("unicorn-maml", lambda: UnicornMAML(mlp("task"), inner_steps=4)),
    Row("unicorn-maml-second-order", lambda: UnicornMAML(mlp(), inner_steps=4, inner_lr=0.2, first_order=False)),
    Row("meta-curvature", lambda: MetaCurvature(mlp("task"), WAY, inner_steps=2)),
    Row("meta-curvature-shared", lambda: MetaCurvature(mlp(), head="shared", inner_steps=3, inner_lr=0.3)),
    Row("meta-curvature-conv4", lambda: MetaCurvature(pictures(), WAY, out_features=4), smooth=False),
    Row("meta-curvature-first-order", lambda: MetaCurvature(mlp(), WAY, inner_lr=0.3, first_order=True)),
    Row("meta-curvature-smooth-conv", lambda: MetaCurvature(smooth_conv(), WAY, inner_lr=0.1, out_features=12)),
    Row("meta-curvature-real", lambda: MetaCurvature(mlp(), 2, "real", inner_lr=0.05), target="real"),
]
