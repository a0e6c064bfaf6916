"""Floor 3: how near features lie to centres, and the temperature that divides it."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.errors import InputError

Distance: TypeAlias = Literal["squared", "euclidean", "cosine"]


def similarity(features: Tensor, centres: Tensor, distance: Distance) -> Tensor:
    """Minus the (squared) Euclidean distance, or the cosine, between every feature and every centre.

    Args:
        features: ``[T, N, D]``.
        centres: ``[T, M, D]``.
        distance: ``"squared"``, ``"euclidean"`` or ``"cosine"``.

    Returns:
        ``[T, N, M]``, larger where nearer.
    """
    if distance == "cosine":
        return F.normalize(features, dim=2) @ F.normalize(centres, dim=2).transpose(1, 2)
    # Distances do not change when all is moved; far from the origin the squares below would cancel.
    origin = centres.detach()[:, :1]  # the first, which every task has, where a mean would take in absent ones
    features, centres = features - origin, centres - origin
    # |f|^2 - 2 f.c + |c|^2: a matrix product instead of a [T, N, M, D] tensor of differences.
    square = features.square().sum(2, keepdim=True) + centres.square().sum(2)[:, None]
    square = square - 2 * features @ centres.transpose(1, 2)
    # At distance 0 the root has no derivative; the floor gives it the derivative 0.
    return -square if distance == "squared" else -square.clamp(min=1e-12).sqrt()


def distances(features: Tensor, others: Tensor) -> Tensor:
    """Euclidean distances ``[T, N, M]`` from the differences themselves: of equal rows equal to the last bit."""
    return torch.cdist(features, others, compute_mode="donot_use_mm_for_euclid_dist")


def nearest(distance: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which rows are the ``count`` nearest, where several may stand at the distance of the last one.

    Args:
        distance: ``[T, N, M]``, infinite where a row does not count.
        count: with fewer rows all of them are.

    Returns:
        Bool ``[T, N, M]``: rows nearer than the last one; bool ``[T, N, M]``: rows exactly as far; and what each of the
        latter counts, ``[T, N, 1]``, so that all together count ``count``, whatever their order.
    """
    count = min(count, distance.shape[2])
    if count == 0:
        nobody = torch.zeros_like(distance, dtype=torch.bool)
        return nobody, nobody, torch.zeros_like(distance[..., :1])
    last = distance.topk(count, 2, largest=False).values[..., -1:]
    nearer, level = distance < last, (distance == last) & torch.isfinite(distance)
    left = (count - nearer.sum(2, keepdim=True)).to(distance.dtype)
    return nearer, level, left / level.sum(2, keepdim=True).clamp(min=1)


class Temperature(nn.Module):
    """What similarities are divided by, before the softmax.

    Args:
        owner: the learner, for the message.
        value: above 0.
        learned: it is a meta-parameter, kept positive by learning its logarithm.

    Raises:
        InputError: a value that is not above 0.
    """

    def __init__(self, owner: str, value: float, *, learned: bool = False) -> None:
        super().__init__()
        if not 0 < value < math.inf:
            raise InputError(f"{owner} needs a temperature above 0, received {value}.")
        self.value = value
        self.log = nn.Parameter(torch.tensor(math.log(value))) if learned else None

    def forward(self, similarities: Tensor) -> Tensor:
        """``similarities`` over the temperature."""
        return similarities / (self.value if self.log is None else self.log.exp())
