"""Prototypical networks in the libraries for metric learners.

Support and query are normalised apart, as in the examples of easyfsl and torchmeta.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.speed.jobs import Job, Setting, gradients, loss_of
from benchmarks.speed.networks import plain_body
from benchmarks.speed.tasks import Task

__all__ = ["by_easyfsl", "by_learn2learn", "by_torchmeta"]


def _meta_step(setting: Setting, net: nn.Module, loss_on: Callable[[Task], Tensor]) -> Job:
    tasks = list(setting.tasks())

    def step() -> list[Tensor]:
        net.zero_grad()
        loss = torch.stack([loss_on(task) for task in tasks]).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return [loss.detach(), *gradients(net)]

    return step


def _net(setting: Setting) -> nn.Module:
    return plain_body(setting.workload).to(setting.device, setting.dtype)


def by_easyfsl(setting: Setting) -> Job:
    """easyfsl: its classifier gives minus the distance, which is squared here."""
    from easyfsl.methods import PrototypicalNetworks

    net = _net(setting)
    classifier = PrototypicalNetworks(net)

    def loss_on(task: Task) -> Tensor:
        classifier.process_support_set(task[0], task[1])
        return loss_of(-classifier(task[2]).square(), task[3])

    return _meta_step(setting, net, loss_on)


def by_torchmeta(setting: Setting) -> Job:
    """torchmeta: its two functions on embeddings with a task axis."""
    from torchmeta.utils.prototype import get_prototypes, prototypical_loss

    net, way = _net(setting), setting.workload.way

    def loss_on(task: Task) -> Tensor:
        centres = get_prototypes(net(task[0])[None], task[1][None], way)
        loss: Tensor = prototypical_loss(centres, net(task[2])[None], task[3][None])
        return loss

    return _meta_step(setting, net, loss_on)


def by_learn2learn(setting: Setting) -> Job:
    """learn2learn: its classifier on embeddings."""
    import learn2learn as l2l

    net, classifier = _net(setting), l2l.nn.PrototypicalClassifier()

    def loss_on(task: Task) -> Tensor:
        classifier.fit_(net(task[0]), task[1])
        return loss_of(classifier(net(task[2])), task[3])

    return _meta_step(setting, net, loss_on)
