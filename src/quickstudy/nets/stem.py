"""Floor 1: a network's first block as one operator in C, for pictures that need no derivative.

3x3 convolution, batch norm over a group of pictures, 2x2 max-pooling or none, and ReLU. The first map is a network's
largest, and it is never laid down. With φ the patches of the pictures (``[9 I]`` numbers each, M of them in a group),
the convolution is x = W φ, so its moments are those of φ:

    s = Σ φ,  Γ = Σ (φ - s/M)(φ - s/M)ᵀ,  m = W s/M,  v = diag(W Γ Wᵀ)/M,  r = 1/√(v + ε),  a = w r
    y = relu(a (W φ* - m) + b)            φ*: the patch at each window's extreme value

    the derivative, an operator of its own with inputs (dy, W, w), where g = dy ⊙ [y > 0]:
    db = Σ g,  B = Σ g φ*,  S = W·B - m db,  dw = r S,  dW = κ W Γ - (a db/M) s + a B,  κ = -a r² S/M

    (Ω, ω, β) cotangents of (dW, dw, db), with U = Ω·s, V = Ω Γ·W, G = Ω·B and k = ω r - a r² V/M:
    dy: [y > 0] ((a Ω + k W) φ* + β - a U/M - k m)
    w:  r Q,                                        Q = G - db U/M - r² S V/M
    W:  κ Ω Γ - (k db/M) s - (R r³/M) W Γ + k B,    R = w Q - 2 a r S V/M + ω S

(a dot is a sum over a channel's 9 I numbers). So each derivative is one pass over what is left of the map. The formulas
are those of ``tail.py`` with dx = the cotangent of W φ. Where C may not be used, there is no stem.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from quickstudy import native
from quickstudy.nets.dense import needs_plain
from quickstudy.nets.joined import Functions, derivative_of, from_groups, relaid, second_of, to_groups
from quickstudy.nets.tail import Tail, fit, plain_tail

MOST_INPUTS = 4  # 9 taps of each; as in stem.c
_LANES = 16  # channels are filled up to a multiple, as there
_LAST = torch.channels_last
_C = Functions(Path(__file__).with_name("stem.c"), {"forward": 13, "derivative": 16, "second": 20})


class Setting(NamedTuple):
    """The arguments of :func:`stem` that are no tensors."""

    groups: int
    pooled: bool
    stride: int
    padding: int
    eps: float
    beside: bool = False


def stem(
    pictures: Tensor,
    kernel: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    groups: int,
    pooled: bool,
    stride: int,
    padding: int,
    eps: float,
    beside: bool = False,
) -> Tail | None:
    """The first block; None where C may not be used, or the pictures need a derivative.

    Args:
        pictures: ``[R, I, H, W]``, R a multiple of ``groups``.
        kernel: the convolution's weight, ``[C, I, 3, 3]`` or, one a group, ``[groups, C, I, 3, 3]``.
        weight: the norm's scale, ``[C]`` or ``[groups, C]``, likewise.
        bias: the norm's shift, likewise.
        groups: how many equally large groups of pictures have moments of their own.
        pooled: whether windows of 2x2 are pooled; only with a stride of 1.
        stride: the convolution's.
        padding: zeros around the pictures.
        eps: added to the variance.
        beside: put out the groups side by side, ``[R / groups, groups * C, H', W']``.
    """
    if pictures.requires_grad or needs_plain(pictures) or not native.usable(pictures, kernel, weight, bias):
        return None
    inputs, channels = pictures.shape[1], kernel.shape[-4]
    if not pictures.numel() or inputs > MOST_INPUTS or (pooled and stride != 1):
        return None
    # The others' faults are told by torch's operators.
    window = (channels, inputs, 3, 3)
    right = kernel.shape in (window, (groups, *window)) and kernel.dtype == pictures.dtype
    if not (right and fit(pictures, weight, groups, channels) and fit(pictures, bias, groups, channels)):
        return None
    setting = Setting(groups, pooled, stride, padding, eps, beside)
    if min(_small(pictures, kernel, setting)) < 1 or not _C.there():
        return None
    if kernel.dim() == 5 or weight.dim() == 2 or bias.dim() == 2:  # C knows weights of each group's own, or shared ones
        kernel, weight, bias = (
            part if part.dim() == own else part.expand(groups, *part.shape)
            for part, own in ((kernel, 5), (weight, 2), (bias, 2))
        )
    y, mean, var = _Stem.apply(pictures, kernel, weight, bias, setting)  # type: ignore[no-untyped-call]
    height, width = (_places(n, setting) for n in pictures.shape[2:])
    return Tail(y, mean, var, pictures.shape[0] // groups * height * width)


def plain_stem(pictures: Tensor, kernel: Tensor, weight: Tensor, bias: Tensor, setting: Setting) -> Tensor:
    """``y`` of differentiable operators."""
    if kernel.dim() == 4:
        x = F.conv2d(pictures, kernel, None, setting.stride, setting.padding)
    else:
        parts = zip(pictures.chunk(setting.groups), kernel, strict=True)
        x = torch.cat([F.conv2d(p, k, None, setting.stride, setting.padding) for p, k in parts])
    y = plain_tail(x, weight, bias, groups=setting.groups, pooled=setting.pooled, eps=setting.eps).y
    return y.reshape(setting.groups, -1, *y.shape[1:]).transpose(0, 1).flatten(1, 2) if setting.beside else y


class _Found(NamedTuple):
    """What the forward pass found that its derivatives want."""

    y: Tensor
    where: Tensor | None  # 0 .. 3 in its window; None where nothing is pooled
    mean: Tensor
    var: Tensor
    sums: Tensor  # of the patches, [groups, 9 I]
    products: Tensor  # about their means, [groups, 9 I, 9 I]


class _Stem(torch.autograd.Function):
    """(pictures, kernel, weight, bias) -> (y, mean, var)."""

    @staticmethod
    def forward(
        ctx: Any, pictures: Tensor, kernel: Tensor, weight: Tensor, bias: Tensor, setting: Setting
    ) -> tuple[Tensor, Tensor, Tensor]:
        channels, taps = weight.shape[-1], 9 * pictures.shape[1]
        small = _small(pictures, kernel, setting)
        y = torch.empty(small, dtype=pictures.dtype, device=kernel.device, memory_format=_LAST)
        where = torch.empty_like(y, dtype=torch.uint8) if setting.pooled else None
        mean, var = weight.new_empty(2, setting.groups, channels).unbind()
        sums = torch.empty(setting.groups, taps, dtype=torch.float64, device=kernel.device)
        products = torch.empty(setting.groups, taps, taps, dtype=torch.float64, device=kernel.device)
        partial = torch.empty(pictures.shape[0], taps + taps * taps, dtype=torch.float64, device=kernel.device)
        turned = kernel.new_empty(setting.groups * taps * _filled(channels))
        own = [part.contiguous() for part in (kernel, weight, bias)]
        room = _room(pictures, setting)
        shape = _shape(pictures, kernel, setting)
        _C.call("forward", shape, pictures, *own, partial, room, turned, y, where, mean, var, sums, products)
        ctx.setting = setting
        ctx.save_for_backward(pictures, kernel, weight, bias, y, where, mean, var, sums, products)
        ctx.mark_non_differentiable(mean, var)
        ctx.set_materialize_grads(False)
        return y, mean, var

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if dy is None:
            return (None,) * 5
        pictures, *own, y, where, mean, var, sums, products = ctx.saved_tensors
        recorded = torch.is_grad_enabled()
        y, where, mean, var, sums, products = found = relaid(y, where, mean, var, sums, products)
        if not native.usable(dy, pictures, *own, y, mean, var, sums, products):
            return None, *derivative_of(_plainly(pictures, ctx.setting), own, dy, recorded=recorded), None
        dy = dy.contiguous(memory_format=_LAST)
        if recorded:
            return None, *_Derivative.apply(dy, *own, pictures, ctx.setting, *found), None  # type: ignore[no-untyped-call]
        kernel, weight, _ = own
        derived = _derivative(dy, kernel, weight, pictures, ctx.setting, _Found(*found))
        return None, *derived.like(kernel, weight), None


class _Derived(NamedTuple):
    """The derivatives, one a group."""

    kernel: Tensor  # [groups, C, 9 I]
    weight: Tensor  # [groups, C]
    bias: Tensor  # [groups, C]
    chosen: Tensor  # B

    def like(self, kernel: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first three in the shapes of what they are derivatives of."""
        of_kernel = from_groups(self.kernel, kernel, 5)
        return of_kernel, from_groups(self.weight, weight, 2), from_groups(self.bias, weight, 2)


def _derivative(
    dy: Tensor, kernel: Tensor, weight: Tensor, pictures: Tensor, setting: Setting, found: _Found
) -> _Derived:
    groups, channels, taps = setting.groups, weight.shape[-1], 9 * pictures.shape[1]
    of_weight, of_bias = weight.new_empty(2, groups, channels).unbind()
    chosen = torch.empty(groups, channels, taps, dtype=torch.float64, device=kernel.device)
    derived = _Derived(kernel.new_empty(groups, channels, taps), of_weight, of_bias, chosen)
    partial = torch.empty(pictures.shape[0], taps + 1, _filled(channels), dtype=torch.float64, device=kernel.device)
    y, where, *moments = found
    known = (dy, y, where, pictures, kernel.contiguous(), weight.contiguous(), *moments)
    room = _room(pictures, setting)
    _C.call("derivative", _shape(pictures, kernel, setting), *known, partial, room, chosen, *derived[:3])
    return derived


class _Derivative(torch.autograd.Function):
    """(dy, kernel, weight) -> their derivatives and the bias's."""

    @staticmethod
    def forward(
        ctx: Any,
        dy: Tensor,
        kernel: Tensor,
        weight: Tensor,
        bias: Tensor,
        pictures: Tensor,
        setting: Setting,
        *rest: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        derived = _derivative(dy, kernel, weight, pictures, setting, _Found(*rest))
        ctx.setting = setting
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(dy, kernel, weight, bias, pictures, *rest, *derived[1:])
        return derived.like(kernel, weight)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        dy, kernel, weight, bias, pictures, *rest = ctx.saved_tensors
        dy, y, where, *moments, of_weight, of_bias, chosen = relaid(dy, *rest)
        others = (None,) * 9
        given = [cotangent for cotangent in cotangents if cotangent is not None]
        if not given:
            return None, None, None, *others
        setting = ctx.setting
        read = (*given, dy, kernel, weight, pictures, y, *moments, of_weight, of_bias, chosen)
        if torch.is_grad_enabled() or not native.usable(*read):
            found = second_of(_plainly(pictures, setting), (kernel, weight, bias), dy, cotangents)
            return *found[:3], *others
        groups, channels, taps = chosen.shape
        shapes = ((groups, channels, taps), (groups, channels), (groups, channels))
        laid = [to_groups(c, shape, kernel) for c, shape in zip(cotangents, shapes, strict=True)]
        turned = kernel.new_empty(groups * (taps + 1) * _filled(channels))
        ddy, dd_kernel, dd_weight = torch.empty_like(dy), kernel.new_empty(shapes[0]), torch.empty_like(of_weight)
        known = (y, where, pictures, kernel.contiguous(), weight.contiguous(), *moments, chosen, of_weight, of_bias)
        room = _room(pictures, setting)
        _C.call("second", _shape(pictures, kernel, setting), *laid, *known, room, turned, ddy, dd_kernel, dd_weight)
        return ddy, from_groups(dd_kernel, kernel, 5), from_groups(dd_weight, weight, 2), *others


def _plainly(pictures: Tensor, setting: Setting) -> Any:
    """``plain_stem`` as a function of what has derivatives."""
    return lambda kernel, weight, bias: plain_stem(pictures, kernel, weight, bias, setting)


class _Shape(ctypes.Structure):
    """As in ``stem.c``."""

    _fields_ = [
        *((n, ctypes.c_int64) for n in "groups pictures inputs height width channels".split()),
        *((f"{n}_stride", ctypes.c_int64) for n in "picture input row column".split()),
        *((n, ctypes.c_int64) for n in "pooled stride padding own_weights beside".split()),
        ("eps", ctypes.c_double),
    ]


@functools.lru_cache(maxsize=256)
def _described(sizes: tuple[int, ...], strides: tuple[int, ...], channels: int, own: bool, setting: Setting) -> Any:
    pictures = sizes[0] // setting.groups
    window = (setting.pooled, setting.stride, setting.padding)
    shape = _Shape(setting.groups, pictures, *sizes[1:], channels, *strides, *window, own, setting.beside, setting.eps)
    return ctypes.byref(shape)


def _shape(pictures: Tensor, kernel: Tensor, setting: Setting) -> Any:
    return _described(tuple(pictures.shape), pictures.stride(), kernel.shape[-4], kernel.dim() == 5, setting)


def _small(pictures: Tensor, kernel: Tensor, setting: Setting) -> tuple[int, int, int, int]:
    """The shape of what the block puts out."""
    halved = 2 if setting.pooled else 1
    height, width = (_places(n, setting) // halved for n in pictures.shape[2:])
    rows, channels = pictures.shape[0], kernel.shape[-4]
    if setting.beside:
        return rows // setting.groups, setting.groups * channels, height, width
    return rows, channels, height, width


def _places(length: int, setting: Setting) -> int:
    """How many places a window has along an axis."""
    return (length + 2 * setting.padding - 3) // setting.stride + 1


def _room(pictures: Tensor, setting: Setting) -> Tensor:
    """Room for the pictures with their borders."""
    border = 2 * setting.padding
    n_row, inputs, height, width = pictures.shape
    return pictures.new_empty(n_row * inputs * (height + border) * (width + border))


def _filled(channels: int) -> int:
    return -(-channels // _LANES) * _LANES
