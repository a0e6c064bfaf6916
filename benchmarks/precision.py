"""What shorter arithmetic costs in accuracy, and what it gains in time: ``train.precision``, measured.

    python benchmarks/precision.py [RECIPE ...] [--steps 300] [--seeds 3] [--episodes 600] [--device cuda]
    python benchmarks/precision.py --quick              all precisions on small forms of two recipes, within 8 minutes

Trains recipes, cut short, in each precision that the device has units for; tests each on the same tasks in float32,
and once more in what it was trained in (not with ``--quick``). Prints the figure over the episodes of all seeds with
its 95 % interval; by how much it is above that of float32, as a mean over the seeds with the smallest and the largest
difference of one; in how many steps float16's scale was lowered, a seed; and the time of a step as a share of float32's
(medians; of the processor, which other programs disturb least; on a GPU of the clock).
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import torch
from typing_extensions import override

from quickstudy.allocator import keep_large_blocks
from quickstudy.errors import QuickstudyError
from quickstudy.evaluate import episode_ci95, meta_test
from quickstudy.recipes import build, load_recipe
from quickstudy.recipes.building import test_tasks
from quickstudy.recipes.fitting import fit_built
from quickstudy.train import Silent, StepEvent
from quickstudy.train.precision import FIRST_SCALE, Precision, in_precision, remark
from quickstudy.training import pick_device

STEPS = {"sinusoid-maml": 2000, "omniglot-protonet-fast": 400}
"""Recipes, and steps that teach them something within minutes on a CPU."""

SMALLER = {
    "omniglot-protonet-fast": {"episodes.train.way": 20},
    "omniglot-protonet-quick": {"episodes.train.way": 20, "net.filters": 16},
    "omniglot-maml-fast": {"train.tasks-per-step": 4, "net.filters": 16},
}
"""What is changed of a recipe, for the same reason."""

QUICK, QUICK_STEPS = ("omniglot-protonet-quick", "omniglot-maml-fast"), 600
"""Recipes of ``--quick``, as small nets: a CPU without units for float16 convolves Conv-4 in thirty times the time."""


class Clock(Silent):
    """When each step ended.

    Args:
        now: seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._ended = now, list[float]()
        self._scale, self.lowered = FIRST_SCALE, 0

    @override
    def step(self, event: StepEvent) -> None:
        self._ended.append(self._now())
        before, self._scale = self._scale, event.logs.get("scale", self._scale)
        self.lowered += self._scale < before  # after two thousand steps without a word it rises

    @property
    def median(self) -> float:
        """Seconds of a step, what is drawn included; the first one only begins the clock."""
        return statistics.median(after - before for before, after in pairwise(self._ended))


@dataclass(frozen=True)
class Found:
    """One training.

    Args:
        seconds: of a step.
        metric: what the figures are.
        plain: figure of each episode, tested in float32.
        own: tested in what it was trained in.
        lowered: steps that lowered the scale of float16, as their gradient had no room.
    """

    seconds: float
    metric: str
    plain: Sequence[float]
    own: Sequence[float]
    lowered: int


def trained(name: str, precision: Precision, seed: int, steps: int, given: argparse.Namespace) -> Found:
    """Train a recipe's first steps in a precision, and test what came out."""
    overrides = {"train.precision": precision, "train.steps": steps, "train.validate-every": 0, "seed": seed}
    overrides |= SMALLER.get(name, {})
    built = build(load_recipe(name, overrides), given.data_root)
    built.learner.to(given.device)
    clock = Clock(time.process_time if given.device.type == "cpu" else time.perf_counter)
    fit_built(built, callbacks=[clock])
    source = test_tasks(built.recipe, built.data)
    plain = meta_test(built.learner, source, episodes=given.episodes)
    own = plain
    if precision != "float32" and not given.quick:
        own = meta_test(in_precision(built.learner, precision), source, episodes=given.episodes)
    return Found(clock.median, plain.metric, plain.per_episode, own.per_episode, clock.lowered)


def row(precision: str, found: list[Found], base: list[Found]) -> str:
    """A line of the table."""
    factor, unit = (100, " %") if found[0].metric == "accuracy" else (1, "")
    several = zip(found, base, strict=True)
    more = [factor * (statistics.fmean(one.plain) - statistics.fmean(other.plain)) for one, other in several]
    cells = [precision, figure([one.plain for one in found], factor, unit)]
    cells.append("" if found is base else f"{statistics.fmean(more):+.2f} ({min(more):+.2f} to {max(more):+.2f})")
    own = found is not base and any(one.own is not one.plain for one in found)
    cells.append(figure([one.own for one in found], factor, unit) if own else "")
    seconds = [statistics.median(one.seconds for one in several) for several in (found, base)]
    cells.append(", ".join(str(one.lowered) for one in found) if precision == "fp16" else "")
    cells += [f"{1000 * seconds[0]:.1f} ms", f"{seconds[0] / seconds[1]:.2f}"]
    return f"| {' | '.join(cells)} |"


def figure(values: Sequence[Sequence[float]], factor: int, unit: str) -> str:
    """Mean and interval over the episodes of all seeds."""
    every = factor * np.concatenate(values)
    return f"{every.mean():.2f} ± {episode_ci95(every):.2f}{unit}"


def main() -> None:
    """Print a table a recipe."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"by default {', '.join(STEPS)}")
    parser.add_argument("--steps", type=int, help=f"of each training; by default {STEPS}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--quick", action="store_true", help="small forms, few steps, tested in float32 alone")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data-root", type=Path)
    given = parser.parse_args()
    given.recipes = given.recipes or list(QUICK if given.quick else STEPS)
    try:
        given.device = pick_device(given.device)
        measure(given)
    except QuickstudyError as error:
        sys.exit(f"error: {error}")


def measure(given: argparse.Namespace) -> None:
    """All recipes, in each precision.

    Raises:
        QuickstudyError: there is no such recipe, or its data is not there.
    """
    keep_large_blocks()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    known = ("float32", "tf32", "bf16", "fp16")
    wanted = [cast(Precision, name) for name in known if remark(name, given.device) is None]
    chip = torch.cuda.get_device_name(given.device) if given.device.type == "cuda" else processor()
    print(f"{chip}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, Python {platform.python_version()}")
    for name in given.recipes:
        steps = given.steps or (QUICK_STEPS if given.quick else STEPS.get(name, 100))
        found: dict[Precision, list[Found]] = {precision: [] for precision in wanted}
        for seed in range(given.seeds):
            for precision in wanted:
                found[precision].append(trained(name, precision, seed, steps, given))
        metric = found["float32"][0].metric
        print(f"\n{name}, {steps} steps, seeds 0 to {given.seeds - 1}, {given.episodes} episodes each\n")
        heads = ("trained in", f"{metric}, tested in float32", "above float32", "tested in the same", "scaled down")
        print(f"| {' | '.join((*heads, 'step', 'ratio'))} |")
        print("|---|---|---|---|---|---|---|")
        for precision in wanted:
            print(row(precision, found[precision], found["float32"]), flush=True)


def processor() -> str:
    """What this machine computes with."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    units = [unit for unit in ("avx512_bf16", "amx_bf16") if any(unit in line.split() for line in lines)]
    return f"{model} ({', '.join(units) or 'no units for bf16'})"


if __name__ == "__main__":
    main()
