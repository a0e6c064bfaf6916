"""Floor 1: a chain of linear layers with a task axis, a ReLU between them, with own first and second derivatives.

Meta-learning differentiates a small network some ten times a step, and what that costs is the number of operators, not
their work. So a whole chain of layers is one operator, its derivative another, and the derivative of that a third:

    h_0 = x,  h_l = relu(h_{l-1} W_lᵀ + b_l)                        the value; after the last layer no ReLU unless asked
    d_l = (c_l + d_{l+1} W_{l+1}) ⊙ [h_l > 0]                       the derivative, with c_l cotangents of h_l
    dx = d_1 W_1,  dW_l = d_lᵀ h_{l-1},  db_l = Σ_n d_l
    e_l = (h_{l-1} U_lᵀ + v_l + e_{l-1} W_lᵀ) ⊙ [h_l > 0]           its derivative, with e_0, U_l, v_l cotangents of
    dc_L = e_L,  dh_{l-1} = d_l U_l,  dW_l = d_lᵀ e_{l-1}           dx, dW_l, db_l

What the layers put out is put out by the operator, too, so that ways through the value and through its derivative meet
there. Third derivatives are taken through plain operators. Where torch's operators must be seen (``needs_plain``) there
are plain operators altogether. The three themselves stand in ``chain.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from quickstudy import native
from quickstudy.nets.chain import (
    Shape,
    chain_derivative,
    chain_second,
    chain_value,
    plain_derivative,
    plain_second,
    plain_value,
)

Layer: TypeAlias = tuple[Tensor, Tensor]
"""Weight ``[O, I]`` or ``[T, O, I]``, and bias ``[O]`` or ``[T, O]``."""


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
    return task_chain(x, [(weight, bias)], relu=relu)


def task_chain(x: Tensor, layers: Sequence[Layer], *, relu: bool = False) -> Tensor:
    """Linear maps with a task axis, one after the other, rectified in between.

    Args:
        x: ``[T, N, I]``.
        layers: one or more.
        relu: rectify what the last one gives, too.

    Returns:
        ``[T, N, O]``.
    """
    shape = Shape(len(layers), relu)
    own = own_layers(x, layers)
    if own is None:
        for number, (weight, bias) in enumerate(layers, 1):
            x = F.linear(x, weight, bias)
            x = torch.relu(x) if shape.rectified(number) else x
        return x
    weights, biases = own
    if needs_plain(x):
        return plain_value(shape, x, weights, biases)[-1]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *weights, *biases)):
        return _Chain.apply(shape, x, *weights, *biases)[-1]  # type: ignore[no-any-return, no-untyped-call]
    return chain_value(shape, x, weights, biases)[-1]


def own_layers(x: Tensor, layers: Sequence[Layer]) -> tuple[list[Tensor], list[Tensor]] | None:
    """Weights and biases, each with a task axis; None where none has one."""
    weights, biases = [weight for weight, _ in layers], [bias for _, bias in layers]
    if all(weight.dim() == 2 for weight in weights) and all(bias.dim() == 1 for bias in biases):
        return None
    n_task = x.shape[0]
    return (
        [weight.expand(n_task, -1, -1) if weight.dim() == 2 else weight for weight in weights],
        [bias.expand(n_task, -1) if bias.dim() == 1 else bias for bias in biases],
    )


def needs_plain(x: Tensor) -> bool:
    """Whether an own function with a context would be refused or not be seen, or get mixed precisions (autocast)."""
    return native.watched() or torch.is_autocast_enabled(x.device.type)


class _Chain(torch.autograd.Function):
    """(x, weights, biases) -> what each layer puts out."""

    @staticmethod
    def forward(ctx: Any, shape: Shape, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = shape.layers
        x, weights, biases = tensors[0], tensors[1 : count + 1], tensors[count + 1 :]
        outs = chain_value(shape, x, weights, biases)
        ctx.shape = shape
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *weights, *(outs if shape.relu else outs[:-1]))
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        shape, (x, *rest), asked = ctx.shape, ctx.saved_tensors, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled() and not needs_plain(x) and not any(c is not None for c in cotangents[:-1]):
            # Somebody will differentiate this derivative.
            return None, *_Derivative.apply(shape, asked, cotangents[-1], x, *rest)  # type: ignore[no-untyped-call]
        run = plain_derivative if torch.is_grad_enabled() else chain_derivative
        weights, outs = rest[: shape.layers], rest[shape.layers :]
        return None, *run(shape, cotangents, x, weights, outs, asked)[0]


class _Derivative(torch.autograd.Function):
    """(cotangent of the last output, x, weights, what the layers put out) -> those of (x, weights, biases)."""

    @staticmethod
    def forward(
        ctx: Any, shape: Shape, asked: tuple[bool, ...], dy: Tensor, x: Tensor, *rest: Tensor
    ) -> tuple[Tensor | None, ...]:
        cotangents = (*[None] * (shape.layers - 1), dy)
        weights, outs = rest[: shape.layers], rest[shape.layers :]
        found, steps = chain_derivative(shape, cotangents, x, weights, outs, asked)
        ctx.shape, ctx.asked = shape, asked
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(dy, x, *rest, *steps)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        shape, (dy, x, *rest), asked = ctx.shape, ctx.saved_tensors, ctx.needs_input_grad[2:]
        count = shape.layers
        weights, outs, steps = rest[:count], rest[count:-count], rest[-count:]
        if torch.is_grad_enabled():  # the steps that were kept have no graph
            given = (*[None] * (count - 1), dy)
            _, steps = plain_derivative(shape, given, x, weights, outs, [False] * len(ctx.asked))
            return None, None, *plain_second(shape, cotangents, x, weights, outs, steps, asked)
        return None, None, *chain_second(shape, cotangents, x, weights, outs, steps, asked)
