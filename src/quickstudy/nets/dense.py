"""Floor 1: a linear layer with a task axis, and a ReLU where one follows, with own first and second derivatives.

Meta-learning differentiates a small network some ten times a step, and what that costs is the number of operators, not
their work. The layer's derivative and the derivative of that are written out here, each as few calls:

    y  = relu(x Wᵀ + b)                       d = dy ⊙ [y > 0]
    dx = d W,  dW = dᵀ x,  db = Σ_n d         the derivative, an operator of its own with inputs (dy, x, W, y)
    (u, U, v) cotangents of (dx, dW, db):     ḋ = x Uᵀ + u Wᵀ + v,  dy: ḋ ⊙ [y > 0],  x: d U,  W: dᵀ u

With a single input feature products are multiplications, for which no matrix kernel is called. Third derivatives are
taken through plain operators. Inside torch.func's transforms and under autocast, of which such a function knows
nothing, the layer is made of plain operators altogether.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def task_linear(x: Tensor, weight: Tensor, bias: Tensor, *, relu: bool = False) -> Tensor:
    """A linear map with a task axis, rectified where asked.

    Args:
        x: ``[T, N, I]``.
        weight: ``[O, I]`` or ``[T, O, I]``.
        bias: ``[O]`` or ``[T, O]``.
        relu: take ``max(0, y)``.

    Returns:
        ``[T, N, O]``.
    """
    if weight.dim() == 2 and bias.dim() == 1:
        y = F.linear(x, weight, bias)
        return torch.relu(y) if relu else y
    n_task = x.shape[0]
    if weight.dim() == 2:
        weight = weight.expand(n_task, -1, -1)
    if bias.dim() == 1:
        bias = bias.expand(n_task, -1)
    recorded = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad)
    if recorded and not needs_plain(x):
        return _Dense.apply(x, weight, bias, relu)  # type: ignore[no-any-return, no-untyped-call]
    y = _affine(bias, x, weight)
    return torch.relu(y) if relu else y


def needs_plain(x: Tensor) -> bool:
    """Whether an own function with a context would be refused, or get mixed precisions."""
    return torch._C._are_functorch_transforms_active() or torch.is_autocast_enabled(x.device.type)


def _affine(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """``b + x Wᵀ``: ``[T, O], [T, N, I], [T, O, I] -> [T, N, O]``."""
    combine = torch.addcmul if x.shape[2] == 1 else torch.baddbmm
    return combine(bias.unsqueeze(1), x, weight.transpose(1, 2))


def _outer(d: Tensor, x: Tensor) -> Tensor:
    """``dᵀ x``, summed over the rows: ``[T, N, O], [T, N, I] -> [T, O, I]``."""
    if x.shape[2] == 1:
        return (d * x).sum(1).unsqueeze(2)
    return torch.bmm(d.transpose(1, 2), x)


def _kept(d: Tensor, y: Tensor | None) -> Tensor:
    """``d`` where the ReLU let something through; y None: there was none."""
    return d if y is None else torch.ops.aten.threshold_backward(d, y, 0)


class _Dense(torch.autograd.Function):
    """(x, weight, bias) -> y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
        y = _affine(bias, x, weight)
        if relu:
            y = torch.relu(y)  # not in place: a trace of it stays free of writing
        ctx.relu = relu
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, y = ctx.saved_tensors
        asked = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # somebody will differentiate this derivative
            return *_DenseDerivative.apply(dy, x, weight, y, asked), None  # type: ignore[no-untyped-call]
        return *_derivative(_kept(dy, y), x, weight, asked), None


def _derivative(d: Tensor, x: Tensor, weight: Tensor, asked: tuple[bool, ...]) -> tuple[Tensor | None, ...]:
    """``(dx, dW, db)``, those that are asked for."""
    return (
        torch.bmm(d, weight) if asked[0] else None,
        _outer(d, x) if asked[1] else None,
        d.sum(1) if asked[2] else None,
    )


class _DenseDerivative(torch.autograd.Function):
    """(dy, x, weight, y) -> (dx, dW, db)."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, x: Tensor, weight: Tensor, y: Tensor | None, asked: tuple[bool, ...]
    ) -> tuple[Tensor | None, ...]:
        d = _kept(dy, y)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(dy, x, weight, y, d)
        return _derivative(d, x, weight, asked)

    @staticmethod
    def backward(ctx: Any, u: Tensor | None, big: Tensor | None, v: Tensor | None) -> tuple[Tensor | None, ...]:
        dy, x, weight, y, d = ctx.saved_tensors
        if torch.is_grad_enabled():
            d = _kept(dy, y)  # the one that was kept has no graph
        needs_dy, needs_x, needs_weight = ctx.needs_input_grad[:3]
        return (
            _kept(tangent, y) if needs_dy and (tangent := _tangent(u, big, v, x, weight)) is not None else None,
            torch.bmm(d, big) if needs_x and big is not None else None,
            _outer(d, u) if needs_weight and u is not None else None,
            None,
            None,
        )


def _tangent(u: Tensor | None, big: Tensor | None, v: Tensor | None, x: Tensor, weight: Tensor) -> Tensor | None:
    """The cotangent of ``d``, ``[T, N, O]``, from those of ``dx``, ``dW`` and ``db``; None where all are."""
    found = None if v is None else v.unsqueeze(1)
    for left, right in ((x, big), (u, weight)):
        if left is None or right is None:
            continue
        if found is None:
            found = left * right.transpose(1, 2) if left.shape[2] == 1 else torch.bmm(left, right.transpose(1, 2))
        else:
            combine = torch.addcmul if left.shape[2] == 1 else torch.baddbmm
            found = combine(found, left, right.transpose(1, 2))
    if found is not None and found.shape[1] != x.shape[1]:
        found = found.expand(-1, x.shape[1], -1)
    return found
