"""Floor 2: optimisers as pure functions over weights with a task axis.

Each is a pair: ``init(params) -> state`` and ``update(params, grads, state) -> (params, state)``. Every task's
weights and state are its own; nothing is written in place. Step for step they equal ``torch.optim``, and a step can
be differentiated, in the gradients, the earlier steps and the rate, also where a gradient is exactly zero.

A rate ``lr`` is a number, or a tensor that may itself be learned: one for all, ``[]``, or one a task, ``[T]``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from quickstudy import native
from quickstudy.episode import may_read
from quickstudy.errors import InputError
from quickstudy.inner.descent import Params

Rate: TypeAlias = float | Tensor
"""A number, or a tensor ``[]`` or ``[T]``."""


class InnerOptimizer(Protocol):
    """What an inner optimiser offers."""

    def init(self, params: Params) -> Params:
        """The state before the first step: name -> ``[T, ...]``."""

    def update(self, params: Params, grads: Params, state: Params) -> tuple[Params, Params]:
        """Weights and state after one step."""


def safe_sqrt(x: Tensor) -> Tensor:
    """``sqrt(x)``, with derivatives 0 where ``x`` is 0 (theirs are infinite, and infinity times 0 is no number).

    Numbers too small to be normal count as 0 there; their value is exact all the same.
    """
    small = x < torch.finfo(x.dtype).tiny
    return torch.where(small, x.detach().sqrt(), torch.where(small, 1.0, x).sqrt())


def per_task(values: Rate, like: Tensor) -> Rate:
    """``values`` to be multiplied with ``like`` ``[T, ...]``: one a task gets as many axes."""
    if isinstance(values, Tensor) and values.dim() == 1:
        return values.view(-1, *(1,) * (like.dim() - 1))
    return values


def per_task_mask(mask: Tensor, like: Tensor) -> Tensor:
    """A mask ``[T]`` with as many axes as ``like``."""
    return mask.view(-1, *(1,) * (like.dim() - 1))


def _steps_before(params: Params) -> Tensor:
    """A count a task: whole numbers, which stay exact whatever precision the weights have."""
    first = next(iter(params.values()))
    return first.new_zeros(first.shape[0], dtype=torch.int64)


def _bias_correction(decay: float, step: Tensor, like: Tensor) -> Rate:
    """``1 - decay^step``, without the digits that the subtraction loses where decay is close to 1; for each task.

    Args:
        decay: of a running mean that began at 0.
        step: int64 ``[T]``, from 1 on.
        like: what is to be divided by it.
    """
    if decay == 0:
        return 1.0
    wide = torch.float64 if like.dtype == torch.float64 else torch.float32  # not every device has float64
    return per_task(-torch.expm1(step.to(wide) * math.log(decay)).to(like.dtype), like)


def _check(lr: Rate, **given: float) -> None:
    """A rate that is a number, and options, of 0 or more; not NaN.

    Raises:
        InputError: naming the option.
    """
    if not isinstance(lr, Tensor):
        given["lr"] = lr
    for name, value in given.items():
        if not 0 <= value < math.inf:
            raise InputError(f"An optimiser's {name} must be a number of at least 0, received {value}.")


def _check_decays(**given: float) -> None:
    """How much of a running mean is kept: less than all of it, which would never move.

    Raises:
        InputError: naming the option.
    """
    for name, value in given.items():
        if not 0 <= value < 1:
            raise InputError(f"An optimiser's {name} must be at least 0 and below 1, received {value}.")


def _check_eps(optimizer: Adam | AdamW | RMSprop | Adagrad, params: Params) -> None:
    """What is added to the root is more than 0 in the precision of the weights.

    Raises:
        InputError: it is lost, and weights whose gradient is 0 would become NaN.
    """
    for dtype in {p.dtype for p in params.values()}:
        if optimizer.eps > 0 and not bool(torch.tensor(optimizer.eps, dtype=dtype)):
            raise InputError(
                f"{type(optimizer).__name__} cannot train weights of {str(dtype).removeprefix('torch.')}: its eps of "
                f"{optimizer.eps:g}, which keeps it from dividing by 0, is itself 0 there. Call float() or bfloat16() "
                "on the learner, take a larger eps, or plain gradient descent (sgd)."
            )


@dataclass(frozen=True)
class Sgd:
    """Gradient descent: ``b <- momentum b + (1 - dampening) g`` (first ``b = g``), ``p <- p - lr b``.

    Args:
        lr: the learning rate.
        momentum: how much of the last step is kept.
        dampening: how much less of a gradient joins the momentum.
        nesterov: look ahead, ``p <- p - lr (g + momentum b)``.
        weight_decay: times ``p``, added to the gradient.

    Raises:
        InputError: a negative number or NaN, or ``nesterov`` without momentum or with dampening.

    >>> Sgd(0.5).update({"w": torch.ones(1, 1)}, {"w": torch.ones(1, 1)}, {})[0]["w"].item()
    0.5
    """

    lr: Rate
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check(self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        if not math.isfinite(self.dampening):
            raise InputError(f"An optimiser's dampening must be a number, received {self.dampening}.")
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise InputError("nesterov=True needs a momentum above 0 and dampening=0.")

    def init(self, params: Params) -> Params:
        """The momentum, and how many steps were taken, ``[T]``; nothing to remember without momentum."""
        if self.momentum == 0:
            return {}
        return {f"momentum.{name}": torch.zeros_like(p) for name, p in params.items()} | {"step": _steps_before(params)}

    def update(self, params: Params, grads: Params, state: Params) -> tuple[Params, Params]:
        """One step."""
        after, moved = {}, {}
        for name, p in params.items():
            grad = _decayed(grads[name], p, self.weight_decay)
            if self.momentum != 0:
                first = per_task((state["step"] == 0).to(p.dtype), p)
                kept = self.momentum * state[f"momentum.{name}"] + (1 - self.dampening * (1 - first)) * grad
                grad = grad + self.momentum * kept if self.nesterov else kept
                after[f"momentum.{name}"] = kept
            moved[name] = p - per_task(self.lr, p) * grad
        return moved, after | {"step": state["step"] + 1} if self.momentum != 0 else state


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015).

    Args:
        lr: the learning rate.
        beta1: decay of the mean gradient; 0 in Reptile.
        beta2: decay of the mean squared gradient.
        eps: added to the root.
        weight_decay: times ``p``, added to the gradient.
    """

    lr: Rate
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check(self.lr, eps=self.eps, weight_decay=self.weight_decay)
        _check_decays(beta1=self.beta1, beta2=self.beta2)

    def init(self, params: Params) -> Params:
        """Zero moments, and the number of steps taken, ``[T]``."""
        _check_eps(self, params)
        state = {f"mean.{name}": torch.zeros_like(p) for name, p in params.items()}
        state |= {f"square.{name}": torch.zeros_like(p) for name, p in params.items()}
        state["step"] = _steps_before(params)
        return state

    def update(self, params: Params, grads: Params, state: Params) -> tuple[Params, Params]:
        """One step."""
        return self._fused(params, grads, state) or self._recorded(params, grads, state)

    def _recorded(self, params: Params, grads: Params, state: Params) -> tuple[Params, Params]:
        """By operators that can be differentiated."""
        step = state["step"] + 1
        after, moved = {"step": step}, {}
        for name, p in params.items():
            grad = _decayed(grads[name], p, self.weight_decay)
            mean = torch.lerp(state[f"mean.{name}"], grad, 1 - self.beta1)
            square = torch.lerp(state[f"square.{name}"], grad.square(), 1 - self.beta2)
            unbiased = mean / _bias_correction(self.beta1, step, p)
            root = safe_sqrt(square / _bias_correction(self.beta2, step, p))
            moved[name] = p - per_task(self.lr, p) * unbiased / (root + self.eps)
            after |= {f"mean.{name}": mean, f"square.{name}": square}
        return moved, after

    def _fused(self, params: Params, grads: Params, state: Params) -> tuple[Params, Params] | None:
        """By torch's own fused operator, one pass over all weights, where nobody differentiates the step; else None.

        That operator knows one rate and one number of steps, and writes in place, so it is given copies.
        """
        if torch.is_grad_enabled() or isinstance(self.lr, Tensor) or not may_read():
            return None
        moments = [state[f"{kind}.{name}"] for kind in ("mean", "square") for name in params]
        read, along = [*params.values(), *moments], [grads[name] for name in params]
        if not all(map(native.usable, read)) or len({tensor.dtype for tensor in (*read, *along)}) > 1:
            return None
        if bool((state["step"] != state["step"][0]).any()):
            return None
        copies = [tensor.clone(memory_format=torch.contiguous_format) for tensor in read]
        n = len(params)
        moved, mean, square = copies[:n], copies[n : 2 * n], copies[2 * n :]
        step = state["step"] + 1
        torch._fused_adam_(
            moved,
            [grad.contiguous() for grad in along],
            mean,
            square,
            [],
            [step[0].to(torch.float32)] * n,
            lr=self.lr,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=self.weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )
        after = {f"mean.{name}": value for name, value in zip(params, mean, strict=True)}
        after |= {f"square.{name}": value for name, value in zip(params, square, strict=True)}
        return dict(zip(params, moved, strict=True)), after | {"step": step}


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): ``p <- (1 - lr weight_decay) p``, then Adam.

    Args:
        lr: the learning rate.
        beta1: decay of the mean gradient.
        beta2: decay of the mean squared gradient.
        eps: added to the root.
        weight_decay: see above.
    """

    lr: Rate
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        _check(self.lr, eps=self.eps, weight_decay=self.weight_decay)
        _check_decays(beta1=self.beta1, beta2=self.beta2)

    def init(self, params: Params) -> Params:
        """As Adam's."""
        _check_eps(self, params)
        return self._adam.init(params)

    def update(self, params: Params, grads: Params, state: Params) -> tuple[Params, Params]:
        """One step."""
        params = {name: p * (1 - per_task(self.lr, p) * self.weight_decay) for name, p in params.items()}
        return self._adam.update(params, grads, state)

    @property
    def _adam(self) -> Adam:
        return Adam(self.lr, self.beta1, self.beta2, self.eps)


@dataclass(frozen=True)
class RMSprop:
    """RMSprop (Hinton, Srivastava and Swersky 2012): ``p <- p - lr g / (sqrt(mean of g²) + eps)``.

    Args:
        lr: the learning rate.
        alpha: decay of the mean squared gradient.
        eps: added to the root.
        weight_decay: times ``p``, added to the gradient.
        momentum: how much of the last step is kept.
        centered: divide by the deviation, ``sqrt(mean of g² - (mean of g)²)``, instead.
    """

    lr: Rate
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    def __post_init__(self) -> None:
        _check(self.lr, eps=self.eps, weight_decay=self.weight_decay, momentum=self.momentum)
        _check_decays(alpha=self.alpha)

    def init(self, params: Params) -> Params:
        """Zero moments, those that are asked for."""
        _check_eps(self, params)
        kinds = ["square"] + ["mean"] * self.centered + ["momentum"] * (self.momentum > 0)
        return {f"{kind}.{name}": torch.zeros_like(p) for kind in kinds for name, p in params.items()}

    def update(self, params: Params, grads: Params, state: Params) -> tuple[Params, Params]:
        """One step."""
        after, moved = {}, {}
        for name, p in params.items():
            grad = _decayed(grads[name], p, self.weight_decay)
            square = after[f"square.{name}"] = torch.lerp(state[f"square.{name}"], grad.square(), 1 - self.alpha)
            if self.centered:
                mean = after[f"mean.{name}"] = torch.lerp(state[f"mean.{name}"], grad, 1 - self.alpha)
                square = (square - mean.square()).clamp(min=0)  # rounding may leave it a little below
            step = grad / (safe_sqrt(square) + self.eps)
            if self.momentum > 0:
                step = after[f"momentum.{name}"] = self.momentum * state[f"momentum.{name}"] + step
            moved[name] = p - per_task(self.lr, p) * step
        return moved, after


@dataclass(frozen=True)
class Adagrad:
    """Adagrad (Duchi, Hazan and Singer 2011): ``p <- p - lr g / (sqrt(sum of g²) + eps)``.

    Args:
        lr: the learning rate.
        lr_decay: in step n (from 0) the rate is ``lr / (1 + n lr_decay)``.
        weight_decay: times ``p``, added to the gradient.
        initial_accumulator_value: what the sum starts from.
        eps: added to the root.
    """

    lr: Rate
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    def __post_init__(self) -> None:
        _check(
            self.lr,
            lr_decay=self.lr_decay,
            weight_decay=self.weight_decay,
            initial_accumulator_value=self.initial_accumulator_value,
            eps=self.eps,
        )

    def init(self, params: Params) -> Params:
        """The sums of squares, and the number of steps taken, ``[T]``."""
        _check_eps(self, params)
        state = {f"sum.{name}": torch.full_like(p, self.initial_accumulator_value) for name, p in params.items()}
        return state | {"step": _steps_before(params)}

    def update(self, params: Params, grads: Params, state: Params) -> tuple[Params, Params]:
        """One step."""
        after, moved = {"step": state["step"] + 1}, {}
        for name, p in params.items():
            grad = _decayed(grads[name], p, self.weight_decay)
            total = after[f"sum.{name}"] = state[f"sum.{name}"] + grad.square()
            rate = per_task(self.lr, p) / per_task(1 + state["step"].to(p.dtype) * self.lr_decay, p)
            moved[name] = p - rate * grad / (safe_sqrt(total) + self.eps)
        return moved, after


def _decayed(grad: Tensor, p: Tensor, weight_decay: float) -> Tensor:
    """The gradient with that of ``weight_decay/2 |p|²`` added."""
    return grad if weight_decay == 0 else grad + weight_decay * p


def make_optimizer(name: str, lr: float, *, beta1: float = 0.9) -> InnerOptimizer:
    """``"sgd"``, ``"adam"``, ``"adamw"``, ``"rmsprop"`` or ``"adagrad"``, with its usual options.

    Args:
        name: of the optimiser.
        lr: its rate.
        beta1: of Adam and AdamW.

    Raises:
        InputError: no such optimiser.
    """
    if name == "adam":
        return Adam(lr, beta1)
    if name == "adamw":
        return AdamW(lr, beta1)
    kinds: dict[str, type[Sgd] | type[RMSprop] | type[Adagrad]] = {"sgd": Sgd, "rmsprop": RMSprop, "adagrad": Adagrad}
    if name not in kinds:
        known = ", ".join(sorted([*kinds, "adam", "adamw"]))
        raise InputError(f"There is no inner optimiser called {name!r}. Known: {known}.")
    return kinds[name](lr)
