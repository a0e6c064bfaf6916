"""Floor 1: passes over maps in C (``maps.c``), for ``summary.py`` and ``tail.py``."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quickstudy import native
from quickstudy.nets.joined import Functions

MOST_CHANNELS = 1024
"""As in ``maps.c``."""

PLACES = 6
"""Numbers of a group's channels that the last pass over it needs; as there."""

C = Functions(
    Path(__file__).with_name("maps.c"),
    {
        **{"summarise": 7, "spread": 7, "respond": 10},
        **{"rectify": 4, "rectify_derivative": 8, "rectify_second": 11},
        **{"forward": 10, "derivative": 13, "second": 18},
    },
)


def readable(x: Tensor, *others: Tensor, pooled: bool = False) -> bool:
    """Whether C may pass over the maps ``x``, ``[R, C, H, W]``.

    Args:
        x: maps.
        others: what else it reads then.
        pooled: whether it pools them; torch's operators refuse maps that have no window.
    """
    if not native.usable(x, *others) or any(other.dtype is not x.dtype for other in others):
        return False
    return x.numel() > 0 and x.shape[1] <= MOST_CHANNELS and not (pooled and min(x.shape[2:]) < 2) and C.there()


class _Shape(ctypes.Structure):
    """As in ``maps.c``."""

    _fields_ = [
        *((n, ctypes.c_int64) for n in "groups pictures height width channels pooled weight_stride sharing".split()),
        ("eps", ctypes.c_double),
    ]


@functools.lru_cache(maxsize=512)
def shape(
    sizes: torch.Size, groups: int, *, pooled: bool, own: bool = False, sharing: int | None = None, eps: float = 0.0
) -> Any:
    """A reference to what C is told of maps.

    Args:
        sizes: ``[R, C, H, W]``.
        groups: how many equally large groups of pictures have moments of their own.
        pooled: whether there are windows.
        own: scales and shifts (or signs) are not shared by all pictures,
        sharing: but by so many in a row; by default those of a group.
        eps: added to variances.
    """
    n_row, channels, height, width = sizes
    pictures = n_row // groups
    stride = channels if own else 0
    told = _Shape(groups, pictures, height, width, channels, pooled, stride, sharing or pictures, eps)
    return ctypes.byref(told)


def sums(x: Tensor, count: int) -> Tensor:
    """Room for so many sums of each picture's channels."""
    return torch.empty(x.shape[0] * count * x.shape[1], dtype=torch.float64, device=x.device)


def halved(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Room for a number of each window of ``x``."""
    n_row, channels, height, width = x.shape
    small = (n_row, channels, height // 2, width // 2)
    return torch.empty(small, dtype=dtype, device=x.device, memory_format=torch.channels_last)
