"""Convolutions in C, in Winograd's form and with strides, beside torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from quickstudy import native
from quickstudy.nets import maps, strided, winograd
from quickstudy.nets.convolution import conv2d

pytestmark = pytest.mark.skipif(not maps.C.there(), reason="no C compiler")

LAST = torch.channels_last


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return x.contiguous(memory_format=LAST) if shape[2:] != (3, 3) else x


def products(x: Tensor, weight: Tensor, dy: Tensor, stride: int, padding: int, groups: int) -> list[Tensor]:
    """The value and both derivatives."""
    if stride > 1:
        return [
            strided.convolve(x, weight, stride, padding, groups),
            strided.spread(dy, weight, x.shape, stride, padding, groups),
            strided.correlate(x, dy, stride, padding, groups),
        ]
    return [
        winograd.convolve(x, weight, padding, groups),
        winograd.convolve(dy, weight, 2 - padding, groups, turned=True),
        winograd.correlate(x, dy, padding, groups),
    ]


def torchs(x: Tensor, weight: Tensor, dy: Tensor, stride: int, padding: int, groups: int) -> list[Tensor]:
    y = F.conv2d(x, weight, None, stride, padding, groups=groups)
    ask = [True, True, False]
    dx, dw, _ = torch.ops.aten.convolution_backward(
        dy, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups, ask
    )
    return [y, dx, dw]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 6),
    groups=st.integers(1, 3),
    inputs=st.integers(1, 35),
    outputs=st.integers(1, 70),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_equals_torchs_convolution_and_its_derivatives(
    rows: int,
    groups: int,
    inputs: int,
    outputs: int,
    height: int,
    width: int,
    stride: int,
    padding: int,
    dtype: torch.dtype,
) -> None:
    height, width = max(height, 3 - 2 * padding), max(width, 3 - 2 * padding)
    x = drawn(rows, groups * inputs, height, width, dtype=dtype).contiguous(memory_format=LAST)
    weight = drawn(groups * outputs, inputs, 3, 3, seed=1, dtype=dtype)
    down, across = ((n + 2 * padding - 3) // stride + 1 for n in (height, width))
    dy = drawn(rows, groups * outputs, down, across, seed=2, dtype=dtype)
    dy = dy.contiguous(memory_format=LAST)
    exact = [part.double() for part in (x, weight, dy)]
    window = (stride, padding, groups)
    for mine, theirs in zip(
        products(x, weight, dy, *window), torchs(exact[0], exact[1], exact[2], *window), strict=True
    ):
        # Relative to the largest number, as each is a sum of many that may cancel.
        scale = max(1.0, float(theirs.abs().max()))
        error = float((mine.double() - theirs).abs().max()) / scale
        assert error < (1e-13 if dtype == torch.float64 else 5e-6)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv2d_takes_it_and_its_derivatives_to_the_third_order(
    stride: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight = drawn(2, 32 * groups, 5, 4), drawn(33 * groups, 32, 3, 3, seed=1)
    calls: list[str] = []
    form, names = (
        (winograd, ["convolve", "correlate"]) if stride == 1 else (strided, ["convolve", "correlate", "spread"])
    )
    for name in names:
        known = getattr(form, name)

        def listening(*args: object, known: Callable[..., Tensor] = known, name: str = name, **more: object) -> Tensor:
            calls.append(name)
            return known(*args, **more)

        monkeypatch.setattr(form, name, listening)

    def orders(convolve: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
        leaves = [part.detach().clone(memory_format=torch.preserve_format).requires_grad_() for part in (x, weight)]
        out = convolve(*leaves)
        found, value = [out], (out * drawn(*out.shape, seed=3)).sum() + out.square().sum() / 2
        for order in range(3):
            grads = torch.autograd.grad(value, leaves, create_graph=True)
            found += grads
            value = sum(((g * drawn(*g.shape, seed=4 + order)).sum() for g in grads), torch.zeros(()))
        return found

    mine = orders(lambda a, b: conv2d(a, b, stride, 1, groups))
    assert set(names) == set(calls)
    for a, b in zip(mine, orders(lambda a, b: F.conv2d(a, b, None, stride, 1, groups=groups)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stride", [1, 2])
def test_by_finite_differences(stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    form = winograd if stride == 1 else strided
    monkeypatch.setattr(form, "LEAST_CHANNELS", 2)
    x, weight = drawn(1, 2, 3, 4).requires_grad_(), drawn(3, 2, 3, 3, seed=1).requires_grad_()
    assert form.fits(x, weight, stride, 1, 1)
    assert gradcheck(lambda a, b: conv2d(a, b, stride, 1), (x, weight))
    assert gradgradcheck(lambda a, b: conv2d(a, b, stride, 1), (x, weight))


@pytest.mark.parametrize("place", [(0, 0), (1, 2), (4, 5), (5, 3)])
def test_nan_reaches_the_outputs_that_see_it_and_no_others(place: tuple[int, int]) -> None:
    x, weight = drawn(2, 8, 6, 7), drawn(8, 8, 3, 3, seed=1)
    x[1, 3, *place] = torch.nan
    mine, theirs = winograd.convolve(x, weight, 1, 1), F.conv2d(x, weight, None, 1, 1)
    assert mine.isnan().any() and torch.equal(mine.isnan(), theirs.isnan())


@pytest.mark.parametrize("place", [(0, 0), (1, 2), (4, 5), (5, 3)])
def test_infinity_reaches_the_outputs_that_see_it_and_no_others(place: tuple[int, int]) -> None:
    """As it does by torch, but perhaps as NaN; the others keep their numbers."""
    x, weight = drawn(2, 8, 6, 7), drawn(8, 8, 3, 3, seed=1)
    x[1, 3, *place] = torch.inf
    mine, theirs = winograd.convolve(x, weight, 1, 1), F.conv2d(x, weight, None, 1, 1)
    seen = theirs.isinf()
    assert seen.any() and torch.equal(mine.isfinite(), ~seen)
    torch.testing.assert_close(mine[~seen], theirs[~seen], rtol=1e-10, atol=1e-10)


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_number_of_threads_changes_no_bit(stride: int) -> None:
    x, weight = drawn(9, 2 * 20, 11, 9, dtype=torch.float32), drawn(2 * 40, 20, 3, 3, seed=1, dtype=torch.float32)
    size = (9, 2 * 40, 11, 9) if stride == 1 else (9, 2 * 40, 6, 5)
    dy, found = drawn(*size, seed=2, dtype=torch.float32), []
    for number in (1, 2, 3):
        with threads(number):
            found.append(products(x, weight, dy, stride, 1, 2))
    for others in found[1:]:
        assert all(map(torch.equal, found[0], others))


def test_a_picture_does_not_see_those_beside_it() -> None:
    x, weight = drawn(5, 16, 7, 7), drawn(16, 16, 3, 3, seed=1)
    together = winograd.convolve(x, weight, 1, 1)
    alone = [winograd.convolve(x[n : n + 1].contiguous(memory_format=LAST), weight, 1, 1) for n in range(5)]
    assert torch.equal(together, torch.cat(alone))


def test_what_does_not_fit_is_left_to_torch() -> None:
    x, weight = drawn(2, 32, 6, 6), drawn(32, 32, 3, 3, seed=1)
    assert winograd.fits(x, weight, 1, 1, 1) and not strided.fits(x, weight, 1, 1, 1)
    assert strided.fits(x, weight, 2, 1, 1)
    assert strided.value_fits(x, 2, 1) and not strided.value_fits(drawn(20, 32, 6, 6), 2, 1)
    unfit = {
        "a stride": (x, weight, 2, 1, 1),
        "wide padding": (x, weight, 1, 2, 1),
        "a map channels-first": (x.contiguous(), weight, 1, 1, 1),
        "a window of another size": (x, drawn(32, 32, 5, 5), 1, 1, 1),
        "few channels": (drawn(2, 31, 6, 6), drawn(32, 31, 3, 3), 1, 1, 1),
        "many channels": (drawn(2, 513, 6, 6), drawn(32, 513, 3, 3), 1, 1, 1),
        "no pictures": (x[:0], weight, 1, 1, 1),
        "a map smaller than the window": (drawn(2, 32, 2, 2), weight, 1, 0, 1),
        "other channels": (drawn(2, 33, 6, 6), weight, 1, 1, 1),
        "another precision": (x.float(), weight, 1, 1, 1),
        "whole numbers": (x.int(), weight.int(), 1, 1, 1),
    }
    for why, given_ in unfit.items():
        assert not winograd.fits(*given_), why
        if why not in ("a stride", "few channels"):
            assert not strided.fits(*given_[:2], 2, *given_[3:]), why
    with native.kernels("torch"):
        assert not winograd.fits(x, weight, 1, 1, 1) and not strided.fits(x, weight, 2, 1, 1)
