"""Floor 2: a few steps of any inner optimiser: `unroll` can be differentiated, `optimize` keeps no graph."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from quickstudy.errors import InputError
from quickstudy.inner.checkpointed import OneAtATime
from quickstudy.inner.descent import Params, StepLosses, TaskLosses, advanced, check_mode, gradients
from quickstudy.inner.optimizers import InnerOptimizer


def unroll(
    losses: StepLosses,
    start: Params,
    optimizer: InnerOptimizer,
    *,
    steps: int,
    second_order: bool = True,
    state: Params | None = None,
    checkpoint: bool = False,
) -> tuple[Params, Params]:
    """``steps`` optimiser steps for each task; what comes out can be differentiated.

    In ``start``, in the optimiser's rate, and in whatever else the losses and the state depend on. Under
    ``torch.no_grad()`` no graph outlives a step.

    Args:
        losses: (number of the step, weights ``[T, ...]``) -> loss ``[T]``.
        start: name -> ``[T, ...]``.
        optimizer: such as ``Adam(0.1)``.
        steps: how many, 0 or more.
        second_order: differentiate through the gradients too; without it they are constants.
        state: the optimiser's, to go on from; fresh by default.
        checkpoint: keep the activations of one step at a time, and compute each step once more in the backward pass, as
            :func:`checkpointed` does.

    Returns:
        Weights, and the optimiser's state.

    Raises:
        InputError: a weight plays no part in the loss; a negative number of steps; or an optimiser that is none of
            ``quickstudy.inner``, such as torch's, which write into weights.

    >>> import torch
    >>> from quickstudy.inner import Sgd
    >>> theta = {"w": torch.tensor([[2.0]], requires_grad=True)}
    >>> phi, _ = unroll(lambda step, p: p["w"].square().sum(1), theta, Sgd(0.25), steps=2)
    >>> torch.autograd.grad(phi["w"].sum(), theta["w"])[0].item()
    0.25
    """
    if steps < 0:
        raise InputError(f"Cannot take {steps} steps. Give 0 or more.")
    if isinstance(optimizer, torch.optim.Optimizer):
        name = type(optimizer).__name__
        raise InputError(
            f"torch.optim.{name} writes into the weights that it was built with, which cannot be differentiated. Use "
            f"the one of quickstudy.inner, such as {name if name in ('Adam', 'AdamW', 'Adagrad') else 'Sgd'}(lr)."
        )
    check_mode()
    params, memory = start, optimizer.init(start) if state is None else state
    path = OneAtATime()

    def moved(step: int, params: Params, memory: Params) -> tuple[Params, Params]:
        left = memory

        def update(step: int, params: Params, grads: Params) -> Params:
            nonlocal left
            del step
            params, left = optimizer.update(params, grads, memory)
            return params

        return advanced(losses, step, params, update, second_order=second_order), left

    for step in range(steps):
        compute = partial(moved, step, params, memory)
        params, memory = path.run(compute, params) if checkpoint else compute()
    return params, memory


def optimize(
    losses: list[TaskLosses], start: Params, optimizer: InnerOptimizer, state: Params | None = None
) -> tuple[Params, Params, Tensor]:
    """One step on each of ``losses`` in turn, with no graph kept: what Reptile and fine-tuning do.

    Args:
        losses: one function for each step: weights ``[T, ...]`` -> loss ``[T]``.
        start: name -> ``[T, ...]``.
        optimizer: what turns gradients into steps.
        state: where the optimiser goes on from; fresh by default.

    Returns:
        Weights, the optimiser's state, and the loss before each step, ``[steps, T]``.
    """
    check_mode()
    params = {name: p.detach() for name, p in start.items()}
    state = optimizer.init(params) if state is None else state
    history = []
    for loss in losses:
        with torch.enable_grad():
            params = {name: p.requires_grad_() for name, p in params.items()}
            value = loss(params)
            grads = gradients(value, params)
        with torch.no_grad():
            params, state = optimizer.update({n: p.detach() for n, p in params.items()}, grads, state)
        history.append(value.detach())
    first = next(iter(params.values()))
    return params, state, torch.stack(history) if history else first.new_zeros(0, first.shape[0])
