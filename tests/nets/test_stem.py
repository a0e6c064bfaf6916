"""A first block as one operator in C, beside a plain convolution, norm, pooling and ReLU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from quickstudy import native
from quickstudy.errors import InputError
from quickstudy.nets import Conv4
from quickstudy.nets.norms import BatchNorm
from quickstudy.nets.stem import _C, Setting, plain_stem, stem
from tests.nets.test_tail import assert_same
from tests.nets.test_tail import plain as plain_norm

pytestmark = pytest.mark.skipif(not _C.there(), reason="no C compiler")

EPS = 1e-5


def drawn(groups: int, shape: tuple[int, ...], channels: int, own: bool, seed: int = 0) -> tuple[Tensor, ...]:
    """Pictures, and weights of both signs."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.rand(*shape, dtype=torch.float64, generator=generator)
    lead = (groups,) if own else ()

    def weight(*sizes: int) -> Tensor:
        return torch.randn(*lead, *sizes, dtype=torch.float64, generator=generator).requires_grad_()

    return pictures, weight(channels, shape[1], 3, 3), weight(channels), weight(channels)


def compiled(parts: tuple[Tensor, ...], setting: Setting) -> Tensor:
    """In C, which must be what computes."""
    found = stem(*parts, **setting._asdict())
    assert found is not None
    x = torch.cat(list(convolved(parts[0], parts[1], setting)))
    rows = x.reshape(setting.groups, -1, *x.shape[1:])
    torch.testing.assert_close(found.mean.to(x.dtype), rows.mean((1, 3, 4)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.var.to(x.dtype), rows.var((1, 3, 4), correction=0), rtol=1e-4, atol=1e-6)
    assert found.count == rows[0].numel() // x.shape[1]
    return found.y


def convolved(pictures: Tensor, kernel: Tensor, setting: Setting) -> list[Tensor]:
    """Each group's map."""
    kernels = kernel if kernel.dim() == 5 else kernel.expand(setting.groups, *kernel.shape)
    chunks = pictures.chunk(setting.groups)
    return [F.conv2d(p, k, None, setting.stride, setting.padding) for p, k in zip(chunks, kernels, strict=True)]


def plain(parts: tuple[Tensor, ...], setting: Setting) -> Tensor:
    """Of torch's operators alone."""
    pictures, kernel, weight, bias = parts
    maps = torch.cat(convolved(pictures, kernel, setting))
    # Not F.batch_norm, whose third derivative is another.
    y = plain_norm(maps, weight, bias, setting.groups, setting.pooled).y
    return torch.cat(y.chunk(setting.groups), 1) if setting.beside else y


def numbers(y: Tensor, parts: tuple[Tensor, ...], orders: int = 3) -> list[Tensor]:
    """The output and every derivative up to the order that is asked for."""
    dy = (torch.linspace(-2, 3, y.numel(), dtype=y.dtype).sin() + 0.1).view_as(y).requires_grad_()
    # A cotangent that is made of the output, as a loss's is.
    first = torch.autograd.grad(y, parts, dy + y / 3 if orders > 1 else dy, create_graph=orders > 1)
    told = [y, *first]
    if orders < 2:
        return told
    cotangents = [(torch.linspace(1, 4, d.numel(), dtype=d.dtype).cos()).view_as(d).requires_grad_() for d in first]
    wanted = (dy, *parts[:2])
    second = torch.autograd.grad(first, wanted, cotangents, create_graph=orders > 2)
    told += second
    if orders > 2:
        squares = sum((d.square().sum() for d in second), y.new_zeros(()))
        told += torch.autograd.grad(squares, (*wanted, *cotangents))
    return told


@settings(deadline=None, max_examples=60)
@given(
    groups=st.integers(1, 3),
    pictures=st.integers(1, 3),
    inputs=st.integers(1, 4),
    channels=st.sampled_from([1, 3, 8, 16, 17]),
    height=st.integers(4, 9),
    width=st.integers(4, 9),
    window=st.sampled_from([(True, 1), (False, 1), (False, 2)]),
    padding=st.integers(0, 1),
    own=st.booleans(),
    last=st.booleans(),
    beside=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_plain_operators_to_the_third_derivative(
    groups: int,
    pictures: int,
    inputs: int,
    channels: int,
    height: int,
    width: int,
    window: tuple[bool, int],
    padding: int,
    own: bool,
    last: bool,
    beside: bool,
    seed: int,
) -> None:
    setting = Setting(groups, *window, padding, EPS, beside)
    parts = drawn(groups, (groups * pictures, inputs, height, width), channels, own, seed)
    if last:
        parts = (parts[0].contiguous(memory_format=torch.channels_last), *parts[1:])
    ours, theirs = compiled(parts, setting), plain(parts, setting)
    assert_same(numbers(ours, parts[1:]), numbers(theirs, parts[1:]), 1e-7)


@pytest.mark.parametrize("inputs", [1, 3])
@pytest.mark.parametrize("window", [(True, 1), (False, 2)])
def test_single_precision_is_within_its_rounding(inputs: int, window: tuple[bool, int]) -> None:
    setting = Setting(1, *window, 1, EPS)
    parts = drawn(1, (5, inputs, 28, 28), 64, own=False)
    single = tuple(part.detach().float().requires_grad_(part.requires_grad) for part in parts)
    ours = numbers(compiled(single, setting), single[1:], 2)
    assert_same(ours, [d.float() for d in numbers(plain(parts, setting), parts[1:], 2)], 1e-3)


def test_pictures_of_one_colour_have_no_variance() -> None:
    """Which rounding must not make negative: its root would be no number."""
    setting = Setting(1, True, 1, 0, EPS)
    kernel, ones = torch.randn(8, 1, 3, 3), torch.ones(8)
    for shade in (0.0, 0.1, 0.7, 255.0):
        found = stem(torch.full((3, 1, 9, 9), shade), kernel, ones, ones, **setting._asdict())
        assert found is not None
        assert bool((found.var >= 0).all()) and bool((found.var <= 1e-9 * max(1, shade**2)).all())
        assert bool(found.y.isfinite().all())


def test_the_number_of_threads_changes_nothing() -> None:
    setting = Setting(2, True, 1, 1, EPS)
    parts = drawn(2, (12, 3, 28, 28), 40, own=True)
    single = tuple(part.detach().float().requires_grad_(part.requires_grad) for part in parts)
    before, told = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            told.append(numbers(compiled(single, setting), single[1:], 2))
    finally:
        torch.set_num_threads(before)
    for others in told[1:]:
        assert all(torch.equal(a, b) for a, b in zip(told[0], others, strict=True))


def test_a_nan_stays() -> None:
    """In its group alone, and everywhere there: one number of a patch is one of every channel's."""
    pictures = torch.rand(4, 1, 8, 8)
    pictures[1, 0, 3, 3] = torch.nan
    ones = torch.ones(5)
    found = stem(pictures, torch.randn(5, 1, 3, 3), ones, ones, **Setting(2, True, 1, 1, EPS)._asdict())
    assert found is not None and found.y[:2].isnan().all() and not found.y[2:].isnan().any()


@pytest.mark.parametrize("missing", [(0,), (1, 2), (0, 1)])
def test_cotangents_that_are_missing(missing: tuple[int, ...]) -> None:
    """A derivative of which only some parts are used."""
    setting = Setting(1, True, 1, 1, EPS)
    parts = drawn(1, (3, 1, 7, 7), 4, own=False)

    def used(y: Tensor) -> list[Tensor]:
        first = torch.autograd.grad(y.square().sum(), parts[1:], create_graph=True)
        kept = [d.square().sum() for number, d in enumerate(first) if number not in missing]
        return list(torch.autograd.grad(sum(kept, y.new_zeros(())), parts[1:]))

    assert_same(used(compiled(parts, setting)), used(plain(parts, setting)))


def test_own_plain_form_is_the_same() -> None:
    for own in (True, False):
        setting = Setting(2, True, 1, 1, EPS, beside=own)
        parts = drawn(2, (4, 2, 7, 7), 5, own=own)
        assert_same(
            numbers(plain_stem(parts[0], parts[1], parts[2], parts[3], setting), parts[1:]),
            numbers(plain(parts, setting), parts[1:]),
            1e-8,
        )


def test_what_it_is_not_for() -> None:
    pictures, kernel, weight, bias = drawn(2, (4, 1, 7, 7), 5, own=False)

    def asked(x: Any = pictures, k: Any = kernel, w: Any = weight, b: Any = bias, **other: Any) -> bool:
        return stem(x, k, w, b, **(Setting(2, True, 1, 1, EPS)._asdict() | other)) is not None

    assert asked()
    assert not asked(pictures.clone().requires_grad_())  # they need a derivative
    assert not asked(pooled=True, stride=2)
    assert not asked(pictures.float()) and not asked(k=kernel.float()) and not asked(w=weight.float())
    assert not asked(torch.rand(4, 5, 7, 7).double(), torch.rand(5, 5, 3, 3).double())  # many inputs
    assert not asked(k=torch.rand(5, 1, 5, 5).double()) and not asked(k=torch.rand(6, 1, 3, 3).double())
    assert not asked(k=torch.rand(3, 5, 1, 3, 3).double())  # of three groups
    assert not asked(w=torch.rand(6).double()) and not asked(b=torch.rand(3, 5).double())
    assert not asked(torch.rand(4, 1, 2, 2).double(), padding=0) and not asked(pictures[:0])
    with native.kernels("torch"):
        assert not asked()


@pytest.mark.parametrize("own", [(5,), (2,), (2, 3)])
def test_some_weights_of_each_groups_own(own: tuple[int, ...]) -> None:
    """As where a learner adapts the convolutions alone, or the norms alone."""
    setting = Setting(2, True, 1, 1, EPS)
    pictures, kernel, weight, bias = drawn(2, (4, 1, 7, 7), 5, own=False)
    given, every = [], []
    for number, part in ((5, kernel), (2, weight), (3, bias)):
        each = torch.stack([part.detach(), part.detach() * 1.5]).requires_grad_()
        given.append(each if number in own else part)
        every.append(each if number in own else part.expand(2, *part.shape))
    ours = compiled((pictures, *given), setting)
    theirs = plain((pictures, *every), setting)
    assert_same(numbers(ours, tuple(given), 2), numbers(theirs, tuple(given), 2), 1e-8)


def test_conv4_uses_it_and_says_what_does_not_fit() -> None:
    net = Conv4(filters=8)
    seen = []
    original = _C.call

    def call(name: str, *rest: Any) -> None:
        seen.append(name)
        original(name, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_C, "call", call)
        net(torch.rand(3, 1, 28, 28)).sum().backward()
    assert seen == ["forward", "derivative"]
    net.blocks[0].norm = BatchNorm(9)
    with pytest.raises(InputError, match="A norm was built for 9 channels, but meets 8"):
        net(torch.rand(3, 1, 28, 28))
