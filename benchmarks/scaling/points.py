"""One process: processor time and peak memory of a meta-step, each setting in a process of its own.

They are forked from one that has imported torch and done nothing, so that a hundred of them take minutes.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

from benchmarks import growth
from benchmarks.scaling.sizes import LEARNERS, Sizes, settings

__all__ = ["measure", "operations"]

Point = dict[str, Any]


def _alone(asked: dict[str, Any]) -> dict[str, float]:
    """A point, in a process that computes nothing else."""
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["quickstudy.learners", "quickstudy.nets", "torch.utils.flop_counter"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(growth.measure, **asked).result()


def measure(say: Callable[[str], None], *, quick: bool = False, repeats: int = 3) -> list[Point]:
    """Every setting of every learner: ``milliseconds`` and ``megabytes``.

    Args:
        say: told of each.
        quick: few and small.
        repeats: steps, of which the median counts.
    """
    points = []
    for learner in LEARNERS:
        for sizes in settings(learner, quick):
            found = _alone({"learner": learner, "repeats": repeats, **sizes.record})
            points.append({"learner": learner, "sizes": sizes.record, **found})
            say(f"{learner:<14} {sizes.record} {found['milliseconds']:.1f} ms {found['megabytes']:.1f} MB")
    return points


def operations(learner: str, quick: bool = False) -> dict[str, float]:
    """Passes' worth of operations that a learner makes: of an inner step, and of the rest, in one example's forward.

    Counted by torch on a single task with one inner step and with three, so that the difference is two steps'.

    Args:
        learner: a name of ``LEARNERS``.
        quick: small pictures.
    """
    sizes = Sizes(tasks=1, side=16 if quick else 28, filters=16)
    counts = []
    for steps in (1, 3):
        asked = {"learner": learner, "repeats": 1, "count": True, **replace(sizes, steps=steps).record}
        counts.append(_alone(asked)["operations"])
    step = (counts[1] - counts[0]) / 2
    rest = counts[0] - step
    return {"inner": step / sizes.support / sizes.operations, "outer": rest / sizes.queries / sizes.operations}
