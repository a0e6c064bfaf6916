"""Floor 6: progress for people, on stderr: one live line on a terminal, plain lines now and then elsewhere.

Only those who ask get it: the command line, and ``progress=True`` in Python.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from quickstudy.metrics import metric
from quickstudy.train.callbacks import EndEvent, Silent, StepEvent, ValidationEvent

__all__ = ["EvaluationProgress", "Line", "TrainingProgress", "duration"]

_LIVE_EVERY = 0.1  # seconds between changes of the live line
_PLAIN_EVERY = 10.0  # seconds between plain lines


def duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> duration(5), duration(65.4), duration(3665)
    ('0:05', '1:05', '1:01:05')
    """
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Line:
    """A line that is rewritten on a terminal, and printed from time to time elsewhere.

    Args:
        stream: where to; stderr by default.
        clock: seconds, for tests.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._clock = clock
        self._shown = clock()
        self._open = False

    def show(self, text: Callable[[], str]) -> None:
        """Show the state of things, unless it was shown a moment ago (then the text is not even made)."""
        now = self._clock()
        if now - self._shown >= (_LIVE_EVERY if self._live else _PLAIN_EVERY):
            self._shown = now
            self._write(text(), stays=False)

    def keep(self, text: str) -> None:
        """Show a line that stays."""
        self._write(text, stays=True)

    def close(self) -> None:
        """End the live line, if there is one."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()
            self._open = False

    def _write(self, text: str, *, stays: bool) -> None:
        self._open = self._live and not stays
        clear = "\r\x1b[K" if self._live else ""
        self._stream.write(f"{clear}{text}" + ("" if self._open else "\n"))
        self._stream.flush()


class TrainingProgress(Silent):
    """A training callback: steps, loss, accuracy, the last validation, rate, time left.

    Args:
        line: where to show them.
        clock: seconds, for tests.
    """

    def __init__(self, line: Line | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._line, self._clock = line or Line(), clock
        self._started = self._since = clock()
        self._first: int | None = None
        self._steps = 0
        self._phase = ""
        self._validation = ""

    def step(self, event: StepEvent) -> None:
        """Show the state of things."""
        if event.phase != self._phase:
            self._since = self._clock() - event.seconds  # neither what came before nor steps of another kind count
            self._first = event.step - 1  # a run that goes on does not begin at 0
            self._phase = event.phase
        self._steps = event.steps
        self._line.show(lambda: self._text(event))

    def _text(self, event: StepEvent) -> str:
        done = event.step - (self._first or 0)
        rate = done / max(self._clock() - self._since, 1e-9)
        on = " on batches" if event.phase == "batches" else ""
        parts = [f"step {event.step:,}/{event.steps:,}{on}", _loss(event)]
        if "accuracy" in event.logs:
            parts.append(f"accuracy {100 * event.logs['accuracy']:.1f} %")
        if "return" in event.logs:
            parts.append(f"return {event.logs['return']:.4g}")
        if self._validation:
            parts.append(self._validation)
        parts += [f"{rate:.3g} steps/s", f"{duration((event.steps - event.step) / rate)} left"]
        return "  ".join(parts)

    def validation(self, event: ValidationEvent) -> None:
        """Show what was found, on a line that stays."""
        found = event.result
        if metric(found.metric).percent:
            figure = f"{100 * found.value:.1f} ± {100 * found.ci95:.1f} %"
        else:
            figure = f"{found.value:.3g} ± {found.ci95:.2g}"
        self._validation = f"validation {figure}"
        self._line.keep(f"step {event.step:,}: {self._validation}{' (best so far)' if event.best else ''}")

    def end(self, event: EndEvent) -> None:
        """Say how it ended."""
        self._line.close()
        took = duration(self._clock() - self._started)
        early = event.outcome == "finished" and event.step < self._steps
        why = ": no better validation for as long as it was to wait" if early else ""
        steps = "1 step" if event.step == 1 else f"{event.step:,} steps"
        self._line.keep(f"{event.outcome} after {steps}, {took}{why}")


def _loss(event: StepEvent) -> str:
    if "loss" in event.logs:
        return f"loss {event.logs['loss']:.4g}"
    return f"left out, as it overflowed float16 (scale now {event.logs['scale']:g})"


class EvaluationProgress:
    """Told how many episodes are done, of how many.

    Args:
        line: where to show it.
        what: what is counted.
    """

    def __init__(self, line: Line | None = None, what: str = "episodes") -> None:
        self._line, self._what = line or Line(), what

    def __call__(self, done: int, total: int) -> None:
        """Show the state of things."""
        self._line.show(lambda: f"{done:,}/{total:,} {self._what}")
        if done >= total:
            self._line.close()
