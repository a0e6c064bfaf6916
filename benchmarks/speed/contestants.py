"""Who takes part in which kind of work. Their code is imported when it is asked for, each by its own worker."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from benchmarks.speed.settings import Column
from benchmarks.speed.workloads import Kind, Workload

if TYPE_CHECKING:
    from benchmarks.speed.jobs import Make

__all__ = [
    "ADJOINT",
    "COMPILED",
    "OURS",
    "RANKS",
    "REFERENCE",
    "TRACED",
    "WRONG",
    "WRONG_TIMED",
    "contestants",
    "maker",
]

OURS = "quickstudy"
REFERENCE = "reference"

TRACED, COMPILED = f"{OURS}-traced", f"{OURS}-compiled"
WRONG = "first-order"
"""Computes something else than it should; the tests see to it that it gets no time."""
WRONG_TIMED = "first-order-when-timed"
"""Likewise, but only in float32."""

RANKS, ADJOINT = f"{OURS}-2-ranks", f"{OURS}-adjoint"

_GRADIENTS = {
    "higher": "gradients.by_higher",
    "learn2learn": "gradients.by_learn2learn",
    "torchopt": "gradients.by_torchopt",
}
_EVERY: dict[Kind, dict[str, str]] = {
    "maml": {
        OURS: "ours.maml",
        TRACED: "ours.traced",
        COMPILED: "ours.compiled",
        RANKS: "ranks.divided",
        ADJOINT: "ours.adjoint",
        **_GRADIENTS,
        WRONG: "reference.first_order",
        WRONG_TIMED: "reference.first_order_when_timed",
        REFERENCE: "reference.by_gradients",
    },
    "fomaml": {
        OURS: "ours.fomaml",
        RANKS: "ranks.divided",
        "higher": "gradients.by_higher",
        "learn2learn": "gradients.by_learn2learn",  # torchopt has no first-order form
        REFERENCE: "reference.first_order",
    },
    "adapt": {OURS: "ours.adapt", RANKS: "ranks.adapt", **_GRADIENTS, REFERENCE: "reference.logits"},
    "protonet": {
        OURS: "ours.protonet",
        "easyfsl": "metric.by_easyfsl",
        "learn2learn": "metric.by_learn2learn",
        "torchmeta": "metric.by_torchmeta",
        REFERENCE: "reference.by_prototypes",
    },
    "reptile": {
        OURS: "ours.reptile",
        RANKS: "ranks.divided",
        "torch": "reptile.by_state_dict",
        "learn2learn": "reptile.by_learn2learn",
        REFERENCE: "reference.by_reptile",
    },
    "sampling": {
        OURS: "samplers.by_quickstudy",
        "easyfsl": "samplers.by_easyfsl",
        "learn2learn": "samplers.by_learn2learn",
        "torchmeta": "samplers.by_torchmeta",
    },
}


def contestants(workload: Workload, column: Column, device: str) -> list[str]:
    """Names of those that are timed, ours first.

    Two ranks take part as users run it on a CPU; the compiled forms in the work of small networks, which they are for;
    the adjoint where memory is what matters (``peak``).
    """
    left_out = {REFERENCE, ADJOINT, WRONG, WRONG_TIMED}
    if column == "equal" or device != "cpu" or workload.tasks < 2:
        left_out.add(RANKS)
    if workload.net != "mlp":
        left_out |= {TRACED, COMPILED}
    return [name for name in _EVERY[workload.kind] if name not in left_out]


def maker(kind: Kind, name: str) -> Make:
    """What makes the job of a contestant (or of the reference).

    Raises:
        KeyError: nobody of that name takes part.
    """
    module, function = _EVERY[kind][name].split(".")
    make: Make = getattr(importlib.import_module(f"benchmarks.speed.{module}"), function)
    return make
