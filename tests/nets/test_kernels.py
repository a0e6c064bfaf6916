"""Own derivatives of convolutions and of what norms read, beside torch's and beside finite differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from quickstudy import native
from quickstudy.nets import Conv4, maps
from quickstudy.nets.conv4 import ConvBlock
from quickstudy.nets.convolution import conv2d
from quickstudy.nets.norms import AbstractNorm
from quickstudy.nets.rectify import rectify
from quickstudy.nets.summary import Summary, moments, summarise

LAYOUTS = {"channels-last": torch.channels_last, "channels-first": torch.contiguous_format}


def drawn(*shape: int, seed: int = 0, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return x.contiguous(memory_format=layout) if x.dim() == 4 else x


def derivatives(f: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The value, and derivatives of the first three orders along fixed cotangents."""
    leaves = [x.detach().clone(memory_format=torch.preserve_format).requires_grad_() for x in inputs]
    out = f(*leaves)
    found = [out]
    value = (out * drawn(*out.shape, seed=1)).sum() + out.square().sum() / 2
    for order in range(3):
        grads = torch.autograd.grad(value, leaves, create_graph=order < 2)
        found += grads
        if order < 2:
            value = sum(((g * drawn(*g.shape, seed=2 + order)).sum() for g in grads), torch.zeros(()))
    return found


def assert_all_close(mine: list[Tensor], theirs: list[Tensor]) -> None:
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layout", list(LAYOUTS))
@settings(max_examples=12, deadline=None)
@given(
    rows=st.integers(1, 3),
    channels=st.integers(1, 3),
    filters=st.integers(1, 3),
    size=st.integers(3, 7),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
)
def test_a_convolution_has_torchs_derivatives(
    layout: str, rows: int, channels: int, filters: int, size: int, stride: int, padding: int
) -> None:
    x = drawn(rows, channels, size, size, layout=LAYOUTS[layout])
    weight = drawn(filters, channels, 3, 3, seed=5)
    mine = derivatives(lambda a, b: conv2d(a, b, stride, padding), x, weight)
    assert_all_close(mine, derivatives(lambda a, b: F.conv2d(a, b, None, stride, padding), x, weight))


def test_a_convolution_by_finite_differences() -> None:
    x, weight = drawn(2, 2, 5, 5).requires_grad_(), drawn(3, 2, 3, 3, seed=1).requires_grad_()
    assert gradcheck(lambda a, b: conv2d(a, b, 2, 1), (x, weight))
    assert gradgradcheck(lambda a, b: conv2d(a, b, 2, 1), (x, weight))


@pytest.mark.parametrize("frozen", ["input", "weight"])
def test_what_is_frozen_gets_no_derivative(frozen: str) -> None:
    x, weight = drawn(2, 2, 5, 5), drawn(3, 2, 3, 3, seed=1)
    free = (weight if frozen == "input" else x).requires_grad_()

    def second(convolve: Callable[..., Tensor]) -> list[Tensor]:
        out = convolve(x, weight)
        (first,) = torch.autograd.grad(out.square().sum(), free, create_graph=True)
        return [first, *torch.autograd.grad(first.square().sum(), free)]

    assert_all_close(second(lambda a, b: conv2d(a, b, 1, 1)), second(lambda a, b: F.conv2d(a, b, None, 1, 1)))


def as_one(summary: Summary) -> Tensor:
    return torch.cat([part.flatten() for part in summary if part is not None])


def plain(x: Tensor, signs: Tensor | None, groups: int) -> Summary:
    shaped = torch.ones(x.shape[1], dtype=x.dtype) if signs is None else signs
    shaped = shaped[..., None, None]
    rows = x.reshape(groups, -1, *x.shape[1:])
    var, mean = torch.var_mean(rows, (1, 3, 4), correction=0)
    return Summary(mean, var, F.max_pool2d(x * shaped, 2) * shaped)


@pytest.mark.parametrize("which", ["c", "torch"])
@pytest.mark.parametrize("layout", list(LAYOUTS))
@settings(max_examples=12, deadline=None)
@given(
    groups=st.integers(1, 2),
    rows=st.integers(1, 3),
    channels=st.sampled_from([1, 2, 3, 17]),
    height=st.integers(2, 5),
    width=st.integers(2, 5),
    kind=st.sampled_from(["largest", "a channel", "an example"]),
)
def test_a_summary_has_the_plain_derivatives(
    which: native.Kernels, layout: str, groups: int, rows: int, channels: int, height: int, width: int, kind: str
) -> None:
    if which == "c" and not maps.C.there():
        pytest.skip("no C compiler")
    x = drawn(groups * rows, channels, height, width, layout=LAYOUTS[layout])
    lead = {"largest": None, "a channel": (channels,), "an example": (groups * rows, channels)}[kind]
    signs = None if lead is None else drawn(*lead, seed=7).sign()
    with native.kernels(which):
        mine = derivatives(lambda a: as_one(summarise(a, signs, peaks=True, groups=groups)), x)
        without = derivatives(lambda a: as_one(summarise(a, peaks=False, groups=groups)), x)
    assert_all_close(mine, derivatives(lambda a: as_one(plain(a, signs, groups)), x))
    assert_all_close(without, derivatives(lambda a: as_one(plain(a, None, groups)._replace(peaks=None)), x))


@pytest.mark.parametrize("first", ["c", "torch"])
def test_a_summary_whose_derivative_is_made_elsewhere(first: native.Kernels) -> None:
    """As under a mode that watches only the backward pass."""
    x, found = drawn(2, 3, 5, 4), []
    others: dict[str, native.Kernels] = {"c": "torch", "torch": "auto"}
    for here, there in ((first, others[first]), (first, first)):
        leaf = x.clone().requires_grad_()
        with native.kernels(here):
            out = as_one(summarise(leaf, peaks=True))
        with native.kernels(there):
            (grad,) = torch.autograd.grad(out.square().sum(), leaf, create_graph=True)
            found.append([out, grad, *torch.autograd.grad(grad.square().sum(), leaf)])
    assert_all_close(*found)


@pytest.mark.parametrize("which", ["c", "torch"])
@settings(max_examples=15, deadline=None)
@given(
    sets=st.integers(1, 3),
    each=st.integers(1, 3),
    channels=st.sampled_from([1, 3, 17]),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    alone=st.booleans(),
    last=st.booleans(),
)
def test_a_scaled_map_is_rectified_with_the_plain_derivatives(
    which: native.Kernels, sets: int, each: int, channels: int, height: int, width: int, alone: bool, last: bool
) -> None:
    if which == "c" and not maps.C.there():
        pytest.skip("no C compiler")
    own = each if alone else 1
    x, *affine = (
        drawn(sets, each, channels, height, width),
        drawn(sets, own, channels),
        drawn(sets, own, channels, seed=5),
    )
    parts = (x.transpose(-1, -3).contiguous().transpose(-1, -3) if last else x, *affine)

    def exact(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return F.relu(x * scale[..., None, None] + shift[..., None, None])

    with native.kernels(which):
        mine = derivatives(rectify, *parts)
    assert_all_close(mine, derivatives(exact, *parts))


def test_a_summary_by_finite_differences() -> None:
    x = drawn(2, 2, 4, 5).requires_grad_()
    assert gradcheck(lambda a: as_one(summarise(a, peaks=True)), (x,))
    assert gradgradcheck(lambda a: as_one(summarise(a, peaks=True)), (x,))


def test_of_equal_values_the_first_gets_the_gradient_as_in_max_pooling() -> None:
    """White pixels give many of them."""
    x = torch.zeros(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    peaks = summarise(x, peaks=True).peaks
    assert peaks is not None
    (mine,) = torch.autograd.grad(peaks.sum(), x)
    (theirs,) = torch.autograd.grad(F.max_pool2d(x, 2).sum(), x)
    torch.testing.assert_close(mine, theirs)


def test_without_a_graph_nothing_is_kept() -> None:
    x = drawn(2, 3, 4, 4)
    assert summarise(x, peaks=True).mean.grad_fn is None
    with torch.no_grad():
        assert conv2d(x.requires_grad_(), drawn(2, 3, 3, 3)).grad_fn is None


def test_vmap_gives_the_same() -> None:
    x, weight = drawn(3, 2, 2, 6, 6)[:, 0][:, None].expand(3, 2, 2, 6, 6), drawn(3, 4, 2, 3, 3, seed=1)

    def one(a: Tensor, w: Tensor) -> Tensor:
        return as_one(summarise(conv2d(a, w, 1, 1), peaks=True)).square().sum()

    grads = torch.func.vmap(torch.func.grad(one, argnums=1))(x, weight)
    for t in range(3):
        w = weight[t].clone().requires_grad_()
        torch.testing.assert_close(grads[t], torch.autograd.grad(one(x[t], w), w)[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_moments_of_halves_are_computed_in_floats(dtype: torch.dtype) -> None:
    x = drawn(2, 3, 8, 8).to(dtype)
    x[:, :, 0, 0] = 600  # whose square leaves the range of float16
    for mine, theirs in zip(moments(x), moments(x.float()), strict=True):
        assert torch.equal(mine, theirs.to(dtype))


@pytest.mark.parametrize("which", ["auto", "torch"])
@pytest.mark.parametrize("pool", ["max", "none"])
@pytest.mark.parametrize("norm", ["batch", "transductive", "task", "group", "layer", "instance"])
@pytest.mark.parametrize("training", [True, False])
def test_a_block_with_negative_scales_equals_its_layers_one_by_one(
    norm: str, training: bool, pool: str, which: native.Kernels
) -> None:
    torch.manual_seed(0)
    block = ConvBlock(2, 8, pool, norm).double().train(training)
    assert isinstance(block.norm, AbstractNorm)
    with torch.no_grad():
        block.norm.weight.copy_(drawn(8))
        block.norm.bias.copy_(drawn(8, seed=1))
    assert (block.norm.weight < 0).any()
    x, weights = drawn(3, 2, 7, 7, seed=2), list(block.parameters())
    with native.kernels(which):
        mine = block(x)
    normed = block.norm(block.conv(x))
    theirs = F.relu(F.max_pool2d(normed, 2) if pool == "max" else normed)
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)
    cotangent = drawn(*mine.shape, seed=3)
    for a, b in zip(
        torch.autograd.grad((mine * cotangent).sum(), weights, allow_unused=True),
        torch.autograd.grad((theirs * cotangent).sum(), weights, allow_unused=True),
        strict=True,
    ):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_those_who_listen_to_a_layer_are_told() -> None:
    net = Conv4(norm="group").double()
    x, heard = drawn(2, 1, 28, 28), []
    plain_out = net(x)
    block = net.blocks[0]
    assert isinstance(block, ConvBlock)
    block.norm.register_forward_hook(lambda layer, given, out: heard.append(out.shape))
    torch.testing.assert_close(net(x), plain_out, rtol=1e-10, atol=1e-10)
    assert heard == [(2, 64, 28, 28)]
