"""The learners that come with the package: trained by their recipes, tested, calibrated, written to ``src``.

    python benchmarks/ship.py [NAME ...] [--runs DIR] [--data-root DIR] [--recalibrate]

NAME is one of those below; all by default. What has a finished run in ``runs/`` is not trained again. With
``--recalibrate`` nothing is trained or tested: what estimators go by is measured anew, with the weights that are there.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import quickstudy
from quickstudy import SavedLearner, keep_large_blocks
from quickstudy.data.source import TaskSource
from quickstudy.errors import QuickstudyError
from quickstudy.estimators.calibrating import calibrate
from quickstudy.estimators.familiar import measure_familiar
from quickstudy.recipes import load_recipe
from quickstudy.recipes.building import build_data
from quickstudy.runlist import summary
from quickstudy.runs import newest_run_of
from quickstudy.shipped import shipped

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "src" / "quickstudy" / "shipped"
MOST = 1 << 20
"""Bytes of a file that comes with the package."""


@dataclass(frozen=True)
class Ship:
    """One learner.

    Args:
        recipe: that it is trained by.
        licence: of its weights, which is that of the data.
        tests: sizes of the tasks that it is tested on.
        calibrated: whether its doubts are measured, on validation tasks.
    """

    recipe: str
    licence: str
    tests: tuple[dict[str, int], ...]
    calibrated: bool = True


_WAYS = ({"way": 5, "shot": 1, "query": 15}, {"way": 5, "shot": 5, "query": 15})
_FEWER = ({"way": 5, "shot": 1, "query": 6}, {"way": 5, "shot": 5, "query": 6})
LEARNERS = {
    "drawings": Ship("shipped-drawings", "MIT", _WAYS),
    "drawings-maml": Ship("shipped-drawings-maml", "MIT", _WAYS),
    "pictures": Ship("caltech-meta-baseline-fast", "CC-BY-4.0", _WAYS),
    "sounds": Ship(
        "arabic-meta-baseline-fast", "CC-BY-4.0", ({"way": 5, "shot": 1, "query": 6}, {"way": 5, "shot": 5, "query": 6})
    ),
    "rows": Ship("shipped-rows", "MIT", ({"way": 3, "shot": 10, "query": 10}, {"way": 5, "shot": 5, "query": 10})),
    "rows-real": Ship("shipped-rows-real", "MIT", ({"shot": 20, "query": 20},), calibrated=False),
}


def main() -> None:
    """Train, test, calibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(LEARNERS)}; all by default")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--data-root", type=Path, default=None)
    parser.add_argument("--recalibrate", action="store_true", help="measure doubts anew, and leave the weights")
    given = parser.parse_args()
    strange = [name for name in given.names if name not in LEARNERS]
    if strange:
        parser.error(f"there is no learner {strange[0]!r}; there is {', '.join(LEARNERS)}")
    torch.set_num_threads(1)
    keep_large_blocks()
    try:
        for name in given.names or LEARNERS:
            if given.recalibrate:
                write(name, measured(shipped(name), LEARNERS[name], given.data_root))
            else:
                ship(name, LEARNERS[name], given.runs, given.data_root)
    except QuickstudyError as error:
        sys.exit(f"error: {error}")


def ship(name: str, about: Ship, runs: Path, data_root: Path | None) -> None:
    """One learner, from its recipe to its folder."""
    recipe = load_recipe(about.recipe)
    known = newest_run_of(recipe, runs)
    far = None if known is None else summary(known.path)
    done = known is not None and far is not None and far.step is not None and far.step == far.steps
    run = known.path if known is not None and done else trained(about.recipe, runs, data_root)
    for sizes in about.tests:  # those that were tested before are tested again: it takes seconds
        print(name, quickstudy.evaluate(run, **sizes, episodes=1000, data_root=data_root, report=False), flush=True)
    write(name, measured(SavedLearner.of_run(run, licence=about.licence), about, data_root))


def measured(saved: SavedLearner, about: Ship, data_root: Path | None) -> SavedLearner:
    """With what estimators go by, on validation tasks: how sure answers are, and what its examples look like."""
    data = build_data(saved.recipe, data_root)
    sizes: dict[str, Any] = {"query": 6, "seed": 0} | ({"way": 5} if about.calibrated else {})

    def tasks(shot: int) -> TaskSource:
        return data.tasks("validation", shot=shot, **sizes)

    doubts: dict[str, Any] = calibrate(saved.learner, tasks) if about.calibrated else {}
    shots = (1, 2, 5, 10) if about.calibrated else (5, 10, 20, 50)
    training = data.tasks("train", shot=5 if about.calibrated else 20, **sizes)
    return replace(saved, calibration={**doubts, "familiar": measure_familiar(saved.learner, training, tasks, shots)})


def write(name: str, saved: SavedLearner) -> None:
    """To its folder."""
    saved.save(SHIPPED / name)
    large = [path.name for path in (SHIPPED / name).iterdir() if path.stat().st_size > MOST]
    print(f"{name}: written" + (f", but {', '.join(large)} is larger than {MOST:,} bytes" if large else ""))


def trained(recipe: str, runs: Path, data_root: Path | None) -> Path:
    """The folder of a run."""
    return quickstudy.train(recipe, runs=runs, data_root=data_root, progress=True, ranks="auto").folder.path


if __name__ == "__main__":
    main()
