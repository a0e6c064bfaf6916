"""Trains learners of the table in a process of its own, and tells what lives and how much memory is resident.

    python growing.py STEPS ROW[:tensors | :graphs] ...

Prints JSON, a list of [tensors, kilobytes]: at ten moments, equally far apart, the number of tensors that Python knows,
and resident memory. ``:tensors`` and ``:graphs`` plant a leak: a tensor that is kept in each step, or the graph of its
loss.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from quickstudy.allocator import keep_large_blocks
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss
from quickstudy.train import Checkpointing, Silent, StepEvent, fit
from tests.table import ROWS, make
from tests.train.small import Small


class Watch(Silent):
    """Looks ten times, at equal distances."""

    def __init__(self, steps: int) -> None:
        self.every, self.seen = steps // 10, list[tuple[int, int]]()

    @override
    def step(self, event: StepEvent) -> None:
        if event.step % self.every == 0:
            gc.collect()
            tensors = sum(issubclass(type(each), Tensor) for each in gc.get_objects())
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.seen.append((tensors, pages * resource.getpagesize() // 1024))


def leaky(learner: AbstractLearner, kind: str) -> None:
    """Plants a leak."""
    real, kept = learner.meta_loss, list[Any]()

    def meta_loss(episode: Any, *, key: Keys | None = None) -> MetaLoss:
        out = real(episode, key=key)
        kept.append(torch.zeros(1) if kind == "tensors" else (out.loss * 1.0).grad_fn)
        return out

    learner.meta_loss = meta_loss  # type: ignore[method-assign]


def trained(name: str, leak: str, steps: int) -> list[list[int]]:
    """What one training showed."""
    (row,) = (row for row in ROWS if row.name == name)
    learner, watch, source = make(row), Watch(steps), Small(row.target)
    source.drawn = deque(maxlen=1)  # type: ignore[assignment]  # no list that grows
    if leak:
        leaky(learner, leak)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpointing(Path(folder), every=max(steps // 20, 50))
        fit(learner, source, steps=steps, tasks_per_step=2, lr=1e-3, callbacks=[watch], checkpoints=checkpoints)
    return [list(each) for each in zip(*watch.seen, strict=True)]


def main() -> None:
    keep_large_blocks()
    torch.set_num_threads(1)
    gc.freeze()  # what was imported stays, and need not be looked through ten times
    asked = [each.partition(":") for each in sys.argv[2:]]
    sys.stdout.write(json.dumps([trained(name, leak, int(sys.argv[1])) for name, _, leak in asked]))


if __name__ == "__main__":
    main()
