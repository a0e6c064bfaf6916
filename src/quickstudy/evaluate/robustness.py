"""Floor 4: figures beside accuracy that say where a learner fails, as values, as a file and as a part of a page.

    Robustness        all of them, of one learner
    worst_class       the class it is worst at, not flattered by having been chosen
    low_percentile    the episodes it is worst at
    ece_interval      expected calibration error with an interval
    Rejection         how well it tells queries of classes that the task does not have

Which tasks are asked for each stands in ``stressing.py``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass
from torch import Tensor

from quickstudy.data.classscores import auroc, probabilities
from quickstudy.episode import UNLABELLED, Episode
from quickstudy.evaluate.calibration import Answers
from quickstudy.evaluate.figures import Curve, draw_curves
from quickstudy.evaluate.intervals import episode_ci95
from quickstudy.evaluate.jsonfile import contents_of, parsed
from quickstudy.evaluate.report import Section
from quickstudy.evaluate.result import Result
from quickstudy.evaluate.scores import Floats
from quickstudy.evaluate.wording import count, number
from quickstudy.files import atomic_write_bytes
from quickstudy.keys import Key, integers

__all__ = [
    "LEAST",
    "ClassCounts",
    "Figure",
    "Rejection",
    "Robustness",
    "ece_interval",
    "low_percentile",
    "mean_of",
    "robustness_section",
    "worst_class",
]

SCHEMA = 1
LEAST = 20
"""Episodes that a class must occur in before it can be called the worst."""
RESAMPLED = 1000


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", ser_json_inf_nan="strings"))
class Figure:
    """One figure of one learner.

    Args:
        kind: what it belongs to, such as ``"label noise"``.
        name: what people read, such as ``"20 % wrong labels"``.
        metric: of ``quickstudy.metrics``.
        value: the figure.
        low: where its 95 % interval begins.
        high: where it ends.
        episodes: how many it is of.
        at: the rate, the angle, the shots or the ways; None where there is no such number.
        difference: mean of this minus the unchanged one over the same episodes, with the half-width of its 95 %
            interval; None where it is not compared.
    """

    kind: str
    name: str
    metric: str
    value: float
    low: float
    high: float
    episodes: int
    at: float | None = None
    difference: tuple[float, float] | None = None

    def __str__(self) -> str:
        """As in "41.0 (39.5 to 42.4), −5.2 ± 0.9"."""
        low, high = number(self.low, self.metric), number(self.high, self.metric)
        said = f"{number(self.value, self.metric)} ({low} to {high})"
        if self.difference is None:
            return said
        mean, half = self.difference
        return f"{said}, {number(mean, self.metric, sign=True)} ± {number(half, self.metric)}"


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", ser_json_inf_nan="strings"))
class Robustness:
    """All figures of one learner.

    Args:
        learner: its name.
        source: settings of the unchanged tasks.
        source_hash: digest of what they are drawn from.
        recipe_hash: digest of the recipe that it was trained by.
        checkpoint: which one.
        transductive: predictions depend on the other queries.
        episodes: of the unchanged tasks.
        seconds: how long it took.
        figures: in the order in which they were measured.
        not_asked: what could not be measured -> why.
        schema: version of this layout.
    """

    learner: str
    source: dict[str, Any]
    source_hash: str
    recipe_hash: str
    checkpoint: str
    transductive: bool
    episodes: int
    seconds: float
    figures: tuple[Figure, ...] = field(repr=False)
    not_asked: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"this version of quickstudy reads figures of schema {SCHEMA}, found {self.schema}")

    def __str__(self) -> str:
        """Plain text for the terminal, a line a figure."""
        wide = max(len(one.name) for one in self.figures)
        lines = [f"Robustness of {self.learner}, {count(self.episodes)} episodes; in brackets 95 % intervals"]
        lines += [f"  {one.name:<{wide}}  {one.metric} {one}" for one in self.figures]
        lines += [f"  {names}: not asked. {why}" for names, why in self.reasons.items()]
        return "\n".join(lines)

    def stands_beside(self, result: Result) -> bool:
        """Whether it is of the same recipe, checkpoint and unchanged tasks, of the same sizes, as a result."""
        names = ("recipe_hash", "checkpoint", "source_hash", "transductive")
        tasks, others = (json.dumps(one.source, sort_keys=True) for one in (self, result))
        return tasks == others and all(getattr(self, name) == getattr(result, name) for name in names)

    @property
    def reasons(self) -> dict[str, str]:
        """What was not asked -> why, in the words of the first where reasons differ in numbers alone."""
        alike: dict[str, list[str]] = {}
        for name, why in self.not_asked.items():
            alike.setdefault(re.sub(r"\d+", "#", why), []).append(name)
        return {", ".join(names): self.not_asked[names[0]] for names in alike.values()}

    @property
    def id(self) -> str:
        """12 hex digits that stand for what was measured, not for what came out."""
        names = ("learner", "source", "source_hash", "recipe_hash", "checkpoint", "episodes")
        settings = json.dumps({name: getattr(self, name) for name in names}, sort_keys=True)
        return hashlib.sha256(settings.encode()).hexdigest()[:12]

    def by_name(self, name: str) -> Figure | None:
        """The figure that people read under this name."""
        return next((one for one in self.figures if one.name == name), None)

    def to_json(self) -> str:
        """One JSON object, indented."""
        return _ADAPTER.dump_json(self, indent=2).decode() + "\n"

    def save(self, path: Path) -> None:
        """Write the file whole or not at all, folders included.

        Raises:
            StorageError: the disk refused; what was there before is unchanged.
        """
        atomic_write_bytes(path, self.to_json().encode())

    @staticmethod
    def load(path: Path) -> Robustness:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: the file is missing, cut off or something else.
        """
        return Robustness.from_json(contents_of(path, "the robustness figures"), str(path))

    @staticmethod
    def from_json(text: str | bytes, name: str = "this text") -> Robustness:
        """The figures that :meth:`to_json` wrote.

        Args:
            text: the JSON.
            name: what the error calls it, such as its path.

        Raises:
            DataError: it is cut off or something else.
        """
        return parsed(_ADAPTER, text, name, "robustness figures", "run `quickstudy evaluate RUN --robustness` again.")


_ADAPTER = TypeAdapter(Robustness)


# --- figures of the answers to unchanged tasks --------------------------------------------------


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


def ece_interval(found: Answers, bins: int = 15, seed: int = 0) -> tuple[float, float, float]:
    """Expected calibration error, and its 95 % interval by a bootstrap over episodes.

    The error is an average of absolute values, so that luck makes it larger, in the bootstrap once more: its interval
    is moved by twice the mean of that (the basic bootstrap), and no lower than 0. Of one episode nothing is known.

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
    drawn = integers(Key.of(seed, "ece").bits(np.arange(RESAMPLED), n), n)  # [B, E]
    weights = np.apply_along_axis(np.bincount, 1, drawn, minlength=n).astype(np.float64)
    resampled = np.abs(weights @ gap).sum(1) / (weights @ rows)
    value = float(np.abs(gap.sum(0)).sum() / rows.sum())
    if n < 2:
        return value, 0.0, 1.0
    low, high = np.quantile(resampled, [0.025, 0.975])
    return value, max(0.0, 2 * value - float(high)), max(0.0, 2 * value - float(low))


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


# --- as a part of a page ------------------------------------------------------------------------


def robustness_section(found: Mapping[str, Robustness], title: str = "Robustness") -> Section:
    """A table of all figures, learners side by side, and curves over shots and ways.

    Args:
        found: what the page calls a learner -> its figures.
        title: of the part.
    """
    names = list(dict.fromkeys(one.name for each in found.values() for one in each.figures))
    kinds = {one.name: one.kind for each in found.values() for one in each.figures}
    rows = []
    for name in sorted(names, key=lambda name: list(dict.fromkeys(kinds.values())).index(kinds[name])):
        cells = [each.by_name(name) for each in found.values()]
        metric = next(cell.metric for cell in cells if cell is not None)
        rows.append((f"{name} ({_SHOWN.get(metric, metric)})", *("" if c is None else str(c) for c in cells)))
    curves = [
        Curve(
            learner,
            f"{along} accuracy",
            [float(one.at or 0) for one in of],
            [one.value for one in of],
            [(one.high - one.low) / 2 for one in of],
            along=along,
        )
        for learner, each in found.items()
        for along in ("shots", "ways")
        if (of := [one for one in each.figures if one.kind == along])
    ]
    return Section(
        title,
        text=(
            "Figures with 95 % intervals in brackets; then the difference to the unchanged tasks, episode by episode, "
            "where the tasks are the same.",
            *(f"Not asked of {n}: {what}. {why}" for n, each in found.items() for what, why in each.reasons.items()),
        ),
        drawings=draw_curves(curves, list(found)) if curves else (),
        head=("", *found),
        rows=rows,
    )


_SHOWN = {"accuracy": "%", "ece": "%", "auroc": "AUROC"}


def mean_of(kind: str, name: str, values: Floats, metric: str = "accuracy", **more: Any) -> Figure:
    """A mean over episodes with its usual interval, cut off at 0 and 1."""
    mean, half = float(values.mean()), episode_ci95(values)
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return Figure(kind=kind, name=name, metric=metric, value=mean, low=low, high=high, episodes=len(values), **more)
