"""Floor 1: what follows a convolution, as one operator in C: batch norm, 2x2 max-pooling or none, and ReLU.

With own first and second derivative (``maps.c``), each one or two passes over the map. For moments of a group of
pictures together, which is batch norm as it trains; sums are over a group's M = N·H·W places of a channel:

    m = mean x,  v = mean (x - m)²,  r = 1/√(v + ε),  a = w r
    p = x at each window's extreme value (x itself where nothing is pooled),  y = relu(a (p - m) + b)

    the derivative, an operator of its own with inputs (dy, x, w), where g = dy ⊙ [y > 0]:
    db = Σ g,  dw = r S,  S = Σ g (p - m)
    dx = κ (x - m) - a db/M,  dx[where] += a g,          κ = -a r² S/M

    (u, ω, β) cotangents of (dx, dw, db), with U = Σ u, V = Σ u (x - m), G = Σ u[where] g and k = ω r - a r² V/M:
    dy: [y > 0] (a u[where] + β - a U/M + k (p - m))
    w:  r Q,                                             Q = G - db U/M - r² S V/M
    x:  κ u - (k db + κ U)/M - R r³ (x - m)/M,  x[where] += k g,  R = w Q - 2 a r S V/M + ω S

Where C may not be used the same is made of the operators of ``summary.py``, of which third derivatives are taken, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from quickstudy import native
from quickstudy.nets import maps
from quickstudy.nets.dense import needs_plain
from quickstudy.nets.joined import derivative_of, from_groups, relaid, second_of, to_groups
from quickstudy.nets.summary import extremes, summarise

_LAST = torch.channels_last


@dataclass(frozen=True, eq=False)
class Tail:
    """What :func:`tail` gives.

    Args:
        y: ``[R, C, H', W']``.
        mean: of each group's channels, ``[groups, C]``.
        var: likewise, not corrected.
        count: of how many numbers each moment is.
    """

    y: Tensor
    mean: Tensor
    var: Tensor
    count: int


def tail(x: Tensor, weight: Tensor, bias: Tensor, *, groups: int, pooled: bool, eps: float) -> Tail | None:
    """Batch norm of each group of pictures, max-pooling where asked, and ReLU; None where C may not be used.

    Args:
        x: ``[R, C, H, W]``, R a multiple of ``groups``.
        weight: the norm's scale, ``[C]`` or, one a group, ``[groups, C]``.
        bias: the norm's shift, likewise.
        groups: how many equally large groups of pictures have moments of their own.
        pooled: whether windows of 2x2 are pooled.
        eps: added to the variance.
    """
    if not maps.readable(x, weight, bias, pooled=pooled) or needs_plain(x):
        return None
    if not fit(x, weight, groups, x.shape[1]) or not fit(x, bias, groups, x.shape[1]) or weight.dim() != bias.dim():
        return None
    setting = _Setting(groups, pooled, eps)
    x = x.contiguous(memory_format=_LAST)
    y, mean, var = _Tail.apply(x, weight, bias, setting)  # type: ignore[no-untyped-call]
    return Tail(y, mean, var, x.numel() // mean.numel())


def fit(x: Tensor, weight: Tensor, groups: int, channels: int) -> bool:
    """Whether a norm's scale or shift is what C will take it for; torch's operators tell what is wrong with others."""
    shapes = ((channels,), (groups, channels))
    return weight.shape in shapes and weight.dtype == x.dtype and weight.device == x.device and x.shape[0] % groups == 0


class _Setting(NamedTuple):
    groups: int
    pooled: bool
    eps: float


class _Found(NamedTuple):
    """What the forward pass found that its derivatives want; p and where are None where nothing is pooled."""

    y: Tensor
    p: Tensor | None
    where: Tensor | None  # 0 .. 3 in its window
    mean: Tensor
    var: Tensor


class _Tail(torch.autograd.Function):
    """(x, weight, bias) -> (y, mean, var)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, setting: _Setting) -> tuple[Tensor, Tensor, Tensor]:
        shape = _shape(x, weight, setting)
        mean, var = x.new_empty(2, setting.groups, x.shape[1]).unbind()
        y = maps.halved(x, x.dtype) if setting.pooled else torch.empty_like(x)
        p, where = (maps.halved(x, dtype) if setting.pooled else None for dtype in (x.dtype, torch.uint8))
        own, room = (weight.contiguous(), bias.contiguous()), _room(x, 2, setting)
        maps.C.call("forward", shape, x, *own, *room, y, p, where, mean, var)
        ctx.setting = setting
        ctx.save_for_backward(x, weight, bias, y, p, where, mean, var)
        ctx.mark_non_differentiable(mean, var)
        ctx.set_materialize_grads(False)
        return y, mean, var

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if dy is None:
            return None, None, None, None
        x, weight, bias, *rest = relaid(*ctx.saved_tensors)
        recorded, found = torch.is_grad_enabled(), _Found(*rest)
        if not native.usable(dy, x, weight, bias, found.y, found.mean, found.var):
            return *derivative_of(_plainly(ctx.setting), (x, weight, bias), dy, recorded=recorded), None
        dy = dy.contiguous(memory_format=_LAST)
        if recorded:
            return *_Derivative.apply(dy, x, weight, bias, ctx.setting, *rest), None  # type: ignore[no-untyped-call]
        dx, dw, db = _derivative(dy, x, weight, ctx.setting, found)
        return dx, from_groups(dw, weight, 2), from_groups(db, weight, 2), None


def _derivative(
    dy: Tensor, x: Tensor, weight: Tensor, setting: _Setting, found: _Found
) -> tuple[Tensor, Tensor, Tensor]:
    """``dx``, and ``dw`` and ``db`` ``[groups, C]``."""
    y, p, where, mean, var = found
    dx, (dw, db) = torch.empty_like(x), mean.new_empty(2, *mean.shape).unbind()
    shape, room = _shape(x, weight, setting), _room(x, 2, setting)
    maps.C.call("derivative", shape, dy, y, p, where, x, mean, var, weight.contiguous(), *room, dx, dw, db)
    return dx, dw, db


class _Derivative(torch.autograd.Function):
    """(dy, x, weight) -> (dx, dw, db)."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor, setting: _Setting, *rest: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        dx, dw, db = _derivative(dy, x, weight, setting, _Found(*rest))
        ctx.setting = setting
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(dy, x, weight, bias, *rest, dw, db)
        return dx, from_groups(dw, weight, 2), from_groups(db, weight, 2)

    @staticmethod
    def backward(ctx: Any, u: Tensor | None, omega: Tensor | None, beta: Tensor | None) -> tuple[Tensor | None, ...]:
        dy, x, weight, bias, y, p, where, mean, var, dw, db = relaid(*ctx.saved_tensors)
        given = [cotangent for cotangent in (u, omega, beta) if cotangent is not None]
        if not given:
            return (None,) * 10
        if torch.is_grad_enabled() or not native.usable(*given, dy, x, weight, bias, y, mean, var, dw, db):
            found = second_of(_plainly(ctx.setting), (x, weight, bias), dy, (u, omega, beta))
            return *found[:3], *(None,) * 7
        u = torch.zeros_like(x) if u is None else u.contiguous(memory_format=_LAST)
        ddy, ddx, ddw = torch.empty_like(dy), torch.empty_like(x), torch.empty_like(mean)
        shape, room = _shape(x, weight, ctx.setting), _room(x, 3, ctx.setting)
        of_weight = (to_groups(cotangent, mean.shape, mean) for cotangent in (omega, beta))
        known = (dy, y, p, where, x, mean, var, weight.contiguous(), dw, db)
        maps.C.call("second", shape, u, *of_weight, *known, *room, ddy, ddx, ddw)
        return ddy, ddx, from_groups(ddw, weight, 2), *(None,) * 7


def plain_tail(x: Tensor, weight: Tensor, bias: Tensor, *, groups: int, pooled: bool, eps: float) -> Tail:
    """The same as :func:`tail` of differentiable operators."""
    signs = None
    if pooled:
        signs = torch.where(weight.detach() < 0, -1.0, 1.0).to(x.dtype)
        signs = signs if weight.dim() == 1 else signs.repeat_interleave(x.shape[0] // groups, 0)
    summary = summarise(x, peaks=False, groups=groups)
    found = extremes(x, signs) if pooled else x
    scale = weight * torch.rsqrt(summary.var + eps)
    shift = bias - summary.mean * scale
    parts = found.reshape(groups, -1, *found.shape[1:])
    scale, shift = (part[:, None, :, None, None] for part in (scale, shift))
    y = F.relu(torch.addcmul(shift, parts, scale)).flatten(0, 1)
    return Tail(y, summary.mean, summary.var, x.numel() // summary.mean.numel())


def _plainly(setting: _Setting) -> Any:
    """``y`` of the plain form as a function of tensors."""
    return lambda x, weight, bias: plain_tail(x, weight, bias, **setting._asdict()).y


def _shape(x: Tensor, weight: Tensor, setting: _Setting) -> Any:
    return maps.shape(x.shape, setting.groups, pooled=setting.pooled, own=weight.dim() == 2, eps=setting.eps)


def _room(x: Tensor, count: int, setting: _Setting) -> tuple[Tensor, Tensor]:
    """Room for each picture's sums, and for what the last pass over a group needs."""
    return maps.sums(x, count), x.new_empty(setting.groups * maps.PLACES * x.shape[1])
