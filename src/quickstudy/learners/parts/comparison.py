"""Floor 3: learned comparisons of a query with a class: feature maps or vectors in, one number out."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.nets.conv4 import ConvBlock
from quickstudy.nets.mlp import MLP

_SMALLEST = 2
"""A map of fewer pixels than this in height or width is not halved again."""


class CompareMaps(nn.Module):
    """Two convolution blocks and two linear layers over two feature maps, one above the other.

    Args:
        map_shape: C, H, W of one map.
        hidden: units of the first linear layer.
        norm: one of ``nets.norms.NORMS``.
    """

    def __init__(self, map_shape: tuple[int, int, int], hidden: int, norm: str) -> None:
        super().__init__()
        channels, height, width = map_shape
        self.map_shape = map_shape
        before, blocks = 2 * channels, []
        for _ in range(2):
            halve = min(height, width) >= _SMALLEST
            blocks.append(ConvBlock(before, channels, "max" if halve else "none", norm))
            before = channels
            height, width = (height // 2, width // 2) if halve else (height, width)
        self.blocks = nn.Sequential(*blocks)
        self.hidden = nn.Linear(channels * height * width, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, pairs: Tensor) -> Tensor:
        """``[N, 2, C * H * W] -> [N, 1]``."""
        channels, height, width = self.map_shape
        maps = pairs.reshape(-1, 2 * channels, height, width)
        score: Tensor = self.score(F.relu(self.hidden(self.blocks(maps).flatten(1))))
        return score


class CompareVectors(nn.Module):
    """The same for vectors, with linear layers in place of the convolutions.

    Args:
        features: D of one vector.
        hidden: units of the last hidden layer.
        norm: one of ``nets.norms.NORMS``, after the first two layers.
        activation: ``"relu"`` or ``"tanh"`` (smooth).
    """

    def __init__(self, features: int, hidden: int, norm: str, activation: Literal["relu", "tanh"] = "relu") -> None:
        super().__init__()
        self.activation = activation
        self.blocks = MLP(2 * features, (features, features), norm=norm, activation=activation)  # type: ignore[arg-type]
        self.hidden = nn.Linear(features, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, pairs: Tensor) -> Tensor:
        """``[N, 2, D] -> [N, 1]``."""
        activated = F.relu if self.activation == "relu" else torch.tanh
        score: Tensor = self.score(activated(self.hidden(self.blocks(pairs))))
        return score
