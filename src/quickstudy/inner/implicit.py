"""Floor 2: derivatives of a task's solution, whatever path led to it, by the implicit function theorem.

A solution φ* of ``L(φ) + strength/2 |φ - θ|²`` has gradient ``G(φ*, θ) = ∇L(φ*) + strength (φ* - θ) = 0``. When θ
moves, φ* moves so that G stays 0: ``dφ* = -(H + strength)^-1 dG``, with H the Hessian of L at φ* and dG the change of
G at φ* held fixed. So the backward pass needs one linear system and no memory of the steps.

The systems are solved by products with H alone, each task by itself: one that is solved waits unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor

from quickstudy.episode import may_read
from quickstudy.errors import InputError
from quickstudy.inner.descent import Params, TaskLosses, check_mode, explained, gradients, reads_more
from quickstudy.inner.optimizers import Rate, per_task, per_task_mask

MatVec: TypeAlias = Callable[[Params], Params]
"""A symmetric linear map a task: name -> ``[T, ...]`` to the same."""
Solver: TypeAlias = Callable[[MatVec, Params], Params]
"""(the map A, b) -> x with A x = b, or nearly."""


def dot(a: Params, b: Params) -> Tensor:
    """Each task's inner product, ``[T]``."""
    return torch.stack([(a[name] * b[name]).reshape(len(a[name]), -1).sum(1) for name in a]).sum(0)


def plus(a: Params, factor: Rate, b: Params) -> Params:
    """``a + factor b``, where a factor may be one a task."""
    return {name: a[name] + per_task(factor, a[name]) * b[name] for name in a}


@dataclass(frozen=True, eq=False)
class Solved:
    """What conjugate gradients found.

    Args:
        x: name -> ``[T, ...]``.
        b: what was to be reached.
        matvec: A, its damping included.
        steps: ``[T]``, how many each task took.
        curved: ``[T]``, False where A turned out not to be positive definite, and the task stopped there.
    """

    x: Params
    b: Params
    matvec: MatVec
    steps: Tensor
    curved: Tensor

    @cached_property
    def residual(self) -> Tensor:
        """``[T]``, |b - A x| / |b| (0 where b is 0), by one more product with A when it is asked for.

        The recurrence has a figure of its own, which goes on falling when rounding has stopped the true one.
        """
        with torch.no_grad():
            size = dot(self.b, self.b)
            left = plus(self.b, -1.0, self.matvec(self.x))
            return (dot(left, left) / torch.where(size == 0, 1.0, size)).sqrt()


@torch.no_grad()
def cg(matvec: MatVec, b: Params, *, steps: int, tolerance: float = 1e-10, damping: Rate = 0.0) -> Solved:
    """Conjugate gradients on ``(A + damping) x = b``, from 0; each task stops by itself.

    A task stops when its residual is below ``tolerance`` times |b|, or where A has no positive curvature along the
    next direction: what was found until then is kept (and b itself if that is the first direction). NaN, in A or in b,
    comes out as NaN.

    Args:
        matvec: A.
        b: name -> ``[T, ...]``.
        steps: at most so many.
        tolerance: see above.
        damping: added to A's diagonal; a number, or ``[T]``.

    >>> b = {"w": torch.tensor([[1.0, 2.0]])}
    >>> cg(lambda v: {"w": 4 * v["w"]}, b, steps=3).x["w"].tolist()
    [[0.25, 0.5]]
    """

    def damped(v: Params) -> Params:
        return plus(matvec(v), damping, v)

    x = {name: torch.zeros_like(value) for name, value in b.items()}
    residual, direction = dict(b), dict(b)
    size = target = dot(b, b)
    active = ~(size <= 0)  # and not >, which NaN is never
    curved, taken = torch.ones_like(active), torch.zeros_like(active, dtype=torch.int64)
    for step in range(steps):
        if may_read() and not bool(active.any()):  # unread, the steps that are left change nothing
            break
        image = damped(direction)
        curvature = dot(direction, image)
        bends = ~(curvature <= 0)
        if step == 0:
            x = {n: torch.where(per_task_mask(active & ~bends, v), b[n], v) for n, v in x.items()}
        curved, active = curved & (bends | ~active), active & bends
        # Where a task is done, a step of length 0 leaves it as it is, to the last bit.
        length = torch.where(active, size / torch.where(active, curvature, 1.0), 0.0)
        x, residual = plus(x, length, direction), plus(residual, -length, image)
        new_size = torch.where(active, dot(residual, residual), size)
        turn = torch.where(active, new_size / torch.where(active, size, 1.0), 0.0)
        size, taken = new_size, taken + active
        active = active & (size > tolerance**2 * target)
        direction = plus(residual, turn, direction)
    return Solved(x, b, damped, taken, curved)


@torch.no_grad()
def neumann(matvec: MatVec, b: Params, *, steps: int, scale: Rate) -> Params:
    """``x = scale Σ (1 - scale A)^k b`` for k = 0 .. steps: tends to A^-1 b where ``scale`` A is between 0 and 2.

    Args:
        matvec: A.
        b: name -> ``[T, ...]``.
        steps: how many products with A.
        scale: a number, or ``[T]``; about 1 over A's largest eigenvalue.

    >>> b = {"w": torch.tensor([[1.0]])}
    >>> neumann(lambda v: {"w": 0.5 * v["w"]}, b, steps=2, scale=1.0)["w"].item()
    1.75
    """
    total, term = dict(b), dict(b)
    for _ in range(steps):
        term = plus(term, -scale, matvec(term))
        total = plus(total, 1.0, term)
    return {name: per_task(scale, value) * value for name, value in total.items()}


def hessian(losses: TaskLosses, params: Params) -> MatVec:
    """Products with each task's Hessian of ``losses`` at ``params``, from one graph.

    Args:
        losses: weights ``[T, ...]`` -> loss ``[T]``.
        params: name -> ``[T, ...]``; taken as constants.

    Raises:
        InputError: a parameter plays no part in the loss, or a layer has no second derivative.

    >>> product = hessian(lambda p: (p["w"] ** 3).sum(1), {"w": torch.tensor([[1.0, 2.0]])})
    >>> product({"w": torch.ones(1, 2)})["w"].tolist()
    [[6.0, 12.0]]
    """
    check_mode()
    with torch.enable_grad():
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        return products(gradients(losses(leaves), leaves, create_graph=True), leaves)


def products(grads: Params, leaves: Params) -> MatVec:
    """Vectors times the derivative of ``grads`` (with a graph) in ``leaves``."""

    def product(v: Params) -> Params:
        pairs = [(grad, v[name]) for name, grad in grads.items() if grad.requires_grad]
        if not pairs:  # a loss that is linear in all of them
            return {name: torch.zeros_like(p) for name, p in leaves.items()}
        outputs, along = zip(*pairs, strict=True)
        try:
            found = torch.autograd.grad(outputs, list(leaves.values()), along, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            raise explained(error) from error
        return {
            name: torch.zeros_like(p) if h is None else h for (name, p), h in zip(leaves.items(), found, strict=True)
        }

    return product


def implicit(losses: TaskLosses, solution: Params, start: Params, *, strength: Rate, solver: Solver) -> Params:
    """A task's solution, made differentiable in all that its inner objective depends on.

    The objective is ``losses(φ) + strength/2 |φ - start|²``. The values stay those of ``solution``, to the last bit;
    the gradient is that of the exact minimiser, evaluated where ``solution`` stands. It flows into ``start``, into
    ``strength`` where that is a tensor, and into everything that ``losses`` uses (shared weights, learned losses).

    Args:
        losses: weights ``[T, ...]`` -> loss ``[T]``.
        solution: φ*, name -> ``[T, ...]``, however it was found; taken as constants.
        start: θ for each task, name -> ``[T, ...]``.
        strength: of the proximal term; a number or a tensor ``[]`` or ``[T]``, above 0 unless ``losses`` is itself
            strongly convex.
        solver: solves ``(H + strength) x = b``, such as ``lambda matvec, b: cg(matvec, b, steps=5).x``.

    Returns:
        Name -> ``[T, ...]``.

    Raises:
        InputError: a parameter plays no part in the loss, or a layer has no second derivative.
    """
    check_mode()
    if not torch.is_grad_enabled():
        return {name: p.detach() for name, p in solution.items()}
    if set(solution) != set(start):
        raise InputError(f"The solution has the weights {sorted(solution)}, the start {sorted(start)}: not the same.")
    leaves = {name: p.detach().requires_grad_() for name, p in solution.items()}
    grads = gradients(losses(leaves), leaves, create_graph=True)
    curvature = products(grads, leaves)
    held = strength.detach() if isinstance(strength, Tensor) else strength
    if not reads_more(list(grads.values()), list(leaves.values())):  # then θ enters by the proximal term alone
        grads = {name: grad.detach() for name, grad in grads.items()}
    force = [grads[name] + per_task(strength, p) * (p.detach() - start[name]) for name, p in leaves.items()]
    plan = _Plan(list(leaves), [p.detach() for p in leaves.values()], lambda v: plus(curvature(v), held, v), solver)
    return dict(zip(leaves, _Implicit.apply(plan, *force), strict=True))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, eq=False)
class _Plan:
    names: list[str]
    values: list[Tensor]
    matvec: MatVec
    solver: Solver


class _Implicit(torch.autograd.Function):
    """φ* as a function of G: its value does not change, its derivative in G is -(H + strength)^-1."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, *force: Tensor) -> tuple[Tensor, ...]:
        del force
        ctx.plan = plan
        return tuple(value.clone() for value in plan.values)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        x = plan.solver(plan.matvec, dict(zip(plan.names, cotangents, strict=True)))
        return None, *(-x[name] for name in plan.names)
