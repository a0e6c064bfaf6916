"""Floor 2: logistic regression for every task: at its optimum, or a fixed number of Newton steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quickstudy.errors import InputError
from quickstudy.inner.solvers.ridge import (
    Form,
    Unknowns,
    check_finite,
    check_shapes,
    per_task,
    solve_each,
    unknowns,
    weighed,
)

HALVINGS = 30

_REMEDY = "Use a larger penalty, or scale the features."


@dataclass(frozen=True, eq=False)
class _Problem:
    """``sum_n -y_n · log softmax(x_n W) + penalty / 2 |W|²``, in the unknowns c ``[T, M, W]``."""

    solved: Unknowns
    y: Tensor  # [T, N, W], zero in rows that do not count
    strength: Tensor  # [T]
    counted: Tensor  # [T, N]: the labels' sum of each row
    present: Tensor  # [T, W]

    def logits(self, c: Tensor) -> Tensor:
        return (self.solved.design @ c).masked_fill(~self.present[:, None], -torch.inf)

    def value(self, c: Tensor) -> Tensor:
        log_p = torch.log_softmax(self.logits(c), 2).masked_fill(~self.present[:, None], 0.0)
        return self.strength * self.solved.square(c) / 2 - (self.y * log_p).sum((1, 2))

    def condition(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """``penalty c - pull (y - p)``, which is 0 at the optimum, and p ``[T, N, W]``."""
        p = torch.softmax(self.logits(c), 2)
        residual = self.y - self.counted[..., None] * p
        return self.strength[:, None, None] * c - self.solved.pull @ residual, p

    def newton_step(self, c: Tensor) -> Tensor:
        """The full Newton step from c."""
        f, p = self.condition(c)
        # The softmax's own derivative, diag(p) - p pᵀ for each row, between pull and design.
        within = self.counted[..., None, None] * (torch.diag_embed(p) - p[..., :, None] * p[..., None, :])
        n_task, m, way = c.shape
        jacobian = torch.einsum("tmn,tnkl,tnp->tmkpl", self.solved.pull, within, self.solved.design)
        jacobian = jacobian.reshape(n_task, m * way, m * way)
        jacobian = jacobian + torch.diag_embed(self.strength[:, None].expand(-1, m * way))
        return solve_each(jacobian, -f.flatten(1)[..., None], "logistic regression", _REMEDY).view_as(c)


def logistic(
    x: Tensor,
    y: Tensor,
    penalty: Tensor | float,
    mask: Tensor | None = None,
    *,
    present: Tensor | None = None,
    max_iter: int = 50,
    form: Form = "auto",
) -> Tensor:
    """Weights that minimise ``sum_n -y_n · log softmax(x_n W) + penalty / 2 |W|²``, for each task.

    Newton's method with step halving, until the gradient vanishes; each task stops by itself. The optimum is found
    without gradients; two more Newton steps from it are differentiated. As a Newton step from the optimum doubles the
    order up to which derivatives are exact, one gives the implicit gradient and the second makes the gradient of that
    exact too.

    Args:
        x: features ``[T, N, D]``; append a column of ones for a (penalised) intercept.
        y: ``[T, N, W]``, one-hot, or probabilities of each class.
        penalty: above 0; one number, or ``[T]``. scikit-learn's is 1 / C.
        mask: bool ``[T, N]``, False on rows that do not count.
        present: bool ``[T, W]``, False for classes that a task does not have.
        max_iter: Newton steps at most.
        form: see :func:`ridge`.

    Returns:
        ``[T, D, W]``, 0 for classes that a task does not have.

    Raises:
        InputError: a task did not converge, its system is singular, or the shapes do not fit together.

    >>> logistic(torch.tensor([[[1.0], [-1.0]]]), torch.eye(2)[None], penalty=1.0).shape
    torch.Size([1, 1, 2])
    """
    check_shapes("logistic regression", x, y, mask, "T, N, W")
    rows, labels = weighed(x, mask), weighed(y, mask)
    for part in (rows, labels):
        check_finite(part, "logistic regression")
    strength = per_task(penalty, x, "penalty")
    if present is None:
        present = torch.ones(y.shape[0], y.shape[2], dtype=torch.bool, device=y.device)
    problem = _Problem(unknowns(rows, form), labels, strength, labels.sum(2), present)
    with torch.no_grad():
        c = _optimum(problem, max_iter)
    for _ in range(2):
        c = c + problem.newton_step(c)
    return problem.solved.weights(c).to(x.dtype)


def _optimum(problem: _Problem, max_iter: int) -> Tensor:
    """C at the optimum, to a relative 1e-9."""
    y, solved = problem.y, problem.solved
    c = y.new_zeros(y.shape[0], solved.design.shape[2], y.shape[2])
    small = 1e-9 * (1 + (solved.pull @ y).abs().amax((1, 2)))
    for step in range(max_iter + 1):
        done = problem.condition(c)[0].abs().amax((1, 2)) <= small
        if bool(done.all()):
            return c
        if step == max_iter:
            break
        direction, before = problem.newton_step(c), problem.value(c)
        length = torch.ones_like(before)
        for _ in range(HALVINGS):
            after = problem.value(c + length[:, None, None] * direction)
            worse = after > before + 1e-12 * before.abs()
            if not bool((worse & ~done).any()):
                break
            length = torch.where(worse, length / 2, length)
        # What has converged stays as it is, whatever its neighbours still need.
        c = torch.where(done[:, None, None], c, c + length[:, None, None] * direction)
    raise InputError(
        f"The logistic regression of task {int((~done).nonzero()[0])} did not converge in {max_iter} Newton steps. "
        "Use a larger penalty, scale the features, or allow more steps."
    )


def irls(
    x: Tensor, y: Tensor, penalty: Tensor | float, mask: Tensor | None = None, *, steps: int, form: Form = "auto"
) -> Tensor:
    """Newton's steps from zero weights on ``sum_n log(1 + exp(-s_n x_n·w)) + penalty / 2 |w|²``, s_n = 2 y_n - 1.

    Iteratively reweighted least squares, for each column of ``y`` by itself; all steps are differentiated. A step
    solves ``(penalty I + Xᵀ S X) w = Xᵀ (S X w' + y - p)`` from the w' before it, with p the probabilities there and
    S = diag(p (1 - p)); so written, nothing is divided by p (1 - p), which may vanish.

    Args:
        x: features ``[T, N, D]``; append a column of ones for a (penalised) intercept.
        y: ``[T, N, W]``, 0 or 1, or probabilities between.
        penalty: above 0; one number, or ``[T]``.
        mask: bool ``[T, N]``, False on rows that do not count.
        steps: how many, at least 1.
        form: see :func:`ridge`.

    Returns:
        ``[T, D, W]``.

    Raises:
        InputError: no step, a singular system, or the shapes do not fit together.

    >>> irls(torch.tensor([[[1.0], [-1.0]]]), torch.eye(2)[None], penalty=0.5, steps=1)
    tensor([[[ 1., -1.]]])
    """
    if not steps >= 1:
        raise InputError(f"Iteratively reweighted least squares needs at least 1 step, received {steps}.")
    check_shapes("logistic regression", x, y, mask, "T, N, W")
    rows, labels = weighed(x, mask), weighed(y, mask)
    for part in (rows, labels):
        check_finite(part, "logistic regression")
    strength = per_task(penalty, x, "penalty")
    counted = torch.ones_like(rows[..., :1]) if mask is None else mask[..., None].double()
    solved = unknowns(rows, form)
    c = rows.new_zeros(x.shape[0], solved.design.shape[2], y.shape[2])
    diagonal = torch.diag_embed(strength[:, None].expand(-1, c.shape[1]))[:, None]  # [T, 1, M, M]
    for _ in range(steps):
        scores = solved.design @ c  # [T, N, W]
        p = torch.sigmoid(scores)
        spread = counted * p * (1 - p)
        right = solved.pull @ (spread * scores + counted * (labels - p))  # [T, M, W]
        system = torch.einsum("tmn,tnw,tnp->twmp", solved.pull, spread, solved.design) + diagonal
        found = solve_each(system, right.transpose(1, 2)[..., None], "logistic regression", _REMEDY)
        c = found[..., 0].transpose(1, 2)
    return solved.weights(c).to(x.dtype)
