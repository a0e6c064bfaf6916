"""Floor 6: what a row says of its training, by what the run itself kept."""

from __future__ import annotations

from typing import Any

from quickstudy.recipes import recipe_hash
from quickstudy.reproduce.along import read_along
from quickstudy.reproduce.energyuse import energy_of
from quickstudy.reproduce.runs import done_of
from quickstudy.runs import Which, recipe_of, state_of
from quickstudy.train import RunFolder

__all__ = ["of_training"]

_VERSIONS = ("quickstudy", "python", "torch", "numpy", "processor", "cpus", "threads", "cuda")


def of_training(folder: RunFolder, which: Which) -> dict[str, Any]:
    """Recipe, seed, steps, time, energy, weights and versions, as fields of a row's provenance.

    Args:
        folder: of the run.
        which: the checkpoint that was tested.
    """
    recipe, about = recipe_of(folder), folder.about
    done = done_of(folder)
    seconds = read_along(folder.metrics, done.steps).seconds
    found = {
        "recipe": recipe.name,
        "recipe_hash": recipe_hash(recipe),
        "series": recipe_hash(recipe.model_copy(update={"seed": 0})),
        "seed": recipe.seed,
        "step": done.step,
        "steps": done.steps,
        "train_seconds": round(seconds, 3),
        "energy": energy_of(about, seconds),
        "weights_sha256": state_of(folder.checkpoints / which).get("weights_sha256"),
        "versions": {name: about[name] for name in _VERSIONS if name in about} or {"quickstudy": "unknown"},
    }
    if isinstance(about.get("processor_seconds"), int | float):
        found["processor_seconds"] = float(about["processor_seconds"])
    return found
