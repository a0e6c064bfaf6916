"""The least arithmetic and the least memory traffic that a unit of work can cost, worked out from its sizes.

A layer's forward pass is one product (of inputs and weights). Training it to first order takes three: forward, the
gradient of its weights, and that of its inputs. To second order it takes nine: these three, and two for the derivative
of each. The first layer needs no derivative in the pictures, which leaves two of three, and four of nine.

Traffic: each product of a convolution reads or writes its layer's input and output once, as if norm, ReLU and pooling
between them cost nothing and no map stayed in a cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from benchmarks.speed.workloads import Workload

__all__ = ["Floor", "floor"]

_FLOAT = 4  # bytes
# Products a layer takes: (first layer, any other).
_FORWARD, _FIRST_ORDER, _SECOND_ORDER = (1, 1), (2, 3), (4, 9)


@dataclass(frozen=True)
class Floor:
    """What a unit costs at least.

    Args:
        flop: floating-point operations, a multiplication and an addition counted as two.
        bytes: moved between memory and processor.
    """

    flop: float
    bytes: float

    def seconds(self, flop_rate: float, byte_rate: float) -> float:
        """The shortest time at these rates a second."""
        return max(self.flop / flop_rate, self.bytes / byte_rate)


@dataclass(frozen=True)
class _Layer:
    """One example through a layer: operations, and numbers that go in and out."""

    flop: float
    numbers: float


def _layers(workload: Workload) -> list[_Layer]:
    """Convolutions (or linear layers), the head last."""
    if workload.net == "mlp":
        widths = [1, workload.filters, workload.filters, 1]
        return [_Layer(2 * a * b, a + b) for a, b in pairwise(widths)]
    found, size, channels, filters = [], workload.image, workload.channels, workload.filters
    for _ in range(4):
        out = (size + 1) // 2 if workload.net == "stride" else size
        flop = 2 * 9 * channels * filters * out**2
        found.append(_Layer(flop, channels * size**2 + filters * out**2))
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
    """The floor of one unit of a workload."""
    if workload.kind == "sampling":  # every picture read once and written once
        pictures = workload.tasks * (workload.support_rows + workload.query_rows)
        return Floor(0.0, 2.0 * pictures * workload.image**2 * workload.channels)
    flop = moved = 0.0
    for number, layer in enumerate(_layers(workload)):
        for examples, products in _passes(workload):
            times = examples * products[min(number, 1)]
            flop += times * layer.flop
            moved += times * layer.numbers * _FLOAT
    return Floor(workload.tasks * flop, workload.tasks * moved)
