"""quickstudy, through its public interface."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.jobs import Job, Setting, gradients
from benchmarks.speed.networks import copy_weights, plain, plain_body
from benchmarks.speed.tasks import Tasks
from quickstudy.episode import Classes, Episode, Examples, Real
from quickstudy.keys import Key, Keys
from quickstudy.learners import FOMAML, MAML, ProtoNet, Reptile
from quickstudy.learners.learner import AbstractLearner
from quickstudy.nets import MLP, Conv4
from quickstudy.train.compiled import Compile, Compiled

__all__ = [
    "KEY",
    "adapt",
    "adjoint",
    "compiled",
    "episode_of",
    "fomaml",
    "learner_of",
    "loss",
    "maml",
    "protonet",
    "reptile",
    "traced",
]

KEY = Key.of(0, "train")
"""That of a run with seed 0, from which Reptile's minibatches are drawn."""


def _net(setting: Setting) -> Conv4 | MLP:
    workload = setting.workload
    if workload.net == "mlp":
        return MLP(1, (workload.filters, workload.filters))
    pool: Any = "stride" if workload.net == "stride" else "max"
    return Conv4(workload.channels, workload.image, filters=workload.filters, pool=pool, norm="transductive")


def episode_of(tasks: Tasks, way: int) -> Episode:
    """The tasks as an episode."""
    target = Classes(torch.full((len(tasks),), way)) if way else Real(1)
    support = Examples(tasks.support_x, tasks.support_y, target)
    return Episode(support, Examples(tasks.query_x, tasks.query_y, target), index=torch.arange(len(tasks)))


def _meta_step(setting: Setting, learner: AbstractLearner) -> Job:
    """A meta-step: the mean loss over tasks, and its gradient."""
    episode, n_task = _episode(setting), setting.n_task

    def step() -> list[Tensor]:
        learner.zero_grad()
        total = torch.zeros((), dtype=setting.dtype, device=setting.device)
        for chunk in episode.chunks(setting.workload.at_once or None):
            keys = Keys(KEY, chunk.indices.numpy())
            mean = learner.meta_loss(chunk, key=keys).loss.sum() / n_task
            mean.backward()  # type: ignore[no-untyped-call]
            total = total + mean.detach()
        return [total, *gradients(learner)]

    return step


def _compiled_step(setting: Setting, learner: AbstractLearner, how: Compile) -> Job:
    """The same, traced once and played again."""
    episode, meta_step = _episode(setting), Compiled(learner, how)

    def step() -> list[Tensor]:
        learner.zero_grad()
        out, backward = meta_step(episode, of=setting.n_task)
        backward()
        return [out.loss.sum() / setting.n_task, *gradients(learner)]

    return step


def _episode(setting: Setting) -> Episode:
    """This process's part of the tasks."""
    episode = episode_of(setting.tasks(), setting.workload.way).to(setting.device)
    return episode if setting.part is None else episode.tasks(slice(setting.part.start, setting.part.stop))


def _ready(setting: Setting, learner: AbstractLearner, *, head: bool = True) -> AbstractLearner:
    """The learner with the common weights, where and in what type it is to compute."""
    copy_weights(plain(setting.workload) if head else plain_body(setting.workload), learner.parameters())
    return learner.to(setting.device, setting.dtype)


def _options(setting: Setting) -> dict[str, Any]:
    workload = setting.workload
    regression = workload.net == "mlp"
    return {
        "outputs": max(1, workload.way),
        "target": "real" if regression else "classes",
        "inner_steps": workload.inner_steps,
        "inner_lr": workload.inner_lr,
        "transductive": not regression,
    }


def learner_of(setting: Setting) -> AbstractLearner:
    """The learner of the workload's kind, with the common weights."""
    kind, workload = setting.workload.kind, setting.workload
    if kind == "reptile":
        steps: dict[str, Any] = {name: getattr(workload, name) for name in ("inner_steps", "inner_lr", "inner_batch")}
        return _ready(setting, Reptile(_net(setting), workload.way, **steps))
    if kind == "protonet":
        return _ready(setting, ProtoNet(_net(setting)), head=False)
    gradient_based = FOMAML if kind == "fomaml" else MAML
    return _ready(setting, gradient_based(_net(setting), **_options(setting)))


def maml(setting: Setting) -> Job:
    """Second-order MAML."""
    return _meta_step(setting, learner_of(setting))


def loss(setting: Setting) -> Tensor:
    """The loss of this process's part of a unit, once."""
    return _meta_step(setting, learner_of(setting))()[0]


def traced(setting: Setting) -> Job:
    """Second-order MAML, its operators played one after the other."""
    return _compiled_step(setting, learner_of(setting), "trace")


def compiled(setting: Setting) -> Job:
    """Second-order MAML, its operators compiled."""
    return _compiled_step(setting, learner_of(setting), "inductor")


def adjoint(setting: Setting) -> Job:
    """The same with the activations of one inner step at a time."""
    return _meta_step(setting, _ready(setting, MAML(_net(setting), memory="adjoint", **_options(setting))))


def fomaml(setting: Setting) -> Job:
    """First-order MAML."""
    return _meta_step(setting, learner_of(setting))


def protonet(setting: Setting) -> Job:
    """A step of a prototypical network."""
    return _meta_step(setting, learner_of(setting))


def adapt(setting: Setting) -> Job:
    """Meta-testing by MAML: adapt, then predict."""
    learner = learner_of(setting).eval()
    episode = _episode(setting)

    def step() -> list[Tensor]:
        with torch.no_grad():
            state = learner.adapt(episode.support)
            return [learner.predict(state, episode.query.unlabelled())]

    return step


def reptile(setting: Setting) -> Job:
    """A step of Reptile; returned is θ - φ, the mean over tasks."""
    meta_step = _meta_step(setting, learner_of(setting))
    return lambda: meta_step()[1:]
