"""Floor 1: what ``winograd.py`` and ``strided.py`` know of ``product.h``, products of small matrices."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 48
"""Rows of a product that are taken together, as there."""

_FILLED = 16  # channels are filled up to a multiple of 16 at most


def filled(channels: int) -> int:
    """Channels filled up to whole vectors, at most."""
    return -(-channels // _FILLED) * _FILLED


def lies_right(x: Tensor, weight: Tensor, padding: int, groups: int) -> bool:
    """Whether torch would take these sizes, of a 3x3 window, and the map lies as C reads it, channels-last."""
    return (
        x.dim() == 4
        and weight.dim() == 4
        and weight.shape[2:] == (3, 3)
        and x.shape[1] == groups * weight.shape[1]
        and weight.shape[0] % groups == 0
        and min(x.shape[2:]) + 2 * padding >= 3
        and x.numel() > 0
        and x.dtype == weight.dtype
        and x.is_contiguous(memory_format=torch.channels_last)
    )
