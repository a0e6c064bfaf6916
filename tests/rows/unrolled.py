"""Rows of the unrolled learners."""

from torch import nn

from quickstudy.learners.cavia import CAVIA
from quickstudy.learners.imaml import IMAML
from quickstudy.learners.maml import MAML
from quickstudy.learners.mamlpp import MAMLPlusPlus
from quickstudy.nets import Conv4
from tests.smalltasks import WAY, Picture, Row, mlp, smooth_conv

ROWS: list[Row] = [
    Row("maml-adjoint", lambda: MAML(mlp("task"), WAY, inner_steps=3, inner_lr=0.1, memory="adjoint")),
    Row("maml-adjoint-shared", lambda: MAML(mlp(), head="shared", inner_steps=3, inner_lr=0.3, memory="adjoint")),
    Row(
        "maml-adjoint-first-order",
        lambda: MAML(mlp(), WAY, inner_steps=3, inner_lr=0.3, memory="adjoint", first_order=True),
    ),
    Row("maml-checkpointed", lambda: MAML(mlp("task"), WAY, inner_steps=3, inner_lr=0.1, memory="checkpointed")),
    Row("maml++-checkpointed", lambda: MAMLPlusPlus(mlp("task"), WAY, multi_step_until=100, memory="checkpointed")),
    Row("maml++", lambda: MAMLPlusPlus(mlp("task"), WAY, inner_steps=3, inner_lr=0.1, multi_step_until=100)),
    Row("maml++-test-steps", lambda: MAMLPlusPlus(mlp("layer"), WAY, inner_steps=2, test_inner_steps=4)),
    Row("maml++-shared", lambda: MAMLPlusPlus(mlp("task"), head="shared", inner_steps=3)),
    Row("maml++-proto", lambda: MAMLPlusPlus(mlp("layer"), head="proto", inner_steps=2, inner_lr=0.05)),
    Row("maml++-transductive", lambda: MAMLPlusPlus(mlp("transductive"), WAY, inner_steps=2, transductive=True)),
    Row("maml++-first-order", lambda: MAMLPlusPlus(mlp(), WAY, inner_steps=2, inner_lr=0.3, first_order_until=2)),
    Row("maml++-real", lambda: MAMLPlusPlus(mlp("task"), 2, "real", inner_steps=2), target="real"),
    Row("cavia", lambda: CAVIA(mlp(), WAY, inner_steps=2)),
    Row("cavia-tasknorm", lambda: CAVIA(mlp("task"), WAY, inner_steps=2, test_inner_steps=3)),
    Row("cavia-first-order", lambda: CAVIA(mlp(), WAY, inner_steps=2, first_order=True)),
    Row("cavia-transductive", lambda: CAVIA(mlp("transductive"), WAY, transductive=True)),
    Row("cavia-real", lambda: CAVIA(mlp(), 2, "real"), target="real"),
    Row(
        "cavia-conv4",
        lambda: CAVIA(nn.Sequential(Picture(), Conv4(1, 16, filters=4, norm="task")), WAY, out_features=4),
        smooth=False,
    ),
    Row("cavia-smooth-conv", lambda: CAVIA(smooth_conv(), WAY, out_features=12)),
    Row("imaml", lambda: IMAML(mlp(), WAY, inner_steps=3)),
    Row("imaml-tasknorm", lambda: IMAML(mlp("task"), WAY, inner_steps=3)),
    Row("imaml-newton", lambda: IMAML(mlp("task"), WAY, inner_steps=2, solver="newton", strength=4.0)),
    Row("imaml-regularised-test", lambda: IMAML(mlp("layer"), WAY, inner_steps=3, test_strength=1.0)),
    Row("imaml-shared", lambda: IMAML(mlp(), head="shared", inner_steps=3, cg_damping=1.0)),
    Row("imaml-proto", lambda: IMAML(mlp("layer"), head="proto", inner_steps=2, inner_lr=0.05)),
    Row("imaml-transductive", lambda: IMAML(mlp("transductive"), WAY, inner_steps=2, transductive=True)),
    Row("imaml-real", lambda: IMAML(mlp(), 2, "real", inner_steps=3), target="real"),
]
