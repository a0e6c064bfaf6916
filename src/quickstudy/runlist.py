"""Floor 6: the runs that there are: how far each came, how it ended, and which are meant."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from quickstudy.errors import QuickstudyError
from quickstudy.runs import is_run, recipe_of, state_of
from quickstudy.train import RunFolder
from quickstudy.train.runlock import is_held

__all__ = ["RunSummary", "Status", "is_training", "list_runs", "note_end", "summary"]

Status: TypeAlias = Literal["finished", "interrupted", "failed", "pruned", "running"]


@dataclass(frozen=True)
class RunSummary:
    """A run in a list.

    Args:
        path: its folder.
        step: steps done; None without a checkpoint.
        steps: steps to do.
        best: the best validation figure, if it was validated.
        evaluations: how many results it holds.
        status: ``"finished"``; ``"running"``, by some process; ``"interrupted"``, to be gone on with; ``"failed"``;
            ``"pruned"``, by a sweep.
        why: of one that failed or was pruned, a sentence.
        learner: its name; None where the recipe cannot be read.
        data: likewise.
        name: of the recipe.
        seed: likewise.
        metric: what validations measured; None where it was not validated.
        changed: when training or a test last wrote something, in seconds since 1970.
    """

    path: Path
    step: int | None
    steps: int | None
    best: float | None
    evaluations: int
    status: Status = "interrupted"
    why: str = ""
    learner: str | None = None
    data: str | None = None
    name: str | None = None
    seed: int | None = None
    metric: str | None = None
    changed: float = 0.0


def summary(path: Path) -> RunSummary:
    """How far a run came; reads no weights."""
    # Nothing where nothing is saved yet, or where it is broken: `show` and `evaluate` say what is wrong.
    state = state_of(path / "checkpoints" / "last")
    step, steps, best = map(state.get, ("step", "steps", "best"))
    if state.get("ended"):  # early, perhaps
        steps = step
    evaluations = list((path / "evaluations").glob("*.json"))
    run = RunFolder(path)
    ended = run.about.get("ended") or {}
    status: Status = "running" if is_training(path) else "interrupted"
    if status != "running":
        status = "finished" if step is not None and step == steps else ended.get("outcome", status)
    about: dict[str, Any] = {}
    try:
        recipe = recipe_of(run)
        about = {"learner": recipe.learner.name, "data": recipe.data.name, "name": recipe.name, "seed": recipe.seed}
    except QuickstudyError:
        pass
    written = [run.metrics, run.recipe, path / "checkpoints" / "last" / "state.json", *evaluations]
    changed = max((file.stat().st_mtime for file in written if file.exists()), default=0.0)
    why = ended.get("why", "") if status in ("failed", "pruned") else ""
    found = RunSummary(path, step, steps, best, len(evaluations), status, why, **about)
    return replace(found, metric=_validated_by(run.metrics), changed=changed)


def is_training(path: Path) -> bool:
    """Whether a process trains in a run's folder at this moment."""
    return is_held(path / ".lock")


def note_end(run: RunFolder, outcome: Status | None, why: str = "") -> None:
    """Keep with a run how it ended, where its checkpoints do not say so; None: it goes on.

    Raises:
        StorageError: the disk refused.
    """
    if outcome is not None:
        run.note(ended={"outcome": outcome, "why": why})
    elif run.about.get("ended"):
        run.note(ended=None)


_TAIL = 1 << 16  # bytes of a file of metrics in which its last validation stands, or none is looked for


def _validated_by(metrics: Path) -> str | None:
    """The metric of the last validation that a file of metrics tells of."""
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, metrics.stat().st_size - _TAIL))
            tail = file.read()
            if b'"validation_' not in tail:  # validations are rare: look at all of it
                file.seek(0)
                tail = file.read()
    except OSError:
        return None
    at = tail.rfind(b'"validation_')
    return None if at < 0 else tail[at + len(b'"validation_') :].split(b'"', 1)[0].decode()


def list_runs(
    runs: Path,
    pattern: str = "*",
    *,
    learner: str | None = None,
    data: str | None = None,
    since: float | None = None,
    status: Sequence[Status] = (),
) -> list[RunSummary]:
    """The runs in a folder, by name.

    Args:
        runs: the folder.
        pattern: of the names of their folders, such as ``"omniglot-*"``; without a star a part of the name will do.
        learner: its name.
        data: name of the data set.
        since: seconds; only those in which something was written in that time.
        status: any of these.
    """
    wanted = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    found = [summary(path) for path in sorted(runs.glob(wanted)) if is_run(path)]
    begin = 0.0 if since is None else time.time() - since
    return [
        run
        for run in found
        if learner in (None, run.learner)
        and data in (None, run.data)
        and run.changed >= begin
        and (not status or run.status in status)
    ]
