"""Norm, pooling and ReLU as one operator in C, beside the same made of plain operators."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import override

from quickstudy import native
from quickstudy.nets import Conv4, apply, maps
from quickstudy.nets.tail import Tail, plain_tail, tail

pytestmark = pytest.mark.skipif(not maps.C.there(), reason="no C compiler")

EPS = 1e-5


class Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The names of the operators that were called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def drawn(groups: int, pictures: int, shape: tuple[int, int, int], own: bool, seed: int = 0) -> tuple[Tensor, ...]:
    """Maps, and weights of both signs."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(groups * pictures, *shape, dtype=torch.float64, generator=generator) + 1
    weights = torch.randn(2, *((groups,) if own else ()), shape[0], dtype=torch.float64, generator=generator)
    return tuple(part.requires_grad_() for part in (x, weights[0].clone(), weights[1].clone()))


def compiled(x: Tensor, weight: Tensor, bias: Tensor, groups: int, pooled: bool) -> Tail:
    """In C, which must be what computes."""
    found = tail(x, weight, bias, groups=groups, pooled=pooled, eps=EPS)
    assert found is not None
    return found


def plain(x: Tensor, weight: Tensor, bias: Tensor, groups: int, pooled: bool) -> Tail:
    """Of torch's operators alone."""
    rows = x.reshape(groups, -1, *x.shape[1:])
    mean, var = rows.mean((1, 3, 4), keepdim=True), rows.var((1, 3, 4), keepdim=True, correction=0)
    weight, bias = (part.view(-1, 1, part.shape[-1], 1, 1) for part in (weight, bias))
    z = ((rows - mean) / torch.sqrt(var + EPS) * weight + bias).flatten(0, 1)
    y = F.relu(F.max_pool2d(z, 2) if pooled else z)
    return Tail(y, mean.view(groups, -1), var.view(groups, -1), rows[0].numel() // x.shape[1])


def numbers(which: object, parts: tuple[Tensor, ...], groups: int, pooled: bool, orders: int = 3) -> list[Tensor]:
    """Value, moments, and every derivative up to the order that is asked for."""
    found = which(*parts, groups, pooled)  # type: ignore[operator]
    dy = torch.linspace(-2, 3, found.y.numel(), dtype=found.y.dtype).sin().view_as(found.y).requires_grad_()
    told = [found.y, found.mean, found.var]
    if orders < 1:
        return told
    # A cotangent that is made of the output, as a loss's is.
    first = torch.autograd.grad(found.y, parts, dy + found.y / 3 if orders > 1 else dy, create_graph=orders > 1)
    told += first
    if orders < 2:
        return told
    cotangents = [torch.linspace(1, 4, d.numel(), dtype=d.dtype).cos().view_as(d).requires_grad_() for d in first]
    wanted = (dy, *parts[:2])
    second = torch.autograd.grad(first, wanted, cotangents, create_graph=orders > 2)
    told += second
    if orders > 2:
        told += torch.autograd.grad(sum(d.square().sum() for d in second), (*wanted, *cotangents), allow_unused=True)  # type: ignore[arg-type]
    return told


def assert_same(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-10) -> None:
    """To a share of the largest entry, or of one."""
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        scale = max(1.0, float(other.detach().abs().max()))
        assert float((mine - other).detach().abs().max()) <= tolerance * scale


@settings(deadline=None, max_examples=60)
@given(
    groups=st.integers(1, 3),
    pictures=st.integers(1, 4),
    channels=st.sampled_from([1, 2, 3, 8, 17]),
    height=st.integers(2, 7),
    width=st.integers(2, 7),
    pooled=st.booleans(),
    own=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_plain_operators_to_the_third_derivative(
    groups: int, pictures: int, channels: int, height: int, width: int, pooled: bool, own: bool, seed: int
) -> None:
    parts = drawn(groups, pictures, (channels, height, width), own, seed)
    assert_same(numbers(compiled, parts, groups, pooled), numbers(plain, parts, groups, pooled), 1e-8)


@pytest.mark.parametrize("pooled", [True, False])
def test_single_precision_is_within_its_rounding(pooled: bool) -> None:
    parts = drawn(2, 5, (64, 14, 13), own=True)
    single = tuple(part.detach().float().requires_grad_() for part in parts)
    ours = numbers(compiled, single, 2, pooled, orders=2)
    theirs = [part.float() for part in numbers(plain, parts, 2, pooled, orders=2)]
    assert_same(ours, theirs, 2e-4)


def test_moments_of_maps_far_from_zero() -> None:
    """Squares about the mean, not a difference of large numbers."""
    x = torch.randn(3, 4, 9, 9) + 3000
    ones = torch.ones(4)
    found = compiled(x, ones, ones, 1, True)
    exact = x.double()
    torch.testing.assert_close(found.mean[0], exact.mean((0, 2, 3)).float())
    torch.testing.assert_close(found.var[0], exact.var((0, 2, 3), correction=0).float(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_of_equal_values_the_first_gets_the_derivative(sign: float) -> None:
    x = torch.tensor([1.0, 1.0, 0.0, 1.0, 5.0, 5.0, 5.0, 5.0, -9, 3, -9, 3, 7, 7, 7, 7]).view(1, 1, 4, 4).double()
    parts = (
        x.requires_grad_(),
        torch.tensor([sign]).double().requires_grad_(),
        torch.ones(1).double().requires_grad_(),
    )
    assert_same(numbers(compiled, parts, 1, True, orders=2), numbers(plain, parts, 1, True, orders=2))


@pytest.mark.parametrize("place", range(4))
def test_a_nan_stays(place: int) -> None:
    """A picture with a NaN makes its group's numbers NaN, and no other group's."""
    x = torch.randn(2, 3, 4, 4)
    x[0, 1].view(-1)[[0, 1, 4, 5][place]] = torch.nan
    ones = torch.ones(3)
    with torch.no_grad():
        y = compiled(x, ones, ones, 2, True).y
        theirs = plain(x, ones, ones, 2, True).y
    assert torch.equal(y.isnan(), theirs.isnan())
    assert y[0, 1].isnan().all() and not y[1].isnan().any() and not y[0, 0].isnan().any()


def test_a_rectified_zero_has_no_derivative() -> None:
    x = torch.zeros(1, 2, 2, 2, dtype=torch.float64).requires_grad_()
    weight, bias = torch.ones(2).double().requires_grad_(), torch.zeros(2).double().requires_grad_()
    y = compiled(x, weight, bias, 1, True).y
    assert not any(d.any() for d in torch.autograd.grad(y.sum(), (x, weight, bias)))


def test_the_number_of_threads_changes_nothing() -> None:
    parts = tuple(part.detach().float().requires_grad_() for part in drawn(2, 9, (32, 28, 28), own=False))
    before = torch.get_num_threads()
    told = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            told.append(numbers(compiled, parts, 2, True, orders=2))
    finally:
        torch.set_num_threads(before)
    for others in told[1:]:
        assert all(torch.equal(a, b) for a, b in zip(told[0], others, strict=True))


def test_a_derivative_that_a_dispatch_mode_watches() -> None:
    """It is made of operators then, which the mode sees."""
    parts = drawn(2, 2, (3, 5, 4), own=True)
    ours = numbers(compiled, parts, 2, True, orders=2)

    def watched(x: Tensor, weight: Tensor, bias: Tensor, groups: int, pooled: bool) -> Tail:
        found = compiled(x, weight, bias, groups, pooled)
        stack.enter_context(seen)
        return found

    with contextlib.ExitStack() as stack:
        seen = Seen()
        assert_same(numbers(watched, parts, 2, True, orders=2), ours)
    assert "aten.max_pool2d_with_indices_backward.default" in seen.names or "aten.scatter_add.default" in seen.names
    assert len(seen.names) > 10


@pytest.mark.parametrize("missing", [(0,), (1, 2), (0, 1)])
def test_cotangents_that_are_missing(missing: tuple[int, ...]) -> None:
    """A derivative of which only some parts are used."""
    parts = drawn(1, 3, (4, 5, 5), own=False)

    def used(which: object) -> list[Tensor]:
        y = which(*parts, 1, True).y  # type: ignore[operator]
        first = torch.autograd.grad(y.square().sum(), parts, create_graph=True)
        kept = [d for number, d in enumerate(first) if number not in missing]
        return list(torch.autograd.grad(sum(d.square().sum() for d in kept), parts))  # type: ignore[arg-type]

    assert_same(used(compiled), used(plain))


def test_where_c_cannot_see_it_is_not_used() -> None:
    x, weight, bias = drawn(1, 2, (3, 4, 4), own=False)

    def asked(x: Tensor) -> bool:
        return tail(x, weight.to(x.dtype), bias.to(x.dtype), groups=1, pooled=True, eps=EPS) is None

    assert not asked(x)
    assert asked(x.half()) and asked(x[:0]) and asked(x.to("meta"))
    assert asked(torch.zeros(1, 1025, 2, 2)) is True
    with native.kernels("torch"):
        assert asked(x)
    with FlopCounterMode(display=False):
        assert asked(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert asked(x.float())

    def one(x: Tensor) -> Tensor:
        assert asked(x)
        return x

    torch.func.vmap(one)(x[None])


def test_own_plain_form_is_the_same() -> None:
    parts = drawn(2, 2, (5, 4, 5), own=True)
    ours = lambda x, w, b, groups, pooled: plain_tail(x, w, b, groups=groups, pooled=pooled, eps=EPS)  # noqa: E731
    for pooled in (True, False):
        assert_same(numbers(ours, parts, 2, pooled), numbers(plain, parts, 2, pooled), 1e-8)


@pytest.mark.parametrize("pool", ["max", "stride"])
@pytest.mark.parametrize("norm", ["batch", "transductive"])
def test_conv4_is_the_same_with_either(pool: str, norm: str) -> None:
    """With the running statistics that it leaves."""
    told: list[list[Tensor]] = []
    for which in native.KERNELS[1:]:
        torch.manual_seed(0)
        net = Conv4(pool=pool, norm=norm, filters=8).double()  # type: ignore[arg-type]
        x = torch.rand(6, 1, 28, 28, dtype=torch.float64)
        with native.kernels(which):
            out = net(x)
            grads = torch.autograd.grad(out.square().sum(), list(net.parameters()), create_graph=True)
            again = torch.autograd.grad(sum(g.square().sum() for g in grads), list(net.parameters()))  # type: ignore[arg-type]
        told.append([out, *grads, *again, *net.buffers()])
    assert_same(told[0], told[1])


@pytest.mark.parametrize("pool", ["max", "stride"])
@pytest.mark.parametrize("channels", [1, 5])
def test_tasks_side_by_side_are_the_same_with_either(pool: str, channels: int) -> None:
    """Weights of each task's own: grouped convolutions, and a first block that is a stem (1 channel) or is not (5)."""
    told: list[list[Tensor]] = []
    for which in native.KERNELS[1:]:
        torch.manual_seed(0)
        net = Conv4(channels, 16, pool=pool, norm="transductive", filters=6).double()  # type: ignore[arg-type]
        params = {name: p.detach() + 0.1 * torch.randn(3, *p.shape) for name, p in net.named_parameters()}
        params = {name: p.requires_grad_() for name, p in params.items()}
        x = torch.rand(3, 4, channels, 16, 16, dtype=torch.float64)
        with native.kernels(which):
            found = apply(net, x, params=params, strategy="batched")
            grads = torch.autograd.grad(found.out.square().sum(), list(params.values()), create_graph=True)
            again = torch.autograd.grad(sum(g.square().sum() for g in grads), list(params.values()))  # type: ignore[arg-type]
        told.append([found.out, *grads, *again, *found.moments.values()])
    assert_same(told[0], told[1])
