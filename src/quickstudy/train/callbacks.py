"""Floor 4: what the engine tells others while it works.

A callback has four methods; derive from :class:`Silent` to write only those that you need. The engine calls them
in order of the list. It prints nothing itself.

    step(StepEvent)               after each step of the outer optimiser
    validation(ValidationEvent)   after each meta-validation
    saving(step)                  before a checkpoint is written: whatever must not be newer than it is flushed here
    end(EndEvent)                 once, however training ended
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from typing_extensions import override

from quickstudy.errors import DataError
from quickstudy.files import atomic_write_bytes, storage_error
from quickstudy.metrics import metric

Outcome: TypeAlias = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True)
class Validation:
    """What a meta-validation found.

    Args:
        metric: of ``quickstudy.metrics``, such as ``"accuracy"`` or ``"mse"``.
        value: its mean over the validation episodes.
        ci95: half-width of its interval over them.
    """

    metric: str
    value: float
    ci95: float

    def better_than(self, other: float | None) -> bool:
        """Whether this is the best so far (NaN never is)."""
        if other is None:
            return self.value == self.value
        return self.value < other if metric(self.metric).smaller_is_better else self.value > other


@dataclass(frozen=True)
class StepEvent:
    """One step is done.

    Args:
        step: how many steps are done, this one included.
        steps: how many there will be.
        logs: means over the step's tasks: ``loss`` and what the learner reports; ``grad_norm``, ``lr``.
        seconds: how long the step took.
        phase: what it was trained on: ``"episodes"``, or ``"batches"``, plain labelled ones.
        phase_number: which of the learner's phases that is, from 0.
    """

    step: int
    steps: int
    logs: dict[str, float]
    seconds: float
    phase: Literal["batches", "episodes"] = "episodes"
    phase_number: int = 0

    @property
    def record(self) -> dict[str, Any]:
        """What is kept of it."""
        return {"step": self.step, "phase": self.phase, "phase_number": self.phase_number, **self.logs}


@dataclass(frozen=True)
class ValidationEvent:
    """A meta-validation is done.

    Args:
        step: how many steps are done.
        result: what it found.
        best: whether it is the best so far.
    """

    step: int
    result: Validation
    best: bool


@dataclass(frozen=True)
class EndEvent:
    """Training has ended.

    Args:
        step: how many steps are done.
        outcome: how it ended.
    """

    step: int
    outcome: Outcome


class Callback(Protocol):
    """All four methods; derive from :class:`Silent` to write only those that you need."""

    def step(self, event: StepEvent) -> None:
        """After each step."""

    def validation(self, event: ValidationEvent) -> None:
        """After each meta-validation."""

    def saving(self, step: int) -> None:
        """Before a checkpoint."""

    def end(self, event: EndEvent) -> None:
        """Once, at the end."""


class Silent:
    """A callback that does nothing, to derive from."""

    def step(self, event: StepEvent) -> None:
        """After each step."""

    def validation(self, event: ValidationEvent) -> None:
        """After each meta-validation."""

    def saving(self, step: int) -> None:
        """Before a checkpoint."""

    def end(self, event: EndEvent) -> None:
        """Once, at the end."""


class JsonLines(Silent):
    """One JSON object a step and a validation, appended to a file.

    Lines newer than the checkpoint from which a run goes on are cut off, so that none is doubled; they are on
    the disk before the checkpoint is, so that none is missing.

    Args:
        path: the file.
        resumed_at: steps done when the run goes on; 0 for a new one.

    Raises:
        StorageError: the disk refused.
    """

    def __init__(self, path: Path, *, resumed_at: int = 0) -> None:
        self._path = path
        keep = _whole_lines_up_to(path, resumed_at)
        if keep != (path.read_bytes() if path.exists() else None):
            atomic_write_bytes(path, keep)
        try:
            self._file = path.open("ab")
        except OSError as error:
            raise storage_error(path, error) from error

    @override
    def step(self, event: StepEvent) -> None:
        self._line({**event.record, "seconds": round(event.seconds, 6)})

    @override
    def validation(self, event: ValidationEvent) -> None:
        found = event.result
        self._line(
            {"step": event.step, f"validation_{found.metric}": found.value, "ci95": found.ci95, "best": event.best}
        )

    @override
    def saving(self, step: int) -> None:
        del step
        self._guard(self._sync)

    @override
    def end(self, event: EndEvent) -> None:
        del event
        self._guard(self._file.close)

    def _line(self, record: dict[str, Any]) -> None:
        # JSON has no infinite numbers and no NaN: as in results, they are strings.
        said = {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        self._guard(lambda: self._file.write(json.dumps(said, allow_nan=False).encode() + b"\n"))

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _guard(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except OSError as error:
            raise storage_error(self._path, error) from error


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """What :class:`JsonLines` wrote, line by line, as it may be of a million steps; nothing where there is no file.

    Raises:
        DataError: it cannot be read.
    """
    if not path.is_file():
        return
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:  # a damaged line is no JSON then
            for line in lines:
                try:
                    record = json.loads(line)
                except ValueError:
                    return  # the tail of a killed run
                if isinstance(record, dict):
                    yield record
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}. Make sure that it may be read.") from error


class History(Silent):
    """Keeps the curves in memory: what notebooks plot and reports draw.

    Attributes:
        steps: one dict a step, its number and phase among them.
        validations: the validation events.
    """

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.validations: list[ValidationEvent] = []

    @override
    def step(self, event: StepEvent) -> None:
        self.steps.append(event.record)

    @override
    def validation(self, event: ValidationEvent) -> None:
        self.validations.append(event)


class TensorBoard(Silent):
    """Scalars for TensorBoard (the extra ``tracking``).

    Args:
        folder: where its event files go.

    Raises:
        InputError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            from quickstudy.errors import InputError

            raise InputError(
                "Cannot write TensorBoard files: TensorBoard is not installed. "
                "Install it with: pip install 'quickstudy[tracking]'"
            ) from error
        self._writer = SummaryWriter(str(folder))

    @override
    def step(self, event: StepEvent) -> None:
        for name, value in event.logs.items():
            self._writer.add_scalar(f"train/{name}", value, event.step)

    @override
    def validation(self, event: ValidationEvent) -> None:
        found = event.result
        self._writer.add_scalar(f"validation/{found.metric}", found.value, event.step)

    @override
    def end(self, event: EndEvent) -> None:
        del event
        self._writer.close()


def _whole_lines_up_to(path: Path, step: int) -> bytes:
    if not path.exists():
        return b""
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            record = json.loads(line)
        except ValueError:
            break  # the tail of a killed run: nothing after it was synced
        if not line.endswith(b"\n") or not isinstance(record, dict) or record.get("step", 0) > step:
            break
        kept.append(line)
    return b"".join(kept)
