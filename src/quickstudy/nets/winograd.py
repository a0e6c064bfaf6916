"""Floor 1: 3x3 convolutions of stride 1 in C, in the form F(2x2, 3x3) of Winograd's minimal filtering.

S. Winograd, "Arithmetic complexity of computations", 1980; A. Lavin, S. Gray, "Fast algorithms for convolutional neural
networks", CVPR 2016. For each tile of 2x2 outputs y, with its window d of 4x4 inputs and the weights g,

    y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A,           summed over the channels that go in, inside the brackets
    dg = Gᵀ [(Bᵀ d B) ⊙ (A dy Aᵀ)] G,         its adjoint in g, summed over tiles
    dd                                        y's formula, of dy and of the weights turned round

         1  0 -1  0             1   0   0                1  1  1  0
    Bᵀ = 0  1  1  0        G = 1/2 1/2 1/2          Aᵀ =  0  1 -1 -1
         0 -1  1  0            1/2-1/2 1/2
         0  1  0 -1             0   0   1

which takes 16 multiplications where the plain sum takes 36. The factors are powers of two, so rounding stays what it is
in the plain sum, to a small factor. A number of d that is NaN reaches the outputs that see it and no others. So does
one that is infinite, but they may be NaN where the plain sum is infinite, as the brackets subtract.
``benchmarks/kernels.py`` compares the time with torch's convolutions.
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

__all__ = ["LEAST_CHANNELS", "MOST_CHANNELS", "convolve", "correlate", "fits"]

LEAST_CHANNELS = 32
"""Below, the transforms cost more than the products save."""

MOST_CHANNELS = 512
"""Above, the transformed weights leave the cache, and torch's convolution is as fast."""

_SKEW = 16  # numbers, at most
_C = Functions(Path(__file__).with_name("winograd.c"), {"convolve": 5, "correlate": 5})


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
        stride == 1
        and padding in (0, 1)
        and LEAST_CHANNELS <= few
        and many <= MOST_CHANNELS
        and lies_right(x, weight, padding, groups)
        and native.usable(x, weight)
        and _C.there()
    )


def convolve(x: Tensor, weight: Tensor, padding: int, groups: int, *, turned: bool = False) -> Tensor:
    """``x * weight``; with ``turned``, the derivative in the input of such a convolution.

    Args:
        x: ``[N, groups·I, H, W]``, channels-last.
        weight: ``[groups·O, I, 3, 3]``.
        padding: zeros around the map, 0 to 2.
        groups: parts of the channels.
        turned: x has ``groups·O`` channels and goes through the weights turned round; the derivative of a convolution
            with padding p is one with 2 - p.

    Returns:
        ``[N, groups·O, H', W']`` (``groups·I`` where turned), channels-last.
    """
    n_row, _, height, width = x.shape
    inputs, outputs = weight.shape[1], weight.shape[0] // groups
    a, b = (outputs, inputs) if turned else (inputs, outputs)
    threads = torch.get_num_threads()
    size = (n_row, groups * b, height + 2 * padding - 2, width + 2 * padding - 2)
    y = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    transformed = x.new_empty(groups * 16 * a * filled(b))
    room = x.new_empty(threads * _room(a, b))
    shape = _shape(n_row, groups, inputs, outputs, height, width, padding, turned, threads)
    _C.call("convolve", shape, x, weight.contiguous(), transformed, room, y)
    return y


def correlate(x: Tensor, dy: Tensor, padding: int, groups: int) -> Tensor:
    """The derivative of ``x * weight`` in the weights.

    Args:
        x: ``[N, groups·I, H, W]``, channels-last.
        dy: ``[N, groups·O, H', W']``, channels-last.
        padding: zeros around x, 0 or 1.
        groups: parts of the channels.

    Returns:
        ``[groups·O, I, 3, 3]``.
    """
    n_row, inputs, height, width = x.shape[0], x.shape[1] // groups, *x.shape[2:]
    outputs, threads = dy.shape[1] // groups, torch.get_num_threads()
    dw = x.new_empty(groups * outputs, inputs, 3, 3)
    sums = x.new_empty(16 * inputs * filled(outputs))
    room = x.new_empty(_room(inputs, outputs))
    shape = _shape(n_row, groups, inputs, outputs, height, width, padding, False, threads)
    _C.call("correlate", shape, x, dy, sums, room, dw)
    return dw


class _Shape(ctypes.Structure):
    """As in ``winograd.c``."""

    _fields_ = tuple(
        (n, ctypes.c_int64) for n in "rows groups inputs outputs height width padding turned threads".split()
    )


@functools.lru_cache(maxsize=512)
def _shape(*numbers: int) -> Any:
    return ctypes.byref(_Shape(*numbers))


def _room(inputs: int, outputs: int) -> int:
    """Numbers that a block of tiles takes up, of what goes in and of what comes out."""
    return 16 * (BLOCK * (filled(inputs) + filled(outputs)) + 2 * _SKEW)
