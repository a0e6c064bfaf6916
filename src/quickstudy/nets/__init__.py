"""Floor 1: networks, norms, and the one way to run them."""

from quickstudy.nets.apply import Applied, apply
from quickstudy.nets.conv4 import Conv4
from quickstudy.nets.mlp import MLP
from quickstudy.nets.registry import nets

__all__ = ["MLP", "Applied", "Conv4", "apply", "nets"]
