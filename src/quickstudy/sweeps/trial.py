"""Floor 6: one trial of a sweep: a training like any other, whose validations are told and which may be stopped.

A trial's outcome is a value: what diverges or cannot be built is counted, and the sweep goes on.
"""

from __future__ import annotations

import math
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from typing_extensions import override

from quickstudy.errors import InputError, NonFiniteLoss, StorageError, in_words
from quickstudy.recipes import Recipe
from quickstudy.runlist import is_training, note_end
from quickstudy.sweeps.folder import SweepFolder
from quickstudy.testing import evaluate
from quickstudy.train import Interrupted, RunFolder, Silent, StepEvent, ValidationEvent
from quickstudy.training import Run, train

__all__ = ["Outcome", "Reached", "Report", "run_trial"]

Outcome: TypeAlias = Literal["finished", "pruned", "diverged", "refused", "failed", "lost"]
"""How a trial ended: with a figure; stopped, as others were better; its loss or figures were no numbers; its values
cannot go together; another error; its process died again and again."""

Report: TypeAlias = Callable[[int, float], bool]
"""(steps done, validation figure) -> whether to stop."""

_WAIT = 60.0  # seconds for the process of a killed sweep to leave a run


@dataclass(frozen=True)
class Reached:
    """What came of a trial.

    Args:
        outcome: see :data:`Outcome`.
        value: its best validation figure; None where it has none.
        run: its run folder; None where there is none.
        why: a sentence, where it did not finish.
    """

    outcome: Outcome
    value: float | None = None
    run: str | None = None
    why: str = ""


class PrunedError(Exception):
    """Other trials were better at this step."""


class _Reports(Silent):
    """Tells each validation, and ends a training that is not worth its time or that nobody waits for."""

    def __init__(self, report: Report, parent: int | None) -> None:
        self._report, self._parent = report, parent
        self._steps = 0

    @override
    def step(self, event: StepEvent) -> None:
        self._steps = event.steps
        if self._parent is not None and os.getppid() != self._parent:
            os.kill(os.getpid(), signal.SIGINT)  # the sweep was killed: finish the step, save, leave

    @override
    def validation(self, event: ValidationEvent) -> None:
        value = event.result.value
        stop = math.isfinite(value) and self._report(event.step, value)
        if stop and event.step < self._steps:  # at the last step nothing would be saved
            raise PrunedError(f"after {event.step:,} steps")


def run_trial(
    folder: SweepFolder,
    number: int,
    values: dict[str, Any],
    report: Report,
    *,
    data_root: str | Path | None = None,
    device: str | None = None,
    parent: int | None = None,
) -> Reached:
    """Train one trial, or go on with it where its process was killed.

    Args:
        folder: of the sweep.
        number: of the trial.
        values: dotted key -> value.
        report: told of each validation.
        data_root: see ``quickstudy.train``.
        device: see ``quickstudy.train``.
        parent: the process that waits for the outcome; the training stops, to be gone on with, when it is dead.

    Raises:
        Interrupted: Ctrl-C; the trial can be gone on with.
        StorageError: the disk refused, which is no fault of the trial.
    """
    found: dict[str, Path | None] = {"run": None}
    try:
        recipe = folder.recipe_of(number, values)
        found["run"] = folder.run_of(recipe)
        run = _trained(folder, recipe, found["run"], _Reports(report, parent), data_root, device)
        found["run"] = run.path
        return _reached(run, data_root, device)
    except (Interrupted, StorageError):
        raise
    except PrunedError as pruned:
        return _ended(folder, recipe, Reached("pruned", why=f"stopped {pruned}, as others were better by then"))
    except NonFiniteLoss as error:
        return _ended(folder, recipe, Reached("diverged", why=in_words(error)))
    except InputError as error:
        return Reached("refused", run=_text(found["run"]), why=in_words(error))
    except Exception as error:  # a learner or a network of somebody else's may raise anything
        traceback.print_exc()  # to the worker's log
        return Reached("failed", run=_text(found["run"]), why=in_words(error))


def _trained(
    folder: SweepFolder,
    recipe: Recipe,
    before: Path | None,
    reports: _Reports,
    data_root: str | Path | None,
    device: str | None,
) -> Run:
    if before is None:
        return train(recipe, runs=folder.trials, data_root=data_root, device=device, callbacks=[reports])
    waited_until = time.monotonic() + _WAIT
    while is_training(before) and time.monotonic() < waited_until:
        time.sleep(0.1)
    return train(before, resume=True, data_root=data_root, device=device, callbacks=[reports])


def _reached(run: Run, data_root: str | Path | None, device: str | None) -> Reached:
    value = run.trained.best
    if value is None and not run.trained.step:  # nothing to train: it is measured as it is
        episodes = run.recipe.train.validate_episodes
        tested = evaluate(run, role="validation", episodes=episodes, data_root=data_root, device=device, report=False)
        value = tested.mean
    if value is None or not math.isfinite(value):
        why = "no validation gave a number"
        note_end(run.folder, "failed", why)
        return Reached("diverged", run=str(run.path), why=why)
    return Reached("finished", value, str(run.path))


def _ended(folder: SweepFolder, recipe: Recipe, reached: Reached) -> Reached:
    """The same with its run folder, in which it is noted."""
    path = folder.run_of(recipe)
    if path is None:
        return reached
    note_end(RunFolder(path), "pruned" if reached.outcome == "pruned" else "failed", reached.why)
    return Reached(reached.outcome, reached.value, str(path), reached.why)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
