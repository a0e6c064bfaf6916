"""Descent on a chain of linear layers as one operator, against the same by plain operators."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from quickstudy import native
from quickstudy.episode import Episode, Examples, Real
from quickstudy.inner import descend
from quickstudy.inner.chained import descend_chain
from quickstudy.learners import FOMAML, MAML
from quickstudy.learners.parts import innerloop
from quickstudy.nets import MLP
from quickstudy.nets.chain import Shape, plain_value


def drawn(n_task: int = 3, n_row: int = 4, widths: tuple[int, ...] = (2, 7, 6, 2)) -> tuple[Tensor, Tensor, list[Any]]:
    make = torch.Generator().manual_seed(0)

    def one(*size: int) -> Tensor:
        return torch.randn(n_task, *size, generator=make, dtype=torch.float64).requires_grad_()

    layers = [(one(b, a), one(b)) for a, b in pairwise(widths)]
    return one(n_row, widths[0]).detach(), one(n_row, widths[-1]).detach(), layers


def by_hand(x: Tensor, y: Tensor, layers: list[Any], steps: int, lr: float, second_order: bool) -> list[Tensor]:
    start = {f"{n}.{k}": part for n, layer in enumerate(layers) for k, part in enumerate(layer)}
    shape = Shape(len(layers), False)

    def losses(params: dict[str, Tensor]) -> Tensor:
        every = list(params.values())
        return (plain_value(shape, x, every[::2], every[1::2])[-1] - y).square().mean((1, 2))

    return list(descend(losses, start, steps=steps, lr=lr, second_order=second_order).values())


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("which", ["torch", "auto"])
def test_value_and_two_derivatives(which: native.Kernels, steps: int, second_order: bool) -> None:
    found = []
    for mine in (True, False):
        x, y, layers = drawn()
        flat = [part for layer in layers for part in layer]
        with native.kernels(which):
            if mine:
                end = descend_chain(x, y, layers, steps=steps, lr=0.1, second_order=second_order)
                assert end is not None
                after = [part for layer in end for part in layer]
            else:
                after = by_hand(x, y, layers, steps, 0.1, second_order)
            value = torch.cat([part.flatten() for part in after])
            first = torch.autograd.grad(value.pow(3).sum() / 100, flat, create_graph=True)
            plain = torch.autograd.grad(value.pow(3).sum() / 100, flat, retain_graph=True)
            second = torch.autograd.grad(sum(part.square().sum() for part in first) / 100, flat)  # type: ignore[arg-type]
        found.append([*after, *first, *plain, *second])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_some_weights_are_frozen_and_some_are_read_no_more() -> None:
    found = []
    for mine in (True, False):
        x, y, layers = drawn()
        layers[1] = (layers[1][0].detach(), layers[1][1])
        end = descend_chain(x, y, layers, steps=2, lr=0.1) if mine else None
        after = end[0][0] if end is not None else by_hand(x, y, layers, 2, 0.1, True)[0]
        found.append(torch.autograd.grad(after.square().sum(), [layers[0][0], layers[1][1]]))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_what_it_does_not_do() -> None:
    x, y, layers = drawn()
    assert descend_chain(x.clone().requires_grad_(), y, layers, steps=1, lr=0.1) is None
    assert descend_chain(x, y.float(), layers, steps=1, lr=0.1) is None
    assert descend_chain(x, y.to("meta"), layers, steps=1, lr=0.1) is None
    assert descend_chain(x, y[:, :, :1], layers, steps=1, lr=0.1) is None  # would broadcast
    assert descend_chain(x, y, layers, steps=0, lr=0.1) is None
    assert torch.func.vmap(lambda a: torch.tensor(descend_chain(a, y, layers, steps=1, lr=0.1) is None))(x[None]).all()
    with torch.autocast("cpu", torch.bfloat16):
        assert descend_chain(x, y, layers, steps=1, lr=0.1) is None


@pytest.mark.parametrize("which", ["torch", "auto"])
@pytest.mark.parametrize("recorded", [True, False])
def test_many_cotangents_at_once(which: native.Kernels, recorded: bool) -> None:
    """Vectorised by torch, whose wrappers have no memory that C could read."""
    x, y, layers = drawn()
    flat = [part for layer in layers for part in layer]
    with native.kernels(which):
        end = descend_chain(x, y, layers, steps=2, lr=0.1)
        assert end is not None
        after = end[0][0]
        many = torch.randn(4, *after.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        together = torch.autograd.grad(
            after, flat, many, is_grads_batched=True, retain_graph=True, create_graph=recorded
        )
        alone = [torch.autograd.grad(after, flat, one, retain_graph=True) for one in many]
    for number, part in enumerate(together):
        torch.testing.assert_close(part, torch.stack([found[number] for found in alone]), rtol=1e-10, atol=1e-10)
        assert part.requires_grad is recorded


def test_a_way_back_that_a_dispatch_mode_watches() -> None:
    x, y, layers = drawn()
    end = descend_chain(x, y, layers, steps=2, lr=0.1)
    assert end is not None
    expected = torch.autograd.grad(end[0][0].sum(), layers[0], retain_graph=True)
    with FlopCounterMode(display=False) as counted:
        found = torch.autograd.grad(end[0][0].sum(), layers[0])
    assert counted.get_total_flops() > 0
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def waves(n_task: int = 3) -> Episode:
    x = torch.linspace(-5, 5, n_task * 10).double().reshape(n_task, 10, 1)
    y = torch.sin(x + torch.arange(n_task)[:, None, None])
    return Episode(Examples(x[:, :5], y[:, :5], Real(1)), Examples(x[:, 5:], y[:, 5:], Real(1)))


@pytest.mark.parametrize("build", [MAML, FOMAML])
def test_learners_take_it_and_lose_nothing(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    learner = build(MLP(1, (9, 8)), 1, "real", inner_steps=3, inner_lr=0.05).double()
    taken = []

    def meta_gradient(told: bool) -> list[Tensor]:
        def noted(*args: Any, **options: Any) -> Any:
            taken.append(told)
            return descend_chain(*args, **options) if told else None

        monkeypatch.setattr(innerloop, "descend_chain", noted)
        losses = learner.meta_loss(waves()).loss
        return [losses, *torch.autograd.grad(losses.sum(), tuple(learner.parameters()))]

    for a, b in zip(meta_gradient(True), meta_gradient(False), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert taken == [True, False]
    with torch.no_grad():
        monkeypatch.undo()
        fast = learner.adapt(waves().support).params
        monkeypatch.setattr(innerloop, "descend_chain", lambda *args, **options: None)
        slow = learner.adapt(waves().support).params
    assert list(fast) == list(slow)
    for name, part in fast.items():
        torch.testing.assert_close(part, slow[name], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "options",
    [{"part": "body"}, {"part": "biases"}, {"part": "lora"}, {"strategy": "loop"}, {"memory": "adjoint"}],
    ids=lambda options: "-".join(map(str, *options.items())),
)
def test_learners_whose_steps_are_others_do_not_take_it(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("taken")

    monkeypatch.setattr(innerloop, "descend_chain", refuse)
    MAML(MLP(1, (9, 8)), 1, "real", **options).double().meta_loss(waves())


def test_networks_and_losses_of_ones_own_do_not_take_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Twice(MLP):
        def batched(self, params: dict[str, Tensor], x: Tensor, head: Any = None) -> Tensor:
            return 2 * super().batched(params, x, head)

    class Absolute(MAML):
        def loss(self, outputs: Tensor, examples: Examples) -> Tensor:
            assert examples.y is not None
            return (outputs - examples.y).abs().mean((1, 2))

    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("taken")

    monkeypatch.setattr(innerloop, "descend_chain", refuse)
    MAML(Twice(1), 1, "real").double().meta_loss(waves())
    MAML(MLP(1, norm="layer"), 1, "real").double().meta_loss(waves())
    MAML(MLP(1, activation="tanh"), 1, "real").double().meta_loss(waves())
    Absolute(MLP(1), 1, "real").double().meta_loss(waves())
