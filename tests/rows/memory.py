"""Rows of the memory learners."""

from torch import nn

from quickstudy.learners.acnp import ACNP
from quickstudy.learners.cnp import CNP
from quickstudy.learners.incontext import InContext
from quickstudy.learners.mann import MANN
from quickstudy.learners.snail import SNAIL
from quickstudy.learners.tabular import TabularInContext
from quickstudy.nets import MLP, Conv4
from tests.smalltasks import WAY, Picture, Row, features, mlp


def net() -> MLP:
    return mlp("batch")


def conv() -> nn.Module:
    return nn.Sequential(Picture(), Conv4(1, 16, filters=4))


SMALL_MEMORY = {"hidden": 6, "slots": 7, "width": 5, "heads": 2}
SMALL_BLOCKS = {"length": 6, "filters": 3, "keys": (4, 5, 6), "values": (3, 4, 5)}

ROWS = [
    Row("mann", lambda: MANN(None, WAY, in_features=features(), **SMALL_MEMORY)),  # type: ignore[arg-type]
    Row("mann-given", lambda: MANN(None, WAY, in_features=features(), order="given", **SMALL_MEMORY)),  # type: ignore[arg-type]
    Row("mann-batchnorm", lambda: MANN(net(), WAY, **SMALL_MEMORY)),  # type: ignore[arg-type]
    Row("snail", lambda: SNAIL(mlp(), WAY, **SMALL_BLOCKS)),  # type: ignore[arg-type]
    Row("snail-given", lambda: SNAIL(mlp(), WAY, order="given", **SMALL_BLOCKS)),  # type: ignore[arg-type]
    Row("snail-tasknorm", lambda: SNAIL(mlp("task"), WAY, **SMALL_BLOCKS)),  # type: ignore[arg-type]
    Row("snail-conv4", lambda: SNAIL(conv(), WAY, out_features=4, **SMALL_BLOCKS), smooth=False),  # type: ignore[arg-type]
    Row(
        "snail-real",
        lambda: SNAIL(None, 2, "real", in_features=features(), order="given", **SMALL_BLOCKS),  # type: ignore[arg-type]
        target="real",
    ),
    Row("cnp", lambda: CNP(mlp(), WAY, width=6, activation="tanh")),
    Row("cnp-batchnorm", lambda: CNP(net(), WAY, width=6, activation="tanh")),
    Row("cnp-transductive", lambda: CNP(mlp("transductive"), WAY, width=6, activation="tanh")),
    Row("cnp-real", lambda: CNP(None, 2, "real", in_features=features(), width=6, activation="tanh"), target="real"),
    Row("acnp", lambda: ACNP(None, 2, in_features=features(), width=6, heads=2, activation="tanh"), target="real"),
    Row("acnp-net", lambda: ACNP(mlp("task"), 2, width=6, heads=2, activation="tanh"), target="real"),
    Row("in-context", lambda: InContext(mlp(), WAY, max_way=5, width=8, layers=2, heads=2)),
    Row("in-context-batchnorm", lambda: InContext(net(), WAY, width=8, layers=2, heads=2)),
    Row(
        "in-context-real",
        lambda: InContext(None, 2, "real", in_features=features(), width=8, layers=2, heads=2),
        target="real",
    ),
    Row("tabular", lambda: TabularInContext(WAY, max_features=6, max_way=5, width=8, layers=2, heads=2)),
    Row("tabular-real", lambda: TabularInContext(2, "real", max_features=6, width=8, layers=2, heads=2), target="real"),
]
