"""Tasks made up from a seed, the same for all contestants."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.speed.workloads import Workload

__all__ = ["Task", "Tasks", "draw"]

Task = tuple[Tensor, Tensor, Tensor, Tensor]
"""Support x and y, query x and y of one task."""


@dataclass(frozen=True, eq=False)
class Tasks:
    """T tasks.

    Args:
        support_x: ``[T, Ns, C, H, W]``, or ``[T, Ns, 1]`` for the sinusoid.
        support_y: int64 ``[T, Ns]``, or ``[T, Ns, 1]``.
        query_x: ``[T, Nq, ...]``.
        query_y: like ``support_y``.
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor

    def __len__(self) -> int:
        return self.support_x.shape[0]

    def __iter__(self) -> Iterator[Task]:
        """Each task as a tuple, as peers take them."""
        return zip(self.support_x, self.support_y, self.query_x, self.query_y, strict=True)

    def to(self, dtype: torch.dtype, device: torch.device) -> Tasks:
        """Inputs (and real labels) in that type, all on that device."""
        every = (self.support_x, self.support_y, self.query_x, self.query_y)
        return Tasks(*(t.to(device, dtype if t.is_floating_point() else t.dtype) for t in every))


def draw(workload: Workload, n_task: int, seed: int = 0) -> Tasks:
    """So many tasks of a workload, in float32."""
    generator = torch.Generator().manual_seed(seed)
    return _sines(workload, n_task, generator) if workload.net == "mlp" else _pictures(workload, n_task, generator)


def _sines(workload: Workload, n_task: int, generator: torch.Generator) -> Tasks:
    """Sine waves, y = A sin(x - phase), as in the paper of MAML."""
    amplitude = 0.1 + 4.9 * torch.rand(n_task, 1, 1, generator=generator)
    phase = math.pi * torch.rand(n_task, 1, 1, generator=generator)
    x = -5 + 10 * torch.rand(n_task, workload.shot + workload.query, 1, generator=generator)
    y = amplitude * torch.sin(x - phase)
    n = workload.shot
    return Tasks(x[:, :n], y[:, :n], x[:, n:], y[:, n:])


def _pictures(workload: Workload, n_task: int, generator: torch.Generator) -> Tasks:
    """Noise around a picture of each class; rows of a class stand together, in order of the labels."""
    shape, way = (workload.channels, workload.image, workload.image), workload.way
    centre = torch.rand(n_task, way, 1, *shape, generator=generator)

    def part(each: int) -> tuple[Tensor, Tensor]:
        noise = torch.rand(n_task, way, each, *shape, generator=generator)
        y = torch.arange(way).repeat_interleave(each).repeat(n_task, 1)
        return (0.5 * centre + 0.5 * noise).flatten(1, 2), y

    return Tasks(*part(workload.shot), *part(workload.query))
