"""Floor 1: what every source of tasks offers, whatever its tasks are made of."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.episode import Episode
from quickstudy.errors import InputError
from quickstudy.keys import Integers

if TYPE_CHECKING:
    from quickstudy.data.batches import BatchSource


@dataclass(frozen=True)
class TaskShape:
    """What a network and a learner must know of the tasks before they are built.

    Args:
        example: shape of one example as the network receives it (pictures with their channel axis), or a dict
            of shapes for dict inputs.
        target: what a label means.
        outputs: W, the largest way, or D for real targets.
        classes: how many class numbers ``Episode.classes`` counts, where tasks are made of classes.
        vocabulary: how many kinds of tokens there are, where examples are texts: ``input_ids`` are below it.
        environment: what ``data.environments.environment`` makes the tasks' environment from, where tasks are
            environments: ``example`` is then an observation, and ``outputs`` the size of an action.
    """

    example: tuple[int, ...] | dict[str, tuple[int, ...]]
    target: Literal["classes", "multi-label", "real"]
    outputs: int
    classes: int | None = None
    vocabulary: int | None = None
    environment: dict[str, Any] | None = None


Place: TypeAlias = tuple[str, str | None]


@dataclass(frozen=True, eq=False)
class RowMoves:
    """By how much each row moves the figures of the tasks that ask for it.

    Args:
        rows: int64 ``[n]``, which row: the same number in every task that asks for it.
        of: a metric's name -> ``[n]``, the derivative of its task's figure by the weight of the row, all weights being
            1; NaN where the figure is not defined.
    """

    rows: Integers
    of: dict[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Origin:
    """What tasks are made of, so that a learner is not tested on what it was trained on; see ``data/seen.py``.

    Args:
        place: what names count in: the data set, and its folder or file where that is the user's own. In one place the
            same name is the same class; where there is no folder, names do not change.
        names: of the classes or groups that tasks are drawn from.
        examples: name -> uint64 ``[n]``, a digest of each example, whatever its file and its class are called; empty
            where only names tell.
        numbering: tells vocabularies apart, where examples are texts.
    """

    place: Place
    names: tuple[str, ...]
    examples: Mapping[str, NDArray[np.uint64]] = field(default_factory=dict)
    numbering: str | None = None


def place(data: str, path: str | Path | None = None) -> Place:
    """:attr:`Origin.place` of a data set, or of the folder or file that it reads, whichever way that is reached."""
    if path is not None and "://" in str(path):  # an address for fsspec
        return data, str(path)
    return data, None if path is None else os.path.realpath(Path(path).expanduser())


class TaskSource(ABC):
    """Yields tasks by number. Task i is a pure function of (source, seed, split, i).

    The number counts tasks, so a task does not depend on how many are asked for at once, in which order, or
    by which worker.
    """

    @property
    @abstractmethod
    def shape(self) -> TaskShape:
        """Shapes of the tasks."""

    @property
    @abstractmethod
    def hash(self) -> str:
        """Hex digest of the content: class ids, example ids and their bytes, not of file containers."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What makes these tasks: data, split, way, shot, query, seed (JSON types only)."""

    @property
    def origin(self) -> Origin | None:
        """What they are made of; None where nothing is kept of that."""
        return None

    @property
    def count(self) -> int | None:
        """How many tasks there are; None where each number is a task."""
        return None

    def at_most(self, wanted: int) -> int:
        """As many of ``wanted`` tasks as there are."""
        return wanted if self.count is None else min(wanted, self.count)

    @property
    def largest(self) -> int | None:
        """The most examples that a task may have, support and query together; None where nobody knows."""
        return None

    @property
    def ahead(self) -> int:
        """How many calls it pays to read ahead of whoever asks (``data/ahead.py``); 0: examples are at hand."""
        return 0

    @abstractmethod
    def episodes(self, indices: range | Integers) -> Episode:
        """The tasks with these numbers, batched in this order (CPU tensors).

        Args:
            indices: T non-negative task numbers.
        """

    def figures(self, outputs: Tensor, episode: Episode) -> dict[str, NDArray[np.float64]]:
        """What a learner's outputs are worth by the metrics of the tasks' own field, beside accuracy or squared error.

        Args:
            outputs: ``[T, Nq, W]`` logits or ``[T, Nq, D]`` values, on the CPU.
            episode: the tasks as :meth:`episodes` gave them.

        Returns:
            A metric's name (``quickstudy.metrics``) -> ``[T]``; the first becomes the main figure of a result. None of
            its own by default. A task for which one is not defined has NaN.
        """
        del outputs, episode
        return {}

    def row_moves(self, outputs: Tensor, episode: Episode) -> RowMoves | None:
        """Where all tasks ask for the same rows again and again: how the figures hang on them, for intervals over rows.

        Args:
            outputs: as in :meth:`figures`.
            episode: likewise.

        Returns:
            None, by default: tasks do not ask for the same rows, or an interval over classes says more.
        """
        del outputs, episode
        return None

    def batches(self, size: int) -> BatchSource:
        """The same examples as plain labelled batches, for training a classifier over all classes.

        Args:
            size: examples a batch.

        Raises:
            InputError: these tasks are not made of classes, or the size is below 1.
        """
        del size
        raise InputError(
            f"Cannot make plain labelled batches of these tasks ({type(self).__name__}): they are not drawn from a set "
            "of labelled classes. Use a data set of classes, or a learner that is trained on tasks."
        )


def as_indices(indices: range | Integers) -> Integers:
    """Task numbers as an int64 array, checked."""
    numbers = np.asarray(indices, dtype=np.int64)
    if numbers.ndim != 1 or len(numbers) == 0 or (numbers < 0).any():
        raise ValueError(f"Task numbers: expected a non-empty list of numbers from 0 on, found {indices!r}.")
    return numbers
