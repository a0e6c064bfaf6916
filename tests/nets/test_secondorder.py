"""Kernels without a second derivative: gone round where there is a way, else named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.errors import InputError
from quickstudy.inner import (
    MatVec,
    Params,
    Sgd,
    TaskLosses,
    adjoint,
    cg,
    gradients,
    hessian,
    implicit,
    newton_cg,
    plain_step,
    unroll,
)
from quickstudy.learners import MAML
from quickstudy.learners.imaml import IMAML
from quickstudy.nets.secondorder import blamed_layer, plain_kernels
from quickstudy.train import fit
from tests.smalltasks import FEATURES, WAY, tasks
from tests.train.small import Small


class Attention(nn.Module):
    """Fused self-attention over two halves of the features, as any library's blocks call it."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(len(x), 1, 2, -1)
        mixed: Tensor = F.scaled_dot_product_attention(rows, rows, rows)
        return mixed.flatten(1)


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.save_for_backward(x)
        return torch.mul(x, x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x * grad


class Once(nn.Module):
    """An own function that its author allows to be differentiated once."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Square.apply(x)  # type: ignore[no-untyped-call]
        return out


class Block(nn.Module):
    """The layer in question, at some depth."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.before, self.layer, self.after = nn.Linear(4, 4), layer, nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(self.layer(self.before(x)))
        return out


class Recurrent(nn.Module):
    """An LSTM over the features, one a time."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x[..., None])[0][:, -1]  # type: ignore[no-any-return]


def network(layer: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(FEATURES, 4), nn.Sequential(Block(nn.Tanh()), Block(layer)))
    net.out_features = 4  # type: ignore[assignment]
    return net


def learner(layer: nn.Module, **options: Any) -> MAML:
    return MAML(network(layer), WAY, inner_steps=2, inner_lr=0.1, **options).double()


def along(learner: MAML) -> tuple[float, float]:
    """The meta-gradient along one direction: claimed, and by central differences."""
    episode = tasks()
    learner.meta_loss(episode).loss.sum().backward()  # type: ignore[no-untyped-call]
    parameters = list(learner.parameters())
    directions = [torch.cos(torch.arange(p.numel(), dtype=p.dtype)).reshape(p.shape) for p in parameters]
    claimed = 0.0
    for p, d in zip(parameters, directions, strict=True):
        assert p.grad is not None
        claimed += float((p.grad * d).sum())

    def loss_at(h: float) -> float:
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(d, alpha=h)
        value = float(learner.meta_loss(episode).loss.sum().detach())
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(d, alpha=h)
        return value

    return claimed, (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5


@pytest.mark.parametrize("strategy", ["loop", "vmap", "auto"])
@pytest.mark.parametrize("layer", [Attention, Recurrent])
def test_there_is_a_way_round(layer: Callable[[], nn.Module], strategy: str) -> None:
    """Fused attention and LSTMs work without the user's help, and the derivative is right."""
    if layer is Recurrent and strategy == "vmap":
        pytest.skip("torch has no batching rule for its LSTM")
    claimed, measured = along(learner(layer(), strategy=strategy))
    assert claimed == pytest.approx(measured, rel=1e-7)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="cuDNN needs a GPU")
@pytest.mark.parametrize("layer", [Attention, Recurrent])
def test_there_is_a_way_round_on_a_gpu(layer: Callable[[], nn.Module]) -> None:
    model, episode = learner(layer(), strategy="loop").float().cuda(), tasks(dtype=torch.float32).to("cuda")
    found = []
    for place in ("cuda", "cpu"):
        model.zero_grad()
        model.to(place).meta_loss(episode.to(place)).loss.sum().backward()  # type: ignore[no-untyped-call]
        found.append([p.grad.cpu().clone() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)
    assert torch.backends.cudnn.enabled


@pytest.mark.parametrize("depth", ["1.1.layer", "0.layer"])
def test_the_layer_is_named(depth: str) -> None:
    net = network(Once() if depth == "1.1.layer" else nn.Tanh())
    if depth == "0.layer":
        net[0] = Block(Once())  # type: ignore[operator]
    model = MAML(net, WAY, inner_steps=2, inner_lr=0.1).double()
    with pytest.raises(
        InputError,
        match=rf"Cannot take a second derivative through the layer 'model\.net\.{depth}' \(Once\): "
        r".*once_differentiable\. Use first_order=True where the learner has it, or replace that layer",
    ):
        fit(model, Small(), steps=1)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    "build",
    [
        lambda net: MAML(net, WAY, inner_steps=2, memory="adjoint"),
        lambda net: IMAML(net, WAY, inner_steps=2),
        lambda net: IMAML(net, WAY, inner_steps=2, solver="newton"),
    ],
    ids=["adjoint", "implicit", "newton"],
)
def test_the_layer_is_named_where_the_learner_takes_the_derivative(build: Callable[[nn.Module], nn.Module]) -> None:
    with pytest.raises(InputError, match=r"second derivative through the layer 'model\.net\.1\.1\.layer' \(Once\): "):
        fit(build(network(Once())).double(), Small(), steps=1)  # type: ignore[arg-type]


def test_first_order_needs_none() -> None:
    assert fit(learner(Once(), first_order=True), Small(), steps=1).step == 1


def test_the_plain_kernels_are_not_blamed() -> None:
    """Attention is to blame only where it is called outside ``apply``, in its fused form."""
    x = tasks().support.x
    assert isinstance(x, Tensor)
    assert blamed_layer(network(nn.Tanh()).double(), lambda net: net(x[0])) is None
    assert blamed_layer(network(Attention()).double(), lambda net: net(x[0])) == "'1.1.layer' (Attention)"


def test_the_switches_are_put_back() -> None:
    fused: Callable[[], bool] = torch.backends.cuda.flash_sdp_enabled
    before = torch.backends.cudnn.enabled, fused()
    with pytest.raises(ZeroDivisionError), plain_kernels(nn.LSTM(1, 1)):
        assert not fused() and not torch.backends.cudnn.enabled
        raise ZeroDivisionError
    assert (torch.backends.cudnn.enabled, fused()) == before


# --- what torch would leave out without a word ---------------------------------------------------------------------

W = torch.tensor([[0.3, 0.7]], dtype=torch.float64)
PATTERN = r"Cannot take a second derivative through this network: .* twice the function _Square, marked with @once"


def squared(p: Params) -> Tensor:
    """The cotangent of the function depends on the weights: torch leaves a sign, where nobody may pass."""
    return (_Square.apply(p["w"]) ** 2 + 0.1 * p["w"] ** 2).sum(1)  # type: ignore[no-untyped-call,no-any-return]


def plain(p: Params) -> Tensor:
    """The cotangent is 1: torch leaves no sign at all."""
    return (_Square.apply(p["w"]) + 0.1 * p["w"] ** 2).sum(1)  # type: ignore[no-untyped-call,no-any-return]


def solver(matvec: MatVec, b: Params) -> Params:
    return cg(matvec, b, steps=3).x


@pytest.mark.parametrize("loss", [squared, plain])
def test_second_derivatives_of_functions_that_are_differentiated_once_are_refused(loss: TaskLosses) -> None:
    """By ``autograd.grad`` too, which walks past the node that would complain."""
    theta = {"w": W.clone().requires_grad_()}
    with pytest.raises(InputError, match=PATTERN):
        hessian(loss, theta)(theta)
    with pytest.raises(InputError, match=PATTERN):
        newton_cg(loss, theta, steps=1, cg_steps=2)
    attached = implicit(loss, theta, theta, strength=1.0, solver=solver)
    with pytest.raises(InputError, match=PATTERN):
        torch.autograd.grad(attached["w"].sum(), theta["w"])
    end, _ = unroll(lambda step, p: loss(p), theta, Sgd(0.1), steps=2)
    with pytest.raises(RuntimeError, match=r"twice the function _Square, marked with @once_differentiable"):
        torch.autograd.grad(end["w"].sum(), theta["w"])
    path = adjoint(lambda step, p: loss(p), theta, steps=2, update=plain_step(0.1))
    with pytest.raises(InputError, match=PATTERN):
        torch.autograd.grad(path[-1]["w"].sum(), theta["w"])


def test_maml_says_so_to_autograd_grad() -> None:
    model = learner(Once())
    loss = model.meta_loss(tasks()).loss.sum()
    with pytest.raises(RuntimeError, match=r"twice the function _Square"):
        torch.autograd.grad(loss, list(model.parameters()))


def test_nothing_is_refused_until_it_is_asked_for() -> None:
    """Adapting needs first derivatives alone, also where torch records; so do functions that no weight goes through."""
    assert torch.isfinite(learner(Once()).adapt(tasks().support).params["head.bias"]).all()
    theta = {"w": W.clone().requires_grad_()}
    said = _Square.apply(torch.ones(1, 2, dtype=torch.float64, requires_grad=True))  # type: ignore[no-untyped-call]
    product = hessian(lambda p: (said * p["w"].square()).sum(1), theta)
    assert product({"w": torch.ones_like(W)})["w"].tolist() == [[2.0, 2.0]]
    end, _ = unroll(lambda step, p: squared(p), theta, Sgd(0.1), steps=2, second_order=False)
    assert torch.autograd.grad(end["w"].sum(), theta["w"])[0].tolist() == [[1.0, 1.0]]


def test_a_missing_first_derivative_is_called_so() -> None:
    """The regularised gamma function has no derivative in its first argument; first order would need it as well."""
    theta = {"w": W.clone().requires_grad_()}

    def gamma(p: Params) -> Tensor:
        values: Tensor = torch.special.gammainc(p["w"], torch.ones_like(p["w"])).sum(1)
        return values

    for create_graph in (False, True):
        with pytest.raises(InputError, match=r"Cannot take a derivative through this network: .*igamma.*Use another"):
            gradients(gamma(theta), theta, create_graph=create_graph)
