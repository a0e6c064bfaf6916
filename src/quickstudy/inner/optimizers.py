"""Floor 2: optimisers as pure functions over weights with a task axis.

Each is a pair: ``init(params) -> state`` and ``update(params, grads, state) -> (params, state)``. Every task's
weights and state are its own; nothing is written in place. Step for step they equal ``torch.optim``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from quickstudy.inner.descent import Params, TaskLosses, check_mode, gradients


class InnerOptimizer(Protocol):
    """What an inner optimiser offers."""

    def init(self, params: Params) -> Params:
        """The state before the first step: name -> ``[T, ...]``."""

    def update(self, params: Params, grads: Params, state: Params) -> tuple[Params, Params]:
        """Weights and state after one step."""


@dataclass(frozen=True)
class Sgd:
    """``p <- p - lr * g``.

    Args:
        lr: the learning rate.
    """

    lr: float

    def init(self, params: Params) -> Params:
        """Nothing to remember."""
        del params
        return {}

    def update(self, params: Params, grads: Params, state: Params) -> tuple[Params, Params]:
        """One step."""
        return {name: p - self.lr * grads[name] for name, p in params.items()}, state


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015).

    Args:
        lr: the learning rate.
        beta1: decay of the mean gradient; 0 in Reptile.
        beta2: decay of the mean squared gradient.
        eps: added to the root.
    """

    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def init(self, params: Params) -> Params:
        """Zero moments, and the number of steps taken, ``[T]``."""
        n_task = next(iter(params.values())).shape[0]
        state = {f"mean.{name}": torch.zeros_like(p) for name, p in params.items()}
        state |= {f"square.{name}": torch.zeros_like(p) for name, p in params.items()}
        state["step"] = next(iter(params.values())).new_zeros(n_task)
        return state

    def update(self, params: Params, grads: Params, state: Params) -> tuple[Params, Params]:
        """One step."""
        step = state["step"] + 1
        after, moved = {"step": step}, {}
        for name, p in params.items():
            per_task = (-1,) + (1,) * (p.dim() - 1)
            mean = torch.lerp(grads[name], state[f"mean.{name}"], self.beta1)
            square = torch.lerp(grads[name].square(), state[f"square.{name}"], self.beta2)
            unbiased = mean / (1 - self.beta1**step).view(per_task)
            root = (square / (1 - self.beta2**step).view(per_task)).sqrt()
            moved[name] = p - self.lr * unbiased / (root + self.eps)
            after |= {f"mean.{name}": mean, f"square.{name}": square}
        return moved, after


def make_optimizer(name: str, lr: float, *, beta1: float = 0.9) -> InnerOptimizer:
    """``"sgd"`` or ``"adam"``."""
    return Sgd(lr) if name == "sgd" else Adam(lr, beta1)


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
