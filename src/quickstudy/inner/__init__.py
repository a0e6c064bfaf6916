"""Floor 2: the maths of adaptation, without data sets, files or networks."""

from quickstudy.inner.adjoint import adjoint
from quickstudy.inner.checkpointed import checkpointed
from quickstudy.inner.descent import (
    Params,
    StepLosses,
    TaskLosses,
    Update,
    descend,
    explained,
    gradients,
    plain_step,
    trajectory,
)
from quickstudy.inner.implicit import MatVec, Solved, Solver, cg, hessian, implicit, neumann
from quickstudy.inner.newton import newton_cg
from quickstudy.inner.optimizers import (
    Adagrad,
    Adam,
    AdamW,
    InnerOptimizer,
    Rate,
    RMSprop,
    Sgd,
    make_optimizer,
    safe_sqrt,
)
from quickstudy.inner.unroll import optimize, unroll

__all__ = [
    "Adagrad",
    "Adam",
    "AdamW",
    "InnerOptimizer",
    "MatVec",
    "Params",
    "RMSprop",
    "Rate",
    "Sgd",
    "Solved",
    "Solver",
    "StepLosses",
    "TaskLosses",
    "Update",
    "adjoint",
    "cg",
    "checkpointed",
    "descend",
    "explained",
    "gradients",
    "hessian",
    "implicit",
    "make_optimizer",
    "neumann",
    "newton_cg",
    "optimize",
    "plain_step",
    "safe_sqrt",
    "trajectory",
    "unroll",
]
