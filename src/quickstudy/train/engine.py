"""Floor 4: the one training loop.

Step s trains on the tasks s·T .. s·T+T-1 of the source, whatever ``tasks_at_once`` is. The state between two
steps is the learner's weights and buffers, the optimiser's tensors and the number of the next step: nothing is
drawn from a generator that would have to be saved, so a run that goes on equals one never stopped.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from quickstudy.data.source import TaskSource
from quickstudy.episode import Episode
from quickstudy.errors import CheckpointError, InputError, NonFiniteLoss
from quickstudy.inner import explained
from quickstudy.keys import Key, Keys
from quickstudy.learners.learner import AbstractLearner
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
        step: steps done.
        best: the best validation value, or None.
        best_step: when it was reached.
    """

    step: int
    best: float | None = None
    best_step: int | None = None


def fit(
    learner: AbstractLearner,
    source: TaskSource,
    *,
    steps: int,
    tasks_per_step: int = 1,
    tasks_at_once: int | None = None,
    optimizer: Literal["adam", "adamw", "sgd"] = "adam",
    lr: float = 1e-3,
    schedule: Schedule | None = None,
    seed: int = 0,
    validate: Validate | None = None,
    validate_every: int = 0,
    callbacks: Sequence[Callback] = (),
    checkpoints: Checkpointing | None = None,
    resume: bool = False,
) -> Trained:
    """Meta-train ``learner`` on the tasks of ``source``; it is trained in place, on the device where it lies.

    Args:
        learner: what to train.
        source: where tasks come from.
        steps: steps of the outer optimiser, those of an earlier part of the run included.
        tasks_per_step: T, tasks whose losses are averaged in one step.
        tasks_at_once: how many of them are computed together; smaller needs less memory, the result is the same but
            for rounding (and for dropout, which draws once for each portion).
        optimizer: of the meta-parameters.
        lr: its rate, before the schedule.
        schedule: see ``train.schedules``; constant by default.
        seed: of the learner's own randomness.
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
    engine = _Engine(learner, source, steps, tasks_per_step, tasks_at_once, lr, schedule or constant(), seed, callbacks)
    engine.check()
    engine.build_optimizer(optimizer)
    saver = None if checkpoints is None else _Saver(engine, checkpoints)
    progress = saver.restore() if saver is not None and resume else Trained(0)
    outcome: Outcome = "failed"
    with _training_mode(learner), _polite_interrupt() as interrupted:
        try:
            while progress.step < steps:
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
    source: TaskSource
    steps: int
    tasks_per_step: int
    tasks_at_once: int | None
    lr: float
    schedule: Schedule
    seed: int
    callbacks: Sequence[Callback]
    optimizer: torch.optim.Optimizer = field(init=False)

    def check(self) -> None:
        """Refuse what cannot work before anything is touched."""
        name = type(self.learner).__name__
        if not self.learner.traits.trainable:
            raise InputError(f"{name} has nothing to meta-train. Evaluate it as it is.")
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
        for field_name in ("steps", "tasks_per_step", "tasks_at_once"):
            value = getattr(self, field_name)
            if value is not None and value < 1:
                raise InputError(f"{field_name} must be a whole number of at least 1, received {value}.")

    def build_optimizer(self, name: str) -> None:
        """The outer optimiser over everything that is not frozen."""
        kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
        if name not in kinds:
            raise InputError(f"There is no optimiser called {name!r}. Known: {', '.join(sorted(kinds))}.")
        trained = [p for p in self.learner.parameters() if p.requires_grad]
        if not trained:
            raise InputError(f"Every parameter of {type(self.learner).__name__} is frozen: there is nothing to train.")
        self.optimizer = kinds[name](trained, lr=self.lr)

    def step(self, done: int) -> StepEvent:
        """The step after ``done`` steps."""
        started = time.perf_counter()
        t = self.tasks_per_step
        device = next(self.learner.parameters()).device
        episode = self.source.episodes(range(done * t, (done + 1) * t))
        episode.check()
        rate = self.lr * self.schedule(done, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        buffers = {name: buffer.clone() for name, buffer in self.learner.named_buffers()}
        try:
            logs = self._backward(episode.to(device), done)
            norm = self._gradient_norm(done)
        except NonFiniteLoss:
            for name, buffer in self.learner.named_buffers():
                buffer.copy_(buffers[name])
            raise
        self.optimizer.step()
        means = {name: float(torch.cat(values).mean()) for name, values in logs.items()}
        return StepEvent(done + 1, self.steps, means | {"grad_norm": norm, "lr": rate}, time.perf_counter() - started)

    def _backward(self, episode: Episode, done: int) -> dict[str, list[Tensor]]:
        """Sum the gradients of all chunks; each chunk's graph is freed before the next."""
        key = Key.of(self.seed, "train")
        logs: dict[str, list[Tensor]] = {}
        for chunk in episode.chunks(self.tasks_at_once):
            keys = Keys(key, chunk.indices.numpy())
            with _global_generators(chunk.support.device, key.fold("global", int(keys.tasks[0]))):
                out = self.learner.meta_loss(chunk, key=keys)
            self._check_finite(out.loss, keys, done)
            try:
                (out.loss.sum() / self.tasks_per_step).backward()  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                raise explained(error) from error
            self.learner.absorb(out.carried)
            for name, values in ({"loss": out.loss} | out.logs).items():
                logs.setdefault(name, []).append(values.detach().float())
        return logs

    def _check_finite(self, loss: Tensor, keys: Keys, done: int) -> None:
        bad = (~torch.isfinite(loss)).nonzero()
        if len(bad):
            task, value = keys.tasks[int(bad[0])], float(loss.detach()[bad[0]])
            raise NonFiniteLoss(
                f"The loss of task {task} became {value} in step {done + 1}, though its inputs are finite: {_DIVERGED}"
            )

    def _gradient_norm(self, done: int) -> float:
        grads = [p.grad for p in self.learner.parameters() if p.grad is not None]
        if not grads:
            raise InputError(
                f"No parameter of {type(self.learner).__name__} has a gradient: its meta_loss does not depend on them."
            )
        norm = float(torch.nn.utils.get_total_norm(grads))
        if not norm < float("inf"):
            raise NonFiniteLoss(f"A gradient became {norm} in step {done + 1}, though the loss is finite: {_DIVERGED}")
        return norm


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
        restore_optimizer(self.engine.learner, self.engine.optimizer, found.optimizer)
        if found.state["step"] > self.engine.steps:
            raise CheckpointError(
                f"Cannot go on from {folder} to step {self.engine.steps}: it is of step {found.state['step']}. "
                "Ask for more steps."
            )
        return Trained(found.state["step"], found.state["best"], found.state["best_step"])


@contextmanager
def _global_generators(device: torch.device, key: Key) -> Iterator[None]:
    """Torch's global generators, from which modules of others (dropout) draw, seeded and then given back."""
    gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if gpu else []):
        # Not torch.manual_seed, which also queues a call for GPUs that are not there, a stack trace each time.
        torch.default_generator.manual_seed(key.value >> 1)
        if gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(key.value >> 1)
        yield


@contextmanager
def _training_mode(learner: AbstractLearner) -> Iterator[None]:
    flags = {layer: layer.training for layer in learner.modules()}
    # A frozen part that was put into eval mode (a pretrained body's batch norm) is meant to stay there.
    frozen = [
        layer
        for layer, training in flags.items()
        if not training and learner.training and not any(p.requires_grad for p in layer.parameters())
    ]
    learner.train()
    for layer in frozen:
        layer.eval()
    try:
        yield
    finally:
        for layer, flag in flags.items():
            layer.training = flag


@contextmanager
def _polite_interrupt() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; a second one interrupts at once, as usual.

    Only the main thread may handle signals; elsewhere Ctrl-C stays what it is.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
