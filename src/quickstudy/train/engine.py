"""Floor 4: the one training loop.

Step s trains on the tasks s·T .. s·T+T-1 of the source, whatever ``tasks_at_once`` is, or on batch s of plain labelled
batches; a run may have a phase of these first (``phases.py``). The state between two steps is the learner's weights
and buffers, the optimiser's tensors and the number of the next step: nothing is drawn from a generator that would have
to be saved, so a run that goes on equals one never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quickstudy.data.batches import BatchSource
from quickstudy.data.source import TaskSource
from quickstudy.episode import Episode, Examples
from quickstudy.errors import CheckpointError, InputError, NonFiniteLoss
from quickstudy.inner import explained
from quickstudy.keys import Key, Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss
from quickstudy.nets.secondorder import blamed_layer
from quickstudy.train.callbacks import Callback, EndEvent, Outcome, StepEvent, Validation, ValidationEvent
from quickstudy.train.checkpoint import (
    Checkpoint,
    has_checkpoint,
    load_checkpoint,
    load_weights,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from quickstudy.train.contexts import global_generators, polite_interrupt, training_mode
from quickstudy.train.phases import OptimizerName, Phase, Pretraining, plan
from quickstudy.train.schedules import Schedule, constant

Validate = Callable[[AbstractLearner], Validation]
_DIVERGED = (
    "training diverged. The weights are those before that step. Lower the learning rate, the inner learning rate or "
    "the number of inner steps."
)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: the step was finished and, where there is a folder for it, a checkpoint written."""


@dataclass(frozen=True)
class Checkpointing:
    """Where and when to save.

    Args:
        folder: gets ``last/`` and ``best/``.
        every: steps between checkpoints.
        identity: what must be the same for a run to go on (recipe, data); compared by :func:`fit`.
    """

    folder: Path
    every: int = 500
    identity: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """How training ended.

    Args:
        step: steps done, of all phases.
        best: the best validation value of the phase that was trained last, or None.
        best_step: when it was reached.
    """

    step: int
    best: float | None = None
    best_step: int | None = None


def fit(
    learner: AbstractLearner,
    source: TaskSource | BatchSource,
    *,
    steps: int,
    tasks_per_step: int = 1,
    tasks_at_once: int | None = None,
    optimizer: OptimizerName = "adam",
    lr: float = 1e-3,
    schedule: Schedule | None = None,
    weight_decay: float | None = None,
    momentum: float = 0.0,
    seed: int = 0,
    pretrain: Pretraining | None = None,
    validate: Validate | None = None,
    validate_every: int = 0,
    callbacks: Sequence[Callback] = (),
    checkpoints: Checkpointing | None = None,
    resume: bool = False,
) -> Trained:
    """Meta-train ``learner`` on the tasks of ``source``; it is trained in place, on the device where it lies.

    Args:
        learner: what to train.
        source: where tasks come from; or batches (``tasks.batches(64)``), for a learner that is trained on these.
        steps: steps of the outer optimiser, those of an earlier part of the run included, those of ``pretrain`` not;
            with ``pretrain`` 0 is allowed, for the first phase alone.
        tasks_per_step: T, tasks whose losses are averaged in one step.
        tasks_at_once: how many of them are computed together; smaller needs less memory, the result is the same but
            for rounding (and for dropout, which draws once for each portion).
        optimizer: of the meta-parameters.
        lr: its rate, before the schedule.
        schedule: see ``train.schedules``; constant by default.
        weight_decay: of the optimiser; None: its own default (0.01 for ``"adamw"``, else 0).
        momentum: of ``"sgd"``.
        seed: of the learner's own randomness.
        pretrain: a first phase on plain labelled batches, for a learner whose paper has one.
        validate: measures the learner on validation tasks.
        validate_every: steps between validations; 0 for none.
        callbacks: told of every step; see ``train.callbacks``.
        checkpoints: where and when to save; None keeps everything in memory.
        resume: go on from ``checkpoints.folder/last``, if there is one.

    Returns:
        How many steps were done, and the best validation.

    Raises:
        InputError: the learner cannot be trained, or numbers make no sense.
        CheckpointError: the checkpoint to go on from is broken, or of another run.
        NonFiniteLoss: a loss or gradient became NaN or infinite; weights and checkpoint are those before.
        Interrupted: Ctrl-C; the running step was finished and saved.
        StorageError: the disk refused; the last checkpoint is whole.
    """
    main: dict[str, Any] = {"steps": steps, "optimizer": optimizer, "lr": lr, "schedule": schedule or constant()}
    main |= {"weight_decay": weight_decay, "momentum": momentum}
    engine = _Engine(learner, source, pretrain, main, tasks_per_step, tasks_at_once, seed, callbacks)
    engine.check()
    steps = engine.steps
    saver = None if checkpoints is None else _Saver(engine, checkpoints)
    progress = saver.restore() if saver is not None and resume else Trained(0)
    outcome: Outcome = "failed"
    with training_mode(learner), polite_interrupt() as interrupted:
        try:
            while progress.step < steps:
                if engine.begins_anew(progress.step):  # what was best is no measure of another phase
                    progress = Trained(progress.step)
                event = engine.step(progress.step)
                progress = Trained(event.step, progress.best, progress.best_step)
                for callback in callbacks:
                    callback.step(event)
                if (
                    validate is not None
                    and validate_every
                    and (event.step % validate_every == 0 or event.step == steps)
                ):
                    progress = _validated(engine, validate, progress, callbacks, saver)
                stop = interrupted.is_set() and progress.step < steps
                if saver is not None and (stop or event.step % saver.options.every == 0 or event.step == steps):
                    saver.save("last", progress, callbacks)
                if stop:
                    outcome = "interrupted"
                    raise Interrupted(f"Stopped after step {progress.step} of {steps}.")
            outcome = "finished"
        finally:
            for callback in callbacks:
                callback.end(EndEvent(progress.step, outcome))
    return progress


def _validated(
    engine: _Engine, validate: Validate, progress: Trained, callbacks: Sequence[Callback], saver: _Saver | None
) -> Trained:
    """Measure, tell, and keep the best."""
    found = validate(engine.learner)
    better = found.better_than(progress.best)
    for callback in callbacks:
        callback.validation(ValidationEvent(progress.step, found, better))
    if not better:
        return progress
    progress = Trained(progress.step, found.value, progress.step)
    if saver is not None:
        saver.save("best", progress, callbacks)
    return progress


@dataclass
class _Engine:
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

    def _draw(self, phase: Phase, done: int) -> Iterator[_Portion]:
        """What the step after ``done`` steps of its phase is made of, on the learner's device."""
        device, key = next(self.learner.parameters()).device, Key.of(self.seed, "train")
        if isinstance(phase.source, BatchSource):
            batch = phase.source.batch(done)
            batch.check("batch")
            return iter([_Portion(batch.to(device), Keys(key.fold("batches"), np.array([done])))])
        t = self.tasks_per_step
        episode = phase.source.episodes(range(done * t, (done + 1) * t))
        episode.check()
        chunks = episode.to(device).chunks(self.tasks_at_once)
        return (_Portion(chunk, Keys(key, chunk.indices.numpy()), t) for chunk in chunks)

    def _backward(self, portions: Iterator[_Portion], done: int) -> dict[str, list[Tensor]]:
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

    def _check_finite(self, loss: Tensor, portion: _Portion, done: int) -> None:
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
class _Portion:
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
def _naming_layers(learner: AbstractLearner, portion: _Portion) -> Iterator[None]:
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


@dataclass
class _Saver:
    """Checkpoints of one run."""

    engine: _Engine
    options: Checkpointing

    @property
    def _identity(self) -> dict[str, Any]:
        engine = self.engine
        return self.options.identity | {
            "learner": type(engine.learner).__name__,
            "source_hash": engine.source.hash,
            "source": engine.source.settings,
            "seed": engine.seed,
            "pretrain": _identity_of(engine.pretrain),
            "tasks_per_step": engine.tasks_per_step,
            # Cut otherwise, sums are rounded otherwise, and the run would not go on to the last bit.
            "tasks_at_once": engine.tasks_at_once,
        }

    def save(self, which: str, progress: Trained, callbacks: Sequence[Callback]) -> None:
        """Write ``last`` or ``best``."""
        for callback in callbacks:
            callback.saving(progress.step)
        engine = self.engine
        state = {
            "step": progress.step,
            "steps": engine.steps,
            "best": progress.best,
            "best_step": progress.best_step,
            "identity": self._identity,
        }
        tensors = optimizer_tensors(engine.learner, engine.optimizer)
        save_checkpoint(self.options.folder / which, Checkpoint(engine.learner.state_dict(), tensors, state))

    def restore(self) -> Trained:
        """Go on from ``last``; from nothing where there is none."""
        folder = self.options.folder / "last"
        if not has_checkpoint(folder):
            return Trained(0)
        found = load_checkpoint(folder)
        absent = {"step", "best", "best_step", "identity"} - found.state.keys()
        if absent:
            raise CheckpointError(
                f"Cannot go on from {folder}: its state.json does not say {sorted(absent)[0]!r}. "
                "Use a checkpoint that training wrote."
            )
        before, now = found.state["identity"], self._identity
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if changed:
            name = changed[0]
            raise CheckpointError(
                f"Cannot go on from {folder}: its {name} was {before.get(name)!r}, now it is {now.get(name)!r}. "
                "Start a new run, or use the settings of the old one."
            )
        load_weights(self.engine.learner, found, folder)
        if self.engine.enter(found.state["step"]):
            restore_optimizer(self.engine.learner, self.engine.optimizer, found.optimizer)
        if found.state["step"] > self.engine.steps:
            raise CheckpointError(
                f"Cannot go on from {folder} to step {self.engine.steps}: it is of step {found.state['step']}. "
                "Ask for more steps."
            )
        return Trained(found.state["step"], found.state["best"], found.state["best_step"])


def _identity_of(pretrain: Pretraining | None) -> dict[str, Any] | None:
    if pretrain is None:
        return None
    source = pretrain.source
    return {"source": source.settings, "source_hash": source.hash, "steps": pretrain.steps}
