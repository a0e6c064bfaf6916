"""Floor 2: the maths of adaptation, without data sets, files or networks."""

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
from quickstudy.inner.optimizers import Adam, InnerOptimizer, Sgd, make_optimizer, optimize

__all__ = [
    "Adam",
    "InnerOptimizer",
    "Params",
    "Sgd",
    "StepLosses",
    "TaskLosses",
    "Update",
    "descend",
    "explained",
    "gradients",
    "make_optimizer",
    "optimize",
    "plain_step",
    "trajectory",
]
