"""What the recipes with the published protocol cost: seconds a step, and hours in all, on one core.

    python benchmarks/recipe_costs.py [--data-root DIR]

Processor time of a few steps after one to warm up; the whole is that times the recipe's steps.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from quickstudy.cli.process import keep_large_blocks
from quickstudy.recipes import build, load_recipe
from quickstudy.train import fit

RECIPES = [
    ("omniglot-maml-5w1s", {}),
    ("omniglot-maml-5w1s", {"learner.transductive": True}),
    ("omniglot-maml-20w1s", {}),
    ("omniglot-reptile-5w1s", {}),
    ("omniglot-protonet-5w1s", {}),
    ("sinusoid-maml", {}),
]


def seconds_a_step(name: str, overrides: dict[str, object], data_root: Path | None, steps: int) -> tuple[float, int]:
    """Processor seconds a training step, and how many steps the recipe has."""
    recipe = load_recipe(name, overrides)
    built, options = build(recipe, data_root), recipe.train
    begun = 0.0
    for count in (1, steps):
        begun = time.process_time()
        fit(
            built.learner,
            built.train,
            steps=count,
            tasks_per_step=options.tasks_per_step,
            optimizer=options.optimizer,
            lr=options.lr,
        )
    return (time.process_time() - begun) / steps, options.steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--steps", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_large_blocks()
    for name, overrides in RECIPES:
        seconds, steps = seconds_a_step(name, overrides, given.data_root, given.steps)
        said = " transductive" if overrides else ""
        print(f"{name + said:<40} {seconds:7.3f} s a step, {seconds * steps / 3600:6.2f} h for {steps:,} steps")


if __name__ == "__main__":
    main()
