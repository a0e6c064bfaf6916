"""Floor 2: Hessian-free Newton steps with a line search, each task by itself and without a graph."""

from __future__ import annotations

import torch
from torch import Tensor

from quickstudy.inner.descent import Params, TaskLosses, check_mode, gradients
from quickstudy.inner.implicit import cg, dot, plus, products

_SUFFICIENT = 1e-4
"""Share of the decrease promised by the slope that a step must bring (Armijo)."""


def newton_cg(
    losses: TaskLosses, start: Params, *, steps: int, cg_steps: int, damping: float = 0.0, halvings: int = 20
) -> Params:
    """``steps`` Newton steps, their directions by conjugate gradients, their lengths by halving until the loss falls.

    Where the Hessian bends downwards along a direction, the direction found before it is taken (at first the plain
    gradient). A task for which no length brings a decrease stays where it is.

    Args:
        losses: weights ``[T, ...]`` -> loss ``[T]``.
        start: name -> ``[T, ...]``.
        steps: Newton steps.
        cg_steps: conjugate gradient steps in each.
        damping: added to the Hessian's diagonal.
        halvings: how often a step's length, first 1, may be halved.

    Returns:
        Name -> ``[T, ...]``, without a graph.

    Raises:
        InputError: a parameter plays no part in the loss, or a layer has no second derivative.

    >>> newton_cg(lambda p: (p["w"] - 3).square().sum(1), {"w": torch.zeros(1, 1)}, steps=1, cg_steps=1)["w"].item()
    3.0
    """
    check_mode()
    params = {name: p.detach() for name, p in start.items()}
    for step in range(steps):
        with torch.enable_grad():
            leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
            value = losses(leaves)
            grads = gradients(value, leaves, create_graph=True, guard=step == 0)
        slope = {name: grad.detach() for name, grad in grads.items()}
        found = cg(products(grads, leaves), slope, steps=cg_steps, damping=damping)
        direction = {name: -d for name, d in found.x.items()}
        length = _line_search(losses, params, value.detach(), direction, dot(slope, direction), halvings)
        params = plus(params, length, direction)
    return params


@torch.no_grad()
def _line_search(
    losses: TaskLosses, params: Params, value: Tensor, direction: Params, slope: Tensor, halvings: int
) -> Tensor:
    """Each task's length ``[T]``: the first of 1, 1/2, 1/4 ... that brings enough; 0 where none does."""
    # Close to the minimum a good step changes the loss by less than its last digit.
    rounding = 8 * torch.finfo(value.dtype).eps * value.abs()
    length, found = torch.zeros_like(value), slope >= 0
    trial = 1.0
    for _ in range(halvings + 1):
        reached = losses(plus(params, trial, direction))
        enough = ~found & (reached <= value + _SUFFICIENT * trial * slope + rounding)
        length, found = torch.where(enough, trial, length), found | enough
        if bool(found.all()):
            break
        trial /= 2
    return length
