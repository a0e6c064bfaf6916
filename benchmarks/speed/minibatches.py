"""The rows that Reptile's inner steps see, drawn by quickstudy's keys and handed to all contestants."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.jobs import Setting
from quickstudy.episode import Classes, Examples
from quickstudy.keys import Key, Keys
from quickstudy.learners.parts.minibatches import minibatches

__all__ = ["minibatch_rows"]


def minibatch_rows(setting: Setting) -> Tensor:
    """Row numbers, int64 ``[T, steps, rows]``."""
    workload, n_task = setting.workload, setting.n_task
    n_row = workload.support_rows
    number = torch.arange(n_row).view(1, -1, 1).repeat(n_task, 1, 1)
    way = Classes(torch.full((n_task,), workload.way))
    support = Examples(number, torch.zeros(n_task, n_row, dtype=torch.int64), way)
    keys = Keys(Key.of(0, "train"), np.arange(n_task)).fold("minibatches")  # those of the first step of a run, seed 0
    drawn = minibatches(support, workload.inner_batch, workload.inner_steps, keys)
    rows = []
    for batch in drawn:
        assert isinstance(batch.x, Tensor)
        rows.append(batch.x.squeeze(2))
    return torch.stack(rows, 1).to(setting.device)
