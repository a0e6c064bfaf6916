"""Linear systems of Hessians against direct solves, and implicit gradients against closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from quickstudy.errors import InputError
from quickstudy.inner import MatVec, Params, TaskLosses, cg, descend, hessian, implicit, neumann, newton_cg
from tests.smalltasks import assert_close, numbers

T, N, D = 3, 8, 5
X, Y = numbers("x", T, N, D), numbers("y", T, N)


def systems() -> tuple[Tensor, Params, MatVec]:
    """Three positive definite matrices ``[T, 6, 6]`` on vectors in two parts."""
    half = numbers("half", T, 6, 6)
    matrix = half @ half.transpose(1, 2) + 0.1 * torch.eye(6, dtype=torch.float64)
    b = {"a": numbers("b1", T, 2, 2), "c": numbers("b2", T, 2)}

    def matvec(v: Params) -> Params:
        flat = (matrix @ torch.cat([v["a"].flatten(1), v["c"]], 1)[..., None])[..., 0]
        return {"a": flat[:, :4].reshape(-1, 2, 2), "c": flat[:, 4:]}

    return matrix, b, matvec


def flat(v: Params) -> Tensor:
    return torch.cat([value.flatten(1) for value in v.values()], 1)


def test_conjugate_gradients_against_a_direct_solve() -> None:
    matrix, b, matvec = systems()
    for damping in (0.0, 0.5):
        found = cg(matvec, b, steps=30, tolerance=1e-13, damping=damping)
        direct = np.linalg.solve(matrix.numpy() + damping * np.eye(6), flat(b).numpy()[..., None])[..., 0]
        assert_close(flat(found.x), torch.from_numpy(direct), 1e-11)
        assert (found.residual < 1e-12).all() and found.curved.all()


def test_a_task_that_is_solved_waits_to_the_last_bit() -> None:
    """One task is the identity (one step), one is zero (none), one is hard: each as if alone."""
    matrix = torch.stack([torch.eye(6), torch.eye(6), torch.zeros(6, 6)]).double()
    matrix[2] = systems()[0][0]
    b = torch.cat([flat(systems()[1])[:1], torch.zeros(1, 6, dtype=torch.float64), flat(systems()[1])[2:]])

    def product(m: Tensor) -> MatVec:
        # A sum and no matrix product, whose rounding depends on the number of tasks.
        return lambda v: {"w": (m * v["w"][:, None]).sum(2)}

    together = cg(product(matrix), {"w": b}, steps=20, tolerance=1e-12)
    assert together.steps[:2].tolist() == [1, 0] and 6 <= int(together.steps[2]) <= 12
    for t in range(3):
        alone = cg(product(matrix[t : t + 1]), {"w": b[t : t + 1]}, steps=20, tolerance=1e-12)
        assert torch.equal(alone.x["w"][0], together.x["w"][t])


def test_negative_curvature_ends_a_task_and_only_that_one() -> None:
    scale = torch.tensor([2.0, -1.0], dtype=torch.float64)
    found = cg(lambda v: {"w": scale[:, None] * v["w"]}, {"w": torch.ones(2, 3, dtype=torch.float64)}, steps=4)
    assert found.x["w"].tolist() == [[0.5] * 3, [1.0] * 3] and found.curved.tolist() == [True, False]


def test_neumann_against_conjugate_gradients_and_its_own_rate() -> None:
    """The error after k products is that of a geometric series: (1 - scale A)^(k+1) A^-1 b."""
    matrix, b, matvec = systems()
    scale = 1 / torch.linalg.eigvalsh(matrix)[:, -1]
    exact = torch.linalg.solve(matrix, flat(b))
    for steps in (0, 3, 10):
        error = exact - flat(neumann(matvec, b, steps=steps, scale=scale))
        factor = torch.eye(6, dtype=torch.float64) - scale[:, None, None] * matrix
        expected = (torch.linalg.matrix_power(factor, steps + 1) @ exact[..., None])[..., 0]
        assert_close(error, expected, 1e-11)
    long = neumann(matvec, b, steps=4000, scale=scale)
    assert_close(flat(long), flat(cg(matvec, b, steps=30, tolerance=1e-13).x), 1e-8)


def test_hessian_against_torch() -> None:
    w = numbers("w", 2, 4)

    def loss(p: Params) -> Tensor:
        return (p["w"].sin() * p["w"].flip(1).exp()).sum(1) + 3 * p["linear"].sum(1)

    product = hessian(loss, {"w": w, "linear": numbers("l", 2, 2)})
    v = numbers("v", 2, 4)
    found = product({"w": v, "linear": numbers("vl", 2, 2)})
    for t in range(2):
        full = torch.autograd.functional.hessian(lambda x: (x.sin() * x.flip(0).exp()).sum(), w[t])  # type: ignore[no-untyped-call]
        assert_close(found["w"][t], full @ v[t])
    assert (found["linear"] == 0).all()
    straight = hessian(lambda p: p["w"].sum(1), {"w": w})
    assert (straight({"w": v})["w"] == 0).all()


# --- implicit gradients: ridge towards θ, solved by hand ---------------------------------------------------------


def ridge_loss(gains: Tensor) -> TaskLosses:
    """1/2 |gain (X w) - y|² a task; ``gains`` ``[N]`` is shared and learned."""
    return lambda p: ((gains * (X @ p["w"][..., None])[..., 0] - Y).square() / 2).sum(1)


def closed_form(theta: Tensor, gains: Tensor, strength: Tensor) -> Tensor:
    """``(A'A + s)^-1 (A'y + s θ)``, which torch can differentiate by itself; ``[T, D]``."""
    a = gains[:, None] * X
    ridge = strength[:, None, None] * torch.eye(D, dtype=torch.float64)
    right = (a.transpose(1, 2) @ Y[..., None])[..., 0] + strength[:, None] * theta
    solved: Tensor = torch.linalg.solve(a.transpose(1, 2) @ a + ridge, right)
    return solved


def given() -> list[Tensor]:
    made = [numbers("theta", T, D), 1 + 0.3 * numbers("gains", N), torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)]
    return [tensor.requires_grad_() for tensor in made]


def solver(matvec: MatVec, b: Params) -> Params:
    return cg(matvec, b, steps=40, tolerance=1e-14).x


def outer(w: Tensor) -> Tensor:
    return (w.square() * torch.arange(1, D + 1)).sin().sum()


def test_implicit_gradient_against_the_differentiated_closed_form() -> None:
    """In θ, in a tensor that the loss reads, and in the strength, one a task."""
    theta, gains, strength = expected_in = given()
    expected = torch.autograd.grad(outer(closed_form(theta, gains, strength)), expected_in)
    theta, gains, strength = found_in = given()
    solution = {"w": closed_form(theta, gains, strength).detach()}
    attached = implicit(ridge_loss(gains), solution, {"w": theta}, strength=strength, solver=solver)
    assert torch.equal(attached["w"], solution["w"])
    found = torch.autograd.grad(outer(attached["w"]), found_in)
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, 1e-10)


def test_the_path_does_not_matter() -> None:
    """Gradient descent and Newton end at one point with one gradient, which is the closed form's."""
    ends = []
    for name in ("descent", "newton"):
        theta, gains, strength = inputs = given()

        def objective(p: Params, theta: Tensor = theta, gains: Tensor = gains, s: Tensor = strength) -> Tensor:
            return ridge_loss(gains)(p) + s / 2 * (p["w"] - theta).square().sum(1)

        with torch.no_grad():
            start = {"w": theta.detach()}
            if name == "descent":
                solution = descend(objective, start, steps=2000, lr=0.08)
            else:
                solution = newton_cg(objective, start, steps=5, cg_steps=10)
        assert_close(solution["w"], closed_form(*inputs).detach(), 1e-11)
        attached = implicit(ridge_loss(gains), solution, {"w": theta}, strength=strength, solver=solver)
        ends.append(torch.autograd.grad(outer(attached["w"]), inputs))
    expected = torch.autograd.grad(outer(closed_form(*inputs)), inputs)
    for descent, newton, closed in zip(*ends, expected, strict=True):
        assert_close(descent, newton, 1e-10)
        assert_close(newton, closed, 1e-10)


def test_neumann_solves_the_same_gradient() -> None:
    theta, gains, strength = inputs = given()
    solution = {"w": closed_form(*inputs).detach()}
    ends = []
    for solve in (solver, lambda matvec, b: neumann(matvec, b, steps=3000, scale=0.1)):
        attached = implicit(ridge_loss(gains), solution, {"w": theta}, strength=strength, solver=solve)
        ends.append(torch.autograd.grad(outer(attached["w"]), inputs))
    for a, b in zip(*ends, strict=True):
        assert_close(a, b, 1e-9)


def test_implicit_against_a_long_unroll_on_a_loss_that_is_no_quadratic() -> None:
    """Unrolling to convergence differentiates the same minimiser by another way."""

    def losses(p: Params) -> Tensor:
        return ((X @ p["w"][..., None])[..., 0] - Y).square().log1p().sum(1)

    def objective(p: Params) -> Tensor:
        return losses(p) + 3.0 / 2 * (p["w"] - theta).square().sum(1)

    theta = numbers("theta", T, D).requires_grad_()
    unrolled = descend(objective, {"w": theta}, steps=400, lr=0.08)
    expected = torch.autograd.grad(outer(unrolled["w"]), theta)[0]
    attached = implicit(losses, unrolled, {"w": theta}, strength=3.0, solver=solver)
    assert_close(torch.autograd.grad(outer(attached["w"]), theta)[0], expected, 1e-9)


def test_without_grad_mode_and_with_other_weights() -> None:
    theta, gains, _ = given()
    with torch.no_grad():
        attached = implicit(ridge_loss(gains), {"w": theta}, {"w": theta}, strength=1.0, solver=solver)
    assert not attached["w"].requires_grad
    with pytest.raises(InputError, match=r"The solution has the weights \['w'\], the start \['v'\]: not the same"):
        implicit(ridge_loss(gains), {"w": theta}, {"v": theta}, strength=1.0, solver=solver)
    with torch.inference_mode(), pytest.raises(InputError, match=r"Cannot adapt under torch\.inference_mode"):
        implicit(ridge_loss(gains), {"w": theta}, {"w": theta}, strength=1.0, solver=solver)


def test_a_newton_step_that_brings_nothing_is_halved() -> None:
    """Of sqrt(1 + w²) it leads from 1 to -1, which is as high; half of it to the minimum."""
    start = {"w": torch.tensor([[1.0], [0.5]], dtype=torch.float64)}
    end = newton_cg(lambda p: (1 + p["w"].square()).sqrt().sum(1), start, steps=1, cg_steps=1)["w"]
    assert_close(end, torch.tensor([[0.0], [-0.125]], dtype=torch.float64))


def test_newton_each_task_by_itself_and_downhill() -> None:
    """Rosenbrock's valley from three places: the loss never rises, and all arrive at (1, 1)."""

    def losses(p: Params) -> Tensor:
        x, y = p["w"][:, 0], p["w"][:, 1]
        return (1 - x).square() + 100 * (y - x.square()).square()

    start = torch.tensor([[-1.2, 1.0], [0.0, 3.0], [1.0, 1.0]], dtype=torch.float64)
    before = losses({"w": start})
    for steps in (1, 2, 5, 10):
        after = losses(newton_cg(losses, {"w": start}, steps=steps, cg_steps=2))
        assert (after <= before).all()
        before = after
    end = newton_cg(losses, {"w": start}, steps=60, cg_steps=2)["w"]
    assert_close(end, torch.ones(3, 2, dtype=torch.float64), 1e-12)
    for t in range(3):
        alone = newton_cg(losses, {"w": start[t : t + 1]}, steps=7, cg_steps=2)["w"]
        together = newton_cg(losses, {"w": start}, steps=7, cg_steps=2)["w"]
        assert_close(alone[0], together[t], 1e-12)


def conjugate_gradients(matrix: Any, b: Any, steps: int) -> list[float]:
    """The true residual, |b - A x| / |b|, after each step, in NumPy."""
    x, residual = np.zeros_like(b), b.copy()
    direction, found = residual.copy(), [1.0]
    for _ in range(steps):
        image = matrix @ direction
        length = residual @ residual / (direction @ image)
        x, after = x + length * direction, residual - length * image
        direction = after + after @ after / (residual @ residual) * direction
        residual = after
        found.append(float(np.linalg.norm(b - matrix @ x) / np.linalg.norm(b)))
    return found


@pytest.mark.parametrize("tolerance", [0.3, 1e-2, 1e-5])
def test_the_residual_and_where_it_stops_a_task(tolerance: float) -> None:
    """Tasks stop after the first step whose residual is below the tolerance; what is said of it is true."""
    matrix, b, matvec = systems()
    found = cg(matvec, b, steps=6, tolerance=tolerance)
    for t in range(3):
        after = conjugate_gradients(matrix[t].numpy(), flat(b)[t].numpy(), 6)
        steps = next((k for k, left in enumerate(after) if left <= tolerance), 6)
        assert int(found.steps[t]) == steps
        assert float(found.residual[t]) == pytest.approx(after[steps], rel=1e-6)


def test_the_residual_is_that_of_the_solution() -> None:
    """And not the recurrence's, which goes on falling in float32; nor 1 where A bends down and b itself is returned."""
    scale = torch.logspace(0, 6, 50)[None]
    b = {"w": torch.ones(1, 50)}
    found = cg(lambda v: {"w": scale * v["w"]}, b, steps=2000)
    x = found.x["w"].double()
    true = float((b["w"] - scale.double() * x).norm() / b["w"].double().norm())
    assert true > 1e-8
    assert float(found.residual) == pytest.approx(true, rel=0.5)
    down = cg(lambda v: {"w": -v["w"]}, {"w": torch.ones(1, 3)}, steps=4)
    assert float(down.residual) == 2.0 and not bool(down.curved)


def test_nan_comes_out_as_nan() -> None:
    """From the products of one task, and from its right side; another task beside it has its answer."""
    scale = torch.tensor([2.0, float("nan")])[:, None]
    found = cg(lambda v: {"w": scale * v["w"]}, {"w": torch.ones(2, 3)}, steps=4)
    assert found.x["w"][0].tolist() == [0.5] * 3 and found.x["w"][1].isnan().all()
    assert found.residual[0] == 0 and found.residual[1].isnan()
    wrong = cg(lambda v: {"w": 2 * v["w"]}, {"w": torch.tensor([[1.0], [float("nan")], [0.0]])}, steps=4)
    assert wrong.x["w"][0] == 0.5 and wrong.x["w"][1].isnan() and wrong.x["w"][2] == 0


@pytest.mark.parametrize("damping", [0.0, 2.0])
def test_newton_steps_are_damped(damping: float) -> None:
    """On a/2 (w - s)^2 a step goes a/(a + damping) of the way; each evaluates the loss twice, once with a graph."""
    a, s, w, calls = 3.0, 1.5, -0.4, []

    def loss(p: Params) -> Tensor:
        calls.append(torch.is_grad_enabled())
        return a / 2 * (p["w"] - s).square().sum(1)

    start = {"w": torch.tensor([[w]], dtype=torch.float64)}
    with torch.no_grad():
        end = newton_cg(loss, start, steps=2, cg_steps=1, damping=damping)
    assert float(end["w"]) == pytest.approx(s + (1 - a / (a + damping)) ** 2 * (w - s))
    assert calls == [True, False] * 2
