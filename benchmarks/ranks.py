"""What ranks bring on this machine: a step in one process with one thread, with all threads, and divided over ranks.

    python benchmarks/ranks.py [--steps 12] [--rounds 3] [NAME ...]

Prints, for each kind of work, the median seconds of a step on each rank's clock and how many times faster than one
thread that is, what arithmetic a step needs as ``--ranks auto`` counts it, and the seconds that it takes to start.
The limits in ``src/quickstudy/rankcount.py`` come from here. Configurations take turns, so that a slow minute of the
machine meets all of them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # ranks import this file as benchmarks.ranks

import torch

from quickstudy.recipes import build, load_recipe
from quickstudy.recipes.fitting import fit_built
from quickstudy.train import Silent, StepEvent
from quickstudy.train.ranks import AbstractRanks
from quickstudy.train.ranks_messages import Job

WORK: dict[str, tuple[str, dict[str, Any]]] = {
    "maml-conv4": ("glyphs-maml-fast", {"net.name": "conv4", "train.tasks-per-step": 8}),
    "protonet-conv4": ("glyphs-protonet-fast", {"train.tasks-per-step": 4}),
    "maml-sinusoid-25": ("sinusoid-maml", {"train.tasks-per-step": 25}),
    "maml-sinusoid-200": ("sinusoid-maml", {"train.tasks-per-step": 200}),
    "maml-sinusoid-800": ("sinusoid-maml", {"train.tasks-per-step": 800}),
}


class Seconds(Silent):
    """Keeps how long steps took."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    def step(self, event: StepEvent) -> None:
        """After each step."""
        self.steps.append(event.seconds)


def train(ranks: AbstractRanks, starter: object, name: str, steps: int) -> tuple[float, list[float]]:
    """When the first step began, and the seconds of each step."""
    del starter
    recipe, overrides = WORK[name]
    more = {"train.steps": steps, "train.validate-every": 0}
    built = build(load_recipe(recipe, overrides | more))
    seconds, begun = Seconds(), time.time()
    fit_built(built, callbacks=[seconds], ranks=ranks)
    return begun, seconds.steps


def measured(name: str, steps: int, ranks: int, threads: int) -> tuple[float, float]:
    """Median seconds of a step, the first two left out, and those until training began."""
    from benchmarks import ranks as importable  # not __main__, which other processes cannot import
    from quickstudy.train.ranks_launch import run_ranks

    started = time.time()
    begun, seconds = run_ranks(Job(importable.train, (name, steps), "cpu", threads), ranks)
    return statistics.median(seconds[2:]), begun - started


def operations(name: str) -> float:
    """Multiplications and additions of a step."""
    from quickstudy.rankcount import training_work

    recipe, overrides = WORK[name]
    built = build(load_recipe(recipe, overrides))
    return training_work(built) * built.recipe.train.tasks_per_step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(WORK)}; all by default")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ranks", type=int, default=2)
    given = parser.parse_args()
    strange = [name for name in given.names if name not in WORK]
    if strange:
        parser.error(f"there is no work {strange[0]!r}; there is {', '.join(WORK)}")
    for option, number, least in (("steps", given.steps, 3), ("rounds", given.rounds, 1), ("ranks", given.ranks, 1)):
        if number < least:
            parser.error(f"--{option}: expected a whole number of at least {least}, received {number}")
    ways = [(1, 1), (1, given.ranks), (given.ranks, 1)]
    print(f"torch {torch.__version__}; medians of {given.rounds} rounds of {given.steps} steps")
    print(f"{'work':<20}{'10^9 operations':>16}" + "".join(f"{f'{r} x {t} thread(s)':>24}" for r, t in ways))
    starts: dict[int, list[float]] = {}
    for name in given.names or WORK:
        found: dict[tuple[int, int], list[float]] = {way: [] for way in ways}
        for _ in range(given.rounds):
            for way in ways:
                step, start = measured(name, given.steps, *way)
                found[way].append(step)
                starts.setdefault(way[0], []).append(start)
        medians = [statistics.median(found[way]) for way in ways]
        cells = [f"{1000 * each:>12.1f} ms {medians[0] / each:>6.2f} x" for each in medians]
        print(f"{name:<20}{operations(name) / 1e9:>16.3g}" + "".join(f"{cell:>24}" for cell in cells), flush=True)
    for number, seconds in starts.items():
        print(f"{number} process(es) begin to train after {statistics.median(seconds):.1f} s")


if __name__ == "__main__":
    main()
