"""Floor 4: what a meta-test found, as a value and as a file.

The file is plain JSON. An infinite number, which JSON does not have, is written as the string ``"Infinity"``
(``float("Infinity")`` and JavaScript's ``Number("Infinity")`` both read it). No field is ever NaN.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

from quickstudy.errors import InputError
from quickstudy.evaluate.jsonfile import contents_of, parsed
from quickstudy.files import atomic_write_bytes
from quickstudy.metrics import metric

SCHEMA = 1
Count: TypeAlias = int | tuple[int, int] | None
"""A number, a range (low, high) for ragged tasks, or None where tasks have no such thing."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", ser_json_inf_nan="strings"))
class Other:
    """A further figure of the same answers.

    Args:
        mean: over the episodes for which it is defined.
        ci95: half-width of the usual 95 % interval over them.
        per_episode: each episode's figure, in order; None where it is not defined.
        ci95_classes: as in :class:`Result`, over those episodes.
        ci95_rows: likewise.
    """

    mean: float
    ci95: float
    per_episode: tuple[float | None, ...] = field(repr=False)
    ci95_classes: float | None = None
    ci95_rows: float | None = None


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", ser_json_inf_nan="strings"))
class Result:
    """Figures of one learner over one fixed list of episodes.

    Accuracies are fractions in 0 .. 1 here and in the file; only what people read is in percent.

    Args:
        metric: of ``quickstudy.metrics``, such as ``"accuracy"`` or ``"mse"`` (mean squared error).
        mean: over all episodes; infinite if any episode's error is.
        ci95: half-width of the usual 95 % interval over episodes.
        ci95_classes: half-width of the interval over classes; None where tasks have no
            numbered classes or all have the same.
        median: over all episodes.
        diverged: how many episodes diverged; see :func:`quickstudy.evaluate.meta_test`.
        mean_converged: mean over the other episodes; None if there are none.
        ci95_converged: the usual interval over the other episodes; None if there are none.
        episodes: E, how many episodes.
        first: the number of the first one; the others follow.
        way: classes a task.
        shot: support examples a class (a task, where there are no classes).
        query: query examples, likewise.
        data: name of the data set.
        split: the role of its classes, such as ``"test"``.
        seed: of the task source; with ``source_hash`` and ``source`` it fixes the tasks.
        source: all settings of the task source.
        source_hash: digest of the examples and classes that tasks are drawn from.
        learner: what the learner is called.
        learner_seed: of the learner's own randomness in adapting and predicting.
        transductive: predictions depend on the other queries beside them.
        balanced_prior: the learner assumes as many queries of each class.
        recipe_hash: digest of the resolved recipe that it was trained by; empty if unknown.
        checkpoint: which checkpoint, such as ``"last"``; empty if unknown.
        seconds: how long the meta-test took.
        per_episode: each episode's figure, in order.
        others: further metrics of the same answers, by name.
        ci95_rows: half-width of the interval over rows, where all tasks ask for the same ones, such as the patients of
            one hospital; None elsewhere.
        schema: version of this layout.
    """

    metric: str
    mean: float
    ci95: float
    ci95_classes: float | None
    median: float
    diverged: int
    mean_converged: float | None
    ci95_converged: float | None
    episodes: int
    first: int
    way: Count
    shot: Count
    query: Count
    data: str
    split: str
    seed: int
    source: dict[str, Any]
    source_hash: str
    learner: str
    learner_seed: int
    transductive: bool
    balanced_prior: bool
    recipe_hash: str = ""
    checkpoint: str = ""
    seconds: float
    per_episode: tuple[float, ...] = field(repr=False)
    others: dict[str, Other] = field(default_factory=dict, repr=False)
    ci95_rows: float | None = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"this version of quickstudy reads results of schema {SCHEMA}, found {self.schema}")
        if len(self.per_episode) != self.episodes:
            raise ValueError(f"{self.episodes} episodes announced, figures of {len(self.per_episode)} given")

    def __str__(self) -> str:
        """The sentence that `quickstudy evaluate` prints."""
        from quickstudy.evaluate.wording import sentence  # here, as wording knows results

        return sentence(self)

    @property
    def id(self) -> str:
        """12 hex digits that stand for what was measured, not for what came out: the same settings, the same id."""
        settings = {
            name: getattr(self, name)
            for name in ("metric", "episodes", "first", "source", "source_hash", "learner", "learner_seed")
        } | {name: getattr(self, name) for name in ("transductive", "balanced_prior", "recipe_hash", "checkpoint")}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def smaller_is_better(self) -> bool:
        """True for errors, False for accuracies."""
        return metric(self.metric).smaller_is_better

    def by(self, name: str) -> Result:
        """The same test by another of its metrics, to be compared and shown like the main one.

        Raises:
            InputError: it has no such figure, or not of every episode.
        """
        if name == self.metric:
            return self
        if name not in self.others:
            known = ", ".join([self.metric, *self.others])
            raise InputError(f"This result has no figure {name!r}. It has {known}.")
        other = self.others[name]
        values = [value for value in other.per_episode if value is not None]
        if len(values) < self.episodes:
            missing = self.episodes - len(values)
            raise InputError(f"{name!r} is not defined for {missing} of {self.episodes} episodes of this result.")
        return replace(
            self,
            metric=name,
            mean=other.mean,
            ci95=other.ci95,
            ci95_classes=other.ci95_classes,
            ci95_rows=other.ci95_rows,
            median=float(np.median(values)),
            mean_converged=None,
            ci95_converged=None,
            per_episode=tuple(values),
            others={n: o for n, o in self.others.items() if n != name},
        )

    def to_json(self) -> str:
        """One JSON object, indented."""
        return _ADAPTER.dump_json(self, indent=2).decode() + "\n"

    @staticmethod
    def from_json(text: str | bytes, name: str = "this text") -> Result:
        """The result that :meth:`to_json` wrote.

        Args:
            text: the JSON.
            name: what the error calls it, such as its path.

        Raises:
            DataError: it is cut off, or no result, or of another schema.
        """
        return parsed(_ADAPTER, text, name, "a result", "run `quickstudy evaluate` again to make a new one.")

    def save(self, path: Path) -> None:
        """Write the file whole or not at all, folders included.

        Raises:
            StorageError: the disk refused; what was there before is unchanged.
        """
        atomic_write_bytes(path, self.to_json().encode())

    @staticmethod
    def load(path: Path) -> Result:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: the file is missing, cut off or no result.
        """
        return Result.from_json(contents_of(path, "the result"), str(path))


_ADAPTER = TypeAdapter(Result)
