"""Floor 5: a check of whether the order of the support rows matters, and whether the learner says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from quickstudy.doctor.measures import outputs
from quickstudy.doctor.patient import Patient, difference
from quickstudy.doctor.report import Finding
from quickstudy.episode import Classes, Examples
from quickstudy.keys import Key

__all__ = ["check_order"]

ORDER = "support order"
_ROUNDING = 1e-8
# Solvers that stop by a criterion, such as scikit-learn's at a gradient of 1e-4, stop elsewhere for another order.
_STOPPED = 1e-3


def check_order(patient: Patient) -> list[Finding]:
    """Predictions when each task's support is reversed and shuffled, the key being the same."""
    if int(patient.episode.support.real.sum(1).max()) < 2:
        return [Finding(ORDER, "note", "Not looked at: the supports have a single row.")]
    learner, episode = patient.copy(training=False), patient.episode
    said = outputs(learner, episode, patient.keys)
    found = [outputs(learner, replace(episode, support=other), patient.keys) for other in _reordered(episode.support)]
    moved = max(difference(other, said) for other in found)
    by = f"{moved:.1e}"
    if isinstance(episode.query.target, Classes):
        other_class = max(
            float((other.argmax(2) != said.argmax(2))[episode.query.real].double().mean()) for other in found
        )
        by += f", and {other_class:.0%} of the queries go to another class"
    if not patient.traits.order_invariant:
        return [_declared(moved, by)]
    if moved > _STOPPED:
        return [
            Finding(
                ORDER,
                "problem",
                f"Predictions change by {by} when the support is reordered, but the learner declares "
                "order_invariant=True.",
                "Take sums, means or attention over the rows, none by its place; or declare order_invariant=False.",
            )
        ]
    rounding = "." if moved <= _ROUNDING else f", up to {moved:.1e}: rounding, or a solver that stops early."
    return [Finding(ORDER, "ok", f"The order of the support does not matter{rounding}")]


def _declared(moved: float, by: str) -> Finding:
    """What is said of a learner that declares that the order matters."""
    if moved > _ROUNDING:
        return Finding(
            ORDER,
            "note",
            f"The order of the support matters, as declared: reordered, predictions change by {by}.",
            "Give supports in the order that they will come in; where there is none, shuffled. To be rid of it, "
            "average predictions over some orders.",
        )
    return Finding(
        ORDER,
        "note",
        "Declared to depend on the order of the support, but no prediction changes when it is reversed or shuffled.",
        "Declare order_invariant=True, if that is so for all tasks; the laws then hold it to that.",
    )


def _reordered(support: Examples) -> Iterator[Examples]:
    """The support reversed, and in two random orders of each task's rows."""
    n = support.n_example
    yield support.rows(torch.arange(n - 1, -1, -1, device=support.device))
    for number in range(2):
        order = Key.of(number, "support order").bits(np.arange(support.n_task), n).argsort(1)
        yield support.take(torch.from_numpy(order.copy()).to(support.device))
