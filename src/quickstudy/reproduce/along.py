"""Floor 6: what a run's metrics say of it: its curve, and how long its steps took."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from quickstudy.reproduce.record import Curve
from quickstudy.train.callbacks import json_lines

__all__ = ["Along", "read_along"]

_POINTS = 20
_OF_TRAINING = ("accuracy", "loss")  # the first that a learner reports


@dataclass
class Along:
    """Of one run.

    Args:
        seconds: wall time of all steps.
        curve: of its validations, else of its training tasks; None of a run without steps.
    """

    seconds: float = 0.0
    curve: Curve | None = None


@dataclass
class _Sums:
    """Means of a figure over parts of the training."""

    last: int = 0
    total: float = 0.0
    count: int = 0
    points: list[tuple[int, float | str]] = field(default_factory=list)

    def add(self, step: int, value: float, width: int) -> None:
        if self.count and step // width != self.last // width:
            self.close()
        self.last, self.total, self.count = step, self.total + value, self.count + 1

    def close(self) -> None:
        if self.count:
            self.points.append((self.last, _digits(self.total / self.count)))
            self.total, self.count = 0.0, 0


def _digits(value: float) -> float | str:
    """Six of them; as in other files, an infinite one is a text."""
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)


def read_along(metrics: Path, steps: int) -> Along:
    """Read ``metrics.jsonl``, line by line, as it may be of a million steps.

    Args:
        metrics: the file.
        steps: that the training has in all.
    """
    found = Along()
    validated: list[tuple[int, float | str]] = []
    name, width = "", max(1, math.ceil(steps / _POINTS))
    training = {key: _Sums() for key in _OF_TRAINING}
    for record in json_lines(metrics):
        step = int(record.get("step", 0))
        found.seconds += float(record.get("seconds", 0.0))
        measured = next((key for key in record if key.startswith("validation_")), None)
        if measured is not None:
            name = measured.removeprefix("validation_")
            validated.append((step, _digits(float(record[measured]))))
        for key, sums in training.items():
            if key in record and measured is None:
                sums.add(step, float(record[key]), width)
    for key, sums in training.items():
        sums.close()
        if sums.points and found.curve is None:
            found.curve = Curve(of="training tasks", metric=key, points=tuple(sums.points))
    if validated:
        found.curve = Curve(of="validation tasks", metric=name, points=tuple(validated))
    return found
