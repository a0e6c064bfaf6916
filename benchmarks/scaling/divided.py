"""1 to 4 ranks on this machine: processor time of each rank, the clock, and bytes that the kernel says it sent.

Where there are more ranks than cores they wait for each other's turns, so that the clock says nothing of more machines;
what a rank computes itself (its processor time: a rank that waits uses none) and what it sends do.
"""

from __future__ import annotations

import itertools
import os
import socket
import statistics
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from typing_extensions import override

from benchmarks.scaling.sizes import Sizes
from quickstudy.train import Silent, StepEvent
from quickstudy.train.ranks import AbstractRanks
from quickstudy.train.ranks_messages import Job

__all__ = ["RANKED", "bytes_sent", "measure", "train"]

Point = dict[str, Any]

RANKED = (
    Sizes(tasks=8, steps=2, filters=16),
    Sizes(tasks=8, steps=2, filters=64),
    Sizes(tasks=4, steps=2, filters=64),
)
_SENT = 200  # where tcpi_bytes_sent stands in Linux's struct tcp_info, since 4.19


def bytes_sent() -> int | None:
    """Bytes that this process has sent through the TCP sockets that it has open now; None where nobody says."""
    total = 0
    try:
        open_now = list(Path("/proc/self/fd").iterdir())
    except OSError:
        return None
    for each in open_now:
        try:
            if not os.readlink(each).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(each.name))) as copy:
                if copy.family not in (socket.AF_INET, socket.AF_INET6) or copy.type != socket.SOCK_STREAM:
                    continue
                raw = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512)
        except OSError:  # closed meanwhile
            continue
        if len(raw) < _SENT + 8:
            return None
        total += struct.unpack_from("Q", raw, _SENT)[0]
    return total


@dataclass
class Meter(Silent):
    """What stood on each clock of this rank after every step."""

    on_every_rank: bool = True
    processor: list[float] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)
    sent: list[int | None] = field(default_factory=list)

    @override
    def step(self, event: StepEvent) -> None:
        self.processor.append(time.process_time())
        self.clock.append(time.perf_counter())
        self.sent.append(bytes_sent())


def train(ranks: AbstractRanks, tell: object, sizes: dict[str, Any], steps: int) -> list[dict[str, float | None]]:
    """In a rank: train MAML; what a step took of each rank, in rank order."""
    del tell
    from quickstudy.data.big.computed import ComputedStore, noise
    from quickstudy.data.classtasks import ClassTasks
    from quickstudy.learners import MAML
    from quickstudy.nets import Conv4
    from quickstudy.train import fit

    s = Sizes(**sizes)
    torch.manual_seed(0)
    store = ComputedStore(100, 20, noise((s.side, s.side)), name="noise")
    source = ClassTasks(store, range(100), data="noise", split="train", way=s.way, shot=s.shot, query=s.query, seed=0)
    net = Conv4(1, s.side, filters=s.filters, norm="transductive")
    learner = MAML(net, s.way, inner_steps=s.steps, inner_lr=0.01, transductive=True)
    meter = Meter()
    fit(learner, source, steps=steps, tasks_per_step=s.tasks, lr=1e-4, callbacks=[meter], ranks=ranks)
    # The first steps fill caches; of bytes all but the last step's are meant, which is followed by the end's.
    sent = [each for each in meter.sent if each is not None]
    mine = {
        "processor": 1000 * statistics.median(_differences(meter.processor)[1:]),
        "clock": 1000 * statistics.median(_differences(meter.clock)[1:]),
        "sent": statistics.median(_differences(sent)[1:]) if len(sent) == len(meter.sent) else None,
        "weights": float(sum(p.numel() for p in learner.parameters())),
    }
    return ranks.exchange(mine)


def _differences(values: list[Any]) -> list[Any]:
    return [after - before for before, after in itertools.pairwise(values)]


def measure(say: Callable[[str], None], *, quick: bool = False, steps: int = 12) -> list[Point]:
    """Every setting with 1 to 4 ranks (or 2): ``processor``, ``clock``, ``sent``, of the rank that has most.

    Args:
        say: told of each.
        quick: few and small.
        steps: of each training, of which the median counts.
    """
    from quickstudy.train.ranks_launch import run_ranks

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    some = [Sizes(tasks=4, steps=1, filters=16, side=16), Sizes(tasks=4, steps=1, filters=48, side=16)]
    points = []
    for sizes in some if quick else RANKED:
        for size in (1, 2) if quick else (1, 2, 3, 4):
            found = run_ranks(Job(train, (sizes.record, steps), "cpu", 1), size)
            point = {"ranks": size, "sizes": sizes.record, "weights": found[0]["weights"], "crowded": size > cores}
            point |= {name: max(each[name] for each in found) for name in ("processor", "clock")}
            point |= {"sent": None if found[0]["sent"] is None else max(each["sent"] for each in found)}
            points.append(point)
            say(f"{size} ranks {sizes.record} processor {point['processor']:.1f} ms, sent {point['sent']}")
    return points
