"""Floor 5: what the laws and the doctor's checks both measure; whatever a function changes it puts back."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.episode import Classes, Episode, Examples, map_leaves
from quickstudy.errors import InputError
from quickstudy.inner.chained import stepwise
from quickstudy.keys import Key, Keys, uniform
from quickstudy.learners.learner import AbstractLearner, MetaLoss

__all__ = [
    "PhaseLoss",
    "apart_and_together",
    "batch_of",
    "central_difference",
    "directions",
    "filled",
    "first_order",
    "generators",
    "generators_kept",
    "gradients",
    "moved_dtype",
    "outputs",
    "phase_losses",
    "query_portions",
    "seeded",
    "slopes",
    "tensors_of",
    "wave",
    "whole_gradients",
    "with_strategy",
]


LossOf: TypeAlias = Callable[[AbstractLearner], MetaLoss]


@dataclass(frozen=True, eq=False)
class PhaseLoss:
    """What a learner is trained by in one of its phases, on some data.

    Args:
        name: ``"meta_loss"`` or ``"batch_loss"``, with its number where there are two of them.
        number: of the phase.
        data: tasks, or a plain labelled batch.
        key: the learner's randomness.
    """

    name: str
    number: int
    data: Episode | Examples
    key: Keys | None

    def __call__(self, learner: AbstractLearner) -> MetaLoss:
        """The loss, of a learner that has begun the phase."""
        if isinstance(self.data, Episode):
            return learner.meta_loss(self.data, key=self.key)
        return learner.batch_loss(self.data, key=self.key)

    def begun(self, learner: AbstractLearner) -> AbstractLearner:
        """The same learner, at the start of the phase; one of a single phase as it is, which may be trained."""
        if len(learner.traits.phases) > 1:
            learner.begin_phase(self.number)
        return learner


def phase_losses(learner: AbstractLearner, episode: Episode, key: Keys | None = None) -> list[PhaseLoss]:
    """The losses of all phases, where there is data for them; batches are made of the tasks' rows.

    A ``batch_loss`` that is refused, such as by a learner that was not told the number of training classes, is left
    out.
    """
    if not learner.traits.trainable:
        return []
    found, phases = list[PhaseLoss](), learner.traits.phases
    for number, phase in enumerate(phases):
        if phase == "episodes":
            found.append(PhaseLoss("meta_loss", number, episode, key))
            continue
        batch = batch_of(episode)
        if batch is None:
            continue
        name = "batch_loss" if phases.count(phase) == 1 else f"batch_loss of phase {number + 1}"
        keys = None if key is None else Keys(key.key.fold("batches"), np.array([number]))
        loss = PhaseLoss(name, number, batch, keys)
        try:
            with seeded():
                loss(loss.begun(copy.deepcopy(learner)))
        except InputError:
            continue
        found.append(loss)
    return found


def outputs(learner: AbstractLearner, episode: Episode, key: Keys | None = None) -> Tensor:
    """Predictions after adapting, as in meta-testing."""
    with torch.no_grad():
        return learner.predict(learner.adapt(episode.support, key=key), episode.query.unlabelled(), key=key)


def gradients(learner: AbstractLearner, loss: LossOf) -> list[Tensor | None]:
    """The loss's gradient in each parameter, None where it is not in the graph; ``.grad`` is left as it was."""
    before = [p.grad for p in learner.parameters()]
    for p in learner.parameters():
        p.grad = None
    try:
        loss(learner).loss.sum().backward()  # type: ignore[no-untyped-call]
        return [p.grad for p in learner.parameters()]
    finally:
        for p, grad in zip(learner.parameters(), before, strict=True):
            p.grad = grad


def generators() -> tuple[str, str, object]:
    """The states of torch's, NumPy's and Python's global generators."""
    return repr(torch.get_rng_state().tolist()), repr(np.random.get_state()), random.getstate()


@contextmanager
def generators_kept() -> Iterator[None]:
    """All global generators are afterwards what they were."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


@contextmanager
def seeded(number: int = 0) -> Iterator[None]:
    """Torch's global generator, from which modules of others (dropout) draw, seeded and then given back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(number)
        yield


def query_portions(
    learner: AbstractLearner, episode: Episode, key: Keys | None = None
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """What was done with the queries (reordered, split, alone), outputs then, and what they were among all."""
    real = episode.query.real
    place = (~real).to(torch.uint8).argsort(dim=1, stable=True)  # real rows first
    n = int(real.sum(1).min())
    whole = outputs(learner, episode, key)
    order = torch.from_numpy(Key.of(0, "queries").bits(np.arange(1), n)[0].argsort().copy()).to(real.device)
    # A third of a class-by-class list holds other classes than the whole, which is what moves shared statistics.
    for name, which in (("reordered", order), ("split", torch.arange(max(1, n // 3))), ("alone", order[:1])):
        index = place[:, which]
        portion = replace(episode, query=episode.query.take(index))
        among_all = whole.gather(1, index[..., None].expand(-1, -1, whole.shape[2]))
        yield name, outputs(learner, portion, key), among_all


def apart_and_together(learner: AbstractLearner, episode: Episode, *, loss: bool) -> tuple[Tensor, Tensor]:
    """The meta-losses ``[T]`` (or the outputs) of the tasks, each in a call of its own, and of all at once.

    What a meta-loss carries is absorbed between the calls, as the engine does.
    """

    def measure(part: Episode, one: AbstractLearner) -> Tensor:
        key = Keys(Key.of(7), part.indices.numpy())
        if not loss:
            return outputs(one, part, key)
        with seeded():
            out = one.meta_loss(part, key=key)
        one.absorb(out.carried)
        return out.loss.detach()

    together, trial = measure(episode, copy.deepcopy(learner)), copy.deepcopy(learner)
    alone = [measure(episode.tasks(slice(t, t + 1)), trial) for t in range(episode.n_task)]
    if not loss:  # one task alone may have fewer classes
        alone = [F.pad(part, (0, together.shape[2] - part.shape[2]), value=-torch.inf) for part in alone]
    return torch.cat(alone), together


def with_strategy(learner: AbstractLearner, strategy: str) -> AbstractLearner | None:
    """A copy of the learner that runs its networks in this way; None where they have no such form."""
    other = copy.deepcopy(learner)
    holders = [part for part in other.modules() if isinstance(getattr(part, "strategy", None), str)]
    nets = [net for part in holders if isinstance(net := getattr(part, "net", None), nn.Module)]
    if not holders or (strategy == "batched" and not all(hasattr(net, "batched") for net in nets)):
        return None
    for holder in holders:
        setattr(holder, "strategy", strategy)  # noqa: B010
    return other


@contextmanager
def first_order() -> Iterator[list[bool]]:
    """Every ``torch.autograd.grad`` inside gives constants; yields, for each call, whether it asked for a graph.

    It replaces torch's function for the time, in the whole process: for a self-test, not for a training run.
    """
    asked: list[bool] = []
    original = torch.autograd.grad

    def constant(*args: Any, **kwargs: Any) -> tuple[Tensor | None, ...]:
        asked.append(bool(kwargs.get("create_graph", args[4] if len(args) > 4 else False)))
        return tuple(None if g is None else g.detach() for g in original(*args, **kwargs))

    torch.autograd.grad = constant  # type: ignore[assignment]
    try:
        with stepwise():
            yield asked
    finally:
        torch.autograd.grad = original


def directions(learner: AbstractLearner, count: int) -> list[list[Tensor]]:
    """Random directions in the space of the parameters, each of length 1."""
    parameters = list(learner.parameters())
    words = Key.of(0, "directions").bits(np.arange(count), sum(p.numel() for p in parameters))
    rows = torch.from_numpy(2 * uniform(words) - 1)
    rows = rows / rows.norm(dim=1, keepdim=True)
    parts = [torch.split(row, [p.numel() for p in parameters]) for row in rows]
    return [[d.reshape(p.shape).to(p) for d, p in zip(part, parameters, strict=True)] for part in parts]


def central_difference(learner: AbstractLearner, loss: LossOf, direction: list[Tensor], h: float) -> float:
    """The slope of the summed loss along a direction, ``h`` to either side; what is frozen stays."""
    at = [p.detach().clone() for p in learner.parameters()]

    def value(step: float) -> float:
        for p, start, d in zip(learner.parameters(), at, direction, strict=True):
            if p.requires_grad:
                p.data = start + step * d
        with seeded(), torch.enable_grad():  # some meta-losses take gradients inside
            return float(loss(learner).loss.sum().detach())

    data = [p.data for p in learner.parameters()]
    try:
        return (value(h) - value(-h)) / (2 * h)
    finally:
        for p, start in zip(learner.parameters(), data, strict=True):
            p.data = start


def whole_gradients(learner: AbstractLearner, episode: Episode, key: Keys | None = None) -> list[Tensor]:
    """The meta-gradient, zero where a parameter is not in the graph."""
    return filled(learner, gradients(learner, lambda learner: learner.meta_loss(episode, key=key)))


def filled(learner: AbstractLearner, grads: list[Tensor | None]) -> list[Tensor]:
    """Zero where a parameter is not in the graph."""
    return [torch.zeros_like(p) if g is None else g for p, g in zip(learner.parameters(), grads, strict=True)]


def wave(learner: AbstractLearner) -> list[Tensor]:
    """A direction in the space of the parameters in which each of them has its part."""
    return [torch.sin(torch.arange(p.numel(), dtype=p.dtype) + 1).reshape(p.shape) for p in learner.parameters()]


def slopes(learner: AbstractLearner, loss: LossOf) -> tuple[float, float]:
    """The slope of a loss along one direction: by central differences, and by its gradient."""
    grads, along = filled(learner, gradients(learner, loss)), wave(learner)
    h = 1e-5
    near, far = (central_difference(learner, loss, along, step) for step in (h, 2 * h))
    measured = (4 * near - far) / 3  # of fourth order in h
    return measured, float(sum((g * d).sum() for g, d in zip(grads, along, strict=True)))


def moved_dtype(episode: Episode, dtype: torch.dtype) -> Episode:
    """The same tasks with every floating tensor in ``dtype``."""

    def convert(leaf: Tensor) -> Tensor:
        return leaf.to(dtype) if leaf.is_floating_point() else leaf

    def part(examples: Examples) -> Examples:
        y = None if examples.y is None else convert(examples.y)
        return replace(examples, x=map_leaves(convert, examples.x), y=y)

    return replace(episode, support=part(episode.support), query=part(episode.query))


def batch_of(episode: Episode) -> Examples | None:
    """All real rows of the tasks as one plain labelled batch, ``y`` the classes' numbers in the data set.

    None where the tasks do not say which classes they are made of.
    """
    if episode.classes is None or not isinstance(episode.support.target, Classes):
        return None
    parts = [(t, part.task(t)) for t in range(episode.n_task) for part in (episode.support, episode.query)]
    y = torch.cat([episode.classes[t][part.y[0].cpu()] for t, part in parts if part.y is not None])
    rows = reduce(Examples.followed_by, (part for _, part in parts))
    return replace(rows, y=y[None].to(rows.device), target=Classes((y.max() + 1)[None].to(rows.device)))


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Every tensor in a learner's state: dataclasses, dicts, lists and tuples of them."""
    if isinstance(value, Tensor):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        for part in fields(value):
            yield from tensors_of(getattr(value, part.name))
    elif isinstance(value, dict):
        for part_ in value.values():
            yield from tensors_of(part_)
    elif isinstance(value, (list, tuple)):
        for part_ in value:
            yield from tensors_of(part_)
