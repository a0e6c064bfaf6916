"""What memory a meta-step takes: by the switch ``memory`` against inner steps, and what a run foretells of itself.

    python benchmarks/memory.py                                  both tables
    python benchmarks/memory.py --only steps --steps 1 5 20      bytes and time of MAML, unrolled or computed twice
    python benchmarks/memory.py --only estimate RECIPE ...       the estimate before a run, and the peak of its steps

The first table: bytes that graphs hold for their derivatives at the worst moment of a meta-step, forwards or backwards,
which are the same on every run, and processor time as a share of the unrolled form's in the same process (medians).
Conv-4 with 32 filters on random grey pictures of 28x28, 5-way 1-shot 5-query, 4 tasks, batch norm over the rows.

The second: each recipe in a process of its own with one thread, which keeps freed memory as the command line does, once
one task has been computed: by how much the peak of resident memory then rises in its first steps, what the optimiser
loads of torch included; and, from another process with half the tasks, what one task more takes, beside its estimate.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RECIPES = ("omniglot-maml-5w1s", "omniglot-protonet-5w1s", "omniglot-reptile-5w1s")
KINDS = ("unrolled", "checkpointed", "adjoint")
MIB = 1 << 20


def main() -> None:
    """Print tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"by default {', '.join(RECIPES)}")
    parser.add_argument("--only", choices=("steps", "estimate"))
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 2, 5, 10, 20], help="inner steps")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--inside", help=argparse.SUPPRESS)  # what a child measures
    given = parser.parse_args()
    if given.inside:
        asked = json.loads(given.inside)
        print(json.dumps(by_steps(**asked) if "steps" in asked else foretold(**asked)))
        return
    if given.only != "estimate":
        print("| inner steps | " + " | ".join(f"{kind}, MiB" for kind in KINDS) + " | time, of unrolled |  |")
        print("|---|---|---|---|---|---|")
        for steps in given.steps:
            found = child({"steps": steps, "repeats": given.repeats})
            sizes = " | ".join(f"{found[kind]['bytes'] / MIB:.1f}" for kind in KINDS)
            times = " | ".join(
                f"{kind} {found[kind]['seconds'] / found[KINDS[0]]['seconds']:.2f}" for kind in KINDS[1:]
            )
            print(f"| {steps} | {sizes} | {times} |", flush=True)
    if given.only != "steps":
        print("\n| recipe | tasks a step | estimate, MiB | peak, MiB | estimate a task | one task more | ratio |")
        print("|---|---|---|---|---|---|---|")
        for recipe in given.recipes or RECIPES:
            whole = child({"recipe": recipe})
            n_task = int(whole["tasks"])
            other = child({"recipe": recipe, "tasks": 2 if n_task == 1 else n_task // 2})
            more = (whole["peak"] - other["peak"]) / (n_task - other["tasks"])
            cells = [whole["estimate"], whole["peak"], whole["task"], more]
            sizes = " | ".join(f"{size / MIB:.3g}" for size in cells)
            print(f"| `{recipe}` | {n_task} | {sizes} | {whole['task'] / more:.2f} |", flush=True)


def child(asked: dict[str, Any]) -> dict[str, Any]:
    """One line in a process of its own."""
    command = [sys.executable, __file__, "--inside", json.dumps(asked)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        sys.exit(f"error: {asked}\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def by_steps(steps: int, repeats: int) -> dict[str, dict[str, float]]:
    """Bytes and processor seconds of a meta-step by each kind, in turn."""
    from quickstudy.allocator import keep_large_blocks

    keep_large_blocks()
    import torch

    from quickstudy.doctor.memory import saved_bytes
    from quickstudy.episode import Classes, Episode, Examples
    from quickstudy.learners import MAML
    from quickstudy.nets import Conv4

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = Conv4(1, 28, filters=32, norm="transductive")
    options: dict[str, Any] = {"inner_steps": steps, "inner_lr": 0.01, "transductive": True}
    learners = {kind: MAML(net, 5, memory=kind, **options) for kind in KINDS}  # type: ignore[arg-type]

    def part(rows: int) -> Examples:
        y = torch.arange(5).repeat_interleave(rows).repeat(4, 1)
        return Examples(torch.rand(4, 5 * rows, 1, 28, 28), y, Classes(torch.full((4,), 5)))

    episode = Episode(part(1), part(5))
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    found = {}
    for turn in range(repeats + 1):
        for kind, learner in learners.items():
            learner.zero_grad()
            if turn == 0:
                with saved_bytes() as count:
                    learner.meta_loss(episode).loss.sum().backward()  # type: ignore[no-untyped-call]
                found[kind] = {"bytes": float(count.peak)}
                continue
            started = time.process_time()
            learner.meta_loss(episode).loss.sum().backward()  # type: ignore[no-untyped-call]
            seconds[kind].append(time.process_time() - started)
    return {kind: about | {"seconds": statistics.median(seconds[kind])} for kind, about in found.items()}


def foretold(recipe: str, tasks: int | None = None) -> dict[str, float]:
    """Bytes: what is said before the first step, and by how much the peak rises in three."""
    import torch

    from quickstudy.allocator import keep_large_blocks
    from quickstudy.keys import Keys
    from quickstudy.memoryneed import memory_need
    from quickstudy.recipes import build, load_recipe
    from quickstudy.recipes.fitting import fit_built

    torch.set_num_threads(1)
    changed: dict[str, Any] = {"train.steps": 3, "train.validate-every": 0}
    changed |= {} if tasks is None else {"train.tasks-per-step": tasks}
    built = build(load_recipe(recipe, changed), None)
    need = memory_need(built, torch.device("cpu"), 1)
    assert need is not None, "a recipe that is not trained on tasks"
    built.learner.train()
    built.learner.meta_loss(built.train.episodes(range(1)), key=Keys.default(1)).loss.sum().backward()  # type: ignore[no-untyped-call]
    built.learner.zero_grad()
    ctypes.CDLL(None).malloc_trim(0)
    held = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()
    keep_large_blocks()
    fit_built(built)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - held
    return {"estimate": need.total, "task": need.task, "tasks": need.tasks, "peak": peak}


if __name__ == "__main__":
    main()
