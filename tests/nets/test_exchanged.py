"""Networks of ours whose layers somebody exchanged: what the new ones compute is what counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from quickstudy import native
from quickstudy.errors import InputError
from quickstudy.learners import MAML
from quickstudy.nets import MLP, Conv4, apply
from quickstudy.nets.conv4 import ConvBlock
from quickstudy.nets.norms import BatchNorm, Seen, make_norm
from quickstudy.nets.strategy import choose_strategy, has_batched_form
from tests.inner.test_chained import waves


class Doubled(BatchNorm):
    """A norm made from ours, which puts out twice as much."""

    @override
    def affine(self, seen: Seen | None, own: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        scale, shift = super().affine(seen, own)
        return 2 * scale, 2 * shift


def foreign_norm(block: ConvBlock) -> None:
    block.norm = nn.GroupNorm(2, 8)


def batch_norm(block: ConvBlock) -> None:
    block.norm = nn.BatchNorm2d(8)


def norm_made_from_ours(block: ConvBlock) -> None:
    block.norm = Doubled(8, running=False)


def dilated(block: ConvBlock) -> None:
    block.conv = nn.Conv2d(block.conv.in_channels, 8, 3, padding=2, dilation=2)


def reflecting(block: ConvBlock) -> None:
    block.conv.padding_mode = "reflect"
    block.conv._reversed_padding_repeated_twice = [1, 1, 1, 1]


def strided(block: ConvBlock) -> None:
    block.conv.stride = (3, 3)


def wider(block: ConvBlock) -> None:
    block.conv = nn.Conv2d(block.conv.in_channels, 8, 5, padding=2)


CHANGES = [foreign_norm, batch_norm, norm_made_from_ours, dilated, reflecting, strided, wider]
Change = Callable[[ConvBlock], None]


def network(change: Change, number: int, norm: str = "transductive") -> Conv4:
    torch.manual_seed(0)
    net = Conv4(1, 16, filters=8, norm=norm, halvings=1).double()  # type: ignore[arg-type]
    block = net.blocks[number]
    assert isinstance(block, ConvBlock)
    change(block)
    net.double()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net


def by_layers(net: Conv4, x: Tensor) -> Tensor:
    for block in net.blocks:
        assert isinstance(block, ConvBlock)
        x = block.norm(block.conv(x))
        x = F.relu(F.max_pool2d(x, 2) if block.pool == "max" else x)
    return x.flatten(1)


def each_task(net: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor, params: dict[str, Tensor]) -> Tensor:
    """One task after the other, its weights written into the network."""
    found = []
    for task, rows in enumerate(x):
        with torch.no_grad():
            for name, p in net.named_parameters():
                p.copy_(params[name][task])
        found.append(run(rows))
    return torch.stack(found)


@pytest.mark.parametrize("which", ["auto", "torch"])
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("change", CHANGES)
def test_conv4_calls_what_stands_in_it(change: Change, number: int, which: native.Kernels) -> None:
    net, x = network(change, number), torch.rand(3, 4, 1, 16, 16, dtype=torch.float64)
    with native.kernels(which):
        torch.testing.assert_close(net(x[0]), by_layers(net, x[0]), rtol=1e-10, atol=1e-10)
        params = {name: p.detach() + 0.1 * torch.randn(3, *p.shape) for name, p in net.named_parameters()}
        params = {name: p.requires_grad_() for name, p in params.items()}
        out = apply(net, x, params=params).out
        grads = torch.autograd.grad(out.square().sum(), list(params.values()))
    expected = each_task(net, lambda rows: by_layers(net, rows), x, params)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    assert all(bool(grad.any()) for grad in grads[:2])


@pytest.mark.parametrize("change", CHANGES)
def test_conv4_has_no_form_with_a_task_axis_then(change: Change) -> None:
    net, x = network(change, 2), torch.rand(2, 3, 1, 16, 16, dtype=torch.float64)
    assert not has_batched_form(net)
    assert choose_strategy(net, x, shared=False) == "loop"
    with pytest.raises(InputError, match="needs a network with a batched form"):
        apply(net, x, strategy="batched")
    assert has_batched_form(network(lambda block: None, 0))


@pytest.mark.parametrize("kind", ["task", "group", "batch", "none"])
def test_a_norm_of_ours_in_anothers_place_keeps_the_form(kind: str) -> None:
    def change(block: ConvBlock) -> None:
        block.norm = make_norm(kind, 8)

    net, x = network(change, 1), torch.rand(2, 3, 1, 16, 16, dtype=torch.float64)
    params = {name: p.detach() + 0.1 * torch.randn(2, *p.shape) for name, p in net.named_parameters()}
    assert has_batched_form(net)
    forms = [apply(net, x, params=params, strategy=strategy).out for strategy in ("batched", "loop")]
    torch.testing.assert_close(*forms, rtol=1e-10, atol=1e-10)


def test_a_bias_put_before_a_norm_moves_its_running_mean() -> None:
    def change(block: ConvBlock) -> None:
        block.conv = nn.Conv2d(1, 8, 3, padding=1)

    means = []
    for mine in (True, False):
        net = network(change, 0, norm="batch")
        x = torch.rand(4, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        net(x) if mine else by_layers(net, x)
        means.append(torch.cat([part.flatten() for part in net.buffers()]))
    torch.testing.assert_close(*means, rtol=1e-10, atol=1e-10)


def foreign(net: MLP) -> None:
    net.norms[0] = nn.LayerNorm(9)


def dropped(net: MLP) -> None:
    net.norms[1] = nn.Softplus()


def made_from_ours(net: MLP) -> None:
    net.norms[0] = Doubled(9, running=False)


def without_a_bias(net: MLP) -> None:
    net.linears[1] = nn.Linear(9, 8, bias=False)


def wrapped(net: MLP) -> None:
    net.linears[0] = nn.Sequential(nn.Linear(1, 9), nn.Tanh())


@pytest.mark.parametrize("change", [foreign, dropped, made_from_ours, without_a_bias, wrapped])
def test_an_mlp_calls_what_stands_in_it(change: Callable[[MLP], None]) -> None:
    torch.manual_seed(0)
    net, x = MLP(1, (9, 8)), torch.rand(3, 4, 1, dtype=torch.float64)
    change(net)
    net.double()

    def by_layers(rows: Tensor) -> Tensor:
        for linear, norm in zip(net.linears, net.norms, strict=True):
            rows = torch.relu(norm(linear(rows)))
        return rows

    torch.testing.assert_close(net(x[0]), by_layers(x[0]), rtol=1e-10, atol=1e-10)
    assert not has_batched_form(net) and net.as_chain({}, x) is None
    params = {name: p.detach() + 0.1 * torch.randn(3, *p.shape) for name, p in net.named_parameters()}
    out = apply(net, x, params=params).out
    torch.testing.assert_close(out, each_task(net, by_layers, x, params), rtol=1e-10, atol=1e-10)


def test_a_learner_descends_with_what_stands_in_its_network() -> None:
    """Chains of linear layers are descended by one operator; this is none any more."""
    losses = []
    for norm in (nn.Identity(), nn.Softplus()):
        torch.manual_seed(0)
        net = MLP(1, (9, 8))
        learner = MAML(net, 1, "real", inner_steps=2, inner_lr=0.05).double()
        net.norms[0] = norm
        losses.append([learner.meta_loss(waves()).loss])
        with torch.no_grad():
            start = {name: p.expand(3, *p.shape) for name, p in net.named_parameters()}
            x = waves().support.x
            assert isinstance(x, Tensor)
            looped, whole = (apply(net, x, params=start, strategy=way).out for way in ("loop", "auto"))
        torch.testing.assert_close(looped, whole, rtol=1e-10, atol=1e-10)
    assert bool((losses[0][0] - losses[1][0]).abs().min() > 1e-6)


def test_hooks_are_told_of_tasks_with_weights_of_their_own() -> None:
    net, heard = MLP(1, (9, 8)), []
    net.linears[0].register_forward_hook(lambda layer, given, out: heard.append(out.shape))
    params = {name: p.expand(3, *p.shape) for name, p in net.named_parameters()}
    apply(net, torch.rand(3, 4, 1), params=params)
    assert heard == [(4, 9)] * 3
