"""What a unit of work costs by its sizes: arithmetic, in two ways to count it, and memory traffic.

Neither is a bound. They say how far a time is from this much work at the best rates that the machine was seen to reach,
and another algorithm, or a map that stays in a cache, may need less.

A layer's forward pass is one product (of inputs and weights). Training it to first order takes three: forward, the
gradient of its weights, and that of its inputs. To second order it takes nine: these three, and two for the derivative
of each. The first layer needs no derivative in the pictures, which leaves two of three, and four of nine.

**Direct**: a 3x3 convolution multiplies nine times for each output, channel in and channel out.

**Winograd**: F(2x2, 3x3), as in ``quickstudy/nets/winograd.py``, multiplies 16 times for each tile of 2x2 outputs, for
which the direct form takes 36; tiles are rounded up; in the convolution and in both of its derivatives. Counted so are
convolutions of stride 1 with at least 32 channels on both sides, which that file takes; all else is as in the direct
count. Its transforms, which only add, are left out.

Traffic, the same in both: each product of a convolution reads or writes its layer's input and output once, as if norm,
ReLU and pooling between them cost nothing and no map stayed in a cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from benchmarks.speed.workloads import Workload

__all__ = ["Floor", "floor"]

_FLOAT = 4  # bytes
_LEAST_CHANNELS = 32  # as in quickstudy/nets/winograd.py, whose import takes torch
# Products a layer takes: (first layer, any other).
_FORWARD, _FIRST_ORDER, _SECOND_ORDER = (1, 1), (2, 3), (4, 9)


@dataclass(frozen=True)
class Floor:
    """What a unit costs.

    Args:
        flop: floating-point operations of direct convolutions, a multiplication and an addition counted as two.
        bytes: moved between memory and processor.
        winograd_flop: operations with convolutions in Winograd's form; None where none is fit for it.
    """

    flop: float
    bytes: float
    winograd_flop: float | None = None

    def seconds(self, flop_rate: float, byte_rate: float) -> float:
        """The time at these rates a second, of direct convolutions."""
        return max(self.flop / flop_rate, self.bytes / byte_rate)

    def winograd_seconds(self, flop_rate: float, byte_rate: float) -> float | None:
        """The same of convolutions in Winograd's form."""
        return None if self.winograd_flop is None else max(self.winograd_flop / flop_rate, self.bytes / byte_rate)


@dataclass(frozen=True)
class _Layer:
    """One example through a layer: operations, numbers that go in and out, and operations in Winograd's form."""

    flop: float
    numbers: float
    winograd_flop: float | None = None

    @property
    def least_flop(self) -> float:
        """In Winograd's form where that is fit."""
        return self.flop if self.winograd_flop is None else self.winograd_flop


def _layers(workload: Workload) -> list[_Layer]:
    """Convolutions (or linear layers), the head last."""
    if workload.net == "mlp":
        widths = [1, workload.filters, workload.filters, 1]
        return [_Layer(2 * a * b, a + b) for a, b in pairwise(widths)]
    found, size, channels, filters = [], workload.image, workload.channels, workload.filters
    for _ in range(4):
        out = (size + 1) // 2 if workload.net == "stride" else size
        flop = 2 * 9 * channels * filters * out**2
        fit = workload.net == "pool" and min(channels, filters) >= _LEAST_CHANNELS
        tiles = ((out + 1) // 2) ** 2
        winograd = 2 * 16 * channels * filters * tiles if fit else None
        found.append(_Layer(flop, channels * size**2 + filters * out**2, winograd))
        size, channels = (out if workload.net == "stride" else size // 2), filters
    if workload.kind != "protonet":
        features = filters * size**2
        found.append(_Layer(2 * features * workload.way, features + workload.way))
    return found


def _passes(workload: Workload) -> list[tuple[int, tuple[int, int]]]:
    """(examples, products a layer) of each part of one task."""
    support, query, steps = workload.support_rows, workload.query_rows, workload.inner_steps
    return {
        "maml": [(steps * support, _SECOND_ORDER), (query, _FIRST_ORDER)],
        "fomaml": [(steps * support, _FIRST_ORDER), (query, _FIRST_ORDER)],
        "adapt": [(steps * support, _FIRST_ORDER), (query, _FORWARD)],
        "protonet": [(support + query, _FIRST_ORDER)],
        "reptile": [(steps * min(workload.inner_batch or support, support), _FIRST_ORDER)],
    }[workload.kind]


def floor(workload: Workload) -> Floor:
    """The work of one unit of a workload."""
    if workload.kind == "sampling":  # every picture read once and written once
        pictures = workload.tasks * (workload.support_rows + workload.query_rows)
        return Floor(0.0, 2.0 * pictures * workload.image**2 * workload.channels)
    flop = moved = winograd = 0.0
    layers = _layers(workload)
    for number, layer in enumerate(layers):
        for examples, products in _passes(workload):
            times = examples * products[min(number, 1)]
            flop += times * layer.flop
            winograd += times * layer.least_flop
            moved += times * layer.numbers * _FLOAT
    fit = any(layer.winograd_flop is not None for layer in layers)
    return Floor(workload.tasks * flop, workload.tasks * moved, workload.tasks * winograd if fit else None)
