"""Floor 1: what a norm and a max-pooling must know of a map: each channel's moments, and each window's extreme value.

A norm is an affine map of each channel, and pooling its result takes, of each window, the largest value where the scale
is positive and the smallest where it is negative. So the map that a convolution puts out need only be read: for its
moments, and for those values. What is normalised and rectified is a quarter as large. The derivative is one pass over
the map as well, ``a + b x`` with numbers a and b of each example and channel, plus what the extremes get:

    m = mean x,  s = mean (x - m)²,  p = x[where]           over an example's map
    dx = dm/n + 2 ds/n (x - m),  dx[where] += dp            the derivative, an operator of its own
    u cotangent of dx:    dm: mean u,  ds: 2 mean u (x - m),  dp: u[where],  x: 2 ds/n (u - mean u)

Each is a pass in C (``maps.c``) where that may be used, else of torch's operators, through which third derivatives are
taken, too. All maps are read in channels-last layout.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from quickstudy.nets import maps
from quickstudy.nets.dense import needs_plain
from quickstudy.nets.joined import relaid


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
    if not needs_plain(x) and (recorded or _in_c(x, signs, peaks)):
        x = x.contiguous(memory_format=torch.channels_last)
        mean, var, found, _ = _Summarise.apply(x, signs, peaks, groups or x.shape[0])  # type: ignore[no-untyped-call]
        return Summary(mean, var, found)
    if not peaks:
        return Summary(*moments(x, groups), None)
    return Summary(*moments(x, groups), extremes(x, signs))


def _in_c(x: Tensor, signs: Tensor | None, peaks: bool) -> bool:
    """Whether C may read the maps, and the signs."""
    if signs is None:
        return maps.readable(x, pooled=peaks)
    return signs.shape in (x.shape[1:2], x.shape[:2]) and maps.readable(x, signs, pooled=peaks)


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
    # Under autocast they stay in float32, as those of torch's own norms do.
    kind = rows.dtype if torch.is_autocast_enabled(x.device.type) else x.dtype
    return mean.to(kind), squares.mean(1).to(kind)


def _rows(x: Tensor, groups: int) -> Tensor:
    """``[R, C, H, W] -> [groups, R·H·W / groups, C]``, a view of a channels-last map."""
    return x.permute(0, 2, 3, 1).reshape(groups, -1, x.shape[1])


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """The way back from :func:`_rows`."""
    n_example, channels, height, width = like.shape
    return rows.view(n_example, height, width, channels).permute(0, 3, 1, 2)


def _where(inside: Tensor, x: Tensor) -> Tensor:
    """Where the extremes stand in the channels-last memory of ``x``, flat.

    Args:
        inside: where they stand in their maps, or (as C says it, in a byte) 0 to 3 in their windows.
        x: the maps.
    """
    n_example, channels, height, width = x.shape
    if inside.dtype == torch.uint8:
        k = inside.long()
        row = torch.arange(height // 2, device=x.device).mul_(2).view(-1, 1) + k.div(2, rounding_mode="floor")
        inside = row * width + torch.arange(width // 2, device=x.device).mul_(2) + k % 2
    first = torch.arange(n_example, device=x.device).mul_(height * width * channels).view(-1, 1, 1, 1)
    first = first + torch.arange(channels, device=x.device)
    return torch.add(first, inside.permute(0, 2, 3, 1), alpha=channels).flatten()


def _flat(values: Tensor) -> Tensor:
    """Maps ``[R, C, h, w]`` in the order of channels-last memory."""
    return values.permute(0, 2, 3, 1).reshape(-1)  # not flatten, which is_grads_batched has no rule for


class _Summarise(torch.autograd.Function):
    """(x, signs, peaks, groups) -> (mean, var, extremes, where they stand in their maps); the last two may be None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, signs: Tensor | None, peaks: bool, groups: int) -> tuple[Tensor | None, ...]:
        if _in_c(x, signs, peaks):
            mean, var, found, inside = _summarise_in_c(x, signs, peaks, groups)
        else:
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
        x, mean, inside = relaid(*ctx.saved_tensors)
        derive = _Spread.apply if torch.is_grad_enabled() else _spread
        return derive(d_mean, d_var, d_peaks, x, mean, inside), None, None, None


def _summarise_in_c(
    x: Tensor, signs: Tensor | None, peaks: bool, groups: int
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    mean, var = x.new_empty(2, groups, x.shape[1]).unbind()
    found, inside = (maps.halved(x, dtype) if peaks else None for dtype in (x.dtype, torch.uint8))
    own = signs is not None and signs.dim() == 2
    told = maps.shape(x.shape, groups, pooled=peaks, own=own, sharing=1)
    signs = None if signs is None else signs.contiguous()
    maps.C.call("summarise", told, x, signs, maps.sums(x, 2), found, inside, mean, var)
    return mean, var, found, inside


def _spread(
    d_mean: Tensor, d_var: Tensor, d_peaks: Tensor | None, x: Tensor, mean: Tensor, inside: Tensor | None
) -> Tensor:
    """``dx``, in channels-last layout."""
    given = [part for part in (mean, d_mean, d_var, d_peaks) if part is not None]
    if (inside is None or inside.dtype == torch.uint8) and maps.readable(x, *given):
        dx, pooled = torch.empty_like(x), inside is not None
        told = maps.shape(x.shape, mean.shape[0], pooled=pooled)
        if d_peaks is not None:
            d_peaks = d_peaks.contiguous(memory_format=torch.channels_last)
        maps.C.call("spread", told, d_mean.contiguous(), d_var.contiguous(), d_peaks, x, inside, mean, dx)
        return dx
    rows = _rows(x, mean.shape[0])
    slope = d_var * (2 / rows.shape[1])
    offset = torch.addcmul(d_mean / rows.shape[1], slope, mean, value=-1)
    dx = torch.addcmul(offset.unsqueeze(1), rows, slope.unsqueeze(1)).contiguous()
    if inside is not None:
        assert d_peaks is not None
        dx.view(-1).scatter_add_(0, _where(inside, x), _flat(d_peaks))
    return _maps(dx, x)


class _Spread(torch.autograd.Function):
    """(d_mean, d_var, d_peaks, x) -> dx."""

    @staticmethod
    def forward(
        ctx: Any, d_mean: Tensor, d_var: Tensor, d_peaks: Tensor | None, x: Tensor, mean: Tensor, inside: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(d_var, x, mean, inside)
        return _spread(d_mean, d_var, d_peaks, x, mean, inside)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        d_var, x, mean, inside = relaid(*ctx.saved_tensors)
        groups = mean.shape[0]
        in_c = (inside is None or inside.dtype == torch.uint8) and not torch.is_grad_enabled()
        if in_c and maps.readable(x, u, d_var, mean):
            u, ddx = u.contiguous(memory_format=torch.channels_last), torch.empty_like(x)
            of_mean, of_var = torch.empty_like(mean), torch.empty_like(mean)
            of_peaks = None if inside is None else maps.halved(x, x.dtype)
            told = maps.shape(x.shape, groups, pooled=inside is not None)
            known = (u, d_var, x, inside, mean, maps.sums(x, 2))
            maps.C.call("respond", told, *known, of_mean, of_var, of_peaks, ddx)
            return of_mean, of_var, of_peaks, ddx, None, None
        rows, cotangent = _rows(x, groups), _rows(u, groups)
        u_mean = cotangent.mean(1)
        u_var = torch.addcmul((cotangent * rows).mean(1), u_mean, mean, value=-1) * 2
        slope = d_var * (2 / rows.shape[1])
        dx = torch.addcmul((slope * u_mean).neg().unsqueeze(1), cotangent, slope.unsqueeze(1))
        d_peaks = None
        if inside is not None:
            n_example, channels, height, width = x.shape
            d_peaks = cotangent.reshape(-1).index_select(0, _where(inside, x))
            d_peaks = d_peaks.view(n_example, height // 2, width // 2, channels).permute(0, 3, 1, 2)
        return u_mean, u_var, d_peaks, _maps(dx, x), None, None
