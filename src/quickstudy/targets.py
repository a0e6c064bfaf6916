"""Floor 0: what labels mean, and what inputs are made of. ``episode.py`` puts them together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["Classes", "Inputs", "MultiLabel", "Real", "Target", "as_inputs", "first_leaf", "map_leaves"]

Inputs: TypeAlias = Tensor | dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Classes:
    """One class an example. ``y`` is int64 ``[T, N]``, 0 .. way-1, or -1 for unlabelled.

    Args:
        way: int64 ``[T]``, the number of classes of each task.
    """

    way: Tensor


@dataclass(frozen=True, eq=False)
class MultiLabel:
    """Any number of classes an example. ``y`` is 0/1 of shape ``[T, N, W]``.

    Args:
        way: int64 ``[T]``, the number of classes of each task.
    """

    way: Tensor


@dataclass(frozen=True)
class Real:
    """Regression. ``y`` is floating, ``[T, N, D]``.

    Args:
        dim: D, the number of real values an example.
    """

    dim: int


Target: TypeAlias = Classes | MultiLabel | Real


def first_leaf(x: Inputs) -> Tensor:
    """Any one tensor of ``x``: shape, device and dtype questions need only one."""
    return x if isinstance(x, Tensor) else next(iter(x.values()))


def map_leaves(function: Callable[[Tensor], Tensor], x: Inputs) -> Inputs:
    """``function`` on the tensor, or on each tensor of the flat dict."""
    if isinstance(x, Tensor):
        return function(x)
    return {name: function(leaf) for name, leaf in x.items()}


def as_inputs(x: Inputs, dtype: torch.dtype) -> Inputs:
    """What a network is given for ``x``: pictures as floats, the rest untouched.

    A uint8 leaf is a picture, ``[..., H, W]`` or ``[..., C, H, W]`` after the axes ``[T, N]``: it becomes
    ``dtype`` in 0 .. 1, with a channel axis. A floating leaf becomes ``dtype``. Other integers (token ids)
    stay as they are.

    >>> as_inputs(torch.full((1, 2, 28, 28), 255, dtype=torch.uint8), torch.float32).shape
    torch.Size([1, 2, 1, 28, 28])
    """

    def convert(leaf: Tensor) -> Tensor:
        if leaf.dtype == torch.uint8:
            leaf = leaf.to(dtype) / 255
            return leaf.unsqueeze(2) if leaf.dim() == 4 else leaf
        return leaf.to(dtype) if leaf.is_floating_point() else leaf

    return map_leaves(convert, x)
