"""Floor 1: a map's channels scaled, shifted and rectified, as one operator with own first and second derivative.

What a norm does with what it saw, and a ReLU, in one pass each over a map (``maps.c``):

    y = relu(a x + b)                         g = dy ⊙ [y > 0]
    dx = a g,  da = Σ g x,  db = Σ g          the derivative, an operator of its own with inputs (dy, x, a)
    (u, α, β) cotangents of (dx, da, db):     dy: [y > 0] (a u + α x + β),  x: α g,  a: Σ u g

Where C may not be used the same is made of torch's operators, of which third derivatives are taken, too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from quickstudy import native
from quickstudy.nets import maps
from quickstudy.nets.dense import needs_plain
from quickstudy.nets.joined import derivative_of, relaid, second_of

_LAST = torch.channels_last


def rectify(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``relu(x * scale + shift)``.

    Args:
        x: maps ``[..., N, C, H, W]``.
        scale: ``[..., N, C]``, or ``[..., 1, C]`` for all N.
        shift: likewise.

    Returns:
        ``[..., N, C, H, W]``.
    """
    if needs_plain(x):
        return plain_rectify(x, scale, shift)
    maps_of_all = x.flatten(0, -4)
    # The others' faults are told by torch's operators.
    fits = scale.shape[-2:] == shift.shape[-2:] and scale.shape[-2:] in ((1, x.shape[-3]), x.shape[-4:-2])
    if not fits or not maps.readable(maps_of_all, scale, shift):
        return plain_rectify(x, scale, shift)
    # Each for so many maps in a row.
    scale, shift = (part.expand(*x.shape[:-4], *part.shape[-2:]).flatten(0, -2) for part in (scale, shift))
    y = _Rectify.apply(maps_of_all.contiguous(memory_format=_LAST), scale, shift)  # type: ignore[no-untyped-call]
    return y.view(x.shape)  # type: ignore[no-any-return]


def plain_rectify(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The same of differentiable operators."""
    return F.relu(torch.addcmul(shift[..., None, None], x, scale[..., None, None]))


def _plain_sets(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Of maps ``[R, C, H, W]``, where R is a multiple of S, with scales and shifts ``[S, C]``."""
    return plain_rectify(x.view(scale.shape[0], -1, *x.shape[1:]), scale[:, None], shift[:, None]).view(x.shape)


def _told(x: Tensor, scale: Tensor) -> Any:
    return maps.shape(x.shape, scale.shape[0], pooled=False)


class _Rectify(torch.autograd.Function):
    """(x, scale, shift) -> y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        y = torch.empty_like(x)
        maps.C.call("rectify", _told(x, scale), x, scale.contiguous(), shift.contiguous(), y)
        ctx.save_for_backward(x, scale, shift, y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        x, scale, shift, y = relaid(*ctx.saved_tensors)
        recorded = torch.is_grad_enabled()
        if not native.usable(dy, x, scale, shift, y):
            return derivative_of(_plain_sets, (x, scale, shift), dy, recorded=recorded)
        dy = dy.contiguous(memory_format=_LAST)
        if recorded:
            return _Derivative.apply(dy, x, scale, shift, y)  # type: ignore[no-any-return, no-untyped-call]
        return _derivative(dy, x, scale, y)


def _derivative(dy: Tensor, x: Tensor, scale: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dx, (da, db) = torch.empty_like(x), scale.new_empty(2, *scale.shape).unbind()
    maps.C.call("rectify_derivative", _told(x, scale), dy, x, y, scale.contiguous(), maps.sums(x, 2), dx, da, db)
    return dx, da, db


class _Derivative(torch.autograd.Function):
    """(dy, x, scale) -> (dx, da, db)."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, x: Tensor, scale: Tensor, shift: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(dy, x, scale, shift, y)
        return _derivative(dy, x, scale, y)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        dy, x, scale, shift, y = relaid(*ctx.saved_tensors)
        given = [cotangent for cotangent in cotangents if cotangent is not None]
        if not given:
            return (None,) * 5
        if torch.is_grad_enabled() or not native.usable(*given, dy, x, scale, shift, y):
            return *second_of(_plain_sets, (x, scale, shift), dy, cotangents)[:3], None, None
        u, *others = cotangents
        u = torch.zeros_like(x) if u is None else u.contiguous(memory_format=_LAST)
        alpha, beta = (torch.zeros_like(scale) if part is None else part.contiguous() for part in others)
        ddy, ddx, dda = torch.empty_like(x), torch.empty_like(x), scale.new_empty(scale.shape)
        known = (dy, x, y, scale.contiguous(), maps.sums(x, 2))
        maps.C.call("rectify_second", _told(x, scale), u, alpha, beta, *known, ddy, ddx, dda)
        return ddy, ddx, dda, None, None
