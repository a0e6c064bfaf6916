"""ResNet-12 against the same network written with plain torch, and the ways to run it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.errors import InputError
from quickstudy.learners import MAML, ProtoNet
from quickstudy.learners.parts.plain import reinitialised
from quickstudy.nets.apply import Strategy, apply
from quickstudy.nets.norms import NORMS, absorb_statistics
from quickstudy.nets.registry import nets
from quickstudy.nets.resnet12 import ResidualBlock, ResNet12
from tests.smalltasks import assert_close, numbers


class TheirBlock(nn.Module):
    """As the papers' code has it."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)
        self.conv3, self.bn3 = nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)
        self.down = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
        self.relu = nn.LeakyReLU(0.1)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.down(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x)) + residual
        return F.max_pool2d(self.relu(x), 2)


def small(norm: Any = "batch", **options: Any) -> ResNet12:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ResNet12(2, 18, widths=(3, 4, 5, 6), norm=norm, **options).double()


def theirs(net: ResNet12) -> nn.Module:
    """The same weights in the plain network, by the order in which they stand."""
    other = nn.Sequential(*(TheirBlock(a, b) for a, b in zip((2, 3, 4, 5), (3, 4, 5, 6), strict=True))).double()
    for block, plain in zip(net.blocks, other, strict=True):
        assert isinstance(plain, TheirBlock)
        assert isinstance(block, ResidualBlock) and isinstance(plain.down[0], nn.Conv2d)
        others = (plain.conv1, plain.conv2, plain.conv3, plain.down[0])
        for conv, to in zip((*block.convs, block.short), others, strict=True):
            assert isinstance(conv, nn.Conv2d)
            to.weight.data.copy_(conv.weight.data)
    return nn.Sequential(*other, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_against_plain_torch() -> None:
    """Outputs and gradients in training, running statistics after it, outputs in the test."""
    net, x = small(), numbers("x", 1, 7, 2, 18, 18)
    other = theirs(net)
    applied = apply(net, x, strategy="loop")
    expected = other(x[0])
    assert_close(applied.out[0], expected)
    named, their = dict(net.named_parameters()), dict(other.named_parameters())
    pairs = {"blocks.0.convs.0.weight": "0.conv1.weight", "blocks.3.short.weight": "3.down.0.weight"}
    mine = torch.autograd.grad(applied.out.square().sum(), [named[name] for name in pairs])
    wanted = torch.autograd.grad(expected.square().sum(), [their[name] for name in pairs.values()])
    for a, b in zip(mine, wanted, strict=True):
        assert_close(a, b, 1e-9)
    absorb_statistics(net, applied.carried)
    net.eval()
    other.eval()
    assert_close(apply(net, x).out[0], other(x[0]))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shared", [True, False])
def test_strategies_agree_to_the_second_derivative(norm: str, shared: bool) -> None:
    net, x = small(norm), numbers("x", 2, 4, 2, 18, 18)
    mask = torch.ones(2, 4, dtype=torch.bool)
    mask[1, 3:], x[1, 3:] = False, float("nan")
    found = {}
    strategies: tuple[Strategy, ...] = ("loop", "vmap")
    for strategy in strategies:
        params = {n: (p.detach() + 0.05 * numbers(n, 2, *p.shape)).requires_grad_() for n, p in net.named_parameters()}
        applied = apply(net, x, params=None if shared else params, mask=mask, strategy=strategy)
        sources = list(net.parameters()) if shared else list(params.values())
        first = torch.autograd.grad(applied.out.square().sum(), sources, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), sources)  # type: ignore[arg-type]
        found[strategy] = [applied.out, *applied.moments.values(), *first, *second]
    for a, b in zip(found["loop"], found["vmap"], strict=True):
        scale = float(a.detach().abs().max()) + 1
        assert_close(a / scale, b / scale, 1e-8)


def test_a_meta_gradient_against_finite_differences() -> None:
    """Through an inner step, whose derivative is a second one."""
    net = small("task")
    x, y = numbers("x", 1, 4, 2, 18, 18), numbers("y", 1, 4, 6)
    weight = dict(net.named_parameters())["blocks.1.convs.1.weight"]

    def after_a_step() -> Tensor:
        params = {n: p[None] for n, p in net.named_parameters()}
        loss = (apply(net, x, params=params).out - y).square().mean()
        moved = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        params = {n: p - 0.05 * g for (n, p), g in zip(params.items(), moved, strict=True)}
        return (apply(net, x, params=params).out - y).square().mean()

    (exact,) = torch.autograd.grad(after_a_step(), [weight])
    way = numbers("way", *weight.shape)
    eps = 1e-6
    with torch.no_grad():
        weight.add_(eps * way)
    above = float(after_a_step().detach())
    with torch.no_grad():
        weight.sub_(2 * eps * way)
    below = float(after_a_step().detach())
    assert float((exact * way).sum()) == pytest.approx((above - below) / (2 * eps), rel=1e-4)


def test_as_published() -> None:
    net = nets.get("resnet12")()
    assert net.out_features == 640 and len(list(net.blocks)) == 4
    # 12.4 million, as the papers say of it
    assert 12.3e6 < sum(p.numel() for p in net.parameters()) < 12.5e6
    assert ResNet12(3, 84, readout="flatten").map_shape == (640, 5, 5)
    out = ResNet12(1, 20, widths=(2, 2, 2, 3), readout="flatten").eval()(torch.zeros(2, 1, 20, 20))
    assert out.shape == (2, 3)


def test_learners_take_it() -> None:
    assert not ProtoNet(small()).traits.transductive
    MAML(small("task"), outputs=3)
    with pytest.raises(InputError, match="running statistics"):
        MAML(small("batch"), outputs=3)


def test_anew_from_a_seed() -> None:
    one, other = reinitialised(small(), 3), reinitialised(small(), 3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    conv = dict(one.named_parameters())["blocks.3.convs.2.weight"]
    wanted = (2 / (1 + 0.1**2) / (6 * 9)) ** 0.5
    assert float(conv.detach().std()) == pytest.approx(wanted, rel=0.15), "not what a convolution of torch begins with"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ResNet12(3, 15), r"Cannot halve pictures of 15 pixels four times: ResNet-12 needs at least 16x16"),
        (lambda: ResNet12(3, 84, widths=(1, 2, 3, 0)), r"needs the widths of four blocks, .* widths=\[1, 2, 3, 0\]"),
        (
            lambda: small()(torch.zeros(1, 2, 20, 20)),
            r"pictures of shape \[2, 18, 18\], received \[2, 20, 20\]",
        ),
    ],
)
def test_what_does_not_fit(make: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()
