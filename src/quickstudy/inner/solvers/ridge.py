"""Floor 2: ridge regression for every task, and what the solvers share.

With few examples and many features, weights are combinations of the examples, W = Xᵀ A, and the system in A has N
unknowns a column instead of D (Woodbury's identity). Both are written as one: scores are ``design @ c``, and at the
optimum ``penalty * c = pull @ residual``.

    primal    c = W [D, O]    design = X      pull = Xᵀ
    dual      c = A [N, O]    design = X Xᵀ   pull = I
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from quickstudy.episode import may_read
from quickstudy.errors import InputError

Form: TypeAlias = Literal["auto", "primal", "dual"]


@dataclass(frozen=True, eq=False)
class Unknowns:
    """Which unknowns a linear model is solved in.

    Args:
        design: ``[T, N, M]``.
        pull: ``[T, M, N]``.
        lift: ``[T, D, M]``, from unknowns to weights; None where they are the same.
    """

    design: Tensor
    pull: Tensor
    lift: Tensor | None

    def weights(self, c: Tensor) -> Tensor:
        """``[T, M, O] -> [T, D, O]``."""
        return c if self.lift is None else self.lift @ c

    def square(self, c: Tensor) -> Tensor:
        """|W|² of each task, ``[T]``."""
        other: Tensor = c if self.lift is None else self.design @ c
        return (c * other).sum((1, 2))


def unknowns(x: Tensor, form: Form) -> Unknowns:
    """The smaller of the two forms, or the one that was asked for.

    Args:
        x: ``[T, N, D]``.
        form: ``"auto"``, ``"primal"`` or ``"dual"``.
    """
    n_task, n_row, n_feature = x.shape
    if form == "primal" or (form == "auto" and n_feature <= n_row):
        return Unknowns(x, x.transpose(1, 2), None)
    one = torch.eye(n_row, dtype=x.dtype, device=x.device).expand(n_task, -1, -1)
    return Unknowns(x @ x.transpose(1, 2), one, x.transpose(1, 2))


def weighed(values: Tensor, mask: Tensor | None) -> Tensor:
    """``[T, N, ...]`` in float64, zero in rows that do not count (a product with 0 would keep their NaN)."""
    if mask is None:
        return values.double()
    counted = mask.view(*mask.shape, *(1,) * (values.dim() - 2))
    return torch.where(counted, values.double(), 0.0)


def per_task(value: Tensor | float, like: Tensor, name: str, *, allow_zero: bool = False) -> Tensor:
    """A hyper-parameter as float64 ``[T]``.

    Args:
        value: one number for all tasks, or ``[T]``.
        like: a tensor ``[T, ...]``.
        name: how the message calls it.
        allow_zero: whether it may be 0.

    Raises:
        InputError: it is negative, not finite, or 0 where that is not allowed.
    """
    found = torch.as_tensor(value, dtype=torch.float64, device=like.device).expand(like.shape[0])
    right = torch.isfinite(found) & ((found >= 0) if allow_zero else (found > 0))
    if may_read() and not bool(right.all()):
        task = int((~right).nonzero()[0])
        least = "of at least 0" if allow_zero else "above 0"
        raise InputError(f"A solver needs a {name} {least}, received {float(found[task].detach())} for task {task}.")
    return found


def check_finite(x: Tensor, problem: str) -> None:
    """Features are numbers.

    Raises:
        InputError: naming the task.
    """
    bad = ~torch.isfinite(x).flatten(1).all(1)
    if may_read() and bool(bad.any()):
        raise InputError(
            f"Cannot solve the {problem} of task {int(bad.nonzero()[0])}: its features or labels hold NaN or infinity, "
            "as after a training that diverged. Train with a lower learning rate."
        )


def check_shapes(problem: str, x: Tensor, y: Tensor, mask: Tensor | None, labels: str = "T, N, O") -> None:
    """Features, labels and mask are of the same rows of the same tasks.

    Raises:
        InputError: they are not, or have other axes.
    """
    fits = x.dim() == 3 and y.dim() == labels.count(",") + 1 and y.shape[:2] == x.shape[:2]
    if not fits or (mask is not None and (mask.shape != x.shape[:2] or mask.dtype != torch.bool)):
        given = "None" if mask is None else f"{mask.dtype} {list(mask.shape)}"
        raise InputError(
            f"Cannot solve the {problem}: it needs x [T, N, D], y [{labels}] and a bool mask [T, N], received x "
            f"{list(x.shape)}, y {list(y.shape)} and mask {given}."
        )


def solve_each(system: Tensor, right: Tensor, problem: str, remedy: str) -> Tensor:
    """Solutions of square systems, one or several a task.

    Args:
        system: ``[T, ..., M, M]``.
        right: ``[T, ..., M, K]``.
        problem: for the message.
        remedy: for the message.

    Returns:
        ``[T, ..., M, K]``.

    Raises:
        InputError: one is singular, or its numbers are too large for float64; names the task.
    """
    found: Tensor
    found, info = torch.linalg.solve_ex(system, right)
    bad = (info != 0).flatten(1).any(1) if info.dim() > 1 else info != 0
    bad = bad | ~torch.isfinite(found.detach()).flatten(1).all(1)
    if may_read() and bool(bad.any()):
        raise InputError(
            f"Cannot solve the {problem} of task {int(bad.nonzero()[0])}: its system is singular, or too large for "
            f"float64. {remedy}"
        )
    return found


def factorise(matrix: Tensor, problem: str, remedy: str) -> Tensor:
    """Cholesky factors ``[T, M, M]`` of positive definite matrices.

    Rounding can let a singular matrix pass with tiny pivots and a meaningless solution; they are refused too.

    Raises:
        InputError: a matrix is singular; names the task.
    """
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(matrix)
    with torch.no_grad():
        smallest = factor.diagonal(dim1=-2, dim2=-1).square().amin(-1)
        limit = matrix.shape[-1] * torch.finfo(matrix.dtype).eps * matrix.diagonal(dim1=-2, dim2=-1).amax(-1)
        bad = (info > 0) | ~(smallest > limit)
    if may_read() and bool(bad.any()):
        raise InputError(
            f"Cannot solve the {problem} of task {int(bad.nonzero()[0])}: its system is singular. {remedy}"
        )
    return factor


def ridge(x: Tensor, y: Tensor, penalty: Tensor | float, mask: Tensor | None = None, *, form: Form = "auto") -> Tensor:
    """Weights that minimise ``sum_n |x_n W - y_n|² + penalty |W|²``, for each task.

        W = (Xᵀ X + penalty I)⁻¹ Xᵀ Y = Xᵀ (X Xᵀ + penalty I)⁻¹ Y

    Args:
        x: features ``[T, N, D]``; append a column of ones for a (penalised) intercept.
        y: targets ``[T, N, O]``.
        penalty: one number, or ``[T]``; 0 is ordinary least squares, which needs as many examples as features.
        mask: bool ``[T, N]``, False on rows that do not count.
        form: ``"primal"`` (D unknowns a column), ``"dual"`` (N), or ``"auto"``: the smaller.

    Returns:
        ``[T, D, O]``.

    Raises:
        InputError: a task has no single solution (no penalty and fewer independent examples than features), or the
            shapes do not fit together.

    >>> ridge(torch.ones(1, 2, 1), torch.tensor([[[1.0], [3.0]]]), penalty=2.0)
    tensor([[[1.]]])
    """
    check_shapes("ridge regression", x, y, mask)
    dtype, rows, columns = x.dtype, weighed(x, mask), weighed(y, mask)
    for part in (rows, columns):
        check_finite(part, "ridge regression")
    strength = per_task(penalty, x, "penalty", allow_zero=True)
    n_example = torch.full_like(strength, x.shape[1]) if mask is None else mask.sum(1)
    vague = (strength == 0) & (n_example < x.shape[2])
    if may_read() and bool(vague.any()):
        task = int(vague.nonzero()[0])
        raise InputError(
            f"Cannot solve the ridge regression of task {task}: it has {int(n_example[task])} examples for "
            f"{x.shape[2]} features and no penalty, so many weights fit equally well. Use a penalty above 0."
        )
    solved = unknowns(rows, form)
    system = solved.pull @ solved.design + torch.diag_embed(strength[:, None].expand(-1, solved.design.shape[2]))
    factor = factorise(system, "ridge regression", "Use a larger penalty.")
    return solved.weights(torch.cholesky_solve(solved.pull @ columns, factor)).to(dtype)
