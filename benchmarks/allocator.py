"""What glibc's allocator costs a training step, and what keeping freed memory saves.

    python benchmarks/allocator.py [--steps 20] [--work protonet maml ragged] [--json FILE]

Each setting is a fresh process with one thread that trains on random pictures. Settings:

    glibc         as it comes
    thresholds    its two thresholds raised as far as it allows: blocks above 32 MiB are still mapped singly
    kept          quickstudy.keep_large_blocks(): none is; what piles up is bounded by allocator.Trimmer
    kept, no trim the same without that bound
    kept, huge    kept, in huge pages (GLIBC_TUNABLES, where the system allows them by madvise)

Printed for each: processor milliseconds a step (median), their ratio to glibc's, page faults a step, the peak of
resident memory after the first step and at the end, and what a page fault costs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SETTINGS = {
    "glibc": {},
    "thresholds": {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)},
    "kept": {},
    "kept, no trim": {},
    "kept, huge": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
}
# way, shot, query a class; channels and side of the pictures
WORK = {
    "protonet": "ProtoNet step, 60-way 5-shot 5-query, Conv-4-64, 28x28",
    "maml": "MAML step, second order, Conv-4-32, 3x84x84, 5-way 1-shot 15-query, 5 steps, 1 task",
    "ragged": "ProtoNet step, 5..60-way 1..5-shot 1..15-query, Conv-4-64, 28x28",
}


def main() -> None:
    """Measure every setting and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--work", nargs="+", default=["protonet", "maml"], choices=list(WORK))
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)  # what a child measures
    given = parser.parse_args()
    if given.inside:
        work, setting = given.inside
        print(json.dumps(measure(work, setting, given.steps)))
        return
    found: list[dict[str, Any]] = []
    for work in given.work:
        print(f"{WORK[work]}; {given.steps} steps, one thread")
        heads = f"{'ms a step':>10}{'ratio':>8}{'faults a step':>15}{'us a fault':>12}{'MB first':>10}{'MB peak':>9}"
        print(" " * 16 + heads)
        usual = None
        for setting in given.settings:
            row = child(work, setting, given.steps)
            usual = usual or row
            fewer = usual["faults"] - row["faults"]
            fault = f"{1e6 * (usual['seconds'] - row['seconds']) / fewer:.2f}" if fewer > 1000 else ""
            ratio = usual["seconds"] / row["seconds"]
            print(
                f"{setting:<16}{1000 * row['seconds']:>10.1f}{ratio:>7.2f}x{row['faults']:>15,.0f}{fault:>12}"
                f"{row['first']:>10}{row['peak']:>9}"
            )
            found.append({"work": work, "setting": setting, "ratio": ratio, **row})
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def child(work: str, setting: str, steps: int) -> dict[str, Any]:
    """One setting in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, __file__, "--steps", str(steps), "--inside", work, setting]
    environment = {**clean, "OMP_NUM_THREADS": "1", **SETTINGS[setting]}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def measure(work: str, setting: str, steps: int) -> dict[str, Any]:
    """In the child: seconds and page faults a step (medians), peak megabytes."""
    from quickstudy.allocator import Trimmer, keep_large_blocks

    kept = setting.startswith("kept") and keep_large_blocks()
    if setting.startswith("kept") and not kept:
        raise SystemExit("This C library is not glibc, so nothing can be set.")
    trim = Trimmer() if kept and setting != "kept, no trim" else None

    import torch

    from quickstudy.learners import MAML, ProtoNet
    from quickstudy.learners.learner import AbstractLearner
    from quickstudy.nets import Conv4

    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    learner: AbstractLearner
    if work == "maml":
        learner = MAML(Conv4(3, 84, filters=32, norm="transductive"), 5, transductive=True)
    else:
        learner = ProtoNet(Conv4(norm="transductive"))
    seconds, faults, first = [], [], 0
    tasks = episode(work)
    for step in range(steps + 1):
        if work == "ragged":
            tasks = episode(work)
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
        learner.zero_grad()
        learner.meta_loss(tasks).loss.sum().backward()  # type: ignore[no-untyped-call]
        if trim is not None:
            trim()
        if step:  # the first one asks for memory in any case
            seconds.append(time.process_time() - started)
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        else:
            first = peak()
    total = {"seconds": statistics.fmean(seconds), "faults": statistics.fmean(faults)}
    if work != "ragged":
        total = {"seconds": statistics.median(seconds), "faults": statistics.median(faults)}
    return {**total, "first": first, "peak": peak()}


def episode(work: str) -> Any:
    """Random pictures."""
    import torch

    from quickstudy.episode import Classes, Episode, Examples

    way, shot, query = {"protonet": (60, 5, 5), "maml": (5, 1, 15)}.get(
        work, (random.randint(5, 60), random.randint(1, 5), random.randint(1, 15))
    )
    shape = (3, 84, 84) if work == "maml" else (1, 28, 28)

    def part(rows: int) -> Examples:
        y = torch.arange(way).repeat_interleave(rows)[None]
        return Examples(torch.rand(1, way * rows, *shape), y, Classes(torch.full((1,), way)))

    return Episode(part(shot), part(query))


def peak() -> int:
    """Largest resident memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
