"""Floor 1: a convolution with own first and second derivatives.

A convolution is bilinear in its input and its weights, so each derivative of any order is again made of three products:
the convolution itself, its product with respect to the input, and that with respect to the weights. They are called
here as such, in the layout of the maps; ``benchmarks/kernels.py`` compares that with torch's own second derivative.

    y = x * w                                  (dx, dw) = B(dy, x, w), the derivative
    (u, v) cotangents of (dx, dw):             dy: u * w + x * v,  (x, w): B(dy, u, v)

Each is computed by ``winograd.py`` or ``strided.py`` where one fits, else by torch's operators. Where these must be
seen (``dense.needs_plain``) it is torch's own operator altogether.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from quickstudy import native
from quickstudy.nets import strided, winograd
from quickstudy.nets.dense import needs_plain

Window: TypeAlias = tuple[int, int, int]
"""Stride, padding, groups."""


def conv2d(x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
    """A convolution without a bias.

    Args:
        x: ``[N, I, H, W]``.
        weight: ``[O, I / groups, K, K]``.
        stride: steps of the window.
        padding: zeros around the map.
        groups: parts of the channels, each with its own share of the weights.

    Returns:
        ``[N, O, H', W']``.
    """
    if needs_plain(x):
        return F.conv2d(x, weight, None, stride, padding, groups=groups)
    if not torch.is_grad_enabled() or not (x.requires_grad or weight.requires_grad):
        return _value(x, weight, (stride, padding, groups))
    return _Convolution.apply(x, weight, stride, padding, groups)  # type: ignore[no-any-return, no-untyped-call]


def _value(x: Tensor, weight: Tensor, window: Window) -> Tensor:
    stride, padding, groups = window
    if torch.compiler.is_compiling():  # C does not run there, and asking would fix the number of pictures
        return F.conv2d(x, weight, None, stride, padding, groups=groups)
    if winograd.fits(x, weight, *window):
        return winograd.convolve(x, weight, padding, groups)
    if strided.value_fits(x, stride, padding) and strided.fits(x, weight, *window):
        return strided.convolve(x, weight, *window)
    return F.conv2d(x, weight, None, stride, padding, groups=groups)


class _Convolution(torch.autograd.Function):
    """(x, weight) -> y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int, groups: int) -> Tensor:
        ctx.window = (stride, padding, groups)
        ctx.save_for_backward(x, weight)
        return _value(x, weight, ctx.window)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        asked = tuple(ctx.needs_input_grad[:2])
        derive = _Products.apply if torch.is_grad_enabled() else products
        return *derive(dy, x, weight, ctx.window, asked), None, None, None


def products(
    dy: Tensor, x: Tensor, weight: Tensor, window: Window, asked: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """``(dx, dw)``, those that are asked for, without a graph."""
    stride, padding, groups = window
    last, in_c = torch.channels_last, native.usable(dy)
    if in_c and x.is_contiguous(memory_format=last) and not dy.is_contiguous(memory_format=last):
        dy = dy.contiguous(memory_format=last)
    if in_c and winograd.fits(x, weight, *window):
        dx = winograd.convolve(dy, weight, 2 - padding, groups, turned=True) if asked[0] else None
        return dx, winograd.correlate(x, dy, padding, groups) if asked[1] else None
    if in_c and strided.fits(x, weight, *window):
        dx = strided.spread(dy, weight, x.shape, *window) if asked[0] else None
        return dx, strided.correlate(x, dy, *window) if asked[1] else None
    dx, dw, _ = torch.ops.aten.convolution_backward(
        dy, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups, [*asked, False]
    )
    return dx, dw


class _Products(torch.autograd.Function):
    """(dy, x, weight) -> (dx, dw)."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, x: Tensor, weight: Tensor, window: Window, asked: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        ctx.window = window
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(dy, x, weight)
        return products(dy, x, weight, window, asked)

    @staticmethod
    def backward(ctx: Any, u: Tensor | None, v: Tensor | None) -> tuple[Tensor | None, ...]:
        dy, x, weight = ctx.saved_tensors
        needs_dy, needs_x, needs_weight = ctx.needs_input_grad[:3]
        terms = []
        if needs_dy:
            terms = [conv2d(a, b, *ctx.window) for a, b in ((u, weight), (x, v)) if a is not None and b is not None]
        # What x gets comes from v, what the weights get from u.
        asked = (needs_x and v is not None, needs_weight and u is not None)
        dx, dw = None, None
        if any(asked):
            derive = _Products.apply if torch.is_grad_enabled() else products
            dx, dw = derive(dy, x if u is None else u, weight if v is None else v, ctx.window, asked)
        return sum(terms[1:], terms[0]) if terms else None, dx, dw, None, None
