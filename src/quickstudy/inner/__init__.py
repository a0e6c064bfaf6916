"""Floor 2: the maths of adaptation, without data sets, files or networks."""

from quickstudy.inner.descent import Params, TaskLosses, descend, explained, gradients
from quickstudy.inner.optimizers import Adam, InnerOptimizer, Sgd, make_optimizer, optimize

__all__ = [
    "Adam",
    "InnerOptimizer",
    "Params",
    "Sgd",
    "TaskLosses",
    "descend",
    "explained",
    "gradients",
    "make_optimizer",
    "optimize",
]
