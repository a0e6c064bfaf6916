"""Floor 6: the run of a claim and a seed: which one it is, how far it came, what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quickstudy.errors import QuickstudyError
from quickstudy.recipes import Recipe, recipe_hash
from quickstudy.reproduce.energyuse import processor_seconds
from quickstudy.runs import changes_of, digest_of, is_run, named_settings, recipe_of, state_of
from quickstudy.train import RunFolder
from quickstudy.train.changes import changed

__all__ = [
    "Done",
    "Session",
    "done_of",
    "is_edited",
    "processor_time_of",
    "run_of",
    "steps_of_recipe",
]

_COST = "processor_seconds"  # in environment.json


@dataclass(frozen=True)
class Done:
    """How far a run came.

    Args:
        step: steps done; None without a checkpoint.
        steps: to do, over all phases.
    """

    step: int | None
    steps: int

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.step is not None and self.step >= self.steps


def done_of(run: RunFolder) -> Done:
    """How far a run came, by its last checkpoint."""
    state = state_of(run.checkpoints / "last")
    return Done(state.get("step"), state.get("steps", steps_of_recipe(recipe_of(run))))


def steps_of_recipe(recipe: Recipe) -> int:
    """How many there are to do, over all phases."""
    return recipe.train.steps + (0 if recipe.pretrain is None else recipe.pretrain.steps)


def run_of(recipe: Recipe, runs: Path, tell: Callable[[str], None] = lambda text: None) -> RunFolder | None:
    """The run of exactly this recipe that came furthest; of those that came as far the newest.

    Args:
        recipe: with its seed.
        runs: folder of runs.
        tell: told of runs of that name that are not taken, and why.
    """
    found: list[tuple[int, str, RunFolder]] = []
    for path in sorted(runs.glob(f"{recipe.name}-s{recipe.seed}-*")):
        if not is_run(path):
            continue
        run = RunFolder(path)
        why = _why_not(run, recipe)
        if why is None:
            found.append((done_of(run).step or 0, path.name, run))
        else:
            tell(f"Not taken: {path}, {why}.")
    return max(found, key=lambda one: one[:2])[2] if found else None


def _why_not(run: RunFolder, recipe: Recipe) -> str | None:
    """Why a run is none of this recipe; None where it is."""
    try:
        if recipe_hash(recipe_of(run)) != recipe_hash(recipe):
            return "whose recipe is not the claim's: it was edited, or is of another version"
        state = state_of(run.checkpoints / "last")
        if not state:
            return None  # nothing is saved yet
        if is_edited(state, recipe):
            return "whose recipe was edited after its training: its checkpoint is of another one"
        for step, what in changes_of(run):
            return f"which was changed on the way: after step {step}, {what}"
    except (QuickstudyError, KeyError, TypeError) as error:
        return f"which cannot be read ({error})"
    return None


def is_edited(state: Mapping[str, Any], recipe: Recipe) -> bool:
    """Whether a checkpoint says that it was trained by other settings; older ones keep a digest alone.

    Args:
        state: of the checkpoint.
        recipe: that the run's folder has now.
    """
    kept = state.get("settings")
    if not isinstance(kept, dict):
        return bool(state.get("identity", {}).get("recipe") != digest_of(recipe))
    # An option that learners have got since, at its default, is none that was edited.
    return any(before is not None for before, _ in changed(kept, named_settings(recipe)).values())


class Session:
    """Processor time of this process from now on, for what a run costs.

    Until :meth:`add_to` the run says nothing of its cost, so that a session that is killed, whose time nobody knows,
    leaves nothing instead of too little.

    Args:
        old: the run that is gone on with; None: one that is begun.
    """

    def __init__(self, old: RunFolder | None) -> None:
        self._before = 0.0 if old is None else processor_time_of(old)
        if old is not None and self._before is not None:
            old.note(**{_COST: None})
        self._began = processor_seconds()

    def add_to(self, run: RunFolder) -> None:
        """The session is over."""
        if self._before is not None:
            run.note(**{_COST: round(self._before + processor_seconds() - self._began, 2)})


def processor_time_of(run: RunFolder) -> float | None:
    """Seconds over all sessions; None where one was not counted, or goes on."""
    found = run.about.get(_COST)
    return float(found) if isinstance(found, int | float) else None
