"""Floor 1: what a norm and a max-pooling must know of a map: each channel's moments, and each window's extreme value.

A norm is an affine map of each channel, and pooling its result takes, of each window, the largest value where the scale
is positive and the smallest where it is negative. So the map that a convolution puts out need only be read: for its
moments, and for those values. What is normalised and rectified is a quarter as large. The derivative is one pass over
the map as well, ``a + b x`` with numbers a and b of each example and channel, plus what the extremes get:

    m = mean x,  s = mean (x - m)²,  p = x[where]           over an example's map
    dx = dm/n + 2 ds/n (x - m),  dx[where] += dp            the derivative, an operator of its own
    u cotangent of dx:    dm: mean u,  ds: 2 mean u (x - m),  dp: u[where],  x: 2 ds/n (u - mean u)

Third derivatives are taken through plain operators. All maps are read in channels-last layout.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from quickstudy.nets.dense import needs_plain


class Summary(NamedTuple):
    """Of maps ``[R, C, H, W]``.

    Args:
        mean: over space, ``[R, C]``.
        var: over space, ``[R, C]``, not corrected.
        peaks: each 2x2 window's extreme value, ``[R, C, H/2, W/2]``; None where not asked for.
    """

    mean: Tensor
    var: Tensor
    peaks: Tensor | None


def summarise(x: Tensor, signs: Tensor | None = None, *, peaks: bool, groups: int | None = None) -> Summary:
    """Moments of each example's channels over space, and the windows' extremes.

    Args:
        x: ``[R, C, H, W]``.
        groups: take the moments of so many equally large groups of examples together, ``[groups, C]``; by default each
            example is one.
        signs: -1 where a channel's smallest value is wanted, else 1, ``[C]`` or ``[R, C]``; None: the largest
            everywhere.
        peaks: whether the extremes are wanted.
    """
    recorded = torch.is_grad_enabled() and x.requires_grad
    if recorded and not needs_plain(x):
        x = x.contiguous(memory_format=torch.channels_last)
        mean, var, found, _ = _Summarise.apply(x, signs, peaks, groups or x.shape[0])  # type: ignore[no-untyped-call]
        return Summary(mean, var, found)
    if not peaks:
        return Summary(*moments(x, groups), None)
    return Summary(*moments(x, groups), extremes(x, signs))


def extremes(x: Tensor, signs: Tensor | None) -> Tensor:
    """Each 2x2 window's extreme value by plain operators; arguments as in :func:`summarise`."""
    if signs is None:
        return F.max_pool2d(x, 2)
    shaped = signs[..., None, None]
    return F.max_pool2d(x * shaped, 2) * shaped


def moments(x: Tensor, groups: int | None = None) -> tuple[Tensor, Tensor]:
    """Each example's (or group's) mean and variance over space, ``[R, C]``, of ``[R, C, H, W]``.

    In two plain passes: torch.var_mean takes more than ten times as long on a channels-last map
    (benchmarks/kernels.py).
    """
    rows = _rows(x, groups or x.shape[0])
    if x.dtype in (torch.float16, torch.bfloat16):  # squares would leave their range, or their digits
        rows = rows.float()
    mean = rows.mean(1)
    off = rows - mean.unsqueeze(1)
    squares = off * off if off.requires_grad or needs_plain(x) else off.mul_(off)
    return mean.to(x.dtype), squares.mean(1).to(x.dtype)


def _rows(x: Tensor, groups: int) -> Tensor:
    """``[R, C, H, W] -> [groups, R·H·W / groups, C]``, a view of a channels-last map."""
    return x.permute(0, 2, 3, 1).reshape(groups, -1, x.shape[1])


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """The way back from :func:`_rows`."""
    n_example, channels, height, width = like.shape
    return rows.view(n_example, height, width, channels).permute(0, 3, 1, 2)


def _where(inside: Tensor, x: Tensor) -> Tensor:
    """Where the extremes stand in the channels-last memory of ``x``, flat, from where they stand in their maps."""
    n_example, channels, height, width = x.shape
    first = torch.arange(n_example, device=x.device).mul_(height * width * channels).view(-1, 1, 1, 1)
    first = first + torch.arange(channels, device=x.device)
    return torch.add(first, inside.permute(0, 2, 3, 1), alpha=channels).flatten()


def _flat(maps: Tensor) -> Tensor:
    """Maps ``[R, C, h, w]`` in the order of channels-last memory."""
    return maps.permute(0, 2, 3, 1).flatten()


class _Summarise(torch.autograd.Function):
    """(x, signs, peaks, groups) -> (mean, var, extremes, where they stand in their maps); the last two may be None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, signs: Tensor | None, peaks: bool, groups: int) -> tuple[Tensor | None, ...]:
        mean, var = moments(x, groups)
        found, inside = None, None
        if peaks and signs is None:
            found, inside = F.max_pool2d(x, 2, return_indices=True)
        elif peaks and signs is not None:
            shaped = signs[..., None, None]
            found, inside = F.max_pool2d(x * shaped, 2, return_indices=True)
            found = found * shaped
        if inside is not None:
            ctx.mark_non_differentiable(inside)
        ctx.save_for_backward(x, mean, inside)
        return mean, var, found, inside

    @staticmethod
    def backward(ctx: Any, d_mean: Tensor, d_var: Tensor, d_peaks: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
        x, mean, inside = ctx.saved_tensors
        where = None if inside is None else _where(inside, x)
        derive = _Spread.apply if torch.is_grad_enabled() else _spread
        return derive(d_mean, d_var, d_peaks, x, mean, where), None, None, None


def _spread(
    d_mean: Tensor, d_var: Tensor, d_peaks: Tensor | None, x: Tensor, mean: Tensor, where: Tensor | None
) -> Tensor:
    """``dx``, in channels-last layout."""
    rows = _rows(x, mean.shape[0])
    slope = d_var * (2 / rows.shape[1])
    offset = torch.addcmul(d_mean / rows.shape[1], slope, mean, value=-1)
    dx = torch.addcmul(offset.unsqueeze(1), rows, slope.unsqueeze(1)).contiguous()
    if where is not None:
        assert d_peaks is not None
        dx.view(-1).scatter_add_(0, where, _flat(d_peaks))
    return _maps(dx, x)


class _Spread(torch.autograd.Function):
    """(d_mean, d_var, d_peaks, x) -> dx."""

    @staticmethod
    def forward(
        ctx: Any, d_mean: Tensor, d_var: Tensor, d_peaks: Tensor | None, x: Tensor, mean: Tensor, where: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(d_var, x, mean, where)
        return _spread(d_mean, d_var, d_peaks, x, mean, where)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        d_var, x, mean, where = ctx.saved_tensors
        groups = mean.shape[0]
        rows, cotangent = _rows(x, groups), _rows(u, groups)
        u_mean = cotangent.mean(1)
        u_var = torch.addcmul((cotangent * rows).mean(1), u_mean, mean, value=-1) * 2
        slope = d_var * (2 / rows.shape[1])
        dx = torch.addcmul((slope * u_mean).neg().unsqueeze(1), cotangent, slope.unsqueeze(1))
        d_peaks = None
        if where is not None:
            n_example, channels, height, width = x.shape
            d_peaks = cotangent.reshape(-1).index_select(0, where)
            d_peaks = d_peaks.view(n_example, height // 2, width // 2, channels).permute(0, 3, 1, 2)
        return u_mean, u_var, d_peaks, _maps(dx, x), None, None
