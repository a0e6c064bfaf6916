"""What a contestant is: a function that makes a job, and a job that does one unit of work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.speed.tasks import Tasks, draw
from benchmarks.speed.workloads import Workload

__all__ = ["Draw", "Job", "Make", "Setting", "gradients", "loss_of", "stacked"]

Job: TypeAlias = Callable[[], list[Tensor]]
"""Does one unit and returns what is compared: [loss, gradient of each weight], logits, weights, or drawn tasks."""

Draw: TypeAlias = Callable[[], list[tuple[Tensor, ...]]]
"""Draws tasks one by one, as some libraries hand them out; :func:`stacked` puts them together, outside the clock."""


@dataclass(frozen=True)
class Setting:
    """What a job is made for.

    Args:
        workload: sizes.
        n_task: tasks a unit: fewer in the check than in the timing.
        dtype: of weights and inputs.
        device: where to compute.
        part: the tasks of a unit that this process computes; None: all.
        data_root: folder of real data sets, for sampling; None: pictures that name themselves (see ``samplers``).
    """

    workload: Workload
    n_task: int
    dtype: torch.dtype
    device: torch.device
    part: range | None = None
    data_root: Path | None = None

    def tasks(self) -> Tasks:
        """The tasks of a unit."""
        return draw(self.workload, self.n_task).to(self.dtype, self.device)


Make: TypeAlias = Callable[[Setting], Job]


def stacked(found: Sequence[Tensor | tuple[Tensor, ...]]) -> list[Tensor]:
    """What a job returned, tasks that were drawn one by one put together."""
    whole = [part for part in found if isinstance(part, Tensor)]
    each = [part for part in found if not isinstance(part, Tensor)]
    return whole if whole else [torch.stack(parts) for parts in zip(*each, strict=True)]


def loss_of(outputs: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy for class numbers, mean squared error for real labels."""
    return F.mse_loss(outputs, y) if y.is_floating_point() else F.cross_entropy(outputs, y)


def gradients(module: nn.Module) -> list[Tensor]:
    """The gradient of each parameter, in order.

    Raises:
        ValueError: one has none.
    """
    found = [p.grad for p in module.parameters()]
    if any(grad is None for grad in found):
        raise ValueError("a weight has no gradient")
    return [grad for grad in found if grad is not None]
