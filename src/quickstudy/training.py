"""Floor 6: from a recipe to a trained run: ``quickstudy.train``."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quickstudy.errors import InputError
from quickstudy.files import atomic_write_bytes
from quickstudy.learners.learner import AbstractLearner
from quickstudy.progress import TrainingProgress
from quickstudy.recipes import Built, Recipe, build, load_recipe, to_toml
from quickstudy.recipes.fitting import fit_built
from quickstudy.runs import identity, is_run, newest_run_of, recipe_of
from quickstudy.train import (
    Callback,
    Checkpointing,
    EndEvent,
    Interrupted,
    JsonLines,
    RunFolder,
    Silent,
    TensorBoard,
    Trained,
)
from quickstudy.train.checkpoint import Checkpoint, has_checkpoint, load_checkpoint, save_checkpoint

__all__ = ["Run", "kebab_keys", "pick_device", "train"]


@dataclass(frozen=True, eq=False)
class Run:
    """A finished training.

    Args:
        folder: its files.
        recipe: as it was resolved.
        learner: with the weights of the last step, on the device that it was trained on.
        trained: how many steps were done, and the best validation.
    """

    folder: RunFolder
    recipe: Recipe
    learner: AbstractLearner
    trained: Trained

    @property
    def path(self) -> Path:
        """The folder's path."""
        return self.folder.path


def train(
    recipe: str | Path | Recipe,
    *,
    overrides: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
    runs: str | Path = "runs",
    device: str | torch.device | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
    tensorboard: bool = False,
    resume: bool = False,
) -> Run:
    """Meta-train a learner from a recipe, in a new run folder.

    Args:
        recipe: a name (``quickstudy list recipes``), the path of a TOML file, a recipe; or, to go on with it, the
            path of a run.
        overrides: dotted key of the recipe -> value, such as ``{"learner.inner-lr": 0.2}``.
        data_root: the folder of data sets; by default QUICKSTUDY_DATA, else the platform's user data folder.
        runs: the folder that gets the run's folder.
        device: where to compute; by default a GPU if there is one.
        callbacks: told of every step; see ``quickstudy.train.Callback``.
        progress: show progress on stderr.
        tensorboard: write event files into the run's folder too (the extra ``tracking``).
        resume: go on with the newest run of this recipe, or with the run that ``recipe`` names. The result is the
            same, bit for bit, as if it had never stopped. Only ``train.steps`` can be overridden then.

    Returns:
        The run. After Ctrl-C the step is finished and saved, and ``quickstudy.train.Interrupted`` raised.

    Raises:
        InputError: the recipe, the data or the options cannot be used; all mistakes of a recipe at once.
        RunError: training diverged, the disk refused, or a checkpoint cannot be gone on from.
    """
    overrides = kebab_keys(overrides)
    old, resolved = _to_go_on(recipe, overrides, Path(runs)) if resume else (None, _resolved(recipe, overrides))
    # Before there is a folder: recipes and data that cannot be used shall leave none behind.
    built = build(resolved, None if data_root is None else Path(data_root))
    built.learner.to(pick_device(device))
    folder = old or RunFolder.create(Path(runs), resolved.name, resolved.seed, to_toml(resolved))
    with folder.locked():
        return _train_in(
            folder, built, new=old is None, callbacks=callbacks, progress=progress, tensorboard=tensorboard
        )


# --- pieces ------------------------------------------------------------------------------------


class _RecipeWithFirstCheckpoint(Silent):
    """Writes the recipe, which may ask for more steps than before, once there is progress to go with it."""

    def __init__(self, folder: RunFolder, recipe: Recipe) -> None:
        self._path, self._text = folder.recipe, to_toml(recipe).encode()

    def saving(self, step: int) -> None:
        """Before a checkpoint."""
        del step
        if self._path.read_bytes() != self._text:
            atomic_write_bytes(self._path, self._text)


def _train_in(
    folder: RunFolder, built: Built, *, new: bool, callbacks: Sequence[Callback], progress: bool, tensorboard: bool
) -> Run:
    """Train in a folder that no other process trains in."""
    recipe = built.recipe
    metrics = JsonLines(folder.metrics, resumed_at=_steps_done(folder))
    shown: list[Callback] = [TrainingProgress()] if progress else []
    shown.append(_RecipeWithFirstCheckpoint(folder, recipe))
    try:
        if tensorboard:
            shown.append(TensorBoard(folder.path / "tensorboard"))
        checkpoints = Checkpointing(folder.checkpoints, _every(recipe), identity(recipe, built.train.shape))
        if recipe.train.steps == 0 and recipe.pretrain is None:
            trained = _as_it_is(built, checkpoints)
        else:
            trained = fit_built(built, callbacks=[metrics, *shown, *callbacks], checkpoints=checkpoints, resume=not new)
    except Interrupted as interrupted:
        raise Interrupted(f"{interrupted} Go on with: quickstudy train {folder.path} --resume") from None
    except Exception:  # whatever it was: a folder without a single step is of no use
        if new and not has_checkpoint(folder.checkpoints / "last") and not folder.metrics.stat().st_size:
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
    finally:
        metrics.end(EndEvent(0, "failed"))  # once more, as the engine tells nobody if it refuses before it begins
    return Run(folder, recipe, built.learner, trained)


def _as_it_is(built: Built, checkpoints: Checkpointing) -> Trained:
    """A checkpoint of a learner that no step has touched, so that its run is tested like any other."""
    state = {"step": 0, "steps": 0, "best": None, "best_step": None, "identity": checkpoints.identity}
    save_checkpoint(checkpoints.folder / "last", Checkpoint(built.learner.state_dict(), {}, state))
    return Trained(0)


def _every(recipe: Recipe) -> int:
    """Steps between checkpoints: a run that is killed loses a twentieth of its work at most."""
    steps = recipe.train.steps + (recipe.pretrain.steps if recipe.pretrain else 0)
    return max(1, min(500, steps // 20))


def _to_go_on(recipe: str | Path | Recipe, overrides: dict[str, Any], runs: Path) -> tuple[RunFolder, Recipe]:
    """The run to go on with, and its recipe with the new number of steps."""
    if not isinstance(recipe, Recipe) and is_run(Path(recipe)):
        refused = sorted(set(overrides) - {"train.steps"})
        if refused:
            raise InputError(
                f"Cannot go on with {recipe} and another {refused[0]}: only train.steps may change. "
                "Start a new run without resume."
            )
        folder = RunFolder(Path(recipe))
        return folder, _with_more_steps(recipe_of(folder), recipe_of(folder, overrides))
    resolved = _resolved(recipe, overrides)
    found = newest_run_of(resolved, runs)
    if found is None:
        raise InputError(
            f"There is no run of {resolved.name!r} with these settings in {runs} to go on with. "
            "Name the run's folder, or start one without resume."
        )
    return found, _with_more_steps(recipe_of(found), resolved)


def _with_more_steps(before: Recipe, now: Recipe) -> Recipe:
    """The recipe to go on with; its steps may only grow, and only where the steps done do not depend on them."""
    if now.train.steps == before.train.steps:
        return now
    schedule = now.train.schedule.name
    if schedule not in ("constant", "step"):
        raise InputError(
            f"Cannot go on to {now.train.steps} steps: the {schedule} schedule of this run was laid out for "
            f"{before.train.steps}. Resume without steps, or start a new run."
        )
    if now.train.steps < before.train.steps:
        raise InputError(
            f"Cannot go on to {now.train.steps} steps: this run is to have {before.train.steps}. Resume without steps."
        )
    return now


def _resolved(recipe: str | Path | Recipe, overrides: dict[str, Any]) -> Recipe:
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


def _steps_done(folder: RunFolder) -> int:
    last = folder.checkpoints / "last"
    return int(load_checkpoint(last).state["step"]) if has_checkpoint(last) else 0


def kebab_keys(overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """Overrides with their keys as in TOML: Python users may write ``learner.inner_lr``."""
    return {key.replace("_", "-"): value for key, value in (overrides or {}).items()}


def pick_device(given: str | torch.device | None) -> torch.device:
    """The device of that name; by default a GPU if there is one.

    Raises:
        InputError: this machine cannot compute there.
    """
    if given is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(given)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"Cannot compute on the device {str(given)!r}: {error}. Use 'cpu', or 'cuda' with a GPU."
        ) from error
    return device
