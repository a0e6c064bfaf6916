"""The networks as plain torch modules, which the peers get, and the weights that all contestants begin with."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from benchmarks.speed.workloads import Workload

__all__ = ["copy_weights", "plain", "plain_body"]


def _block(channels: int, filters: int, net: str) -> nn.Sequential:
    """3x3 convolution, norm over the current rows, ReLU, and halving (before it, by the stride, or after)."""
    stride = 2 if net == "stride" else 1
    layers: list[nn.Module] = [
        nn.Conv2d(channels, filters, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(filters, track_running_stats=False),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if net == "pool" else []))


def _size_after(workload: Workload) -> int:
    """Height of the last map after four halvings: rounded up by strides, down by pooling."""
    size = workload.image
    for _ in range(4):
        size = (size + 1) // 2 if workload.net == "stride" else size // 2
    return size


def plain_body(workload: Workload) -> nn.Sequential:
    """The network without its head; features are flat. Weights are the same at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if workload.net == "mlp":
            width = workload.filters
            return nn.Sequential(nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        widths = [workload.channels, *[workload.filters] * 4]
        blocks = [_block(widths[i], widths[i + 1], workload.net) for i in range(4)]
        return nn.Sequential(*blocks, nn.Flatten())


def plain(workload: Workload) -> nn.Sequential:
    """Network and linear head; weights are the same at each call."""
    body = plain_body(workload)
    features = workload.filters * (1 if workload.net == "mlp" else _size_after(workload) ** 2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        head = nn.Linear(features, max(1, workload.way))
    return nn.Sequential(*body, head)


def copy_weights(source: nn.Module, target: Iterable[Tensor]) -> None:
    """The weights of ``source`` into ``target``, in order.

    Raises:
        ValueError: there are more of the one, or two differ in shape.
    """
    with torch.no_grad():
        for theirs, mine in zip(source.parameters(), target, strict=True):
            if theirs.shape != mine.shape:
                raise ValueError(f"a weight of shape {list(theirs.shape)} cannot become one of {list(mine.shape)}")
            mine.copy_(theirs)
