"""quickstudy with two one-thread processes, which share the tasks of a step as ``--ranks 2`` shares them.

The worker is rank 0 and starts rank 1. A unit of training is a turn of the loop of ``train/engine.py``: the engine's
own step (tasks handed out, checked and divided; what each rank found exchanged; gradients summed; the optimiser, at a
rate of zero, so that each unit computes the same), what it says to callbacks, and the question whether to stop, which
is also how rank 1 learns that there is another unit. Other contestants are not charged for the optimiser.

Meta-testing has no such loop: ranks compute whole portions of a test and meet at its end. Here they meet after each
unit, to put its logits together, which costs ours a little more than a test would.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from typing_extensions import override

from benchmarks.speed import ours, settings
from benchmarks.speed.jobs import Job, Setting, gradients
from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.episode import Episode
from quickstudy.keys import Integers
from quickstudy.train.ranks import AbstractRanks, ProcessRanks, alike, block
from quickstudy.train.ranks_state import share_weights
from quickstudy.train.schedules import constant
from quickstudy.train.stepping import Engine

__all__ = ["adapt", "divided"]

SIZE = 2


class _Given(TaskSource):
    """The tasks of the benchmark."""

    def __init__(self, setting: Setting) -> None:
        workload = setting.workload
        self._episode = ours.episode_of(setting.tasks(), workload.way)
        self._way = workload.way

    @property
    @override
    def shape(self) -> TaskShape:
        x = self._episode.support.x
        assert isinstance(x, Tensor)
        return TaskShape(tuple(x.shape[2:]), "classes" if self._way else "real", max(1, self._way))

    @property
    @override
    def hash(self) -> str:
        return "benchmark"

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {}

    @override
    def episodes(self, indices: range | Integers) -> Episode:
        return self._episode.tasks(slice(int(indices[0]), int(indices[-1]) + 1))


def _training(setting: Setting, ranks: AbstractRanks) -> Job:
    """A step of the engine; returned are the loss that it logs and the gradient that was summed."""
    learner = ours.learner_of(setting).train()
    main: dict[str, Any] = {"steps": 1, "optimizer": "adam", "lr": 0.0, "schedule": constant()}
    at_once = setting.workload.at_once or None
    engine = Engine(learner, _Given(setting), None, main, setting.n_task, at_once, seed=0, callbacks=(), ranks=ranks)
    engine.check()
    share_weights(ranks, learner)

    def step() -> list[Tensor]:
        event = engine.step(0)
        with alike(ranks):  # where callbacks hear of it
            pass
        found = gradients(learner)
        if setting.workload.kind == "reptile":
            return found
        return [torch.tensor(event.logs["loss"]) if setting.dtype is torch.float32 else loss(), *found]

    def loss() -> Tensor:
        """Computed beside the engine in the float64 check, as the engine logs in float32."""
        mine = ours.loss(replace(setting, part=block(setting.n_task, ranks.rank, ranks.size)))
        ranks.add(mine)
        return mine

    return step


def _testing(setting: Setting, ranks: AbstractRanks) -> Job:
    """Each rank's block of tasks, all logits put together."""
    part = ours.adapt(replace(setting, part=block(setting.n_task, ranks.rank, ranks.size)))
    return lambda: [torch.cat([there for (there,) in ranks.exchange(part())])]


Unit: TypeAlias = Callable[[Setting, AbstractRanks], Job]


def _both(setting: Setting, unit: Unit) -> Job:
    """The job of rank 0; rank 1 is started with it and ends with this process."""
    if dist.is_initialized():  # the job before this one
        ProcessRanks().asked_to_stop(True)
        dist.destroy_process_group()
    store = TCPStore("127.0.0.1", 0, SIZE, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    context.Process(target=_follow, args=(setting, unit, store.port), daemon=True).start()
    dist.init_process_group("gloo", store=store, rank=0, world_size=SIZE)
    ranks = ProcessRanks()
    job = unit(setting, ranks)

    def step() -> list[Tensor]:
        ranks.asked_to_stop(False)
        return job()

    return step


def _follow(setting: Setting, unit: Unit, port: int) -> None:
    """Rank 1: a unit whenever rank 0 does one."""
    settings.apply("equal", ours=True)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=TCPStore("127.0.0.1", port, SIZE), rank=1, world_size=SIZE)
    ranks = ProcessRanks()
    job = unit(setting, ranks)
    while not ranks.asked_to_stop(False):
        job()
    dist.destroy_process_group()


def divided(setting: Setting) -> Job:
    """A step of training, of whichever learner the workload has."""
    return _both(setting, _training)


def adapt(setting: Setting) -> Job:
    """Meta-testing."""
    return _both(setting, _testing)
