"""Floor 6: how much energy a training took, roughly, with what is assumed.

    energy = processor seconds x watts of a busy core

Processor time is counted by the system over all processes of the training. The watts are an assumption: neither the
machine's idle power, its memory, its cooling nor a GPU is in it. So it compares trainings with each other rather than
with an electricity bill.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from quickstudy.errors import InputError

__all__ = ["WATTS", "energy", "energy_of", "processor_seconds"]

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


def energy_of(about: Mapping[str, Any], seconds: float, *, watts: float = WATTS) -> dict[str, Any] | None:
    """Of a run: by processor time where it was counted, else by wall time; None where a GPU may have computed.

    Args:
        about: what the run says of its machine (``environment.json``).
        seconds: wall time of all steps.
        watts: of one busy core.

    Raises:
        InputError: watts that make no sense.
    """
    if about.get("cuda") is not None:
        return None
    counted = about.get("processor_seconds")
    if isinstance(counted, int | float):
        return energy(float(counted), watts=watts)
    cores = int(about.get("ranks", 1)) * int(about.get("threads", 1))
    found = energy(seconds * cores, watts=watts)
    if found is not None:
        busy = f"{cores} of them busy for the wall time of all steps: without idle power, memory and cooling"
        found["assumption"] = f"{watts:g} W a busy core, and {busy}"
    return found


def processor_seconds() -> float:
    """Processor time of this process and of its children that have ended, in seconds."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
