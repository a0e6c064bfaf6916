"""Floor 3: an optimiser's steps on weights of each task, where only the last ones are wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from torch import Tensor

from quickstudy.inner import InnerOptimizer, Params, trajectory


def descended(losses: Callable[[Params], Tensor], start: Params, steps: int, optimizer: InnerOptimizer) -> Params:
    """Weights of each task after some optimiser steps; differentiable in ``start`` to first order.

    Args:
        losses: weights ``[T, ...]`` -> loss ``[T]``.
        start: name -> ``[T, ...]``.
        steps: 0 or more.
        optimizer: turns gradients into steps.
    """
    memory = optimizer.init({name: p.detach() for name, p in start.items()})

    def update(step: int, params: Params, grads: Params) -> Params:
        nonlocal memory
        del step
        moved, memory = optimizer.update(params, grads, memory)
        return moved

    path = trajectory(lambda _, params: losses(params), start, steps=steps, update=update, second_order=False)
    return deque(path, maxlen=1).pop()  # the others need not be kept
