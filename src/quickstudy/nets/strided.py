"""Floor 1: 3x3 convolutions with strides in C, over patches.

    y = φ W,   dφ = dy Wᵀ,   dW = φᵀ dy               φ: the patches of the map, one for each output

with φ laid down for a block of outputs at a time, and dφ added up where patches overlap. ``benchmarks/kernels.py``
compares the time with torch's convolutions; of stride 1 there is ``winograd.py``.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quickstudy import native
from quickstudy.nets.joined import Functions
from quickstudy.nets.products import BLOCK, filled, lies_right

__all__ = ["LEAST_CHANNELS", "MOST_CHANNELS", "MOST_PLACES", "convolve", "correlate", "fits", "spread", "value_fits"]

LEAST_CHANNELS = 16
"""Below, torch's convolution is as fast."""

MOST_CHANNELS = 512
"""Above, a block's patches leave the cache."""

MOST_PLACES = 128
"""Outputs of all pictures above which torch's convolution is as fast; its derivatives are not."""

_LAST = torch.channels_last
_C = Functions(Path(__file__).with_name("strided.c"), {"convolve": 5, "spread": 5, "correlate": 5})


def fits(x: Tensor, weight: Tensor, stride: int, padding: int, groups: int) -> bool:
    """Whether C computes this convolution, and faster than torch.

    Args:
        x: ``[N, groups·I, H, W]``.
        weight: ``[groups·O, I, K, K]``.
        stride: steps of the window.
        padding: zeros around the map.
        groups: parts of the channels.
    """
    few, many = sorted((weight.shape[1], weight.shape[0] // groups))
    return (
        stride in (2, 3)
        and padding in (0, 1)
        and LEAST_CHANNELS <= few
        and many <= MOST_CHANNELS
        and lies_right(x, weight, padding, groups)
        and native.usable(x, weight)
        and _C.there()
    )


def value_fits(x: Tensor, stride: int, padding: int) -> bool:
    """Whether C computes the value, too, of a convolution that :func:`fits`."""
    down, across = ((n + 2 * padding - 3) // stride + 1 for n in x.shape[2:])
    return x.shape[0] * down * across <= MOST_PLACES


def convolve(x: Tensor, weight: Tensor, stride: int, padding: int, groups: int) -> Tensor:
    """``x * weight``.

    Args:
        x: ``[N, groups·I, H, W]``, channels-last.
        weight: ``[groups·O, I, 3, 3]``.
        stride: steps of the window.
        padding: zeros around the map.
        groups: parts of the channels.

    Returns:
        ``[N, groups·O, H', W']``, channels-last.
    """
    n_row, _, height, width = x.shape
    inputs, outputs = weight.shape[1], weight.shape[0] // groups
    down, across = ((n + 2 * padding - 3) // stride + 1 for n in (height, width))
    y = torch.empty((n_row, groups * outputs, down, across), dtype=x.dtype, device=x.device, memory_format=_LAST)
    laid = x.new_empty(groups * 9 * inputs * filled(outputs))
    room = x.new_empty(torch.get_num_threads() * _room(inputs, outputs))
    shape = _shape(n_row, groups, inputs, outputs, height, width, padding, stride, torch.get_num_threads())
    _C.call("convolve", shape, x, weight.contiguous(), laid, room, y)
    return y


def spread(dy: Tensor, weight: Tensor, size: torch.Size, stride: int, padding: int, groups: int) -> Tensor:
    """The derivative in x of a size; the arguments are those of :func:`convolve`, ``dy`` is channels-last."""
    inputs, outputs = weight.shape[1], weight.shape[0] // groups
    dx = torch.empty(size, dtype=dy.dtype, device=dy.device, memory_format=_LAST).zero_()
    laid = dy.new_empty(groups * 9 * outputs * filled(inputs))
    room = dy.new_empty(torch.get_num_threads() * _room(inputs, 0))
    shape = _shape(size[0], groups, inputs, outputs, *size[2:], padding, stride, torch.get_num_threads())
    _C.call("spread", shape, dy, weight.contiguous(), laid, room, dx)
    return dx


def correlate(x: Tensor, dy: Tensor, stride: int, padding: int, groups: int) -> Tensor:
    """The derivative in the weights, ``[groups·O, I, 3, 3]``; ``x`` and ``dy`` are channels-last."""
    n_row, inputs, height, width = x.shape[0], x.shape[1] // groups, *x.shape[2:]
    outputs = dy.shape[1] // groups
    dw = x.new_empty(groups * outputs, inputs, 3, 3)
    sums = x.new_empty(9 * inputs * filled(outputs))
    room = x.new_empty(_room(inputs, outputs))
    shape = _shape(n_row, groups, inputs, outputs, height, width, padding, stride, torch.get_num_threads())
    _C.call("correlate", shape, x, dy, sums, room, dw)
    return dw


class _Shape(ctypes.Structure):
    """As in ``strided.c``."""

    _fields_ = tuple(
        (n, ctypes.c_int64) for n in "rows groups inputs outputs height width padding stride threads".split()
    )


@functools.lru_cache(maxsize=512)
def _shape(*numbers: int) -> Any:
    return ctypes.byref(_Shape(*numbers))


def _room(inputs: int, outputs: int) -> int:
    """Numbers that a block takes up: its patches, and what comes out."""
    return BLOCK * (9 * filled(inputs) + filled(outputs))
