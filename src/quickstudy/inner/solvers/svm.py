"""Floor 2: the multiclass support vector machine of Crammer and Singer, for every task.

K. Crammer, Y. Singer, "On the algorithmic implementation of multiclass kernel-based vector machines", JMLR 2001. In
the dual each example has one number a class:

    minimise  1/2 sum_k a_kᵀ K a_k - sum_n a_n,y(n)     so that  a_nk <= C [k = y(n)],  sum_k a_nk = 0;     W = Xᵀ a

An interior-point method finds which bounds hold, without gradients. Given those, the other numbers solve a linear
system, and that is what is differentiated: so derivatives are those of the solution itself, of any order, wherever
the set of bounds does not change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from quickstudy.errors import InputError
from quickstudy.inner.solvers.ridge import check_finite, check_shapes, per_task, solve_each, weighed

JITTER = 1e-10
"""Added to the kernel, times its mean diagonal: where an example stands twice, there is one solution still.

Less where C is so large that the margins, which are 1, would move by more than about this.
"""

SWAPS = 40
"""How often variables may change sides after the interior-point method."""

_REMEDY = (
    "Scale the features (divide them by their mean length), use a smaller c, or add to the kernel's diagonal "
    "(identity)."
)

_Solve: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class _Problem:
    """The dual in float64."""

    kernel: Tensor  # [T, N, N]
    y: Tensor  # [T, N, W], one-hot; zero in rows that do not count
    upper: Tensor  # [T, N, W]: C y
    live: Tensor  # bool [T, N, W]: rows that count, classes that the task has

    def gradient(self, a: Tensor) -> Tensor:
        return self.kernel @ a - self.y

    @property
    def c(self) -> Tensor:
        """C of each task, ``[T]``."""
        return self.upper.amax((1, 2))

    @property
    def size(self) -> Tensor:
        """Largest diagonal entry of the kernel, ``[T]``."""
        return self.kernel.diagonal(dim1=1, dim2=2).amax(1)

    @property
    def scale(self) -> Tensor:
        """How large dual variables are, ``[T]``: C; with a large one as large as margins of 1 need."""
        return self.c / (self.c * self.size).clamp(min=1)

    def in_units(self) -> _Problem:
        """The same problem with the objective in units of the largest score, where no margin can be reached.

        Every example then pays the full C whatever the linear term is, as long as it outweighs the scores. So that may
        be scaled down beside them, and nothing is lost to rounding.
        """
        reach = self.c * self.size
        unit, linear = reach.clamp(max=1), (4 * self.y.shape[1] * reach).clamp(max=1)
        weight = linear / unit
        return replace(self, kernel=self.kernel / unit[:, None, None], y=self.y * weight[:, None, None])


def svm(
    x: Tensor,
    y: Tensor,
    c: Tensor | float,
    mask: Tensor | None = None,
    *,
    way: Tensor | None = None,
    identity: float = 0.0,
    max_iter: int = 50,
) -> Tensor:
    """Dual variables a of each task's support vector machine; the weights are ``x.transpose(1, 2) @ a``.

    They are differentiable in ``x`` and ``c``. Each task stops by itself.

    Args:
        x: features ``[T, N, D]``.
        y: int64 class numbers ``[T, N]``; rows that do not count may hold anything.
        c: weight of the hinge loss, above 0; one number, or ``[T]``.
        mask: bool ``[T, N]``, False on rows that do not count.
        way: int64 ``[T]``, classes of each task; by default the largest label and one, for all.
        identity: added to the kernel's diagonal; with 1.0 this is what the code of MetaOptNet solves.
        max_iter: steps of the interior-point method at most.

    Returns:
        ``[T, N, W]``; 0 in rows that do not count and for classes that a task does not have.

    Raises:
        InputError: a task did not converge, a label is no class of its task, or the shapes do not fit together.

    >>> svm(torch.tensor([[[1.0], [-1.0]]]), torch.tensor([[0, 1]]), c=0.1)
    tensor([[[ 0.1000, -0.1000],
             [-0.1000,  0.1000]]])
    """
    check_shapes("support vector machine", x, y, mask, "T, N")
    if mask is None:
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    y = torch.where(mask, y, 0)
    if way is None:
        way = (y.max() + 1).expand(x.shape[0])
    _check_labels(y, way)
    rows = weighed(x, mask)
    check_finite(rows, "support vector machine")
    live = mask[..., None] & (torch.arange(int(way.max()), device=x.device) < way[:, None])[:, None]
    truth = torch.nn.functional.one_hot(y, int(way.max())).double() * mask[..., None]
    kernel = rows @ rows.transpose(1, 2)
    diagonal = kernel.diagonal(dim1=1, dim2=2)
    typical = diagonal.detach().sum(1) / mask.sum(1).clamp(min=1)
    strength = per_task(c, x, "c")
    jitter = JITTER * torch.where(typical > 0, typical, 1.0) / (strength.detach() * typical).clamp(1, 1e3)
    kernel = kernel + torch.diag_embed((identity + jitter)[:, None].expand_as(diagonal))
    problem = _Problem(kernel, truth, strength[:, None, None] * truth, live)
    with torch.no_grad():
        free = _free_set(problem.in_units(), max_iter)
    return _given_bounds(problem, free)[0].to(x.dtype)


def _check_labels(y: Tensor, way: Tensor) -> None:
    """Labels number the classes of their task.

    Raises:
        InputError: naming the task.
    """
    wrong = (y < 0) | (y >= way[:, None])
    if bool(wrong.any()):
        task, row = (int(place) for place in wrong.nonzero()[0])
        raise InputError(
            f"Cannot solve the support vector machine of task {task}: its labels must be 0 .. {int(way[task]) - 1}, "
            f"found {int(y[task, row])} in row {row}. Leave rows without a label out by the mask."
        )


def _free_set(problem: _Problem, max_iter: int) -> Tensor:
    """Which dual variables lie strictly below their bound, bool ``[T, N, W]``.

    The interior-point method decides by what is larger, the distance to the bound or the bound's multiplier. Where
    the two are close it may be wrong; the exact solution shows that, and the variable changes sides.

    Where examples depend on each other (a zero among them, say) many dual solutions share the same weights, and no set
    of bounds may be the right one. Then the first is, if it leads to the scores that the interior-point method found.
    """
    slack, multiplier = _interior_point(problem, max_iter)
    one = problem.scale[:, None, None]
    first = problem.live & (slack > one * multiplier)
    free = first
    for turn in range(SWAPS):
        a, row_price = _given_bounds(problem, free)
        largest = a.abs().amax((1, 2))[:, None, None]
        beyond = free & (a - problem.upper > 1e-9 * one + 1e-13 * largest)
        pushed = problem.live & ~free
        pushed &= problem.gradient(a) + row_price[..., None] > _rounding(problem, a)[:, None, None]
        swap = beyond | pushed
        unsettled = swap.flatten(1).any(1)
        if not bool(unsettled.any()):
            return free
        if turn >= SWAPS // 4:  # all at once can go round in circles; the first alone cannot (Murty's rule)
            swap = swap & (swap.flatten(1).cumsum(1).view_as(a) == 1)
        free = free ^ swap
    free = torch.where(unsettled[:, None, None], first, free)
    found = problem.kernel @ _given_bounds(problem, free)[0]
    expected = problem.kernel @ torch.where(problem.live, problem.upper - slack, 0.0)
    wrong = unsettled & ((found - expected).abs().amax((1, 2)) > 1e-6)
    if bool(wrong.any()):
        raise _not_converged(wrong, "the set of active bounds keeps changing")
    return free


def _rounding(problem: _Problem, a: Tensor) -> Tensor:
    """What counts as 0 among the gradient's entries, ``[T]``."""
    scores = problem.size * a.abs().amax((1, 2))
    return 1e-9 + 1e-14 * scores


def _given_bounds(problem: _Problem, free: Tensor) -> tuple[Tensor, Tensor]:
    """The solution ``[T, N, W]`` and each row's multiplier ``[T, N]``, where all but ``free`` lie at their bound.

    One linear system in the free variables and the multipliers of the rows' sums:

        sum over free n' of K_nn' a_n'k + v_n = y_nk - (the same sum over the bound ones)
        sum over free k of a_nk               = -(sum over the bound ones)
    """
    n_task, n_row, way = free.shape
    flat = free.flatten(1)
    count = flat.sum(1)  # [T]
    n_free = int(count.max())
    picked = torch.argsort((~flat).to(torch.uint8), dim=1, stable=True)[:, :n_free]  # [T, F], free ones first
    there = torch.arange(n_free, device=free.device) < count[:, None]
    row, column = picked // way, picked % way
    task = torch.arange(n_task, device=free.device)[:, None, None]
    both = there[:, :, None] & there[:, None, :] & (column[:, :, None] == column[:, None, :])
    block = torch.where(both, problem.kernel[task, row[:, :, None], row[:, None, :]], 0.0)
    block = block + torch.diag_embed((~there).double())
    sums = ((row[:, None, :] == torch.arange(n_row, device=free.device)[:, None]) & there[:, None]).double()
    idle = torch.diag_embed((sums.sum(2) == 0).double())  # rows that do not count have nothing to sum
    system = torch.cat([torch.cat([block, sums.transpose(1, 2)], 2), torch.cat([sums, idle], 2)], 1)
    bound = torch.where(problem.live & ~free, problem.upper, 0.0)
    rest = (problem.y - problem.kernel @ bound).flatten(1).gather(1, picked)
    right = torch.cat([torch.where(there, rest, 0.0), -bound.sum(2)], 1)
    found = solve_each(system, right[..., None], "support vector machine", _REMEDY)[..., 0]
    a = torch.zeros_like(bound).flatten(1).scatter(1, picked, torch.where(there, found[:, :n_free], 0.0))
    return a.view_as(bound) + bound, found[:, n_free:]


def _interior_point(problem: _Problem, max_iter: int) -> tuple[Tensor, Tensor]:
    """Distance to the bounds and their multipliers near the optimum, ``[T, N, W]`` each (Mehrotra's method)."""
    live = problem.live.double()
    # Strictly inside all bounds, and every row sums to 0.
    others = (live.sum(2, keepdim=True) - 1).clamp(min=1)
    a = live * torch.where(problem.upper > 0, problem.upper, -problem.upper.sum(2, keepdim=True) / others) / 2
    # The slack is carried along: next to a bound the difference has no digits left.
    slack = torch.where(problem.live, problem.upper - a, 1.0)
    z, price = live.clone(), a.new_zeros(a.shape[:2])
    near = 1e-15 * problem.scale
    entries = live.sum((1, 2))
    for _ in range(max_iter + 1):
        gap = (slack * z * live).sum((1, 2)) / entries
        wrong = live * (problem.gradient(a) + z + price[..., None])
        done = (gap <= near) & (wrong.abs().amax((1, 2)) <= _rounding(problem, a))
        if bool(done.all()):
            return slack, z
        solve = _newton(problem, live, slack, z)
        da, dz, dv = solve(wrong, slack * z)
        room = _step_length(slack, -da, z, dz, live)[:, None, None]
        target = (((slack - room * da) * (z + room * dz) * live).sum((1, 2)) / entries / gap.clamp(min=1e-300)) ** 3
        da, dz, dv = solve(wrong, slack * z - live * (da * dz + (target * gap)[:, None, None]))
        length = 0.99 * _step_length(slack, -da, z, dz, live) * ~done
        a = a + length[:, None, None] * da
        slack = slack - length[:, None, None] * da
        z = z + length[:, None, None] * dz
        price = price + length[:, None] * dv
    # Rounding can keep the last digits away; the bounds are checked against the exact solution afterwards.
    lost = ~((gap <= 1e5 * near) & (wrong.abs().amax((1, 2)) <= 1e3 * _rounding(problem, a)))  # NaN is lost too
    if bool(lost.any()):
        raise _not_converged(lost, f"{max_iter} steps were not enough")
    return slack, z


def _newton(problem: _Problem, live: Tensor, slack: Tensor, z: Tensor) -> _Solve:
    """The Newton system of the optimality conditions, ready to be solved for several right sides.

    Classes are tied together by the rows' sums alone: one N x N block a class, and one N x N system for the prices.
    """
    alive = live.transpose(1, 2)  # [T, W, N]
    blocks = problem.kernel[:, None] * alive[..., :, None] * alive[..., None, :]
    curvature = torch.where(problem.live, z / slack, 1.0).transpose(1, 2)
    factor, _ = torch.linalg.cholesky_ex(blocks + torch.diag_embed(curvature))
    inverse = torch.cholesky_inverse(factor) * alive[..., :, None] * alive[..., None, :]  # [T, W, N, N]
    idle = torch.diag_embed((live.sum(2) == 0).double())
    schur = inverse.sum(1) + idle  # [T, N, N]

    def solve(wrong: Tensor, product: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        right = (live * (product / slack - wrong)).transpose(1, 2)[..., None]  # [T, W, N, 1]
        through = (inverse @ right)[..., 0]
        dv = torch.linalg.solve_ex(schur, through.sum(1)[..., None])[0][..., 0]  # not solved: it will not converge
        da = (through - (inverse @ dv[:, None, :, None])[..., 0]).transpose(1, 2)
        return da, live * (z * da - product) / slack, dv

    return solve


def _step_length(slack: Tensor, ds: Tensor, z: Tensor, dz: Tensor, live: Tensor) -> Tensor:
    """How far both can move without becoming negative, at most 1; ``[T]``."""
    far = torch.ones_like(slack)
    for value, change in ((slack, ds), (z, dz)):
        far = torch.minimum(far, torch.where((change < 0) & (live > 0), -value / change, 1.0))
    return far.amin((1, 2))


def _not_converged(which: Tensor, why: str) -> InputError:
    return InputError(
        f"The support vector machine of task {int(which.nonzero()[0])} did not converge: {why}. {_REMEDY}"
    )
