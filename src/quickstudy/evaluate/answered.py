"""Floor 4: figures of robustness, from answers: what is counted while a learner is tested.

Unchanged         of the answers to any test: the episodes and classes that it is worst at, calibration
low_percentile    the episodes it is worst at
worst_class       the class it is worst at, not flattered by having been chosen
ece_interval      expected calibration error with an interval
Rejection         how well it tells queries of classes that the task does not have
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from torch import Tensor

from quickstudy.data.classscores import auroc, probabilities
from quickstudy.data.source import TaskSource
from quickstudy.episode import UNLABELLED, Episode
from quickstudy.evaluate.calibration import Answers, Collector
from quickstudy.evaluate.intervals import episode_ci95
from quickstudy.evaluate.result import Result
from quickstudy.evaluate.robustness import ECE, WORST_OF_EACH, Figure, Robustness
from quickstudy.evaluate.scores import Flags, Floats, Numbers
from quickstudy.keys import Key, integers

__all__ = [
    "LEAST",
    "ClassCounts",
    "Confidence",
    "Rejection",
    "Unchanged",
    "accuracies",
    "ece_interval",
    "low_percentile",
    "mean_of",
    "worst_class",
    "worst_of",
]

LEAST = 20
"""Episodes that a class must occur in before it can be called the worst."""
RESAMPLED = 1000
DRAWN = 1 << 20
"""Episodes that are drawn at once; bounds the memory."""


def low_percentile(values: Floats, share: float = 0.05) -> tuple[float, float, float]:
    """A low quantile of the episodes' figures, and its 95 % interval between two of the sorted figures.

    The interval supposes nothing of their distribution: how many of n fall below the true quantile is binomial. Of few
    episodes (of the 5th percentile fewer than 72) none may lie below it, so that the lower end is 0: no share is less.

    Args:
        values: ``[E]``, from 0 on.
        share: of episodes below it.

    >>> low_percentile(np.arange(100.0))
    (4.95, 0.0, 10.0)
    """
    from scipy.stats import binom  # scipy takes longer to import than all of quickstudy

    ordered, n = np.sort(values), len(values)
    low, high = int(binom.ppf(0.025, n, share)) - 1, min(int(binom.ppf(0.975, n, share)), n - 1)
    return float(np.quantile(values, share)), float(ordered[low]) if low >= 0 else 0.0, float(ordered[high])


class ClassCounts:
    """Counts right answers class by class: ``meta_test(..., observe=ClassCounts())``."""

    def __init__(self) -> None:
        self.found: dict[int, list[tuple[int, float]]] = {}
        """Class -> (episode, share of its queries that were answered rightly), episode by episode."""
        self.least: dict[int, float] = {}
        """Episode -> the share of the class that was answered worst there."""

    def __call__(self, outputs: Tensor, episode: Episode) -> None:
        """One chunk of tasks."""
        query = episode.query
        if query.y is None:
            return
        # Tasks that are groups of rows number the group, not what its labels stand for.
        numbers = episode.classes if episode.classes is not None and episode.classes.shape[1] >= query.max_way else None
        usable = outputs.amax(2).isfinite()
        right = ((outputs.argmax(2) == query.y) & usable).numpy()
        y, labelled = query.y.numpy(), query.labelled.numpy()
        for task, number_of_task in enumerate(episode.indices.tolist()):
            for label in range(query.max_way):
                asked = labelled[task] & (y[task] == label)
                if not asked.any():
                    continue
                share = float(right[task][asked].mean())
                self.least[number_of_task] = min(share, self.least.get(number_of_task, 1.0))
                if numbers is not None and numbers[task, label] >= 0:
                    self.found.setdefault(int(numbers[task, label]), []).append((number_of_task, share))

    def add(self, later: ClassCounts) -> None:
        """What another counted of the episodes that follow."""
        for one, parts in later.found.items():
            self.found.setdefault(one, []).extend(parts)
        self.least.update(later.least)

    @property
    def often(self) -> dict[int, list[tuple[int, float]]]:
        """Those classes that occur in :data:`LEAST` episodes or more."""
        return {one: parts for one, parts in self.found.items() if len(parts) >= LEAST}


def worst_class(counts: Mapping[int, Sequence[tuple[int, float]]]) -> tuple[float, float]:
    """Accuracy on the worst class, and the half-width of its 95 % interval.

    The smallest of many means is too small, as whoever was unlucky is chosen. So the worst class is chosen by its even
    occurrences and measured in its odd ones, then the other way round, and the two figures are averaged.

    Args:
        counts: class -> (episode, share of right answers); of two classes or more, each in several episodes.

    >>> worst_class({0: [(e, 1.0) for e in range(8)], 1: [(e, 0.5) for e in range(8)]})
    (0.5, 0.0)
    """
    shares = {one: np.array([share for _, share in parts]) for one, parts in counts.items()}
    means, half = [], []
    for chosen, measured in ((0, 1), (1, 0)):
        worst = min(shares, key=lambda one: (shares[one][chosen::2].mean(), one))
        means.append(float(shares[worst][measured::2].mean()))
        half.append(episode_ci95(shares[worst][measured::2]))
    return sum(means) / 2, math.hypot(*half) / 2


@dataclass(frozen=True, eq=False)
class Confidence:
    """How certain answers were, and whether they were right; of :class:`Answers` what calibration is computed from.

    Args:
        confidence: ``[n]``, the probability of the class that is answered.
        right: ``[n]``, whether it is the truth.
        task: ``[n]``, the number of the task, from 0 on.
    """

    confidence: Floats
    right: Flags
    task: Numbers

    @staticmethod
    def of(answers: Answers) -> Confidence:
        """Of whole answers."""
        return Confidence(answers.confidence, answers.right, answers.task)

    @staticmethod
    def joined(parts: Sequence[Confidence]) -> Confidence:
        """Of tasks after tasks."""
        before = np.cumsum([0, *(int(part.task.max()) + 1 for part in parts)])
        return Confidence(
            np.concatenate([part.confidence for part in parts]),
            np.concatenate([part.right for part in parts]),
            np.concatenate([part.task + first for part, first in zip(parts, before[:-1], strict=True)]),
        )


def ece_interval(found: Answers | Confidence, bins: int = 15, seed: int = 0) -> tuple[float, float, float]:
    """Expected calibration error, and its 95 % interval by a bootstrap over episodes.

    The error is an average of absolute values, so that luck makes it larger, in the bootstrap once more: its interval
    is moved by twice the mean of that (the basic bootstrap), and cut off at 0 and 1. Of one episode nothing is known.

    Args:
        found: the answers.
        bins: of equal width, as in ``calibration.reliability``.
        seed: of the bootstrap.
    """
    place = np.clip(np.ceil(found.confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    _, task = np.unique(found.task, return_inverse=True)
    n = int(task.max()) + 1
    gap, rows = np.zeros((n, bins)), np.zeros(n)
    np.add.at(gap, (task, place), found.right - found.confidence)
    np.add.at(rows, task, 1.0)
    value = min(1.0, float(np.abs(gap.sum(0)).sum() / rows.sum()))  # which round-off may exceed
    if n < 2:
        return value, 0.0, 1.0
    resampled = np.concatenate([np.abs(times @ gap).sum(1) / (times @ rows) for times in _resampled(n, seed)])
    low, high = np.quantile(resampled, [0.025, 0.975])
    low, high = np.clip([2 * value - high, 2 * value - low], 0.0, 1.0)
    return value, float(low), float(high)


def _resampled(n: int, seed: int) -> Iterator[Floats]:
    """How often each of n episodes is drawn in some of the samples, ``[b, n]``, until it is :data:`RESAMPLED`."""
    key, size = Key.of(seed, "ece"), max(1, DRAWN // n)
    for first in range(0, RESAMPLED, size):
        samples = np.arange(first, min(first + size, RESAMPLED))
        drawn = integers(key.bits(samples, n), n) + n * np.arange(len(samples))[:, None]
        yield np.bincount(drawn.ravel(), minlength=n * len(samples)).reshape(-1, n).astype(np.float64)


class Rejection:
    """How well queries of classes that a task does not have are told: ``meta_test(..., observe=Rejection(score))``.

    The area under the ROC curve of a task's own queries against those, task by task: 0.5 is guessing.

    Args:
        score: outputs and tasks -> ``[T, Nq]``, the higher the more certainly one of the task's own; by default the
            largest probability.
    """

    def __init__(self, score: Callable[[Tensor, Episode], Floats] | None = None) -> None:
        self._score = score or (lambda outputs, episode: probabilities(outputs.numpy()).max(2))
        self._values: list[float] = []

    def __call__(self, outputs: Tensor, episode: Episode) -> None:
        """One chunk of tasks with :class:`quickstudy.data.changed.Outsiders`."""
        query = episode.query
        assert query.y is not None
        score, there, own = self._score(outputs, episode), query.real.numpy(), (query.y != UNLABELLED).numpy()
        self._values += [auroc(own[task][there[task]], score[task][there[task]]) for task in range(len(score))]

    @property
    def values(self) -> Floats:
        """Of each task that has both, ``[E]``."""
        found = np.array(self._values)
        defined: Floats = found[~np.isnan(found)]
        return defined


class Unchanged:
    """What the answers to a test say beside its accuracy: ``meta_test(..., observe=Unchanged())``.

    It keeps two numbers a query, and not what was said of each class, so that it can observe any test.
    """

    def __init__(self) -> None:
        self.counts = ClassCounts()
        self._sure: list[Confidence] = []

    @classmethod
    def of(cls, source: TaskSource) -> Self | None:
        """To observe a test of these tasks; None where they have no classes."""
        return cls() if source.shape.target == "classes" else None

    def __call__(self, outputs: Tensor, episode: Episode) -> None:
        """One chunk of tasks.

        Raises:
            InputError: these tasks have no classes.
        """
        said = Collector()
        said(outputs, episode)
        self._sure.append(Confidence.of(said.answers))
        self.counts(outputs, episode)

    @classmethod
    def joined(cls, several: Iterable[Unchanged]) -> Unchanged:
        """What the processes of a divided test observed, in their order, as if one had seen all tasks."""
        found = cls()
        for one in several:
            found._sure += one._sure
            found.counts.add(one.counts)
        return found

    def figures(self, result: Result) -> list[Figure]:
        """Accuracy, the worst episodes, calibration, the worst class of each task.

        Args:
            result: of the test that was observed, whole.
        """
        values, kind = accuracies(result), "unchanged"
        low, ece = low_percentile(values), ece_interval(Confidence.joined(self._sure))
        return [
            mean_of(kind, "unchanged tasks", values),
            Figure.of(kind, "5th percentile of episodes", "accuracy", low, result.episodes),
            Figure.of(kind, ECE, "ece", ece, result.episodes),
            mean_of(kind, WORST_OF_EACH, np.array(list(self.counts.least.values()))),
        ]

    def alone(self, result: Result, weights_sha256: str | None = None) -> Robustness:
        """These figures as those of a test in which nothing else was asked.

        Args:
            result: of the test that was observed, whole.
            weights_sha256: digest of the weights that were tested.
        """
        figures, often = self.figures(result), self.counts.often
        if len(often) > 1:
            figures.append(worst_of(often, result.episodes))
        return Robustness(
            learner=result.learner,
            source=result.source,
            source_hash=result.source_hash,
            recipe_hash=result.recipe_hash,
            checkpoint=result.checkpoint,
            transductive=result.transductive,
            episodes=result.episodes,
            seconds=result.seconds,
            figures=tuple(figures),
            weights_sha256=weights_sha256,
        )


def accuracies(result: Result) -> Floats:
    """Of each episode, ``[E]``, whatever the tasks' main figure is.

    Raises:
        InputError: the result has none.
    """
    return np.array(result.by("accuracy").per_episode)


def worst_of(often: Mapping[int, Sequence[tuple[int, float]]], episodes: int) -> Figure:
    """Accuracy on the worst of classes that occur often enough."""
    value, half = worst_class(often)
    interval = (value, max(0.0, value - half), min(1.0, value + half))
    return Figure.of("worst class", f"worst of {len(often)} classes", "accuracy", interval, episodes)


def mean_of(kind: str, name: str, values: Floats, metric: str = "accuracy", **more: Any) -> Figure:
    """A mean over episodes with its usual interval, cut off at 0 and 1."""
    mean, half = float(values.mean()), episode_ci95(values)
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return Figure(kind=kind, name=name, metric=metric, value=mean, low=low, high=high, episodes=len(values), **more)
