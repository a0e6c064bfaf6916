"""Floor 4: one step of training: what is drawn, computed, checked and moved."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quickstudy.data.batches import BatchSource
from quickstudy.data.source import TaskSource
from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError, NonFiniteLoss
from quickstudy.inner import explained
from quickstudy.keys import Key, Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss
from quickstudy.nets.secondorder import blamed_layer
from quickstudy.train.callbacks import Callback, StepEvent
from quickstudy.train.contexts import global_generators
from quickstudy.train.phases import Phase, Pretraining, plan

_DIVERGED = (
    "training diverged. The weights are those before that step. Lower the learning rate, the inner learning rate or "
    "the number of inner steps."
)


@dataclass
class Engine:
    """Everything that one step needs."""

    learner: AbstractLearner
    source: TaskSource | BatchSource
    pretrain: Pretraining | None
    main: dict[str, Any]
    tasks_per_step: int
    tasks_at_once: int | None
    seed: int
    callbacks: Sequence[Callback]
    phases: list[Phase] = field(init=False)
    phase: Phase | None = None
    optimizer: torch.optim.Optimizer = field(init=False)

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return self.phases[-1].first + self.phases[-1].steps

    def check(self) -> None:
        """Refuse what cannot work before anything is touched."""
        name = type(self.learner).__name__
        if not self.learner.traits.trainable:
            raise InputError(
                f"{name} has nothing to meta-train. Evaluate it as it is: say train.steps = 0 in its recipe, and leave "
                "--steps out."
            )
        if self.source.shape.target not in self.learner.traits.targets:
            raise InputError(
                f"{name} learns {' and '.join(self.learner.traits.targets)}, but these tasks have "
                f"{self.source.shape.target!r} targets. Choose another learner or another data set."
            )
        for callback in self.callbacks:
            absent = [
                name for name in ("step", "validation", "saving", "end") if not callable(getattr(callback, name, None))
            ]
            if absent:
                raise InputError(
                    f"The callback {type(callback).__name__} has no method {absent[0]!r}. Derive it from "
                    "quickstudy.train.Silent, which has all four and does nothing."
                )
        for field_name in ("tasks_per_step", "tasks_at_once"):
            self._check_number(field_name, getattr(self, field_name))
        if self.pretrain is None or self.main["steps"] < 0:
            self._check_number("steps", self.main["steps"])
        self.phases = plan(self.learner, self.source, self.pretrain, self.main)
        if isinstance(self.source, BatchSource) and (self.tasks_per_step != 1 or self.tasks_at_once is not None):
            raise InputError(
                f"{name} is trained on plain labelled batches, which are not made of tasks: leave tasks_per_step and "
                "tasks_at_once out, and say how many rows a batch has when the batches are made."
            )
        for phase in self.phases:
            phase.build_optimizer(self.learner)  # now, and not after hours, where it cannot be built

    @staticmethod
    def _check_number(name: str, value: int | None) -> None:
        if value is not None and value < 1:
            raise InputError(f"{name} must be a whole number of at least 1, received {value}.")

    def begins_anew(self, done: int) -> bool:
        """Whether another phase begins after ``done`` steps."""
        return any(phase.first == done for phase in self.phases[1:])

    def enter(self, done: int) -> bool:
        """Be ready for the step after ``done`` steps of the run: with a fresh optimiser where a phase begins.

        Returns:
            Whether the phase goes on with a new optimiser (a run was resumed), so that its state has to be put back.
        """
        phase = next((phase for phase in self.phases if done < phase.first + phase.steps), self.phases[-1])
        if phase is self.phase:
            return False
        if done == phase.first:
            self.learner.begin_phase(phase.number)
        self.phase, self.optimizer = phase, phase.build_optimizer(self.learner)
        return done > phase.first

    def step(self, done: int) -> StepEvent:
        """The step after ``done`` steps."""
        started = time.perf_counter()
        self.enter(done)
        assert self.phase is not None
        portions = self._draw(self.phase, done - self.phase.first)
        rate = self.phase.rate(done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        buffers = {name: buffer.clone() for name, buffer in self.learner.named_buffers()}
        try:
            logs = self._backward(portions, done)
            norm = self._gradient_norm(done)
        except NonFiniteLoss:
            for name, buffer in self.learner.named_buffers():
                buffer.copy_(buffers[name])
            raise
        self.optimizer.step()
        means = {name: float(torch.cat(values).mean()) for name, values in logs.items()}
        means |= {"grad_norm": norm, "lr": rate}
        return StepEvent(done + 1, self.steps, means, time.perf_counter() - started, self.phase.name, self.phase.number)

    def _draw(self, phase: Phase, done: int) -> Iterator[Portion]:
        """What the step after ``done`` steps of its phase is made of, on the learner's device."""
        device, key = next(self.learner.parameters()).device, Key.of(self.seed, "train")
        if isinstance(phase.source, BatchSource):
            batch = phase.source.batch(done)
            batch.check("batch")
            return iter([Portion(batch.to(device), Keys(key.fold("batches"), np.array([done])))])
        t = self.tasks_per_step
        episode = phase.source.episodes(range(done * t, (done + 1) * t))
        episode.check()
        chunks = episode.to(device).chunks(self.tasks_at_once)
        return (Portion(chunk, Keys(key, chunk.indices.numpy()), t) for chunk in chunks)

    def _backward(self, portions: Iterator[Portion], done: int) -> dict[str, list[Tensor]]:
        """Sum the gradients of all portions; each one's graph is freed before the next."""
        logs: dict[str, list[Tensor]] = {}
        for portion in portions:
            keys = portion.keys
            device = next(self.learner.parameters()).device
            with _naming_layers(self.learner, portion):
                with global_generators(device, keys.key.fold("global", int(keys.tasks[0]))):
                    out = portion.loss(self.learner)
                self._check_finite(out.loss, portion, done)
                (out.loss.sum() / portion.of).backward()  # type: ignore[no-untyped-call]
            self.learner.absorb(out.carried)
            for name, values in ({"loss": out.loss} | out.logs).items():
                logs.setdefault(name, []).append(values.detach().float())
        return logs

    def _check_finite(self, loss: Tensor, portion: Portion, done: int) -> None:
        bad = (~torch.isfinite(loss)).nonzero()
        if len(bad):
            number, value = portion.keys.tasks[int(bad[0])], float(loss.detach()[bad[0]])
            what = "task" if isinstance(portion.data, Episode) else "batch"
            raise NonFiniteLoss(
                f"The loss of {what} {number} became {value} in step {done + 1}, though its inputs are finite: "
                f"{_DIVERGED}"
            )

    def _gradient_norm(self, done: int) -> float:
        grads = [p.grad for p in self.learner.parameters() if p.grad is not None]
        if not grads:
            raise InputError(
                f"No parameter of {type(self.learner).__name__} has a gradient: its loss does not depend on them."
            )
        norm = float(torch.nn.utils.get_total_norm(grads))
        if not norm < float("inf"):
            raise NonFiniteLoss(f"A gradient became {norm} in step {done + 1}, though the loss is finite: {_DIVERGED}")
        return norm


@dataclass(frozen=True)
class Portion:
    """What is computed at once.

    Args:
        data: tasks, or a plain labelled batch.
        keys: randomness of each.
        of: how many losses are averaged in the whole step.
    """

    data: Episode | Examples
    keys: Keys
    of: int = 1

    def loss(self, learner: AbstractLearner) -> MetaLoss:
        """The learner's loss on it."""
        if isinstance(self.data, Episode):
            return learner.meta_loss(self.data, key=self.keys)
        return learner.batch_loss(self.data, key=self.keys)


@contextmanager
def _naming_layers(learner: AbstractLearner, portion: Portion) -> Iterator[None]:
    """Where a missing second derivative ends what is done inside, the error names the layer.

    The adjoint, Newton's steps and the implicit gradient take that derivative themselves and know no layers: theirs is
    a sentence already, with torch's complaint as its cause.
    """
    try:
        yield
    except (RuntimeError, InputError) as error:
        cause = error if isinstance(error, RuntimeError) else error.__cause__
        if not isinstance(cause, RuntimeError):
            raise
        found = explained(cause, lambda: blamed_layer(learner, portion.loss))
        if found is cause:
            raise
        raise found from error
