"""Floor 6: so much time for trainings, divided over the seeds that remain."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable

from typing_extensions import override

from quickstudy.errors import InputError
from quickstudy.train import Silent, StepEvent

__all__ = ["Budget", "StopsAt", "read_duration"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PARTS = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def read_duration(text: str) -> float:
    """Seconds of a text such as ``20m``.

    >>> read_duration("20m"), read_duration("1h30m"), read_duration("1.5h")
    (1200.0, 5400.0, 5400.0)

    Raises:
        InputError: it says no time above 0.
    """
    parts = _PARTS.findall(text.strip())
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text.strip() or not seconds > 0:
        raise InputError(
            f"Cannot read {text!r} as a time: expected a number above 0 with its unit, such as 90s, 20m or 1h30m."
        )
    return seconds


class Budget:
    """Wall time that begins now.

    Args:
        seconds: of all trainings together, and of the tests between them; None: no end.
        clock: for tests.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock, self._began = clock, clock()

    def share(self, seeds: int) -> float | None:
        """Seconds for the next of so many seeds that remain; None: no end. 0 where nothing is left."""
        if self.seconds is None:
            return None
        return max(0.0, self.seconds - (self._clock() - self._began)) / seeds


class StopsAt(Silent):
    """Ends a training after so many seconds as Ctrl-C does: the step is finished and saved.

    Args:
        seconds: None: it never does.
        clock: for tests.

    Raises:
        InputError: there is an end, and this is not the main thread, which alone hears signals.
    """

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        if seconds is not None and threading.current_thread() is not threading.main_thread():
            raise InputError("Cannot keep to a budget outside the main thread: training is stopped by a signal there.")
        self.spent = False
        self._clock = clock
        self._end = None if seconds is None else clock() + seconds

    @override
    def step(self, event: StepEvent) -> None:
        over = self._end is not None and self._clock() >= self._end
        if over and not self.spent and event.step < event.steps:
            self.spent = True
            signal.raise_signal(signal.SIGINT)  # heard by `train.contexts.polite_interrupt`
