"""Floor 5: how much memory a step needs, for each task and each inner step; and whether testing keeps a graph."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass

import numpy as np
import torch
from torch import Tensor

from quickstudy.doctor.measures import moved_dtype, outputs, seeded, tensors_of
from quickstudy.doctor.patient import Patient
from quickstudy.doctor.report import Finding
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner

__all__ = ["check_memory", "in_bytes", "saved_bytes"]

MEMORY = "memory"
_STEPS = ("inner_steps", "steps")


@dataclass
class _Count:
    """Bytes that graphs keep for their backward passes, each storage once."""

    now: int = 0
    peak: int = 0


@contextmanager
def saved_bytes() -> Iterator[_Count]:
    """Counts what is saved inside for backward passes, as long as it is: ``now``, and at most, ``peak``."""
    count, holders = _Count(), {}

    class Kept:
        """A saved tensor; its storage is counted while any graph holds it."""

        def __init__(self, tensor: Tensor) -> None:
            self.tensor, self.place = tensor, tensor.untyped_storage().data_ptr()
            if self.place not in holders:
                holders[self.place] = [0, tensor.untyped_storage().nbytes()]
                count.now += holders[self.place][1]
                count.peak = max(count.peak, count.now)
            holders[self.place][0] += 1

        def __del__(self) -> None:
            holder = holders[self.place]
            holder[0] -= 1
            if holder[0] == 0:
                count.now -= holder[1]
                del holders[self.place]

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        yield count


def check_memory(patient: Patient) -> list[Finding]:
    """Bytes saved for the backward pass of one meta-loss, and graphs that outlive ``no_grad``."""
    findings = [_testing(patient)]
    if patient.traits.trainable and "episodes" in patient.traits.phases:
        findings.append(_training(patient))
    return findings


def _testing(patient: Patient) -> Finding:
    learner = patient.copy(training=False)
    with torch.no_grad():
        state = learner.adapt(patient.episode.support, key=patient.keys)
    kept = any(part.grad_fn is not None for part in tensors_of(state))
    if kept or outputs(learner, patient.episode, patient.keys).grad_fn is not None:
        return Finding(
            MEMORY,
            "problem",
            "Adapting under no_grad keeps a graph: memory grows with the inner steps of every task that is tested.",
            "Detach what torch.enable_grad() computed inside adapt where torch.is_grad_enabled() is False outside.",
        )
    return Finding(MEMORY, "ok", "In testing no graph outlives adapt.")


def _training(patient: Patient) -> Finding:
    learner = patient.copy(training=True, dtype=patient.dtype)
    # Two tasks and four, because one alone may be run in another way than several.
    two, four = _bytes(patient, learner, 2), _bytes(patient, learner, 4)
    said = f"In training {in_bytes(two / 2)} a task are saved for the backward pass"
    advice = "Tasks at once need as many times that; tasks_at_once bounds them."
    if four > 3 * two:  # pairs would make it four times as much
        return Finding(
            MEMORY,
            "note",
            f"{said}, but {in_bytes(four / 4)} with four tasks at once: it grows faster than their number.",
            "Something is built of pairs of tasks; keep the task axis first and apart.",
        )
    more = _with_one_more_step(learner)
    if more is None:
        return Finding(MEMORY, "ok", f"{said}.", advice)
    steps, other = more
    each = max(_bytes(patient, other, 2) - two, 0) / 2
    if not patient.traits.exact_meta_gradient and each > 0.05 * two and each > 256:
        return Finding(
            MEMORY,
            "note",
            f"{said}, {in_bytes(each)} more for each inner step, though exact_meta_gradient=False.",
            "A first-order step needs no graph: detach the inner gradients and weights between steps.",
        )
    return Finding(MEMORY, "ok", f"{said} with inner steps = {steps}, {in_bytes(each)} for each further step.", advice)


def _bytes(patient: Patient, learner: AbstractLearner, n_task: int) -> int:
    """The peak of what is saved during one meta-loss, in the learner's own precision."""
    device = patient.episode.support.device
    episode = moved_dtype(patient.source.episodes(range(n_task)), patient.dtype).to(device)
    keys = Keys(patient.keys.key, np.arange(n_task))
    with seeded(), saved_bytes() as count:
        loss = learner.meta_loss(episode, key=keys).loss
        peak = count.peak
        del loss
    return peak


def _with_one_more_step(learner: AbstractLearner) -> tuple[int, AbstractLearner] | None:
    """Its number of inner steps, and a copy that takes one more; None where no attribute says so."""
    other = copy.deepcopy(learner)
    for holder in [other, *(part for part in vars(other).values() if is_dataclass(part))]:
        for name in _STEPS:
            steps = getattr(holder, name, None)
            if isinstance(steps, int) and not isinstance(steps, bool) and steps > 0:
                object.__setattr__(holder, name, steps + 1)  # some of these are frozen, and this is a copy
                return steps, other
    return None


def in_bytes(count: float) -> str:
    """A number of bytes in words, such as ``"1.5 GiB"``."""
    value, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}"
