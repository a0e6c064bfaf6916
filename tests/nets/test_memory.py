"""What C is handed: memory of the right kind, laid as it reads it, and only where nobody must see each operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from quickstudy import native
from quickstudy.nets import Conv4, apply, maps
from quickstudy.nets.conv4 import ConvBlock
from quickstudy.nets.convolution import conv2d
from quickstudy.nets.dense import task_chain
from quickstudy.nets.norms import TaskNorm
from quickstudy.nets.rectify import rectify
from quickstudy.nets.stem import stem
from quickstudy.nets.summary import summarise
from quickstudy.nets.tail import plain_tail, tail

pytestmark = pytest.mark.skipif(not maps.C.there(), reason="no C compiler")

LAST = torch.channels_last


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


PICTURES = drawn(2, 1, 7, 8, seed=5)


class Other(Tensor):
    """A tensor of another class, whose memory may be anywhere."""


def of_tail(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    found = tail(x, weight, bias, groups=1, pooled=True, eps=1e-5)
    return plain_tail(x, weight, bias, groups=1, pooled=True, eps=1e-5).y if found is None else found.y


def of_stem(kernel: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    how = {"groups": 1, "pooled": True, "eps": 1e-5}
    found = stem(PICTURES, kernel, weight, bias, **how, stride=1, padding=1, beside=False)  # type: ignore[arg-type]
    plain = F.conv2d(PICTURES, kernel, None, 1, 1)
    return plain_tail(plain, weight, bias, **how).y if found is None else found.y  # type: ignore[arg-type]


def of_summary(x: Tensor) -> Tensor:
    found = summarise(x, peaks=True)
    assert found.peaks is not None
    return torch.cat([part.flatten() for part in (found.mean, found.var, found.peaks)])


def of_rectify(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return rectify(x, scale, shift)


def of_chain(x: Tensor, *flat: Tensor) -> Tensor:
    return task_chain(x, [flat[:2], flat[2:]])  # type: ignore[list-item]


def of_conv(x: Tensor, weight: Tensor) -> Tensor:
    return conv2d(x.contiguous(memory_format=LAST), weight, 1, 1)


def of_strided(x: Tensor, weight: Tensor) -> Tensor:
    return conv2d(x.contiguous(memory_format=LAST), weight, 2, 1)


OPERATORS: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "tail": (of_tail, [(2, 3, 5, 6), (3,), (3,)]),
    "stem": (of_stem, [(4, 1, 3, 3), (4,), (4,)]),
    "summary": (of_summary, [(2, 3, 5, 6)]),
    "rectify": (of_rectify, [(2, 3, 5, 6), (1, 3), (1, 3)]),
    "chain": (of_chain, [(2, 5, 3), (2, 6, 3), (2, 6), (2, 4, 6), (2, 4)]),
    "convolution": (of_conv, [(2, 32, 5, 6), (33, 32, 3, 3)]),
    "strided": (of_strided, [(2, 32, 5, 6), (33, 32, 3, 3)]),
}


def leaves(name: str) -> list[Tensor]:
    return [drawn(*shape, seed=number).requires_grad_() for number, shape in enumerate(OPERATORS[name][1])]


def orders(name: str, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The value and two derivatives."""
    out = OPERATORS[name][0](*inputs)
    value = (out * drawn(*out.shape, seed=7)).sum() + out.square().sum() / 2
    first = torch.autograd.grad(value, inputs, create_graph=True)
    given = sum(((d * drawn(*d.shape, seed=8 + n)).sum() for n, d in enumerate(first)), torch.zeros(()))
    return [out, *first, *torch.autograd.grad(given, inputs)]


def turned(saved: Tensor) -> Tensor:
    """The same numbers in another order of memory: maps channels-first, all else by columns."""
    if saved.dim() == 4:
        return saved.contiguous()
    return saved.mT.contiguous().mT if saved.dim() > 1 else saved


@pytest.mark.parametrize("name", list(OPERATORS))
def test_hooks_may_lay_saved_tensors_otherwise(name: str) -> None:
    inputs = leaves(name)
    expected = orders(name, inputs)
    with saved_tensors_hooks(lambda saved: saved, turned):
        found = orders(name, inputs)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_hooks_may_lay_what_layers_put_out_otherwise() -> None:
    """And leave the weights, so that C computes the derivatives of the chain."""
    inputs = leaves("chain")
    expected = orders("chain", inputs)
    with saved_tensors_hooks(lambda saved: saved, lambda saved: turned(saved) if saved.shape[1:2] == (5,) else saved):
        found = orders("chain", inputs)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("name", list(OPERATORS))
def test_many_cotangents_at_once(name: str) -> None:
    """Vectorised by torch, whose wrappers have no memory that C could read."""
    inputs = leaves(name)
    out = OPERATORS[name][0](*inputs)
    many = drawn(3, *out.shape, seed=7)
    together = torch.autograd.grad(out, inputs, many, is_grads_batched=True, retain_graph=True)
    alone = [torch.autograd.grad(out, inputs, one, retain_graph=True) for one in many]
    for number, part in enumerate(together):
        torch.testing.assert_close(part, torch.stack([found[number] for found in alone]), rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch loads its decompositions so
@pytest.mark.parametrize("name", list(OPERATORS))
def test_a_tangent_is_not_lost(name: str) -> None:
    """Forward-mode differentiation, in which C would compute the value alone."""
    inputs = [part.detach() for part in leaves(name)]
    tangents = [drawn(*part.shape, seed=20 + n) for n, part in enumerate(inputs)]
    with forward_ad.dual_level():
        pairs = zip(inputs, tangents, strict=True)
        duals = [forward_ad.make_dual(*pair) for pair in pairs]  # type: ignore[no-untyped-call]
        found = forward_ad.unpack_dual(OPERATORS[name][0](*duals)).tangent  # type: ignore[no-untyped-call]
    assert found is not None
    far = [OPERATORS[name][0](*(p + s * 1e-6 * t for p, t in zip(inputs, tangents, strict=True))) for s in (1, -1)]
    torch.testing.assert_close(found, (far[0] - far[1]) / 2e-6, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("name", list(OPERATORS))
def test_a_trace_sees_what_is_computed(name: str, recorded: bool) -> None:
    inputs = leaves(name) if recorded else [part.detach() for part in leaves(name)]
    others = [part.detach() + 1 for part in inputs]
    traced = torch.jit.trace(OPERATORS[name][0], tuple(inputs))  # type: ignore[no-untyped-call]
    torch.testing.assert_close(traced(*others), OPERATORS[name][0](*others), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("name", list(OPERATORS))
def test_other_classes_of_tensors_are_left_to_torch(name: str, number: int) -> None:
    """In any place."""
    inputs: list[Any] = [part.detach() for part in leaves(name)]
    if number >= len(inputs):
        return
    expected = OPERATORS[name][0](*inputs)
    inputs[number] = inputs[number].as_subclass(Other)
    found = OPERATORS[name][0](*inputs)
    assert type(found) is Other
    torch.testing.assert_close(found.as_subclass(Tensor), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", ["batch", "transductive", "task", "group", "layer", "instance"])
@pytest.mark.parametrize("net", [torch.float32, torch.float64])
def test_a_norm_of_another_precision(norm: str, net: torch.dtype) -> None:
    """As torch's operators promote it; C never reads single numbers as doubles."""
    block = ConvBlock(2, 8, "max", norm).to(net)
    block.norm.to(torch.float64 if net is torch.float32 else torch.float32)
    with torch.no_grad():
        block.norm.weight.copy_(drawn(8))  # type: ignore[operator]
    x = drawn(3, 2, 7, 7, seed=2, dtype=net)
    mine, theirs = block(x), block._one_by_one(x)
    torch.testing.assert_close(mine.double(), theirs.double(), rtol=1e-4, atol=1e-4)
    weight = block.norm.weight
    assert isinstance(weight, Tensor)
    grads = [torch.autograd.grad(out.double().square().sum(), weight)[0] for out in (mine, theirs)]
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-3)


def test_signs_are_of_the_maps_precision() -> None:
    block = ConvBlock(2, 8, "max", "group").double()
    weight = -torch.ones(8)
    found = block._signs(weight, torch.Size([3]), torch.float64)
    assert found is not None and found.dtype == torch.float64
    x, signs = drawn(3, 2, 6, 6), torch.tensor([-1.0, 1.0])  # others hand in what they like
    peaks = summarise(x, signs, peaks=True).peaks
    assert peaks is not None
    torch.testing.assert_close(peaks, summarise(x, signs.double(), peaks=True).peaks)


@pytest.mark.parametrize("odd", ["precision of the shift", "rows of the shift", "rows of the scale"])
def test_scales_and_shifts_that_do_not_match(odd: str) -> None:
    x, scale, shift = drawn(4, 3, 5, 6), drawn(4, 3), drawn(4, 3, seed=1)
    if odd == "precision of the shift":
        shift = shift.float()
    elif odd == "rows of the shift":
        shift = shift[:1]
    else:
        scale = scale[:1]
    exact = F.relu(x * scale[..., None, None] + shift[..., None, None])
    torch.testing.assert_close(rectify(x, scale, shift), exact)


@pytest.mark.parametrize("size", [(1, 6), (6, 1)])
def test_maps_too_small_to_be_pooled_are_refused_as_by_torch(size: tuple[int, int]) -> None:
    x, ones = drawn(2, 3, *size), torch.ones(3, dtype=torch.float64)
    assert tail(x, ones, ones, groups=1, pooled=True, eps=1e-5) is None
    assert tail(x, ones, ones, groups=1, pooled=False, eps=1e-5) is not None
    for map_ in (x, x.clone().requires_grad_()):
        with pytest.raises(RuntimeError, match=r"Output size is too small"):
            summarise(map_, peaks=True)
    for norm in ("batch", "group"):
        with pytest.raises(RuntimeError, match=r"Output size is too small"):
            ConvBlock(3, 4, "max", norm).double()(x)


def test_the_default_device_is_not_where_c_writes() -> None:
    """What C writes is made on the device of what it reads."""
    net, x = Conv4(filters=32), torch.rand(2, 3, 1, 28, 28)
    strided_net = Conv4(filters=32, pool="stride")
    params = [{name: p.expand(2, *p.shape) for name, p in n.named_parameters()} for n in (net, strided_net)]
    expected = [apply(n, x, params=p).out for n, p in zip((net, strided_net), params, strict=True)]
    with torch.device("meta"):
        found = [apply(n, x, params=p).out for n, p in zip((net, strided_net), params, strict=True)]
        for out in found:
            out.sum().backward()  # type: ignore[no-untyped-call]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("share", [-20.0, 0.0, 5.0])
def test_task_norm_of_queries_far_from_the_support(share: float) -> None:
    """A variance is a sum of what is not negative, and keeps its digits."""
    x, support = drawn(3, 8, 6, 6), drawn(1, 8, seed=1)
    layer = TaskNorm(8).double()
    with torch.no_grad():
        layer.offset.fill_(share)
    seen = [x + 3e4, support, support.square()]
    found = []
    for dtype in (torch.float64, torch.float32):
        far, mean, var = (part.to(dtype) for part in seen)
        found.append(normalised(layer.to(dtype), far, mean, var))
    assert bool(found[1].isfinite().all())
    torch.testing.assert_close(found[1].double(), found[0], rtol=1e-2, atol=1e-2)


def normalised(layer: TaskNorm, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    from quickstudy.nets.norms import NormPass, norm_pass

    given = {"n.mean": mean[0], "n.var": var[0], "n.count": torch.tensor(5, dtype=x.dtype)}
    with norm_pass(NormPass({layer: "n"}, given=given)), native.kernels("torch"):
        out = layer(x)
    assert isinstance(out, Tensor)
    return out
