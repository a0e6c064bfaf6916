"""Floor 1: the tasks of a source with something changed, task by task, to see what a learner makes of that.

    ChangedTasks     a source and a change: the same tasks, numbers and classes, so that figures can be paired
    SwappedLabels    wrong labels in the support
    TurnedQueries    pictures that are turned
    NoisyQueries     pictures with noise on each pixel
    Outsiders        queries of classes that the task does not have

What is random in a change is a function of the source's seed and the task's number.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from quickstudy.data.around import AbstractTasksAround
from quickstudy.data.source import TaskSource
from quickstudy.episode import UNLABELLED, Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Integers, Key, shuffle, uniform

__all__ = ["AbstractChange", "ChangedTasks", "NoisyQueries", "Outsiders", "SwappedLabels", "TurnedQueries"]

_FAR = 1 << 20  # tasks between one and that whose classes it does not know


class AbstractChange(ABC):
    """What is done to tasks."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What it is, JSON types only."""

    @abstractmethod
    def apply(self, episode: Episode, source: TaskSource, key: Key) -> Episode:
        """The tasks, changed.

        Args:
            episode: as the source gave them.
            source: theirs.
            key: of what is random, to be used with the tasks' numbers.

        Raises:
            InputError: these tasks cannot be changed so.
        """


class ChangedTasks(AbstractTasksAround):
    """The tasks of a source, changed. Tasks of the same number have the same classes as there.

    Args:
        source: of the tasks.
        change: what is done to them.
    """

    def __init__(self, source: TaskSource, change: AbstractChange) -> None:
        super().__init__(source)
        self._change = change
        self._key = Key.of(int(source.settings.get("seed", 0)), "changed", *map(str, change.settings.items()))

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return self._source.settings | {"changed": self._change.settings}

    @override
    def episodes(self, indices: range | Integers) -> Episode:
        return self._change.apply(self._source.episodes(indices), self._source, self._key)


@dataclass(frozen=True)
class SwappedLabels(AbstractChange):
    """A share of the support has wrong labels: pairs of examples of two classes have their labels swapped.

    So each class keeps as many examples as it had, and none is left without: tasks of one shot can be asked, too. In a
    task of n examples rate * n / 2 pairs are swapped, one more or less at random where that is no whole number.

    Args:
        rate: of examples with a wrong label, on average, above 0 and below 1.

    Raises:
        InputError: no such rate.
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise InputError(f"Cannot swap labels of a share of {self.rate}: expected a number above 0 and below 1.")

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {"swapped labels": self.rate}

    @override
    def apply(self, episode: Episode, source: TaskSource, key: Key) -> Episode:
        del source
        support = episode.support
        if not isinstance(support.target, Classes) or support.y is None:
            raise InputError("Cannot swap labels: these tasks have no classes.")
        y, there = support.y.clone(), support.labelled
        words = key.bits(episode.indices.numpy(), support.n_example + 1)
        for task in range(support.n_task):
            rows = there[task].nonzero().flatten().numpy()
            order = shuffle(words[task : task + 1, 1 : len(rows) + 1], np.array([len(rows)]))[0]
            pairs = math.floor(self.rate * len(rows) / 2 + float(uniform(words[task, :1])[0]))
            for a, b in _of_two_classes(rows[order].tolist(), y[task].tolist(), pairs):
                y[task, a], y[task, b] = y[task, b].clone(), y[task, a].clone()
        return replace(episode, support=replace(support, y=y))


def _of_two_classes(rows: list[int], labels: list[int], most: int) -> list[tuple[int, int]]:
    """At most so many pairs of rows with different labels, each row once, in the order of ``rows``."""
    found: list[tuple[int, int]] = []
    left = list(rows)
    while left and len(found) < most:
        a = left.pop(0)
        b = next((row for row in left if labels[row] != labels[a]), None)
        if b is not None:
            left.remove(b)
            found.append((a, b))
    return found


@dataclass(frozen=True)
class TurnedQueries(AbstractChange):
    """Queries are turned counter-clockwise; the support stays as it is.

    Quarter turns move pixels; other angles are interpolated, with 0 where nothing was.

    Args:
        degrees: the angle.
    """

    degrees: float

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {"turned queries": self.degrees}

    @override
    def apply(self, episode: Episode, source: TaskSource, key: Key) -> Episode:
        del key
        return _of_queries(episode, source, "turn", self._turned)

    def _turned(self, x: Tensor) -> Tensor:
        if self.degrees % 90 == 0:
            return torch.rot90(x, int(self.degrees // 90), dims=(-2, -1)).contiguous()
        angle = math.radians(self.degrees)
        turn = torch.tensor([[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]])
        flat = x.reshape(-1, 1, *x.shape[-2:]).float()
        grid = F.affine_grid(turn.expand(len(flat), 2, 3), list(flat.shape), align_corners=False)
        return F.grid_sample(flat, grid, align_corners=False).round().to(torch.uint8).reshape(x.shape)


@dataclass(frozen=True)
class NoisyQueries(AbstractChange):
    """Each pixel of the queries is moved by a normal number; the support stays as it is.

    Args:
        deviation: its standard deviation, white being 1.
    """

    deviation: float

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {"noisy queries": self.deviation}

    @override
    def apply(self, episode: Episode, source: TaskSource, key: Key) -> Episode:
        def noisy(x: Tensor) -> Tensor:
            n = x[0].numel()
            first, second = (uniform(key.bits(episode.indices.numpy(), n, stream)) for stream in (0, 1))
            normal = np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second)  # Box and Muller 1958
            moved = x.numpy() + 255 * self.deviation * normal.reshape(x.shape)
            return torch.from_numpy(np.clip(np.rint(moved), 0, 255).astype(np.uint8))

        return _of_queries(episode, source, "add noise to", noisy)


def _of_queries(episode: Episode, source: TaskSource, what: str, change: Callable[[Tensor], Tensor]) -> Episode:
    x, example = episode.query.x, source.shape.example
    if not isinstance(x, Tensor) or x.dtype != torch.uint8 or not isinstance(example, tuple) or len(example) != 3:
        raise InputError(f"Cannot {what} the queries: these examples are no pictures.")
    if example[1] != example[2] and what == "turn":
        raise InputError("Cannot turn the queries: these pictures are not square.")
    return replace(episode, query=replace(episode.query, x=change(x)))


@dataclass(frozen=True)
class Outsiders(AbstractChange):
    """Queries of classes that the task does not have stand beside its own, without a label.

    They are the queries of another task of the same source, without those of classes that both have.
    """

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {"queries of other classes": True}

    @override
    def apply(self, episode: Episode, source: TaskSource, key: Key) -> Episode:
        del key
        own, count = episode.indices.numpy(), source.count
        far = own + _FAR if count is None else (own + count // 2) % count
        other = source.episodes(far)
        if not (_numbers_classes(episode) and _numbers_classes(other)):
            raise InputError("Cannot ask for queries of other classes: these tasks do not number their classes.")
        # Texts are filled up to the longest beside them, so that these are drawn together.
        if _each_as_large(episode.query) != _each_as_large(other.query):
            both = source.episodes(np.concatenate([own, far]))
            episode, other = both.tasks(slice(None, len(own))), both.tasks(slice(len(own), None))
        assert episode.classes is not None and other.classes is not None and other.query.y is not None
        absent = other.classes == UNLABELLED
        shared = (other.classes[:, :, None] == episode.classes[:, None, :]).any(2) | absent  # [T, W]
        y = other.query.y
        known = torch.gather(shared, 1, y.clamp(min=0))
        outside = other.query.labelled & ~known
        strangers = Examples(other.query.x, torch.full_like(y, UNLABELLED), episode.query.target, outside)
        return replace(episode, query=episode.query.followed_by(strangers))


def _each_as_large(examples: Examples) -> list[tuple[int, ...]]:
    """The sizes of one example's parts."""
    leaves = [examples.x] if isinstance(examples.x, Tensor) else list(examples.x.values())
    return [tuple(leaf.shape[2:]) for leaf in leaves]


def _numbers_classes(episode: Episode) -> bool:
    """Whether each label has a number of its own: tasks that are groups of rows have one for the group."""
    query = episode.query
    if episode.classes is None or query.y is None or not isinstance(query.target, Classes):
        return False
    return episode.classes.shape[1] >= query.max_way
