"""The solvers against scikit-learn, SciPy and equations written out in NumPy; derivatives by finite differences."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, minimize
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import one_hot

from quickstudy.errors import InputError
from quickstudy.inner.solvers import Form, gp_fit, gp_log_marginal, gp_predict, irls, logistic, ridge, svm
from tests.smalltasks import assert_close, numbers

FORMS: tuple[Form, ...] = ("primal", "dual")
both_forms = pytest.mark.parametrize("form", FORMS)
both_shapes = pytest.mark.parametrize(("n", "d"), [(9, 4), (4, 9)])


def classes(n_task: int, n: int, way: int) -> Tensor:
    return (torch.arange(n) % way).expand(n_task, n)


def labels(n_task: int, n: int, way: int) -> Tensor:
    return one_hot(classes(n_task, n, way), way).double()


def check_derivatives(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """First and second order, by finite differences."""
    leaves = tuple(part.clone().requires_grad_() for part in inputs)
    assert gradcheck(function, leaves)
    assert gradgradcheck(function, leaves)


# --- ridge ----------------------------------------------------------------------------------------


@both_forms
@both_shapes
def test_ridge_against_scikit_learn(form: Form, n: int, d: int) -> None:
    from sklearn.linear_model import Ridge

    x, y, penalty = numbers("x", 3, n, d), numbers("y", 3, n, 2), torch.tensor([0.1, 1.0, 7.0])
    found = ridge(x, y, penalty, form=form)
    for t in range(3):
        model = Ridge(alpha=float(penalty[t]), fit_intercept=False, tol=1e-12).fit(x[t].numpy(), y[t].numpy())
        np.testing.assert_allclose(found[t].numpy(), model.coef_.T, rtol=1e-9, atol=1e-10)


@both_shapes
def test_woodbury_equals_primal(n: int, d: int) -> None:
    x, y = numbers("x", 3, n, d), numbers("y", 3, n, 2)
    assert_close(ridge(x, y, 0.3, form="primal"), ridge(x, y, 0.3, form="dual"))
    assert torch.equal(ridge(x, y, 0.3), ridge(x, y, 0.3, form="dual" if n < d else "primal"))


@both_forms
def test_ridge_derivatives(form: Form) -> None:
    check_derivatives(
        partial(ridge, form=form), numbers("x", 2, 3, 4), numbers("y", 2, 3, 2), torch.tensor([0.5, 2.0]).double()
    )


def test_ridge_without_a_penalty_is_least_squares_or_refused() -> None:
    x, y = numbers("x", 2, 9, 4), numbers("y", 2, 9, 1)
    expected = np.linalg.lstsq(x[1].numpy(), y[1].numpy(), rcond=None)[0]
    np.testing.assert_allclose(ridge(x, y, 0.0)[1].numpy(), expected, rtol=1e-9)
    with pytest.raises(
        InputError, match=r"ridge regression of task 0: it has 3 examples for 4 features and no penalty"
    ):
        ridge(x[:, :3], y[:, :3], 0.0)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 2:] = False
    with pytest.raises(InputError, match=r"task 1: it has 2 examples for 4 features .* Use a penalty above 0"):
        ridge(x, y, 0.0, mask)
    x[1, :, 3] = x[1, :, 0] + x[1, :, 1]  # as many rows as one likes, of rank 3
    with pytest.raises(InputError, match=r"ridge regression of task 1: its system is singular\. Use a larger penalty"):
        ridge(x, y, 0.0)
    assert torch.isfinite(ridge(x, y, 1e-6)).all()
    # Rounding lets about half of such matrices pass as positive definite.
    for seed in range(20):
        x = numbers(f"rank {seed}", 1, 9, 3) @ numbers(f"mix {seed}", 1, 3, 5)
        with pytest.raises(InputError, match=r"ridge regression of task 0: its system is singular"):
            ridge(x, y[:1], 0.0)


def test_hyper_parameters_and_features_are_checked() -> None:
    x, y = numbers("x", 2, 5, 3), numbers("y", 2, 5, 2)
    with pytest.raises(InputError, match=r"needs a penalty of at least 0, received -1\.0 for task 1"):
        ridge(x, y, torch.tensor([1.0, -1.0]))
    with pytest.raises(InputError, match=r"needs a penalty above 0, received 0\.0 for task 0"):
        logistic(x, labels(2, 5, 2), 0.0)
    with pytest.raises(InputError, match=r"needs a c above 0, received nan for task 0"):
        svm(x, classes(2, 5, 2), float("nan"))
    with pytest.raises(InputError, match=r"needs at least 1 step, received 0"):
        irls(x, labels(2, 5, 2), 1.0, steps=0)
    x[1, 2, 0] = float("inf")
    for solve in (
        lambda: ridge(x, y, 1.0),
        lambda: logistic(x, labels(2, 5, 2), 1.0),
        lambda: irls(x, labels(2, 5, 2), 1.0, steps=2),
        lambda: svm(x, classes(2, 5, 2), 1.0),
        lambda: gp_fit(x @ x.transpose(1, 2), y, 1.0),
    ):
        with pytest.raises(InputError, match=r"of task 1: its features or labels hold NaN or infinity"):
            solve()


# --- logistic regression --------------------------------------------------------------------------


@both_forms
@both_shapes
def test_logistic_against_scikit_learn(form: Form, n: int, d: int) -> None:
    from sklearn.linear_model import LogisticRegression

    x, penalty = 3 * numbers("x", 3, n, d), torch.tensor([0.01, 0.5, 10.0], dtype=torch.float64)
    found = logistic(x, labels(3, n, 3), penalty, form=form)
    for t in range(3):
        model = LogisticRegression(
            C=1 / float(penalty[t]), fit_intercept=False, solver="newton-cg", tol=1e-12, max_iter=10000
        ).fit(x[t].numpy(), classes(1, n, 3)[0].numpy())
        np.testing.assert_allclose(found[t].numpy(), model.coef_.T, rtol=1e-6, atol=1e-7)


@both_forms
def test_logistic_derivatives(form: Form) -> None:
    """The optimum is found without gradients; its derivatives are exact to second order all the same."""
    x, y = numbers("x", 2, 4, 3), 0.9 * labels(2, 4, 3) + 0.1 / 3
    check_derivatives(partial(logistic, form=form), x, y, torch.tensor([0.2, 1.0], dtype=torch.float64))


def test_logistic_stops_task_by_task() -> None:
    """A task that needs many steps leaves its neighbours as they would be alone."""
    x, y = torch.cat([numbers("x", 1, 6, 4), 1000 * numbers("x2", 1, 6, 4)]), labels(2, 6, 3)
    penalty = torch.tensor([10.0, 0.1])
    together = logistic(x, y, penalty)
    for t in range(2):
        assert_close(logistic(x[t : t + 1], y[:1], penalty[t])[0], together[t], 1e-9)
    with pytest.raises(
        InputError, match=r"logistic regression of task 1 did not converge in 4 Newton steps\. Use a la"
    ):
        logistic(x, y, penalty, max_iter=4)


@both_forms
@both_shapes
def test_irls_against_the_equations_of_the_paper(form: Form, n: int, d: int) -> None:
    """Bertinetto et al.: z = η + (y - μ) / s, w = Xᵀ (X Xᵀ + λ diag(s)⁻¹)⁻¹ z; and its limit, scikit-learn's."""
    from sklearn.linear_model import LogisticRegression

    x, y = numbers("x", 2, n, d), labels(2, n, 3)
    for t in range(2):
        for k in range(3):
            data, truth, w = x[t].numpy(), y[t, :, k].numpy(), np.zeros(d)
            for steps in range(1, 5):
                eta = data @ w
                mu = 1 / (1 + np.exp(-eta))
                s = mu * (1 - mu)
                z = eta + (truth - mu) / s
                w = data.T @ np.linalg.inv(data @ data.T + 0.3 * np.diag(1 / s)) @ z
                found = irls(x, y, 0.3, steps=steps, form=form)[t, :, k]
                np.testing.assert_allclose(found.numpy(), w, rtol=1e-9)
            model = LogisticRegression(C=1 / 0.3, fit_intercept=False, tol=1e-12, max_iter=10000).fit(data, truth)
            limit = irls(x, y, 0.3, steps=12, form=form)[t, :, k]
            np.testing.assert_allclose(limit.numpy(), model.coef_[0], rtol=1e-5, atol=1e-6)


@both_forms
def test_irls_derivatives(form: Form) -> None:
    x, y = numbers("x", 2, 3, 4), labels(2, 3, 2)
    check_derivatives(partial(irls, steps=3, form=form), x, y, torch.tensor([0.2, 1.0], dtype=torch.float64))


def test_irls_divides_by_nothing_that_vanishes() -> None:
    x = torch.tensor([[[1e4], [-1e4]]], dtype=torch.float64)
    assert torch.isfinite(irls(x, labels(1, 2, 2), 1e-6, steps=8)).all()


# --- support vector machine -----------------------------------------------------------------------


def dual_objective(a: np.ndarray, x: np.ndarray, y: np.ndarray, identity: float) -> float:
    kernel = x @ x.T + identity * np.eye(len(x))
    return float(0.5 * np.einsum("nk,nm,mk->", a, kernel, a) - a[np.arange(len(y)), y].sum())


def primal_objective(w: np.ndarray, x: np.ndarray, y: np.ndarray, c: float) -> float:
    scores = x @ w
    margins = scores - scores[np.arange(len(y)), y][:, None] + 1
    margins[np.arange(len(y)), y] = 0
    return float(0.5 * (w**2).sum() + c * margins.max(1).sum())


@pytest.mark.parametrize("c", [0.01, 0.1, 1.0, 10.0])
@both_shapes
def test_svm_against_liblinear(c: float, n: int, d: int) -> None:
    from sklearn.svm import LinearSVC

    # Random signs, so that no class lies apart: some examples are beyond the margin, some on it, some within.
    x, y, asked = 2 * numbers("x", 3, 3 * n, d), classes(3, 3 * n, 3), numbers("q", 3, 20, d)
    a = svm(x, y, c)
    w = x.transpose(1, 2) @ a
    for t in range(3):
        data, truth = x[t].numpy(), y[t].numpy()
        model = LinearSVC(
            C=c, multi_class="crammer_singer", fit_intercept=False, tol=1e-10, max_iter=3_000_000, random_state=0
        ).fit(data, truth)
        np.testing.assert_allclose(
            (asked[t] @ w[t]).numpy(), model.decision_function(asked[t].numpy()), rtol=1e-6, atol=1e-6
        )
        dual = dual_objective(a[t].numpy(), data, truth, 0.0)
        assert -dual == pytest.approx(primal_objective(w[t].numpy(), data, truth, c), rel=1e-7)  # no duality gap
        assert -dual == pytest.approx(primal_objective(model.coef_.T, data, truth, c), rel=1e-7)


@pytest.mark.parametrize("c", [0.1, 2.0])
def test_svm_with_the_identity_against_scipy(c: float) -> None:
    """What the authors' code of MetaOptNet solves: 1 on the kernel's diagonal, for the dual alone."""
    x, y = 2 * numbers("x", 2, 6, 4), classes(2, 6, 3)
    found = svm(x, y, c, identity=1.0)
    for t in range(2):
        data, truth = x[t].numpy(), np.eye(3)[y[t].numpy()].ravel()
        best = quadratic_program(np.kron(data @ data.T + np.eye(6), np.eye(3)), truth, c)
        np.testing.assert_allclose(found[t].numpy().ravel(), best, atol=2e-6)
        mine, theirs = (dual_objective(a.reshape(6, 3), data, y[t].numpy(), 1.0) for a in (found[t].numpy(), best))
        assert mine <= theirs + 1e-9
    assert (found - svm(x, y, c)).abs().max() > 1e-3


def quadratic_program(kernel: NDArray[np.float64], truth: NDArray[np.float64], c: float) -> NDArray[np.float64]:
    """SciPy's minimum of 1/2 aᵀ kernel a - aᵀ truth with a <= c truth, each three in a row summing to 0."""
    sums = np.kron(np.eye(len(truth) // 3), np.ones(3))
    best = minimize(  # type: ignore[call-overload]
        lambda a: float(0.5 * a @ kernel @ a - truth @ a),
        np.zeros(len(truth)),
        jac=lambda a: kernel @ a - truth,
        bounds=[(None, c * one) for one in truth],
        constraints=LinearConstraint(sums, 0, 0),
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    found: NDArray[np.float64] = best.x
    return found


@pytest.mark.parametrize(("n", "d", "c", "identity"), [(7, 3, 5.0, 0.0), (7, 3, 0.1, 0.0), (3, 4, 5.0, 1.0)])
def test_svm_derivatives(n: int, d: int, c: float, identity: float) -> None:
    def weights(x: Tensor, strength: Tensor) -> Tensor:
        return x.transpose(1, 2) @ svm(x, classes(2, n, 3), strength, identity=identity)

    check_derivatives(weights, numbers("x", 2, n, d), torch.full((2,), c, dtype=torch.float64))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 5),
    st.integers(1, 4),
    st.integers(1, 8),
    st.sampled_from([1e-3, 0.1, 10.0]),
    st.sampled_from([1e-2, 1.0, 30.0]),
    st.integers(0, 10**6),
)
def test_svm_is_optimal(way: int, shot: int, d: int, c: float, size: float, seed: int) -> None:
    """Whatever the task, bounds and sums hold and no duality gap is left."""
    x, y = size * numbers(f"any {seed}", 1, way * shot, d), classes(1, way * shot, way)
    a = svm(x, y, c)
    upper = c * one_hot(y, way)
    assert (a <= upper + 1e-8 * c).all() and a.sum(2).abs().max() <= 1e-8 * c * way
    primal = primal_objective((x.transpose(1, 2) @ a)[0].numpy(), x[0].numpy(), y[0].numpy(), c)
    assert primal == pytest.approx(-dual_objective(a[0].numpy(), x[0].numpy(), y[0].numpy(), 0.0), rel=1e-6)


def test_svm_with_repeated_examples_and_with_none_that_say_anything() -> None:
    x, y = numbers("x", 1, 6, 4), classes(1, 6, 3)
    twice, labels_twice = torch.cat([x, x], 1), torch.cat([y, y], 1)
    w = twice.transpose(1, 2) @ svm(twice, labels_twice, 0.5)
    assert_close(w, x.transpose(1, 2) @ svm(x, y, 1.0), 1e-7)  # each example twice is twice the weight of its loss
    assert torch.isfinite(svm(torch.zeros_like(x), y, 0.5)).all()


def test_svm_that_does_not_converge_names_the_task() -> None:
    x = torch.cat([numbers("x", 1, 9, 4), 50 * numbers("y", 1, 9, 4)])
    with pytest.raises(
        InputError, match=r"support vector machine of task 0 did not converge: 2 steps were not enough\."
    ):
        svm(x, classes(2, 9, 3), 1.0, max_iter=2)


DEPENDENT = [
    [-1, 0, 1],
    [0, 0, -1],
    [-1, 1, 0],
    [1, 0, -1],
    [-1, 0, -1],
    [0, 1, -1],
    [1, -1, 0],
    [0, 1, -1],
    [1, -1, 0],
    [-1, -1, 0],
]
"""Whole numbers in three dimensions, some of them twice; of five classes. No set of bounds settles."""


def test_svm_whose_bounds_never_settle_is_optimal_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables change sides until they may no more; then the interior-point method's own choice is taken."""
    solver = importlib.import_module("quickstudy.inner.solvers.svm")
    solved, given_bounds = [0], solver._given_bounds

    def counted(*known: Any) -> Any:
        solved[0] += 1
        return given_bounds(*known)

    monkeypatch.setattr(solver, "_given_bounds", counted)
    x = torch.tensor([DEPENDENT], dtype=torch.float64, requires_grad=True)
    y, c = classes(1, 10, 5), 100.0
    a = svm(x, y, c)
    assert solved[0] > solver.SWAPS
    from sklearn.svm import LinearSVC

    data, truth = x.detach()[0].numpy(), y[0].numpy()
    model = LinearSVC(C=c, multi_class="crammer_singer", fit_intercept=False, tol=1e-7, max_iter=1_000_000)
    model.fit(data, truth)
    weights = data.T @ a.detach()[0].numpy()
    assert primal_objective(weights, data, truth, c) == pytest.approx(
        primal_objective(model.coef_.T, data, truth, c), rel=1e-6
    )
    np.testing.assert_allclose(weights, model.coef_.T, atol=1e-3)
    beside = torch.cat([x.detach(), numbers("neighbour", 1, 10, 3)])  # settles, and does not mind
    assert_close(svm(beside, classes(2, 10, 5), c)[1:], svm(beside[1:], y, c), 1e-8)


# --- what does not fit ----------------------------------------------------------------------------


def test_labels_that_are_no_classes_are_refused() -> None:
    x, y = numbers("x", 2, 6, 4), classes(2, 6, 3).clone()
    y[1, 4] = 5
    with pytest.raises(InputError, match=r"vector machine of task 1: its labels must be 0 \.\. 2, found 5 in row 4"):
        svm(x, y, 1.0, way=torch.tensor([3, 3]))
    y[1, 4] = -1
    with pytest.raises(InputError, match=r"its labels must be 0 \.\. 2, found -1 in row 4\. Leave rows without"):
        svm(x, y, 1.0)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 4] = False
    assert torch.isfinite(svm(x, y, 1.0, mask)).all()


@pytest.mark.parametrize("name", ["ridge", "logistic", "irls", "svm"])
def test_shapes_that_do_not_fit_are_refused(name: str) -> None:
    solve: dict[str, Callable[..., Tensor]] = {
        "ridge": lambda x, y, mask=None: ridge(x, y, 1.0, mask),
        "logistic": lambda x, y, mask=None: logistic(x, y, 1.0, mask),
        "irls": lambda x, y, mask=None: irls(x, y, 1.0, mask, steps=2),
        "svm": lambda x, y, mask=None: svm(x, y, 1.0, mask),
    }
    x, y = numbers("x", 2, 6, 4), classes(2, 6, 3) if name == "svm" else labels(2, 6, 3)
    assert torch.isfinite(solve[name](x, y)).all()
    for wrong in (
        (x[0], y),
        (x, y[:1]),
        (x, y[:, :4]),
        (x, y[0]),
        (x, y[..., None]),
        (x, y, torch.ones(2, 5, dtype=torch.bool)),
        (x, y, torch.ones(2, 6)),
    ):
        with pytest.raises(
            InputError, match=r"it needs x \[T, N, D\], y \[T, N.*\] and a bool mask \[T, N\], received x"
        ):
            solve[name](*wrong)


def test_systems_that_cannot_be_solved_are_refused() -> None:
    """Too large for float64, or singular: never NaN in silence, nor torch's own error."""
    x, y = numbers("x", 2, 6, 4), labels(2, 6, 3)
    huge = torch.cat([x[:1], 1e160 * x[1:]])
    alike = torch.cat([x[:1], torch.ones_like(x[1:])])
    refused = r"logistic regression of task 1: its system is singular, or too large for float64\. Use a larger penalty"
    with pytest.raises(InputError, match=refused):
        irls(huge, y, 1.0, steps=2)
    with pytest.raises(InputError, match=refused):
        irls(alike, y, 1e-300, steps=2, form="primal")
    with pytest.raises(InputError, match=refused):
        logistic(alike, y, torch.tensor([1.0, 1e-300], dtype=torch.float64), form="primal")
    with pytest.raises(InputError, match=r"of task 1"):
        logistic(huge, y, 1.0)
    for identity in (0.0, 1.0):
        with pytest.raises(InputError, match=r"support vector machine of task 1"):
            svm(huge, classes(2, 6, 3), 1.0, identity=identity)


# --- Gaussian processes ---------------------------------------------------------------------------


def squared_exponential(x: Tensor, z: Tensor) -> Tensor:
    return 1.7 * torch.exp(-torch.cdist(x, z).square() / (2 * 0.8**2))


def test_gp_against_scikit_learn() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    x, y, asked, noise = numbers("x", 3, 8, 2), numbers("y", 3, 8, 2), numbers("q", 3, 5, 2), 0.05
    process = gp_fit(squared_exponential(x, x), y, noise)
    mean, variance = gp_predict(process, squared_exponential(asked, x), torch.full((3, 5), 1.7).double())
    likely = gp_log_marginal(process, y)
    for t in range(3):
        for column in range(2):
            model = GaussianProcessRegressor(ConstantKernel(1.7) * RBF(0.8), alpha=noise, optimizer=None)
            model.fit(x[t].numpy(), y[t, :, column].numpy())
            expected, deviation = model.predict(asked[t].numpy(), return_std=True)
            np.testing.assert_allclose(mean[t, :, column].numpy(), expected, rtol=1e-8)
            np.testing.assert_allclose(variance[t].sqrt().numpy(), deviation, rtol=1e-6)
            assert float(likely[t, column]) == pytest.approx(model.log_marginal_likelihood_value_, rel=1e-10)


def test_gp_derivatives() -> None:
    def all_of_it(x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
        kernel = torch.exp(-(x[:, :, None] - x[:, None]).square().sum(3))
        process = gp_fit(kernel, y, noise)
        mean, variance = gp_predict(process, kernel[:, :2] * 0.7, kernel.diagonal(dim1=1, dim2=2)[:, :2])
        return torch.cat([mean.flatten(), variance.flatten(), gp_log_marginal(process, y).flatten()])

    check_derivatives(
        all_of_it, numbers("x", 2, 4, 2), numbers("y", 2, 4, 1), torch.tensor([0.1, 0.4], dtype=torch.float64)
    )


def test_gp_with_a_singular_covariance_is_refused() -> None:
    with pytest.raises(InputError, match=r"Gaussian process of task 0: its system is singular\. Use a larger noise"):
        gp_fit(1e9 * torch.ones(1, 3, 3), torch.ones(1, 3, 1), 1e-9)
    with pytest.raises(InputError, match=r"needs a noise above 0, received 0\.0"):
        gp_fit(torch.eye(3)[None], torch.ones(1, 3, 1), 0.0)


# --- raggedness and dtype, for all of them --------------------------------------------------------

SOLVERS: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "ridge": lambda x, y, mask: ridge(x, one_hot(y, 3).to(x), 0.2, mask),
    "logistic": lambda x, y, mask: logistic(x, one_hot(y, 3).to(x), 0.2, mask),
    "irls": lambda x, y, mask: irls(x, one_hot(y, 3).to(x), 0.2, mask, steps=3),
    "svm": lambda x, y, mask: torch.nan_to_num(x).transpose(1, 2) @ svm(x, y, 0.5, mask, way=torch.full((len(x),), 3)),
    "gp": lambda x, y, mask: gp_of(x, one_hot(y, 3).to(x), mask),
}


def gp_of(x: Tensor, y: Tensor, mask: Tensor | None) -> Tensor:
    """Mean and variance at each task's first example, and the log marginal likelihood, ``[T, 3, 3]``."""
    kernel = x @ x.transpose(1, 2)  # NaN in the rows and columns of padding
    process = gp_fit(kernel, y, 0.2, mask)
    mean, variance = gp_predict(process, kernel[:, :1], kernel[:, :1, 0])
    return torch.cat([mean, variance[..., None].expand(-1, -1, 3), gp_log_marginal(process, y)[:, None]], 1)


@pytest.mark.parametrize("name", SOLVERS)
@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(1, 6))
def test_padding_does_not_matter(name: str, sizes: list[int], d: int) -> None:
    """NaN in padded rows changes nothing, bitwise; a padded task equals itself alone."""
    solve, longest = SOLVERS[name], max(sizes)
    mask = torch.arange(longest) < torch.tensor(sizes)[:, None]
    x, y = 2 * numbers(f"ragged {sizes}", len(sizes), longest, d), classes(len(sizes), longest, 3)
    padded = solve(torch.where(mask[..., None], x, float("nan")), y, mask)
    assert torch.equal(padded, solve(torch.where(mask[..., None], x, 0.0), torch.where(mask, y, 2), mask))
    for t, n in enumerate(sizes):
        assert_close(padded[t], solve(x[t : t + 1, :n], y[t : t + 1, :n], None)[0], 1e-8 if name == "svm" else 1e-10)


@pytest.mark.parametrize("name", ["ridge", "logistic", "irls", "svm"])
def test_results_come_back_in_the_dtype_of_the_features(name: str) -> None:
    x, y = numbers("x", 2, 6, 4), classes(2, 6, 3)
    single = SOLVERS[name](x.float(), y, None)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), SOLVERS[name](x, y, None), rtol=1e-4, atol=1e-5)


def test_absent_classes_take_no_part() -> None:
    x, y = numbers("x", 2, 4, 3), torch.tensor([[0, 1, 0, 1], [0, 1, 2, 2]])
    way = torch.tensor([2, 3])
    w = logistic(x, one_hot(y, 3).double(), 0.2, present=torch.arange(3) < way[:, None])
    a = svm(x, y, 0.5, way=way)
    assert (w[0, :, 2] == 0).all() and (a[0, :, 2] == 0).all()
    assert_close(w[0, :, :2], logistic(x[:1], one_hot(y[:1], 2).double(), 0.2)[0])
    assert_close(a[0, :, :2], svm(x[:1], y[:1], 0.5)[0])
