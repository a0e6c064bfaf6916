"""Floor 5: what the checks look at: copies of a learner, and a few tasks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from quickstudy.data.source import TaskSource
from quickstudy.doctor.measures import moved_dtype
from quickstudy.doctor.report import Finding
from quickstudy.episode import Episode
from quickstudy.keys import Key, Keys
from quickstudy.learners.learner import AbstractLearner, Traits
from quickstudy.nets.apply import network_dtype

__all__ = ["Check", "Patient", "listed"]


@dataclass(frozen=True, eq=False)
class Patient:
    """A learner and tasks to try it on; checks work on copies.

    Args:
        learner: the user's own, which is left alone.
        source: where tasks come from.
        episode: T of them, in float64, on the learner's device.
        seed: of randomness.
    """

    learner: AbstractLearner
    source: TaskSource
    episode: Episode
    seed: int

    @property
    def traits(self) -> Traits:
        """What the learner promises."""
        return self.learner.traits

    @property
    def keys(self) -> Keys:
        """Randomness of each task."""
        return Keys(Key.of(self.seed, "doctor"), self.episode.indices.numpy())

    @property
    def dtype(self) -> torch.dtype:
        """What the learner itself computes in."""
        return network_dtype(self.learner)

    def copy(self, *, training: bool, dtype: torch.dtype = torch.float64) -> AbstractLearner:
        """A copy of the learner, in float64 by default."""
        return copy.deepcopy(self.learner).to(dtype).train(training)

    def steady(self, *, training: bool) -> AbstractLearner:
        """A copy without dropout, whose draws depend on how the tasks are cut up."""
        learner = self.copy(training=training)
        for layer in learner.modules():
            if isinstance(layer, nn.modules.dropout._DropoutNd):
                layer.eval()
        return learner

    def tasks(self, dtype: torch.dtype = torch.float64) -> Episode:
        """The tasks in another precision."""
        return moved_dtype(self.episode, dtype)


Check: TypeAlias = Callable[[Patient], list[Finding]]


def listed(names: list[str], most: int = 6) -> str:
    """Names in a sentence, not too many of them."""
    quoted = [repr(name) for name in names[:most]]
    return ", ".join(quoted) + (f" and {len(names) - most} more" if len(names) > most else "")


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference of two tensors; infinities in the same place do not differ."""
    same = (a == b) | (a.isnan() & b.isnan())
    return float(torch.where(same, 0.0, (a - b).abs()).nan_to_num(torch.inf).max()) if a.numel() else 0.0
