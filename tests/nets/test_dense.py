"""The linear layer with a task axis against plain operators, to its third derivative."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from quickstudy.nets.dense import task_linear

SIZES = {"wide": (3, 4, 5, 2), "one-input": (3, 4, 1, 2), "one-output": (3, 4, 5, 1), "one-row": (2, 1, 3, 2)}


def plain(x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
    weights = weight.expand(len(x), *weight.shape[-2:])
    biases = bias.expand(len(x), bias.shape[-1])
    y = torch.stack([F.linear(row, w, b) for row, w, b in zip(x, weights, biases, strict=True)])
    return y.clamp(min=0) if relu else y


def inputs(size: str, asks: tuple[bool, ...], lead: tuple[bool, bool] = (True, True)) -> list[Tensor]:
    t, n, i, o = SIZES[size]
    torch.manual_seed(3)
    x = torch.randn(t, n, i, dtype=torch.float64)
    weight = torch.randn(*([t] if lead[0] else []), o, i, dtype=torch.float64)
    bias = torch.randn(*([t] if lead[1] else []), o, dtype=torch.float64)
    return [part.requires_grad_(asked) for part, asked in zip((x, weight, bias), asks, strict=True)]


def derivatives(run: object, tensors: list[Tensor], relu: bool) -> list[Tensor]:
    """The value and three derivatives of it, each of a curved function of the one before."""
    assert callable(run)
    wanted = [part for part in tensors if part.requires_grad]
    value = run(*tensors, relu)
    found = [value]
    for _ in range(3):
        if not value.requires_grad:
            break
        grads = torch.autograd.grad(value.square().sum(), wanted, create_graph=True, allow_unused=True)
        value = torch.cat([grad.flatten() for grad in grads if grad is not None])
        found.append(value)
    return found


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("asks", [asks for asks in itertools.product((True, False), repeat=3) if any(asks)])
@pytest.mark.parametrize("size", SIZES)
def test_value_and_derivatives(size: str, asks: tuple[bool, ...], relu: bool) -> None:
    ours = derivatives(lambda x, w, b, relu: task_linear(x, w, b, relu=relu), inputs(size, asks), relu)
    theirs = derivatives(plain, inputs(size, asks), relu)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("lead", [(True, False), (False, True), (False, False)])
def test_shared_weights(lead: tuple[bool, bool]) -> None:
    asks = (True, True, True)
    ours = derivatives(lambda x, w, b, relu: task_linear(x, w, b, relu=relu), inputs("wide", asks, lead), True)
    for mine, other in zip(ours, derivatives(plain, inputs("wide", asks, lead), True), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def test_finite_differences() -> None:
    tensors = inputs("wide", (True, True, True))
    assert torch.autograd.gradcheck(lambda x, w, b: task_linear(x, w, b, relu=True), tensors)
    assert torch.autograd.gradgradcheck(lambda x, w, b: task_linear(x, w, b, relu=True), tensors)


def test_parts_of_a_derivative() -> None:
    """Cotangents of some of (dx, dW, db) alone, as where a method cuts one way."""
    for number in range(3):
        found = []
        for run in (lambda x, w, b: task_linear(x, w, b, relu=True), lambda x, w, b: plain(x, w, b, True)):
            tensors = inputs("wide", (True, True, True))
            first = torch.autograd.grad(run(*tensors).pow(3).sum(), tensors, create_graph=True)  # type: ignore[no-untyped-call]
            second = torch.autograd.grad(first[number].square().sum(), tensors, allow_unused=True)
            found.append([part if part is not None else torch.zeros(()).double() for part in second])
        for mine, other in zip(*found, strict=True):
            torch.testing.assert_close(mine.expand_as(other), other, rtol=1e-10, atol=1e-10)


def test_inside_torch_func() -> None:
    x, weight, bias = inputs("wide", (False, False, False))

    def loss(w: Tensor) -> Tensor:
        return task_linear(x, w, bias, relu=True).pow(3).sum()

    hessian = torch.func.jacrev(torch.func.jacrev(loss))(weight)
    expected = torch.autograd.functional.hessian(lambda w: plain(x, w, bias, True).pow(3).sum(), weight)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(hessian, expected, rtol=1e-10, atol=1e-10)
    each = torch.func.vmap(lambda w: task_linear(x, w, bias, relu=True))(torch.stack([weight, 2 * weight]))
    torch.testing.assert_close(each[1], plain(x, 2 * weight, bias, True), rtol=1e-10, atol=1e-10)


def test_under_autocast() -> None:
    x, weight, bias = (part.float().requires_grad_() for part in inputs("wide", (False, False, False)))
    with torch.autocast("cpu", torch.bfloat16):
        y = task_linear(x, weight, bias, relu=True)
    (grad,) = torch.autograd.grad(y.float().sum(), weight)
    assert y.dtype == torch.bfloat16 and grad.dtype == torch.float32


def test_without_a_graph_nothing_is_kept() -> None:
    tensors = inputs("wide", (True, True, True))
    with torch.no_grad():
        assert task_linear(*tensors, relu=True).grad_fn is None
