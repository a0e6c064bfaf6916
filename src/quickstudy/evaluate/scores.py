"""Floor 4: how right a learner's outputs are, one figure a task.

Scoring happens on the CPU in float64 from whole counts, so that a figure does not depend on the device's
rounding, and an output that is no number is always a mistake: ``argmax`` of a row of NaN could hit the label
by accident.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.source import TaskSource
from quickstudy.episode import Classes, Episode, Examples, MultiLabel
from quickstudy.errors import InputError
from quickstudy.metrics import metric

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Numbers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scores:
    """What the outputs for T tasks are worth.

    Args:
        metric: ``"accuracy"`` or ``"mse"``, or the source's own.
        values: float64 ``[T]``: accuracy in 0 .. 1, or mean squared error (infinite where outputs are no numbers).
        unusable: bool ``[T]``: some output of the task is no usable number.
        labels: float64 ``[R, D]``: the labels scored against, for real targets; None otherwise.
        predicted: int64 ``[T, Nq]``, the class said (-1: unusable); None unless the target is Classes.
    """

    metric: str
    values: Floats
    unusable: Flags
    labels: Floats | None = None
    predicted: Tensor | None = None
    others: dict[str, Floats] = field(default_factory=dict)


def score(outputs: Tensor, episode: Episode, source: TaskSource | None = None) -> Scores:
    """Score a learner's outputs for the query rows of T tasks.

    Args:
        outputs: ``[T, Nq, W]`` logits, or ``[T, Nq, D]`` values, on any device.
        episode: the tasks, query labels included (CPU).
        source: where they come from, if it has figures of its own.

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
        scores = _score_classes(outputs, query.y, counted)
    elif isinstance(query.target, MultiLabel):
        scores = _score_labels(outputs, query.y, counted, query.target.way)
    else:
        scores = _score_values(outputs, query.y, counted)
    own = {} if source is None else source.figures(outputs, episode)
    return _by_own_figures(scores, own) if own else scores


def _by_own_figures(scores: Scores, own: dict[str, Floats]) -> Scores:
    """With the source's own first figure as the main one; what is usually said stands beside it."""
    wrong = next((name for name, values in own.items() if values.shape != scores.values.shape), None)
    if wrong is not None:
        raise InputError(
            f"The source's own figure {wrong!r} cannot be used: expected one number for each of the "
            f"{len(scores.values)} tasks, found shape {list(own[wrong].shape)}."
        )
    main, *rest = own
    worst = np.inf if metric(main).smaller_is_better else 0.0
    values = np.where(scores.unusable, worst, own[main])
    others = {name: own[name] for name in rest}
    if scores.metric not in own:
        others[scores.metric] = scores.values
    return replace(scores, metric=main, values=values, labels=None, others=others)


def _check_shape(outputs: Tensor, query: Examples) -> None:
    rows = (query.n_task, query.n_example)
    if outputs.dim() != 3 or outputs.shape[:2] != rows:
        raise InputError(
            f"The learner's outputs cannot be scored: expected shape [{rows[0]}, {rows[1]}, way or D], "
            f"found {list(outputs.shape)}. Its predict must answer every query row of every task."
        )


def _score_classes(outputs: Tensor, y: Tensor, counted: Tensor) -> Scores:
    # The largest logit is NaN if any is, and infinite if nothing sensible can be said (all -inf, or +inf);
    # -inf for some of the classes is a legitimate "never".
    usable = outputs.amax(2).isfinite()
    predicted = outputs.argmax(2).where(usable, torch.tensor(-1))
    right = (predicted == y) & counted
    values = right.sum(1).numpy() / counted.sum(1).numpy()
    return Scores("accuracy", values, (~usable & counted).any(1).numpy(), predicted=predicted)


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
