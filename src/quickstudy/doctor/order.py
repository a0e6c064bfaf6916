"""Floor 5: a check of whether the order of the support rows matters, and whether the learner says so.

Sums of reordered rows are rounded otherwise. A learner that amplifies rounding (thousands of steps on features that
have nearly collapsed) then changes its predictions though it reads no place: so what rounding alone does is measured
where reordering does something.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from quickstudy.doctor.measures import outputs
from quickstudy.doctor.patient import Patient, difference
from quickstudy.doctor.report import Finding
from quickstudy.episode import Classes, Examples, as_inputs, map_leaves
from quickstudy.keys import Key, uniform

__all__ = ["check_order"]

ORDER = "support order"
_ROUNDING = 1e-8
# Solvers that stop by a criterion, such as scikit-learn's at a gradient of 1e-4, stop elsewhere for another order.
_STOPPED = 1e-3
# What counts as rounding in float64: relative to each number, some fifty units in the last place.
_NUDGE = 1e-14
_NO_MORE_THAN = 10  # times what rounding does: two draws of the same noise differ by that much in their largest entry


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
    if moved <= _ROUNDING:
        return [Finding(ORDER, "ok", "The order of the support does not matter.")]
    rounding = max(difference(other, said) for other in _nudged_outputs(patient))
    if moved <= _NO_MORE_THAN * rounding:
        return [_amplified(by, rounding)]
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
    return [
        Finding(
            ORDER,
            "note",
            f"Reordered, predictions change by {by}: a solver that stops early does that, or a place that counts "
            "a little.",
            "If nothing in the learner stops by a criterion, look for what reads a row's place.",
        )
    ]


def _amplified(by: str, rounding: float) -> Finding:
    """What is said where reordering does no more than rounding."""
    return Finding(
        ORDER,
        "note",
        f"Predictions amplify rounding: a relative change of {_NUDGE:.0e} in support and weights moves them by "
        f"{rounding:.1e}, about {rounding / _NUDGE:.0e} times as much. Reordering does no more than that: it changes "
        f"them by {by}.",
        "Look at the features of the support, which may have collapsed (all nearly alike), and take fewer or smaller "
        "adaptation steps; in float32 it is worse.",
    )


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


def _nudged_outputs(patient: Patient) -> Iterator[Tensor]:
    """Predictions where each number of the support and of the weights is moved by rounding, up or down at random.

    The weights too: where features have nearly collapsed, rounding in the features is all that is left of a support's.
    """
    episode = patient.episode
    # Pictures become floats for that.
    support, query = (replace(part, x=as_inputs(part.x, torch.float64)) for part in (episode.support, episode.query))
    for number in range(2):
        nudge, learner = partial(_nudge, Key.of(number, "rounding")), patient.copy(training=False)
        for p in learner.parameters():
            p.data = nudge(p.data)
        y = None if support.y is None else nudge(support.y)
        moved = replace(support, x=map_leaves(nudge, support.x), y=y)
        yield outputs(learner, replace(episode, support=moved, query=query), patient.keys)


def _nudge(key: Key, leaf: Tensor) -> Tensor:
    """Numbers moved by rounding; what is no float stays."""
    if not leaf.is_floating_point():
        return leaf
    up = torch.from_numpy(uniform(key.bits(np.arange(1), leaf.numel())[0]) < 0.5).reshape(leaf.shape)
    return leaf * (1 + _NUDGE * (2 * up.to(leaf) - 1))
