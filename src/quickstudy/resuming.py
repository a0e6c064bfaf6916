"""Floor 6: which run is gone on with, and whether by the settings that are asked for now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from quickstudy.errors import InputError
from quickstudy.recipes import Built, Recipe, load_recipe
from quickstudy.runs import digest_of, is_run, laid_out_for, named_settings, newest_run_of, recipe_of, state_of
from quickstudy.train import RunFolder
from quickstudy.train.changes import HOW_TO_GO_ON, Changes, changed, in_sentence
from quickstudy.train.checkpoint import versions

__all__ = ["accepts", "is_accepted", "remark_on_torch", "resolved", "to_go_on"]


def to_go_on(
    recipe: str | Path | Recipe, overrides: dict[str, Any], runs: Path, *, accept: bool
) -> tuple[RunFolder, Recipe]:
    """The run to go on with, and its recipe as asked for now.

    Args:
        recipe: a run's folder, or a recipe whose newest run is meant.
        overrides: of the run's recipe, or of that recipe.
        runs: where runs of a recipe lie.
        accept: whether the settings may be others than so far.

    Raises:
        InputError: there is no such run, or its settings were others and nobody said that this is meant; each is named.
    """
    if not isinstance(recipe, Recipe) and is_run(Path(recipe)):
        folder = RunFolder(Path(recipe))
        before, now = recipe_of(folder), recipe_of(folder, overrides)
    else:
        _refuse_no_run(recipe)
        _refuse_half_a_run(recipe)
        now = resolved(recipe, overrides)
        folder = _newest(now, runs, accept)
        before = recipe_of(folder)
    if not accept:
        _check_steps(before, now)
    found = _changes(folder, before, now)
    if "seed" in found:
        raise InputError(
            f"Cannot go on with {folder.path} by the seed {now.seed}: its own, {before.seed}, is a part of its name "
            "and draws every task. Start a new run without resume."
        )
    if found and not (accept or _was_accepted(folder, now)):
        raise InputError(f"Cannot go on with {folder.path} as it was: {in_sentence(found)}. {HOW_TO_GO_ON}")
    return folder, now


def resolved(recipe: str | Path | Recipe, overrides: dict[str, Any]) -> Recipe:
    """A recipe with what is to be otherwise.

    Raises:
        InputError: it cannot be used, or is a run.
    """
    if isinstance(recipe, Recipe):
        if overrides:
            raise InputError(
                "Cannot apply overrides to a Recipe that is resolved already. Give the recipe's name or file with them."
            )
        return recipe
    if is_run(Path(recipe)):
        raise InputError(
            f"{recipe} is a run, not a recipe. Go on with it by resume (--resume), or name the recipe to begin anew."
        )
    return load_recipe(recipe, overrides)


def accepts(folder: RunFolder, built: Built) -> None:
    """Keep with a run that it may go on by this recipe and on this data, until its checkpoints say so themselves.

    A run that is killed before the next checkpoint, or whose ranks are started again, need not be told twice.

    Raises:
        StorageError: the disk refused.
    """
    folder.note(accepted=_what(built))


def is_accepted(folder: RunFolder, built: Built) -> bool:
    """Whether :func:`accepts` was last called with the same."""
    return folder.about.get("accepted") == _what(built)


def remark_on_torch(folder: RunFolder) -> str | None:
    """A sentence, if the run was trained by another version of torch so far."""
    before = state_of(folder.checkpoints / "last").get("made_by", folder.about).get("torch")
    if before in (None, torch.__version__):
        return None
    return (
        f"{folder.path} was trained by torch {before} so far, and this is {torch.__version__}: it goes on, but its "
        "last digits may differ from those of a run that never stopped."
    )


_DIGITS = 16  # of a hash, to be looked at


# --- pieces ------------------------------------------------------------------------------------


def _what(built: Built) -> dict[str, str]:
    return {"recipe": _short(built.recipe), "data": built.train.hash[:_DIGITS], "quickstudy": versions()["quickstudy"]}


def _short(recipe: Recipe) -> str:
    return digest_of(recipe)[:_DIGITS]


def _was_accepted(folder: RunFolder, now: Recipe) -> bool:
    said = folder.about.get("accepted")
    return isinstance(said, dict) and said.get("recipe") == _short(now)


def _newest(now: Recipe, runs: Path, accept: bool) -> RunFolder:
    found = newest_run_of(now, runs)
    if found is not None:
        return found
    other = newest_run_of(now, runs, same=False)
    if other is not None and accept:
        return other
    problem = f"There is no run of {now.name!r} with these settings in {runs} to go on with."
    if other is None:
        raise InputError(f"{problem} Name the run's folder, or start one without resume.")
    found_changes = in_sentence(_changes(other, recipe_of(other), now))
    raise InputError(f"{problem} The newest is {other.path}: {found_changes}. {HOW_TO_GO_ON}")


def _changes(folder: RunFolder, before: Recipe, now: Recipe) -> Changes:
    """What differs from the last checkpoint, which nobody edits as they may the recipe; without one, from that."""
    kept = state_of(folder.checkpoints / "last").get("settings")
    return changed(kept if isinstance(kept, dict) else named_settings(before), named_settings(now))


def _check_steps(before: Recipe, now: Recipe) -> None:
    """Steps may only grow, and only where the steps done do not depend on them."""
    if now.train.steps == before.train.steps:
        return
    what = laid_out_for(now)
    if what is not None:
        raise InputError(
            f"Cannot go on to {now.train.steps} steps: {what} of this run was laid out for "
            f"{before.train.steps}. Resume without steps, start a new run, or go on all the same with --accept-changes."
        )
    if now.train.steps < before.train.steps:
        raise InputError(
            f"Cannot go on to {now.train.steps} steps: this run is to have {before.train.steps}. Resume without steps."
        )


def _refuse_no_run(recipe: str | Path | Recipe) -> None:
    """A path that is meant as a run's folder, where there is nothing."""
    if isinstance(recipe, Recipe) or Path(recipe).name == str(recipe) or Path(recipe).suffix == ".toml":
        return
    if not Path(recipe).exists():
        raise InputError(f"There is no run {recipe}. `quickstudy list runs` names those that there are.")


def _refuse_half_a_run(recipe: str | Path | Recipe) -> None:
    if isinstance(recipe, Recipe):
        return
    path = Path(recipe)
    left = [name for name in ("checkpoints", "metrics.jsonl", "environment.json") if (path / name).exists()]
    if left:
        raise InputError(
            f"Cannot go on with {path}: its recipe.toml is gone, though {left[0]} is there. Copy the whole run again, "
            "or start a new one."
        )
    if path.is_dir():
        raise InputError(
            f"{path} is not a run: it holds no recipe.toml. Name a folder that `quickstudy train` made "
            "(`quickstudy list runs`)."
        )
