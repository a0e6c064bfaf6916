"""Floor 6: how much energy a training took, roughly, with what is assumed.

    energy = processor seconds x watts of a busy core

Processor time is counted by the system over all processes of the training. The watts are an assumption: neither the
machine's idle power, its memory, its cooling nor a GPU is in it. So it compares trainings with each other rather than
with an electricity bill.
"""

from __future__ import annotations

import os
from typing import Any

from quickstudy.errors import InputError

__all__ = ["WATTS", "energy", "processor_seconds"]

WATTS = 10.0
"""Of one busy core, unless one is told better: server processors have thermal designs of 3 to 15 W a core."""


def energy(seconds: float | None, *, device: str = "cpu", watts: float = WATTS) -> dict[str, Any] | None:
    """An estimate with its assumption, as JSON; None where nothing is known.

    >>> energy(7200.0, watts=5.0)["watt_hours"]
    10.0

    Args:
        seconds: of processor time; None where nobody counted it.
        device: where was computed. On a GPU there is no estimate: most of the energy goes there, uncounted.
        watts: of one busy core.

    Raises:
        InputError: watts that make no sense.
    """
    if not 0 < watts < float("inf"):
        raise InputError(f"Cannot estimate energy with {watts:g} watts a core: expected a number above 0, such as 10.")
    if seconds is None or device != "cpu":
        return None
    assumed = f"{watts:g} W a busy core, for processor time alone: without idle power, memory and cooling"
    return {"watt_hours": round(seconds * watts / 3600, 3), "assumption": assumed}


def processor_seconds() -> float:
    """Processor time of this process and of its children that have ended, in seconds."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
