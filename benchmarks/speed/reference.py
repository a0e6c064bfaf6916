"""Each kind of work in plain torch, written for clearness: what every contestant must equal in float64. Not timed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.speed.jobs import Job, Setting, gradients, loss_of
from benchmarks.speed.networks import plain, plain_body
from benchmarks.speed.tasks import Task

__all__ = ["by_gradients", "by_prototypes", "by_reptile", "first_order", "first_order_when_timed", "logits"]


def _descend(net: nn.Module, task: Task, steps: int, lr: float, second_order: bool) -> dict[str, Tensor]:
    """The weights after gradient descent on a task's support set."""
    params: dict[str, Tensor] = dict(net.named_parameters())
    for _ in range(steps):
        loss = loss_of(functional_call(net, params, (task[0],)), task[1])
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=second_order)
        params = {name: p - lr * grad for (name, p), grad in zip(params.items(), grads, strict=True)}
    return params


def _meta_gradient(setting: Setting, second_order: bool) -> Job:
    workload, tasks = setting.workload, setting.tasks()
    net = plain(workload).to(setting.device, setting.dtype)

    def step() -> list[Tensor]:
        net.zero_grad()
        total = torch.zeros((), dtype=setting.dtype, device=setting.device)
        for task in tasks:
            params = _descend(net, task, workload.inner_steps, workload.inner_lr, second_order)
            loss = loss_of(functional_call(net, params, (task[2],)), task[3]) / len(tasks)
            loss.backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach()
        return [total, *gradients(net)]

    return step


def by_gradients(setting: Setting) -> Job:
    """MAML: mean query loss and its exact gradient."""
    return _meta_gradient(setting, second_order=True)


def first_order(setting: Setting) -> Job:
    """FOMAML: the inner gradients are constants."""
    return _meta_gradient(setting, second_order=False)


def first_order_when_timed(setting: Setting) -> Job:
    """Right where only float64 is looked at; for tests."""
    return _meta_gradient(setting, second_order=setting.dtype is torch.float64)


def logits(setting: Setting) -> Job:
    """Meta-testing: the query's logits after the inner steps, ``[T, Nq, W]``."""
    workload, tasks = setting.workload, setting.tasks()
    net = plain(workload).to(setting.device, setting.dtype)

    def step() -> list[Tensor]:
        every = []
        for task in tasks:
            params = _descend(net, task, workload.inner_steps, workload.inner_lr, second_order=False)
            every.append(functional_call(net, params, (task[2],)).detach())
        return [torch.stack(every)]

    return step


def by_prototypes(setting: Setting) -> Job:
    """A prototypical network with the squared distance; support and query are normalised apart."""
    workload, tasks = setting.workload, setting.tasks()
    net = plain_body(workload).to(setting.device, setting.dtype)

    def step() -> list[Tensor]:
        net.zero_grad()
        losses = []
        for support_x, support_y, query_x, query_y in tasks:
            known, asked = net(support_x), net(query_x)
            centres = torch.stack([known[support_y == label].mean(0) for label in range(workload.way)])
            distance = (asked[:, None] - centres[None]).square().sum(2)
            losses.append(loss_of(-distance, query_y))
        loss = torch.stack(losses).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return [loss.detach(), *gradients(net)]

    return step


def by_reptile(setting: Setting) -> Job:
    """Reptile: θ less the mean over tasks of the weights after Adam without momentum, its state new for each task."""
    from benchmarks.speed.minibatches import minibatch_rows  # the only thing here that knows quickstudy

    workload, tasks, rows = setting.workload, setting.tasks(), minibatch_rows(setting)
    net = plain(workload).to(setting.device, setting.dtype)
    kept, eps = 0.999, 1e-8

    def step() -> list[Tensor]:
        start: dict[str, Tensor] = dict(net.named_parameters())
        ends = []
        for (support_x, support_y, *_), batches in zip(tasks, rows, strict=True):
            params, square = start, {name: torch.zeros_like(p) for name, p in start.items()}
            for number, batch in enumerate(batches, 1):
                loss = loss_of(functional_call(net, params, (support_x[batch],)), support_y[batch])
                grads = dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))
                square = {n: kept * square[n] + (1 - kept) * grads[n] ** 2 for n in params}
                root = {n: (square[n] / (1 - kept**number)).sqrt() for n in params}
                params = {n: p - workload.inner_lr * grads[n] / (root[n] + eps) for n, p in params.items()}
            ends.append(params)
        return [(p - torch.stack([end[name] for end in ends]).mean(0)).detach() for name, p in start.items()]

    return step
