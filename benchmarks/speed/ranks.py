"""quickstudy with two one-thread processes, which share the tasks of a step by ``quickstudy.train.ranks``.

The worker is rank 0 and starts rank 1; both do a unit together when rank 0 says so.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from benchmarks.speed import ours, settings
from benchmarks.speed.jobs import Job, Setting
from quickstudy.train.ranks import ProcessRanks, block

__all__ = ["adapt", "fomaml", "maml", "reptile"]

SIZE = 2
_GO, _END = 1, 0


def _both(setting: Setting, alone: Callable[[Setting], Job], *, logits: bool = False) -> Job:
    """The job of rank 0; rank 1 is started with it and ends with this process."""
    if dist.is_initialized():  # the job before this one
        dist.broadcast(torch.tensor(_END), src=0)
        dist.destroy_process_group()
    store = TCPStore("127.0.0.1", 0, SIZE, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    context.Process(target=_follow, args=(setting, alone, logits, store.port), daemon=True).start()
    dist.init_process_group("gloo", store=store, rank=0, world_size=SIZE)
    unit = _unit(setting, alone, logits)

    def step() -> list[Tensor]:
        dist.broadcast(torch.tensor(_GO), src=0)
        return unit()

    return step


def _follow(setting: Setting, alone: Callable[[Setting], Job], logits: bool, port: int) -> None:
    """Rank 1: a unit whenever rank 0 says so."""
    settings.apply("equal", ours=True)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=TCPStore("127.0.0.1", port, SIZE), rank=1, world_size=SIZE)
    unit = _unit(setting, alone, logits)
    while True:
        said = torch.tensor(_END)
        dist.broadcast(said, src=0)
        if said != _GO:
            dist.destroy_process_group()
            return
        unit()


def _unit(setting: Setting, alone: Callable[[Setting], Job], logits: bool) -> Job:
    """A unit of which each rank computes its block of tasks: gradients are summed, logits put together."""
    ranks = ProcessRanks()
    part = alone(replace(setting, part=block(setting.n_task, ranks.rank, ranks.size)))

    def step() -> list[Tensor]:
        mine = part()
        if logits:
            return [torch.cat([there for (there,) in ranks.exchange(mine)])]
        flat = torch.cat([value.reshape(-1) for value in mine])  # one message, as the engine sends
        ranks.add(flat)
        sums = torch.split(flat, [value.numel() for value in mine])
        return [total.view_as(value) for total, value in zip(sums, mine, strict=True)]

    return step


def maml(setting: Setting) -> Job:
    """Second-order MAML."""
    return _both(setting, ours.maml)


def fomaml(setting: Setting) -> Job:
    """First-order MAML."""
    return _both(setting, ours.fomaml)


def reptile(setting: Setting) -> Job:
    """A step of Reptile."""
    return _both(setting, ours.reptile)


def adapt(setting: Setting) -> Job:
    """Meta-testing."""
    return _both(setting, ours.adapt, logits=True)
