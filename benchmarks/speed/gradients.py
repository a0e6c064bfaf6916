"""MAML, FOMAML and meta-testing in the libraries for gradient-based meta-learning, each by its own interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.speed.jobs import Job, Setting, gradients, loss_of
from benchmarks.speed.networks import plain
from benchmarks.speed.tasks import Task

__all__ = ["by_higher", "by_learn2learn", "by_torchopt"]

Solve = Callable[[Task], Tensor]
"""The query's outputs after adapting to a task's support, linked to the meta-parameters where it is differentiated."""


def _meta_step(setting: Setting, net: nn.Module, solve: Solve) -> Job:
    """Task after task, as the examples of these libraries do; each task's loss backward at once."""
    tasks = list(setting.tasks())

    def step() -> list[Tensor]:
        net.zero_grad()
        total = torch.zeros((), dtype=setting.dtype, device=setting.device)
        for task in tasks:
            loss = loss_of(solve(task), task[3]) / len(tasks)
            loss.backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
        return [total, *gradients(net)]

    return step


def _test(setting: Setting, solve: Solve) -> Job:
    tasks = list(setting.tasks())
    return lambda: [torch.stack([solve(task).detach() for task in tasks])]


def _net(setting: Setting) -> nn.Module:
    return plain(setting.workload).to(setting.device, setting.dtype)


def by_higher(setting: Setting) -> Job:
    """higher: a differentiable copy of the optimiser and a functional one of the network."""
    import higher

    workload, net = setting.workload, _net(setting)
    optimizer = torch.optim.SGD(net.parameters(), workload.inner_lr)
    testing = workload.kind == "adapt"
    # Its own switch to first order (track_higher_grads=False) also cuts the link to the initial weights: for tests.
    options: dict[str, Any] = {}
    if workload.kind == "fomaml":
        options["grad_callback"] = lambda grads: [grad.detach() for grad in grads]

    def solve(task: Task) -> Tensor:
        opened = higher.innerloop_ctx(net, optimizer, copy_initial_weights=testing, track_higher_grads=not testing)
        with opened as (fast, inner):
            for _ in range(workload.inner_steps):
                inner.step(loss_of(fast(task[0]), task[1]), **options)
            with torch.set_grad_enabled(not testing):
                outputs: Tensor = fast(task[2])
            return outputs

    return _test(setting, solve) if testing else _meta_step(setting, net, solve)


def by_learn2learn(setting: Setting) -> Job:
    """learn2learn: a clone of the network whose weights are rerouted."""
    import learn2learn as l2l

    workload, net = setting.workload, _net(setting)
    testing = workload.kind == "adapt"
    learner = l2l.algorithms.MAML(net, lr=workload.inner_lr, first_order=testing or workload.kind == "fomaml")

    def solve(task: Task) -> Tensor:
        fast = learner.clone()
        for _ in range(workload.inner_steps):
            fast.adapt(loss_of(fast(task[0]), task[1]))
        with torch.set_grad_enabled(not testing):
            outputs: Tensor = fast(task[2])
        return outputs

    return _test(setting, solve) if testing else _meta_step(setting, net, solve)


def by_torchopt(setting: Setting) -> Job:
    """torchopt: a differentiable optimiser that swaps the network's weights; it has no first-order form."""
    import torchopt

    workload, net = setting.workload, _net(setting)
    testing = workload.kind == "adapt"
    inner = torchopt.MetaSGD(net, lr=workload.inner_lr)
    start = torchopt.extract_state_dict(net, by="reference")
    parameters = nn.ParameterList(net.parameters())

    def solve(task: Task) -> Tensor:
        for _ in range(workload.inner_steps):
            inner.step(loss_of(net(task[0]), task[1]))
            if testing:
                torchopt.stop_gradient(net)
        with torch.set_grad_enabled(not testing):
            outputs: Tensor = net(task[2])
        torchopt.recover_state_dict(net, start)
        return outputs

    return _test(setting, solve) if testing else _meta_step(setting, parameters, solve)
