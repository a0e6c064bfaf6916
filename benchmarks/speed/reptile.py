"""Reptile as people write it beside these libraries, which have none of their own.

Adam's state begins anew for each task, as in ``moments="reset"``.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from benchmarks.speed.jobs import Job, Setting, loss_of
from benchmarks.speed.minibatches import minibatch_rows
from benchmarks.speed.networks import plain

__all__ = ["by_learn2learn", "by_state_dict"]


def _train(net: nn.Module, setting: Setting, x: Tensor, y: Tensor, batches: Tensor) -> None:
    """A few steps of Adam on minibatches, in place."""
    optimizer = torch.optim.Adam(net.parameters(), setting.workload.inner_lr, betas=(0.0, 0.999))
    for rows in batches:
        optimizer.zero_grad()
        loss_of(net(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def by_state_dict(setting: Setting) -> Job:
    """Plain torch: the weights are saved before each task and loaded after it."""
    tasks, rows = list(setting.tasks()), minibatch_rows(setting)
    net = plain(setting.workload).to(setting.device, setting.dtype)

    def step() -> list[Tensor]:
        before = {name: value.clone() for name, value in net.state_dict().items()}
        moved = [torch.zeros_like(p) for p in net.parameters()]
        for (x, y, *_), batches in zip(tasks, rows, strict=True):
            _train(net, setting, x, y, batches)
            for total, p, start in zip(moved, net.parameters(), before.values(), strict=True):
                total += (start - p.detach()) / len(tasks)
            net.load_state_dict(before)
        return moved

    return step


def by_learn2learn(setting: Setting) -> Job:
    """With a deep copy of learn2learn's module for each task, as its example of Reptile has it."""
    import learn2learn  # noqa: F401 - the column is measured with the library loaded

    tasks, rows = list(setting.tasks()), minibatch_rows(setting)
    net = plain(setting.workload).to(setting.device, setting.dtype)

    def step() -> list[Tensor]:
        moved = [torch.zeros_like(p) for p in net.parameters()]
        for (x, y, *_), batches in zip(tasks, rows, strict=True):
            mine = copy.deepcopy(net)
            _train(mine, setting, x, y, batches)
            for total, p, start in zip(moved, mine.parameters(), net.parameters(), strict=True):
                total += (start.detach() - p.detach()) / len(tasks)
        return moved

    return step
