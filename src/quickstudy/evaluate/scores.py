"""Floor 4: how right a learner's outputs are, one figure a task, and which classes the mistakes were between.

Scoring happens on the CPU in float64 from whole counts, so that a figure does not depend on the device's
rounding, and an output that is no number is always a mistake: ``argmax`` of a row of NaN could hit the label
by accident.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.episode import Classes, Episode, Examples, MultiLabel
from quickstudy.errors import InputError

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Numbers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Query rows and mistakes by the data set's class number, over any number of episodes.

    A mistake lies *between* two classes, the one that was missed and the one that was said instead, so each
    bears half of it. The halves of all classes add up to the number of mistakes.

    Args:
        classes: int64 ``[C]``, distinct class numbers.
        rows: float64 ``[C]``, labelled query rows of each class.
        mistakes: float64 ``[C]``, the class's share in the mistakes.
    """

    classes: Numbers
    rows: Floats
    mistakes: Floats

    @staticmethod
    def merge(parts: list[ClassCounts]) -> ClassCounts:
        """The counts of all parts together."""
        every = np.concatenate([part.classes for part in parts])
        classes, place = np.unique(every, return_inverse=True)
        rows, mistakes = np.zeros(len(classes)), np.zeros(len(classes))
        np.add.at(rows, place, np.concatenate([part.rows for part in parts]))
        np.add.at(mistakes, place, np.concatenate([part.mistakes for part in parts]))
        return ClassCounts(classes, rows, mistakes)


@dataclass(frozen=True, eq=False)
class Scores:
    """What the outputs for T tasks are worth.

    Args:
        metric: ``"accuracy"`` or ``"mse"``.
        values: float64 ``[T]``: accuracy in 0 .. 1, or mean squared error (infinite where outputs are no numbers).
        unusable: bool ``[T]``: some output of the task is no usable number.
        counts: mistakes by class; None unless the target is Classes and the episode names its classes.
        labels: float64 ``[R, D]``: the labels scored against, for real targets; None otherwise.
        predicted: int64 ``[T, Nq]``, the class said (-1: unusable); None unless the target is Classes.
    """

    metric: str
    values: Floats
    unusable: Flags
    counts: ClassCounts | None = None
    labels: Floats | None = None
    predicted: Tensor | None = None


def score(outputs: Tensor, episode: Episode) -> Scores:
    """Score a learner's outputs for the query rows of T tasks.

    Args:
        outputs: ``[T, Nq, W]`` logits, or ``[T, Nq, D]`` values, on any device.
        episode: the tasks, query labels included (CPU).

    Raises:
        InputError: a task has no labelled query row, or the outputs have another shape.
    """
    query = episode.query
    outputs = outputs.detach().cpu()
    _check_shape(outputs, query)
    counted = query.labelled
    bare = (~counted.any(1)).nonzero()
    if query.y is None or len(bare):
        task = 0 if query.y is None else int(bare[0])
        raise InputError(
            f"Cannot score task {int(episode.indices[task])}: none of its query rows carries a label. "
            "Meta-test on labelled queries."
        )
    if isinstance(query.target, Classes):
        return _score_classes(outputs, query.y, counted, episode)
    if isinstance(query.target, MultiLabel):
        return _score_labels(outputs, query.y, counted, query.target.way)
    return _score_values(outputs, query.y, counted)


def _check_shape(outputs: Tensor, query: Examples) -> None:
    rows = (query.n_task, query.n_example)
    if outputs.dim() != 3 or outputs.shape[:2] != rows:
        raise InputError(
            f"The learner's outputs cannot be scored: expected shape [{rows[0]}, {rows[1]}, way or D], "
            f"found {list(outputs.shape)}. Its predict must answer every query row of every task."
        )


def _score_classes(outputs: Tensor, y: Tensor, counted: Tensor, episode: Episode) -> Scores:
    # The largest logit is NaN if any is, and infinite if nothing sensible can be said (all -inf, or +inf);
    # -inf for some of the classes is a legitimate "never".
    usable = outputs.amax(2).isfinite()
    predicted = outputs.argmax(2).where(usable, torch.tensor(-1))
    right = (predicted == y) & counted
    values = right.sum(1).numpy() / counted.sum(1).numpy()
    counts = None if episode.classes is None else _count(predicted, y, counted, episode.classes)
    return Scores("accuracy", values, (~usable & counted).any(1).numpy(), counts, predicted=predicted)


def _count(predicted: Tensor, y: Tensor, counted: Tensor, classes: Tensor) -> ClassCounts:
    """Rows and shares in the mistakes for each class of each task; ``classes`` is ``[T, W]``, -1 for absent."""
    width = classes.shape[1]
    wrong = counted & (predicted != y)
    # What was said may be no class of the task: unusable, or a column that the task does not have.
    said = wrong & (predicted >= 0) & (predicted < width)
    said &= classes.gather(1, predicted.clamp(0, width - 1)) >= 0
    own = torch.where(said, 0.5, 1.0) * wrong  # nobody shares the blame for an answer that is no class
    zero = torch.zeros(classes.shape, dtype=torch.float64)
    label = y.masked_fill(~counted, 0)
    rows = zero.scatter_add(1, label, counted.double())
    mistakes = zero.scatter_add(1, label, own.double())
    mistakes = mistakes.scatter_add(1, predicted.masked_fill(~said, 0), said.double() / 2)
    here = (classes >= 0).numpy()
    # One entry a task and class so far; merging leaves one a class.
    return ClassCounts.merge([ClassCounts(classes.numpy()[here], rows.numpy()[here], mistakes.numpy()[here])])


def _score_labels(outputs: Tensor, y: Tensor, counted: Tensor, way: Tensor) -> Scores:
    present = (torch.arange(outputs.shape[2]) < way[:, None, None]) & counted[..., None]
    usable = ~outputs.isnan()
    right = ((outputs > 0) == (y > 0)) & usable & present
    values = right.sum((1, 2)).numpy() / present.sum((1, 2)).numpy()
    return Scores("accuracy", values, (~usable & present).flatten(1).any(1).numpy())


def _score_values(outputs: Tensor, y: Tensor, counted: Tensor) -> Scores:
    error = (outputs.double() - y.double()).square().mean(2)  # [T, Nq]
    values = torch.where(counted, error, 0.0).sum(1) / counted.sum(1)
    values = torch.where(values.isfinite(), values, torch.inf)  # an answer that is no number is as wrong as can be
    return Scores("mse", values.numpy(), values.isinf().numpy(), labels=y[counted].double().numpy())
