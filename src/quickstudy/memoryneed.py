"""Floor 6: how much memory a step of training will need, before it is begun.

Measured on two tasks, whose graphs are counted and thrown away: what is saved for the backward pass grows with the
tasks that are computed together. Beside it stand the weights, their gradients, the optimiser's moments and an average.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from quickstudy.doctor.memory import in_bytes, saved_bytes
from quickstudy.keys import Keys
from quickstudy.memorythere import memory_there
from quickstudy.recipes import Built
from quickstudy.train.contexts import global_generators, training_mode
from quickstudy.train.precision import mixed
from quickstudy.train.ranks import block

__all__ = ["MemoryNeed", "memory_need"]

_MOMENTS = {"adam": 2, "adamw": 2, "sgd": 1}
_FULL = 0.6  # of what is there: operators need memory while they compute, and freed memory has holes
_WORTH_SAYING = 256 << 20


@dataclass(frozen=True)
class MemoryNeed:
    """What a step needs, in bytes.

    Args:
        task: of one task.
        fixed: whatever the number of tasks.
        tasks: computed together in one process.
        processes: that share the memory.
        there: free memory, None where the system does not say.
        bounded: whether fewer tasks at once would help.
    """

    task: float
    fixed: float
    tasks: int
    processes: int
    there: int | None
    bounded: bool = True

    @property
    def total(self) -> float:
        """Of all processes."""
        return self.processes * (self.fixed + self.tasks * self.task)

    @property
    def record(self) -> dict[str, Any]:
        """What is kept of it."""
        return {"memory_need": round(self.total), "memory_a_task": round(self.task)}

    @property
    def sentence(self) -> str | None:
        """What is worth saying; None: nothing.

        >>> gib = float(1 << 30)
        >>> print(*str(MemoryNeed(0.6 * gib, 1.0 * gib, 16, 1, 8 << 30).sentence).split("; "), sep=chr(10))
        memory: a step needs at least 10.6 GiB, and 8 GiB are free
        compute fewer tasks together: --train.tasks-at-once 6.
        >>> MemoryNeed(1e6, 1e6, 16, 1, 8 << 30).sentence is None
        True
        """
        if self.total < _WORTH_SAYING:
            return None
        said = f"memory: a step needs at least {in_bytes(self.total)}"
        if self.there is None or self.total <= _FULL * self.there:
            return f"{said}."
        said = f"{said}, and {in_bytes(self.there)} are free"
        room = int((_FULL * self.there / self.processes - self.fixed) / self.task) if self.task else 0
        if self.bounded and 1 <= room < self.tasks:
            return f"{said}; compute fewer tasks together: --train.tasks-at-once {room}."
        fewer = "fewer ranks, or " if self.processes > 1 else ""
        return f"{said}; it may end for want of memory. Take {fewer}smaller tasks."


def memory_need(built: Built, device: torch.device, ranks: int, here: int | None = None) -> MemoryNeed | None:
    """What a step of a run needs; None where it is not trained on tasks, or where that cannot be found out.

    Args:
        built: what is trained, on its device.
        device: where.
        ranks: that divide the tasks.
        here: those of them on this machine, which share its memory; None: all.
    """
    learner, train = built.learner, built.recipe.train
    if built.batches is not None or not train.steps or built.train.shape.environment is not None:
        return None
    mine = len(block(train.tasks_per_step, 0, ranks))
    together = learner.traits.together
    tasks = mine if together or train.tasks_at_once is None else min(mine, train.tasks_at_once)
    measured = min(2, tasks)  # one alone may be run in another way than several
    try:
        found = _saved(built, device, measured)
    except Exception:  # whatever it is: the run meets it again, and there it is told
        return None
    numbers = [(p.numel() * p.element_size(), p.requires_grad) for p in learner.parameters()]
    moved = sum(size for size, trained in numbers if trained)
    copies = 1 + _MOMENTS[train.optimizer] + (train.average is not None)
    fixed = sum(size for size, _ in numbers) + copies * moved
    there = memory_there(device)
    processes = (here or ranks) if device.type == "cpu" else 1
    return MemoryNeed(found / measured, fixed, tasks, processes, there, not together)


def _saved(built: Built, device: torch.device, tasks: int) -> int:
    learner, keys, precision = built.learner, Keys.default(tasks), built.recipe.train.precision
    episode = built.train.episodes(range(tasks)).to(device)
    with training_mode(learner), global_generators(device, keys.key), _as_before(learner), saved_bytes() as count:
        with mixed("float32" if precision == "float64" else precision, device):
            loss = learner.meta_loss(episode, key=keys).loss
        peak = count.peak
        del loss
    return peak


@contextmanager
def _as_before(learner: nn.Module) -> Iterator[None]:
    """Afterwards the buffers of a learner are what they were: layers of others write theirs in training."""
    kept = {name: buffer.clone() for name, buffer in learner.named_buffers()}
    try:
        yield
    finally:
        for name, buffer in learner.named_buffers():
            buffer.data.copy_(kept[name])
