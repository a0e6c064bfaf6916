"""Floor 4: whether a learner's probabilities may be believed: calibration, abstention, conformal sets.

    answers         a learner's probabilities for the query rows of many tasks, all tasks together
    reliability     how often it is right when it says that it is right with such a probability; its mean gap is the ECE
    risk_coverage   how often it is wrong on the rows that it is surest of
    threshold, conformal_sets   sets of classes that hold the truth with a wanted probability

M. Pakdaman Naeini, G. Cooper, M. Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI
2015 (ECE); Y. Geifman, R. El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017 (risk and
coverage); M. Sadinle, J. Lei, L. Wasserman, "Least ambiguous set-valued classifiers with bounded error levels", JASA
2019 (LAC).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.classscores import brier, log_loss, probabilities
from quickstudy.data.source import TaskSource
from quickstudy.episode import Classes, Episode
from quickstudy.errors import InputError
from quickstudy.evaluate.figures import Drawing, Theme, drawing, dress, legend
from quickstudy.evaluate.metatest import meta_test
from quickstudy.evaluate.report import Section
from quickstudy.evaluate.wording import number
from quickstudy.keys import Integers, Key, integers
from quickstudy.learners.learner import AbstractLearner

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "Answers",
    "Collector",
    "Reliability",
    "answers",
    "calibration_section",
    "conformal_sets",
    "draw_reliability",
    "draw_risk",
    "expected_calibration_error",
    "one_row_a_task",
    "reliability",
    "risk_coverage",
    "threshold",
]

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

BINS = 15
"""Of equal width, over confidences from 0 to 1, as is usual."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What was said of n query rows.

    Args:
        p: ``[n, W]``, probabilities; 0 for classes that a row's task does not have.
        y: ``[n]``, the truth.
        task: ``[n]``, the number of the task, from 0 on, in the order in which they were tested.
        usable: ``[n]``, whether anything was said: outputs that are no usable numbers are wrong, whatever the truth;
            None where all are.
    """

    p: Floats
    y: Integers
    task: Integers
    usable: Flags | None = None

    @property
    def confidence(self) -> Floats:
        """``[n]``, the probability of the class that is answered."""
        top: Floats = self.p.max(1)
        return top

    @property
    def right(self) -> Flags:
        """``[n]``, whether the answer is the truth."""
        found: Flags = self.p.argmax(1) == self.y
        return found if self.usable is None else found & self.usable


class Collector:
    """Gathers answers: ``meta_test(..., observe=Collector())``."""

    def __init__(self) -> None:
        self._parts: list[tuple[Floats, Integers, Integers, Flags]] = []
        self._tasks = 0

    def __call__(self, outputs: Tensor, episode: Episode) -> None:
        """One chunk of tasks.

        Raises:
            InputError: these tasks have no classes.
        """
        query = episode.query
        if not isinstance(query.target, Classes) or query.y is None:
            raise InputError("Cannot look at calibration: these tasks have no classes, and so no probabilities.")
        counted = query.labelled.numpy()
        task = np.broadcast_to(np.arange(len(counted))[:, None] + self._tasks, counted.shape)
        p = probabilities(outputs.numpy())
        usable = outputs.amax(2).isfinite().numpy()
        self._parts.append((p[counted], query.y.numpy()[counted], task[counted], usable[counted]))
        self._tasks += len(counted)

    @classmethod
    def joined(cls, several: Iterable[Collector]) -> Collector:
        """What the processes of a divided test gathered, in their order, as if one had heard of all tasks."""
        found = cls()
        for one in several:
            found._parts += [(p, y, task + found._tasks, usable) for p, y, task, usable in one._parts]
            found._tasks += one._tasks
        return found

    @property
    def answers(self) -> Answers:
        """All of them.

        Raises:
            InputError: nothing was gathered.
        """
        if not self._parts:
            raise InputError("Cannot look at calibration: no task was tested.")
        widest = max(p.shape[1] for p, *_ in self._parts)
        p = np.concatenate([np.pad(p, ((0, 0), (0, widest - p.shape[1]))) for p, *_ in self._parts])
        y, task = (np.concatenate([part[place] for part in self._parts]) for place in (1, 2))
        return Answers(p, y, task, np.concatenate([usable for *_, usable in self._parts]))


def answers(learner: AbstractLearner, source: TaskSource, *, episodes: int, first: int = 0) -> Answers:
    """A learner's answers to tasks ``first`` .. ``first + episodes - 1``.

    Raises:
        InputError: the learner cannot learn them, or they have no classes.
    """
    collector = Collector()
    meta_test(learner, source, episodes=episodes, first=first, observe=collector)
    return collector.answers


@dataclass(frozen=True, eq=False)
class Reliability:
    """Of each bin of confidence, from 0 to 1.

    Args:
        confidence: its mean, NaN in an empty bin.
        accuracy: how often the answer was right, likewise.
        count: rows.
    """

    confidence: Floats
    accuracy: Floats
    count: Integers


def reliability(confidence: Floats, right: Flags, bins: int = BINS) -> Reliability:
    """Bins of equal width, (0, 1/B], (1/B, 2/B], ...; see :class:`Reliability`.

    Args:
        confidence: ``[n]``, probabilities of what was answered.
        right: ``[n]``.
        bins: B.
    """
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean, share = (np.bincount(place, value, bins) / count for value in (confidence, right.astype(np.float64)))
    return Reliability(mean, share, count)


def expected_calibration_error(confidence: Floats, right: Flags, bins: int = BINS) -> float:
    """Σ_b n_b/n |accuracy_b - confidence_b|.

    >>> expected_calibration_error(np.array([0.9, 0.9]), np.array([True, False]))
    0.4
    """
    found = reliability(confidence, right, bins)
    gap = np.abs(found.accuracy - found.confidence)
    return float(np.nansum(gap * found.count) / found.count.sum())


def risk_coverage(confidence: Floats, right: Flags) -> tuple[Floats, Floats]:
    """Coverage ``[m]`` and the error on the rows that it covers, of all thresholds, the surest rows first.

    Rows of one confidence are covered together. The area under it (mean risk over coverages k/n, AURC) is 0 at best.
    """
    order = np.argsort(-confidence, kind="stable")
    sure = confidence[order]
    wrong = np.cumsum(~right[order])
    last = np.flatnonzero(np.append(sure[1:] != sure[:-1], True))
    return (last + 1) / len(sure), wrong[last] / (last + 1)


def threshold(true_p: Floats, alpha: float) -> float:
    """Split conformal: classes with at least this probability make a set that misses the truth alpha of the time.

    It is the k-th smallest of the calibration rows' probabilities of the truth, k = ⌊alpha (n + 1)⌋; 0 (all classes)
    where there are too few rows for that.

    Args:
        true_p: ``[n]``, probabilities of the truth, of rows that are exchangeable with those to come.
        alpha: from 0 to 1.

    >>> threshold(np.array([0.1, 0.5, 0.9, 0.8]), 0.2), threshold(np.array([0.5]), 0.1)
    (0.1, 0.0)
    """
    if not 0 < alpha < 1:
        raise InputError(f"Conformal sets need an alpha between 0 and 1, received {alpha}.")
    k = math.floor(alpha * (len(true_p) + 1) + 1e-9)
    return float(np.sort(true_p)[k - 1]) if k else 0.0


def conformal_sets(p: Floats, at_least: float) -> Flags:
    """``[n, W]``: which classes belong to each row's set; it may be empty."""
    return p >= at_least


def one_row_a_task(found: Answers, seed: int = 0) -> Answers:
    """One query row of each task, drawn: what is exchangeable are tasks, and rows of one task are alike."""
    tasks, first, count = np.unique(found.task, return_index=True, return_counts=True)
    order = np.argsort(found.task, kind="stable")
    begin = np.searchsorted(found.task[order], tasks)
    place = integers(Key.of(seed, "one row a task").bits(tasks, 1)[:, 0], count)
    rows = order[begin + place]
    del first
    usable = None if found.usable is None else found.usable[rows]
    return Answers(found.p[rows], found.y[rows], found.task[rows], usable)


def draw_reliability(found: Mapping[str, Answers]) -> Drawing:
    """Accuracy against confidence, a line for each name; the diagonal is where they agree."""

    def draw(axes: Axes, theme: Theme) -> None:
        axes.plot([0, 1], [0, 1], color=theme.ink, linewidth=0.8, linestyle=":")
        for place, (_, one) in enumerate(found.items()):
            bins = reliability(one.confidence, one.right, 10)
            there = bins.count >= 10
            colour = theme.lines[place % len(theme.lines)]
            axes.plot(bins.confidence[there], bins.accuracy[there], color=colour, label=list(found)[place], marker="o")
        dress(axes, theme, "accuracy", grid="y")
        axes.set_xlabel("confidence (bins of 0.1 with ten rows or more)", color=theme.ink)
        legend(axes, theme, columns=2)

    said = " ".join(f"{n}: ECE {number(_ece(one), 'ece')} %." for n, one in found.items())
    return drawing(draw, (4.7, 3.8), f"Reliability diagram: accuracy against confidence. {said}")


def draw_risk(found: Mapping[str, Answers]) -> Drawing:
    """Error on the surest rows against their share, a line for each name."""
    curves = {name: risk_coverage(one.confidence, one.right) for name, one in found.items()}

    def draw(axes: Axes, theme: Theme) -> None:
        for place, (name, (coverage, risk)) in enumerate(curves.items()):
            from_here = coverage >= 0.05
            axes.plot(
                100 * coverage[from_here],
                100 * risk[from_here],
                color=theme.lines[place % len(theme.lines)],
                label=name,
            )
        dress(axes, theme, "errors among answered, %", grid="y")
        axes.set_xlabel("answered, %, the surest first", color=theme.ink)
        legend(axes, theme, columns=2)

    said = " ".join(
        f"{name}: {number(float(np.interp(0.5, *curve)), 'accuracy')} % at half, "
        f"{number(float(curve[1][-1]), 'accuracy')} % at all."
        for name, curve in curves.items()
    )
    return drawing(draw, (4.7, 3.4), f"Risk against coverage: errors among the rows answered. {said}")


def calibration_section(found: Mapping[str, Answers], title: str = "Calibration and abstention") -> Section:
    """Reliability diagram, risk against coverage, and a table of ECE, Brier score and log loss."""
    rows = [
        (
            name,
            number(_ece(one), "ece"),
            number(brier(one.p, one.y), "brier"),
            number(log_loss(one.p, one.y), "nll"),
            number(float(np.interp(0.5, *risk_coverage(one.confidence, one.right))), "accuracy"),
        )
        for name, one in found.items()
    ]
    return Section(
        title,
        text=(
            f"Over the query rows of all tasks together. ECE: {BINS} bins of equal width, of the answered class's "
            "probability. Risk: errors among the half of the rows that a method is surest of.",
        ),
        drawings=(draw_reliability(found), draw_risk(found)),
        head=("", "ECE, %", "Brier score", "log loss", "errors at half coverage, %"),
        rows=rows,
    )


def _ece(one: Answers) -> float:
    return expected_calibration_error(one.confidence, one.right)
