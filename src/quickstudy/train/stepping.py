"""Floor 4: one step of training: what is drawn, computed, checked and moved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from quickstudy.data.batches import BatchSource
from quickstudy.data.source import TaskSource
from quickstudy.episode import Episode
from quickstudy.errors import InputError, NonFiniteLoss
from quickstudy.keys import Key, Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss
from quickstudy.train.averaging import Averaging
from quickstudy.train.callbacks import Callback, StepEvent
from quickstudy.train.contexts import global_generators
from quickstudy.train.phases import Phase, Pretraining, plan
from quickstudy.train.portion import Portion, naming_layers
from quickstudy.train.precision import LossScale, Precision, check_precision, in_full, mixed, tensor_cores
from quickstudy.train.ranks import AbstractRanks, OneRank, block
from quickstudy.train.ranks_state import Share, add_gradients, goes_from_task_to_task
from quickstudy.train.scarce import half, is_out_of_memory

if TYPE_CHECKING:
    from quickstudy.train.compiled import Compile, Compiled

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
    ranks: AbstractRanks = field(default_factory=OneRank)
    compile: Compile = "no"
    precision: Precision = "float32"
    clip_norm: float | None = None
    averaging: Averaging | None = None
    compiled: Compiled | None = None
    scale: LossScale | None = None
    at_once: int | None = None
    phases: list[Phase] = field(init=False)
    phase: Phase | None = None
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.at_once = self.tasks_at_once  # fewer, where memory turns out to be short

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
        self.learner.check_environment(self.source.shape.environment)
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
        self._check_portions(name)
        self._check_whole_step(name)
        check_precision(self.precision, self.learner)
        self._build_compiled()
        for phase in self.phases:
            phase.build_optimizer(self.learner)  # now, and not after hours, where it cannot be built

    def _build_compiled(self) -> None:
        if self.precision == "fp16" and self.compile != "no":
            raise InputError(
                f"Cannot compute steps by compile = {self.compile!r} in fp16, whose scale changes along the way. Use "
                "precision = 'bf16', or compile = 'no'."
            )
        if self.compile != "no":
            from quickstudy.train.compiled import Compiled  # what it needs of torch takes a while to load

            self.compiled = Compiled(self.learner, self.compile, precision=self.precision)

    def _check_portions(self, name: str) -> None:
        if self.learner.traits.together and self.tasks_at_once not in (None, self.tasks_per_step):
            raise InputError(
                f"{name} makes one step of all tasks together, which cannot be computed in portions: leave "
                "tasks_at_once out, and take fewer tasks_per_step where memory is short."
            )

    def _check_whole_step(self, name: str) -> None:
        if self.clip_norm is not None and not 0 < self.clip_norm < float("inf"):
            raise InputError(f"clip_norm must be a number above 0, received {self.clip_norm}.")
        main = self.main
        plain = main["optimizer"] == "sgd" and main["lr"] == 1 and not (main["momentum"] or main["weight_decay"])
        if self.learner.traits.whole_step and not plain:
            raise InputError(
                f"{name} computes its outer step itself, which the optimiser must make as it is: say optimizer = 'sgd' "
                f"and lr = 1.0, without momentum and weight decay, received optimizer = {main['optimizer']!r}, lr = "
                f"{main['lr']}, momentum = {main['momentum']} and weight decay = {main['weight_decay'] or 0.0}."
            )
        if self.learner.traits.whole_step and self.clip_norm is not None:
            raise InputError(
                f"{name} computes its outer step itself, so that nothing may be clipped of it: leave clip_norm out."
            )

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
            if self.averaging is not None:  # of the last phase alone, as the one before it hands on its last weights
                self.averaging.begin()
        self.phase, self.optimizer = phase, phase.build_optimizer(self.learner)
        self.scale = LossScale() if self.precision == "fp16" else None
        return done > phase.first

    def step(self, done: int) -> StepEvent:
        """The step after ``done`` steps."""
        started = time.perf_counter()
        self.enter(done)
        assert self.phase is not None
        rate = self.phase.rate(done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        scale = self.scale and self.scale.value
        logs, norm = self._scaled_gradient(done)
        self.optimizer.step()
        if self.scale is not None:
            self.scale.held()
        if self.averaging is not None and self.phase is self.phases[-1]:
            self.averaging.update(self.learner, done + 1 - self.phase.first, self.phase.steps)
        means = {name: float(torch.cat(values).mean()) for name, values in logs.items()}
        means |= {"grad_norm": norm, "lr": rate}
        if self.scale is not None and self.scale.value != scale:
            means["scale"] = self.scale.value
        if self.at_once != self.tasks_at_once:
            means["tasks_at_once"] = float(self.at_once or 0)
        return self._event(done, means, started)

    def _scaled_gradient(self, done: int) -> tuple[dict[str, list[Tensor]], float]:
        """Where a gradient has no room in float16 it is computed again with half the scale, and no task is left out."""
        while True:
            try:
                return self._gradient(done)
            except NonFiniteLoss:
                if self.scale is None or not self.scale.lower():
                    raise

    def _gradient(self, done: int) -> tuple[dict[str, list[Tensor]], float]:
        """The gradient of a step, in the parameters: its logs and its norm; buffers are put back where it fails."""
        assert self.phase is not None
        while True:
            self.optimizer.zero_grad()
            buffers = self._buffers()
            try:
                with tensor_cores(self.precision, self._device):
                    logs = self._backward(self.phase, done)
                if self.scale is not None:
                    self.scale.undo(self.learner.parameters())
                norm = self._gradient_norm(done)
            except Exception as error:  # most of all a loss that is no number
                self._put_back(buffers)
                if not (is_out_of_memory(error) and self._takes_fewer()):
                    raise
                continue  # the error, and what its frames still hold, is gone by then
            if self.clip_norm is not None:
                parameters = list(self.learner.parameters())
                torch.nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, torch.tensor(norm))
            return logs, norm

    def _takes_fewer(self) -> bool:
        """Compute half as many tasks together from now on, on every rank; False where that is not possible."""
        assert self.phase is not None
        if self.learner.traits.together or isinstance(self.phase.source, BatchSource):
            return False
        found = half(self.at_once, len(block(self.tasks_per_step, 0, self.ranks.size)))
        if found is None:
            return False
        self.at_once = found
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def _event(self, done: int, logs: dict[str, float], started: float) -> StepEvent:
        assert self.phase is not None
        seconds = time.perf_counter() - started
        return StepEvent(done + 1, self.steps, logs, seconds, self.phase.name, self.phase.number)

    @contextmanager
    def as_used(self) -> Iterator[None]:
        """While it lasts the learner holds what will be used of it: the average of its weights, if there is one."""
        with nullcontext() if self.averaging is None else self.averaging.inside(self.learner):
            yield

    @property
    def _device(self) -> torch.device:
        return next(self.learner.parameters()).device

    def _buffers(self) -> dict[str, Tensor]:
        return {name: buffer.clone() for name, buffer in self.learner.named_buffers()}

    def _put_back(self, before: dict[str, Tensor]) -> None:
        for name, buffer in self.learner.named_buffers():
            buffer.copy_(before[name])

    def _draw(self, phase: Phase, done: int, tasks: range) -> Iterator[Portion]:
        """Tasks of the step after ``done`` steps of its phase, or its batch, on the learner's device."""
        device, key = self._device, Key.of(self.seed, "train")
        if isinstance(phase.source, BatchSource):
            batch = phase.source.batch(done)
            batch.check("batch")
            return iter([Portion(batch.to(device), Keys(key.fold("batches"), np.array([done])))])
        if not tasks:
            return iter(())
        t = self.tasks_per_step
        episode = phase.source.episodes(range(done * t + tasks.start, done * t + tasks.stop))
        episode.check()
        chunks = episode.to(device).chunks(self.at_once)
        return (Portion(chunk, Keys(key, chunk.indices.numpy()), t) for chunk in chunks)

    def _backward(self, phase: Phase, done: int) -> dict[str, list[Tensor]]:
        """The gradient of the step's mean loss; what was carried is absorbed. Returns the logs, in task order."""
        whole = isinstance(phase.source, BatchSource) or self.learner.traits.together
        if whole or self.ranks.size == 1:  # what is not divided is computed whole by every rank
            return self._share(phase, done, range(self.tasks_per_step)).logs
        return self._divided(phase, done)

    def _divided(self, phase: Phase, done: int) -> dict[str, list[Tensor]]:
        """The same over several ranks: each computes a block of the tasks, then all hear what the others found."""
        tasks = self.ranks.mine(self.tasks_per_step)
        parameters = [p for p in self.learner.parameters() if p.requires_grad]
        has_gradient, logs = [False] * len(parameters), dict[str, list[Tensor]]()
        in_turn = goes_from_task_to_task(self.learner)

        def mine(computing: bool) -> Share:
            if not computing:
                return Share()
            before = self._buffers()
            try:
                if not in_turn:
                    self.learner.absorb(self.learner.foreseen(tasks.start))
                share = self._share(phase, done, tasks).on_cpu()
            finally:
                self._put_back(before)  # absorbed anew below, by every rank, in task order
            share.has_gradient = [p.grad is not None for p in parameters]
            return share

        for turn in range(self.ranks.size if in_turn else 1):
            for share in self.ranks.results_of(partial(mine, not in_turn or turn == self.ranks.rank)):
                for carried in share.carried:
                    self.learner.absorb(carried)
                for name, values in share.logs.items():
                    logs.setdefault(name, []).extend(values)
                has_gradient = [a or b for a, b in zip(has_gradient, share.has_gradient or has_gradient, strict=True)]
        add_gradients(self.ranks, parameters, has_gradient)
        return logs

    def _share(self, phase: Phase, done: int, tasks: range) -> Share:
        """Sum the gradients of some of a step's tasks, portion by portion; each one's graph is freed before the next.

        What a portion carries is absorbed before the next one, which may go on from it.
        """
        share = Share()
        for portion in self._draw(phase, done - phase.first, tasks):
            keys = portion.keys
            with naming_layers(self.learner, portion):
                with global_generators(self._device, keys.key.fold("global", int(keys.tasks[0]))):
                    out, backward = self._computed(portion)
                self._check_finite(out.loss, portion, done)
                backward()
            self.learner.absorb(out.carried)
            share.carried.append(out.carried)
            for name, values in ({"loss": out.loss} | out.logs).items():
                share.logs.setdefault(name, []).append(values.detach().float())
        return share

    def _computed(self, portion: Portion) -> tuple[MetaLoss, Callable[[], None]]:
        """The losses, and what adds their gradient to the parameters'."""
        if self.compiled is not None and isinstance(portion.data, Episode):
            return self.compiled(portion.data, of=portion.of)
        scale = 1.0 if self.scale is None else self.scale.value
        with mixed(self.precision, self._device, scale):
            out = portion.loss(self.learner)
        out = in_full(out) if self.precision in ("bf16", "fp16") else out
        return out, lambda: (out.loss.sum() * scale / portion.of).backward()  # type: ignore[no-untyped-call]

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
