"""Floor 3: what neural processes share: perceptrons over rows, and predictions that know their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log, pi
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.episode import Examples
from quickstudy.errors import InputError

Activation: TypeAlias = Literal["relu", "tanh"]


def perceptron(widths: Sequence[int], activation: Activation = "relu") -> nn.Sequential:
    """Linear layers on the last axis with an activation between them, none after the last.

    Args:
        widths: in, hidden ..., out.
        activation: ``"relu"`` or ``"tanh"`` (smooth).

    Raises:
        InputError: a layer without units.
    """
    if min(widths) < 1:
        raise InputError(f"A perceptron's layers need at least one unit each, received {tuple(widths)}.")
    kinds = {"relu": nn.ReLU, "tanh": nn.Tanh}
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        parts += [nn.Linear(before, after), kinds[activation]()]
    return nn.Sequential(*parts[:-1])


@dataclass(frozen=True, eq=False)
class Gaussian:
    """An independent normal distribution for each predicted value.

    Args:
        mean: ``[T, N, D]``.
        std: ``[T, N, D]``, above 0.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def bounded(cls, raw: Tensor, least: float) -> Gaussian:
        """From a decoder's outputs ``[T, N, 2 D]``: means, then what becomes deviations of at least ``least``."""
        mean, spread = raw.chunk(2, 2)
        return cls(mean, least + (1 - least) * F.softplus(spread))

    def nll(self, examples: Examples) -> Tensor:
        """Negative log density of the labels in nats, summed over D and averaged over each task's rows, ``[T]``."""
        if examples.y is None:
            raise InputError("Cannot compute a loss: these examples carry no labels (y is None). Give each its values.")
        counted = examples.labelled
        away = torch.where(counted[..., None], examples.y - self.mean, 0.0) / self.std
        rows = (0.5 * away.square() + self.std.log() + 0.5 * log(2 * pi)).sum(2)
        return torch.where(counted, rows, 0.0).sum(1) / counted.sum(1).clamp(min=1)


def checked_std(least: float) -> float:
    """``least``, if it can bound a deviation from below.

    Raises:
        InputError: it is not between 0 and 1.
    """
    if not 0 < least < 1:
        raise InputError(f"min_std bounds deviations from below: expected a number between 0 and 1, received {least}.")
    return least
