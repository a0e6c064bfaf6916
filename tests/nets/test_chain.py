"""Chains of linear layers against plain operators, to the third derivative, in torch's operators and in C."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from quickstudy import native
from quickstudy.nets import chain
from quickstudy.nets.chain import Shape, plain_value
from quickstudy.nets.dense import Layer, task_chain, task_linear

C = chain._C.there()
KERNELS = ["torch", pytest.param("auto", marks=pytest.mark.skipif(not C, reason="no C compiler"))]
Run = Callable[[Tensor, Sequence[Layer], bool], Tensor]


def ours(x: Tensor, layers: Sequence[Layer], relu: bool) -> Tensor:
    return task_chain(x, layers, relu=relu)


def by_hand(x: Tensor, layers: Sequence[Layer], relu: bool) -> Tensor:
    for number, (weight, bias) in enumerate(layers, 1):
        weights, biases = weight.expand(len(x), *weight.shape[-2:]), bias.expand(len(x), bias.shape[-1])
        x = torch.stack([F.linear(row, w, b) for row, w, b in zip(x, weights, biases, strict=True)])
        x = torch.relu(x) if number < len(layers) or relu else x
    return x


def drawn(n_task: int, n_row: int, widths: Sequence[int], shared: int = 0, dtype: torch.dtype = torch.float64) -> Any:
    """Inputs and layers; bits of ``shared`` say which weights and biases all tasks share (not all of them)."""
    make = torch.Generator().manual_seed(1 + n_task + 10 * n_row + sum(widths))

    def one(*size: int) -> Tensor:
        lead = () if shared >> len(made) & 1 and made else (n_task,)
        made.append(torch.randn(*lead, *size, generator=make, dtype=torch.float64).to(dtype))
        return made[-1]

    made: list[Tensor] = []
    x = one(n_row, widths[0])
    layers = [(one(out, put) / math.sqrt(put), one(out)) for put, out in pairwise(widths)]
    layers[-1] = (layers[-1][0], made[-1] if made[-1].dim() == 2 else made[-1].expand(n_task, -1).clone())
    return x, layers


def derivatives(run: Run, x: Tensor, layers: Sequence[Layer], relu: bool, orders: int = 3) -> list[Tensor]:
    """The value and derivatives of it, each of a curved function of the one before, in x and all weights."""
    x, *flat = (t.detach().clone().requires_grad_() for t in (x, *(t for layer in layers for t in layer)))
    value = run(x, list(zip(flat[::2], flat[1::2], strict=True)), relu)
    found = [value]
    for order in range(orders):
        loss = (value * torch.linspace(0.5, 1, value.numel(), dtype=value.dtype).view_as(value)).square().sum()
        loss = loss / value.detach().square().sum().clamp(min=1)  # so that numbers stay of one size
        grads = torch.autograd.grad(loss, [x, *flat], create_graph=order < orders - 1)
        value = torch.cat([grad.flatten() for grad in grads])
        found.append(value)
    return found


def same(mine: Sequence[Tensor], other: Sequence[Tensor], tolerance: float = 1e-10) -> None:
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("which", KERNELS)
@settings(max_examples=40, deadline=None)
@given(
    n_task=st.integers(1, 4),
    n_row=st.integers(1, 14),
    widths=st.lists(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 24, 33, 40, 50]), min_size=2, max_size=4),
    shared=st.integers(0, 255),
    relu=st.booleans(),
)
def test_value_and_three_derivatives(
    which: native.Kernels, n_task: int, n_row: int, widths: list[int], shared: int, relu: bool
) -> None:
    x, layers = drawn(n_task, n_row, widths, shared)
    with native.kernels(which):
        mine = derivatives(ours, x, layers, relu)
    same(mine, derivatives(by_hand, x, layers, relu))


@pytest.mark.skipif(not C, reason="no C compiler")
def test_c_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above test it, and it computes all three."""
    called: list[str] = []
    call = chain._Plan.call

    def noted(plan: Any, name: str, *rest: Any) -> None:
        called.append(f"{name} {plan.dtype}")
        call(plan, name, *rest)

    monkeypatch.setattr(chain._Plan, "call", noted)
    for dtype in (torch.float32, torch.float64):
        called.clear()
        x, layers = drawn(2, 3, (4, 5, 1), dtype=dtype)
        derivatives(ours, x, layers, False, 2)
        assert called == [f"{name} {dtype}" for name in ("value", "derivative", "second", "derivative")]
    with native.kernels("torch"):
        called.clear()
        derivatives(ours, x.double(), [(w.double(), b.double()) for w, b in layers], False)
        assert not called


@pytest.mark.skipif(not C, reason="no C compiler")
def test_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    x, layers = drawn(3, 10, (1, 40, 40, 1), dtype=torch.float32)
    exact = derivatives(by_hand, x.double(), [(w.double(), b.double()) for w, b in layers], False, 2)
    same([part.double() for part in derivatives(ours, x, layers, False, 2)], exact, 1e-4)


@pytest.mark.skipif(not C, reason="no C compiler")
def test_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    x, layers = drawn(5, 6, (7, 20, 3))
    alone = derivatives(ours, x, layers, False)
    monkeypatch.setattr(chain, "_WORTH_THREADS", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        chain._plan.cache_clear()
        same(derivatives(ours, x, layers, False), alone, 1e-13)
    finally:
        torch.set_num_threads(before)
        chain._plan.cache_clear()


@pytest.mark.parametrize("which", KERNELS)
def test_parts_of_a_derivative(which: native.Kernels) -> None:
    """Cotangents of some of (dx, dW, db) alone, as where a method cuts one way, and gradients asked for some alone."""
    x, layers = drawn(3, 4, (5, 8, 6, 2))
    for number in range(7):
        found = []
        for run in (ours, by_hand):
            flat = [t.detach().clone().requires_grad_() for t in (x, *(t for layer in layers for t in layer))]
            with native.kernels(which):
                y = run(flat[0], list(zip(flat[1::2], flat[2::2], strict=True)), False)
                (first,) = torch.autograd.grad(y.pow(3).sum(), flat[number], create_graph=True)
                second = torch.autograd.grad(first.square().sum(), flat, allow_unused=True)
            found.append(
                [z if part is None else part for part, z in zip(second, map(torch.zeros_like, flat), strict=True)]
            )
        same(found[0], found[1])


@pytest.mark.parametrize("which", KERNELS)
def test_what_lies_otherwise_in_memory(which: native.Kernels) -> None:
    x, layers = drawn(3, 4, (5, 8, 2))
    other = [(w.transpose(1, 2).contiguous().transpose(1, 2), b.T.contiguous().T) for w, b in layers]
    apart = torch.cat([x, x], 1)[:, :4]
    with native.kernels(which):
        same([ours(apart, other, False)], [by_hand(x, layers, False)])
        weight = layers[0][0].detach().clone().requires_grad_()
        y = task_linear(apart, weight, other[0][1])
        (mine,) = torch.autograd.grad(y, weight, torch.ones(()).double().expand_as(y))  # cotangents of one number
        torch.testing.assert_close(mine, x.sum(1)[:, None].expand_as(mine))


@pytest.mark.parametrize("which", KERNELS)
def test_nan_is_handed_on_and_zero_has_no_slope(which: native.Kernels) -> None:
    x = torch.tensor([[[math.nan], [0.0], [-1.0], [2.0]]]).double().requires_grad_()
    weight, bias = torch.ones(1, 1, 1).double(), torch.zeros(1, 1).double()
    with native.kernels(which):
        y = task_linear(x, weight, bias, relu=True)
        (slope,) = torch.autograd.grad(y.sum(), x)
    expected = torch.relu(x)
    torch.testing.assert_close(y, expected, equal_nan=True)
    torch.testing.assert_close(slope, torch.autograd.grad(expected.sum(), x)[0], equal_nan=True)
    x, layers = drawn(2, 5, (3, 20, 2))
    x[1, 2, 0] = math.nan
    with native.kernels(which):
        mine = derivatives(ours, x, layers, False, 2)
    for part, other in zip(mine, derivatives(by_hand, x, layers, False, 2), strict=True):
        assert torch.equal(part.isnan(), other.isnan())


def test_no_rows_and_no_tasks() -> None:
    for n_task, n_row in ((2, 0), (0, 3)):
        layers = [(torch.ones(n_task, 4, 3), torch.ones(n_task, 4)), (torch.ones(n_task, 2, 4), torch.ones(n_task, 2))]
        weight = layers[0][0].requires_grad_()
        y = task_chain(torch.ones(n_task, n_row, 3), layers)
        assert y.shape == (n_task, n_row, 2)
        (found,) = torch.autograd.grad(y.sum(), weight)
        assert torch.equal(found, torch.zeros_like(weight))


@pytest.mark.parametrize("which", KERNELS)
@pytest.mark.parametrize("wrong", [(2, 4, 3), (2, 4, 6), (3, 4, 5)])
def test_layers_that_do_not_fit(which: native.Kernels, wrong: tuple[int, ...]) -> None:
    """C reads no memory that is not there: torch complains."""
    with native.kernels(which), pytest.raises(RuntimeError, match=r"size|shape"):
        task_linear(torch.ones(2, 3, 5), torch.ones(wrong), torch.ones(2, 4))
    with native.kernels(which), pytest.raises(RuntimeError, match=r"size|shape|expand"):
        task_linear(torch.ones(2, 3, 5), torch.ones(3, 4, 5), torch.ones(3, 4))
    with native.kernels(which), pytest.raises(RuntimeError, match=r"size|shape|expand"):
        task_linear(torch.ones(2, 3, 5), torch.ones(2, 4, 5), torch.ones(2, 3))
    with native.kernels(which), pytest.raises(RuntimeError, match=r"dtype|scalar type"):
        task_linear(torch.ones(2, 3, 5), torch.ones(2, 4, 5).double(), torch.ones(2, 4))


def test_the_graph_is_one_node() -> None:
    x, layers = drawn(2, 3, (4, 5, 6, 1))
    y = task_chain(x, [(w.requires_grad_(), b.requires_grad_()) for w, b in layers])
    assert y.grad_fn is not None
    behind = {type(node).__name__ for node, _ in y.grad_fn.next_functions if node is not None}
    assert behind == {"AccumulateGrad"}
    with torch.no_grad():
        assert task_chain(x, layers).grad_fn is None


def test_inside_torch_func() -> None:
    x, layers = drawn(2, 3, (4, 5, 1))
    (weight, bias), last = layers

    def loss(w: Tensor) -> Tensor:
        return task_chain(x, [(w, bias), last]).pow(3).sum()

    hessian = torch.func.jacrev(torch.func.jacrev(loss))(weight)
    expected = torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
        lambda w: by_hand(x, [(w, bias), last], False).pow(3).sum(), weight
    )
    same([hessian], [expected])


def test_plain_value_is_differentiable() -> None:
    """What third derivatives are taken through."""
    x, layers = drawn(2, 3, (4, 5, 1))
    run = lambda x, layers, relu: plain_value(Shape(len(layers), relu), x, *zip(*layers, strict=True))[-1]  # noqa: E731
    same(derivatives(run, x, layers, True), derivatives(by_hand, x, layers, True))
