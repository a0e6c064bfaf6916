"""What the recipes with the published protocol cost: seconds a step, and hours in all, on one core.

    python benchmarks/recipe_costs.py [NAME ...] [--data-root DIR]

Processor time of the median of a few steps of each phase, after one to warm up; the whole is that times the recipe's
steps. Writes docs/learners/recipe_costs.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from typing_extensions import override

from quickstudy.allocator import keep_large_blocks
from quickstudy.recipes import build, load_recipe
from quickstudy.recipes.fitting import fit_built
from quickstudy.recipes.schema import Recipe
from quickstudy.recipes.shipped import names as shipped
from quickstudy.train import Silent, StepEvent

COSTS = Path(__file__).parents[1] / "docs" / "learners" / "recipe_costs.json"


class Clock(Silent):
    """When each step ended, in processor seconds."""

    def __init__(self) -> None:
        self.ended: dict[int, list[float]] = {}

    @override
    def step(self, event: StepEvent) -> None:
        self.ended.setdefault(event.phase_number, []).append(time.process_time())

    def seconds(self, phase: int) -> float:
        """The median step of a phase; its first step only begins the clock."""
        ended = self.ended[phase]
        return statistics.median(after - before for before, after in itertools.pairwise(ended))


def hours(recipe: Recipe, data_root: Path | None, steps: int) -> tuple[float, list[float]]:
    """Hours that a recipe's training takes, and the seconds of a step of each phase."""
    tables = {"train": recipe.train.model_copy(update={"steps": steps + 1})}
    counts = [recipe.train.steps]
    if recipe.pretrain is not None:
        tables["pretrain"] = recipe.pretrain.model_copy(update={"steps": steps + 1})  # type: ignore[assignment]
        counts = [recipe.pretrain.steps, recipe.train.steps]
    clock = Clock()
    built = build(recipe.model_copy(update=tables), data_root)
    fit_built(replace(built, validation=None), callbacks=[clock])
    each = [clock.seconds(phase) for phase in sorted(clock.ended)]
    return sum(count * seconds for count, seconds in zip(counts, each, strict=True)) / 3600, each


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="recipes; all with a published protocol by default")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--steps", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_large_blocks()
    for name in given.names or [name for name in shipped() if not name.endswith(("-fast", "-quick"))]:
        recipe = load_recipe(name)
        if not recipe.train.steps:
            continue  # tested as it is
        whole, each = hours(recipe, given.data_root, given.steps)
        known = json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.exists() else {}
        known[name] = {"hours": float(f"{whole:.2g}"), "seconds_a_step": [float(f"{one:.2g}") for one in each]}
        COSTS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")
        said = " and ".join(f"{seconds:.3f}" for seconds in each)
        print(f"{name:<40} {said} s a step, {whole:.2f} h", flush=True)


if __name__ == "__main__":
    main()
