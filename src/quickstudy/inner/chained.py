"""Floor 2: gradient descent on the squared error of a chain of linear layers, as one operator for all of its steps.

What ``inner.descend`` does for any loss, for the one that regression descends. The weights of each step and what the
layers put out on the way are kept, and no graph is built. With φ the weights, θ = φ_0, and g = dL/dφ,

    φ_{k+1} = φ_k - α g(φ_k)                         the steps
    c_k = c_{k+1} - α (dg/dφ)(φ_k)ᵀ c_{k+1}          back through them, from the last one's cotangent

by the formulas of ``nets/dense.py``; in first order c_k = c_{k+1}. Derivatives of that are taken through plain
operators, as is the way back itself where C may not take it (``is_grads_batched``, a dispatch mode).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from quickstudy import native
from quickstudy.nets.chain import Shape, chain_ascend, chain_descend, plain_value
from quickstudy.nets.dense import Layer, needs_plain

_stepwise: ContextVar[bool] = ContextVar("quickstudy_stepwise", default=False)


@contextmanager
def stepwise() -> Iterator[None]:
    """Take the steps called inside one by one, each by ``torch.autograd.grad``, for those who watch its calls."""
    token = _stepwise.set(True)
    try:
        yield
    finally:
        _stepwise.reset(token)


class _Steps(NamedTuple):
    """What is done, beside tensors."""

    shape: Shape
    steps: int
    lr: float
    second_order: bool

    def rate(self, targets: Tensor) -> float:
        """What the errors are multiplied with to be -α times the cotangent of the outputs."""
        return -self.lr * 2 / targets[0].numel()


def descend_chain(
    x: Tensor, targets: Tensor, layers: Sequence[Layer], *, steps: int, lr: float, second_order: bool = True
) -> list[Layer] | None:
    """``steps`` steps of each task on its mean squared error; None where this cannot be done as one operator.

    Args:
        x: ``[T, N, I]``.
        targets: ``[T, N, O]``.
        layers: weights ``[T, O, I]`` and biases ``[T, O]`` where the steps start.
        steps: how many, 1 or more.
        lr: α.
        second_order: differentiate through the gradients too.
    """
    start = [*[weight for weight, _ in layers], *[bias for _, bias in layers]]
    if _stepwise.get() or needs_plain(x) or x.requires_grad or targets.requires_grad:
        return None
    if not (targets[0].numel() and steps):
        return None
    fits = targets.shape == (*x.shape[:2], layers[-1][0].shape[1]) and start[0].dim() == 3
    if not fits or any(part.dtype is not x.dtype or part.device != x.device for part in (targets, *start)):
        return None
    how = _Steps(Shape(len(layers), False), steps, lr, second_order)
    if torch.is_grad_enabled() and any(part.requires_grad for part in start):
        end = _Descent.apply(how, x, targets, *start)  # type: ignore[no-untyped-call]
    else:
        end, _ = chain_descend(how.shape, x, targets, start, steps=steps, rate=how.rate(targets), keep=False)
    return list(zip(end[: len(layers)], end[len(layers) :], strict=True))


class _Descent(torch.autograd.Function):
    """(weights, biases) -> those after the steps."""

    @staticmethod
    def forward(ctx: Any, how: _Steps, x: Tensor, targets: Tensor, *start: Tensor) -> tuple[Tensor, ...]:
        end, ctx.kept = chain_descend(
            how.shape, x, targets, start, steps=how.steps, rate=how.rate(targets), keep=how.second_order
        )
        ctx.how = how
        ctx.save_for_backward(x, targets, *start)
        return tuple(end)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        how, (x, targets, *start) = ctx.how, ctx.saved_tensors
        if not how.second_order:
            return None, None, None, *cotangents
        recorded = torch.is_grad_enabled()
        # Many at once (is_grads_batched) lie in another tensor, and torch has no rule for what chain_ascend calls.
        bundled, in_c = not all(map(torch._C._has_storage, cotangents)), not isinstance(ctx.kept, list)
        if recorded or bundled or needs_plain(x) or (in_c and not native.usable(*cotangents)):
            return None, None, None, *_plain_back(how, x, targets, start, cotangents, recorded=recorded)
        found = chain_ascend(how.shape, x, ctx.kept, cotangents, steps=how.steps, rate=how.rate(targets))
        return None, None, None, *found


def _plain_back(
    how: _Steps, x: Tensor, targets: Tensor, start: Sequence[Tensor], cotangents: Sequence[Tensor], *, recorded: bool
) -> Sequence[Tensor]:
    """The cotangents of ``start``, of plain operators; they can be differentiated where ``recorded``."""
    # As other tensors than those that one of them may have been made from.
    count = how.shape.layers
    with torch.enable_grad():
        params = start = [
            part.view_as(part) if part.requires_grad else part.detach().requires_grad_() for part in start
        ]
        for _ in range(how.steps):
            off = plain_value(how.shape, x, params[:count], params[count:])[-1] - targets
            by = torch.autograd.grad(off.square().mean((1, 2)).sum(), params, create_graph=True)
            params = [part - how.lr * grad for part, grad in zip(params, by, strict=True)]
    return torch.autograd.grad(params, start, cotangents, create_graph=recorded)
