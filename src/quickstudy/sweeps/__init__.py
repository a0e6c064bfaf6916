"""Sweeps: a recipe with many values of some of its keys; the best by meta-validation is meta-tested, once.

sweep           recipe -> Swept: trials, the best one, its test
Dimension       a key and its range
read_dimension  "log:0.01:1" -> Dimension
"""

from quickstudy.sweeps.folder import SweepFolder
from quickstudy.sweeps.space import Dimension, default_space, read_dimension
from quickstudy.sweeps.study import Trial
from quickstudy.sweeps.sweeping import Swept, sweep

__all__ = ["Dimension", "SweepFolder", "Swept", "Trial", "default_space", "read_dimension", "sweep"]
