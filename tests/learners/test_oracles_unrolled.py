"""MAML++, CAVIA and iMAML against closed forms, identities and the papers' equations written plainly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.learners.cavia import CAVIA
from quickstudy.learners.imaml import IMAML
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.maml import MAML
from quickstudy.learners.mamlpp import MAMLPlusPlus
from quickstudy.nets import MLP, Conv4
from tests.smalltasks import WAY, Row, Slope, assert_close, make, mlp, numbers, outputs, quadratic, ragged, tasks

A, S, B, Q, W = 2.0, 1.5, 3.0, -0.7, 0.4


def grads_of(learner: AbstractLearner, episode: Episode) -> dict[str, Tensor]:
    """The meta-gradient by name, and the summed meta-loss as ``loss``."""
    learner.zero_grad()
    loss = learner.meta_loss(episode).loss.sum()
    loss.backward()  # type: ignore[no-untyped-call]
    found = {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}
    return found | {"loss": loss.detach()}


def made(build: Any, seed: int = 0) -> Any:
    return make(Row("", build), seed=seed)


def same(a: dict[str, Tensor], b: dict[str, Tensor], tolerance: float = 1e-10) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert_close(a[name], b[name], tolerance)


# --- MAML++ ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["none", "task"])
@pytest.mark.parametrize("head", ["fixed", "shared", "proto"])
def test_mamlpp_with_everything_off_is_maml(norm: str, head: str) -> None:
    options: dict[str, Any] = {"inner_steps": 3, "inner_lr": 0.0625, "head": head}  # a rate that float32 holds exactly
    plain = made(lambda: MAML(mlp(norm), WAY, **options))
    plus = made(lambda: MAMLPlusPlus(mlp(norm), WAY, learn_rates=False, per_step_norms=False, **options))
    same(grads_of(plain, tasks()), grads_of(plus, tasks()))
    assert_close(outputs(plain, tasks()), outputs(plus, tasks()))


def test_mamlpp_learns_its_rates() -> None:
    """Two steps on a quadratic: w2 - s = (1 - α0 a)(1 - α1 a)(w - s), and its derivatives in w, α0 and α1."""
    learner = MAMLPlusPlus(Slope(W), 1, "real", inner_steps=2, head="none").double()
    rates = learner.rates["net/w"]
    with torch.no_grad():
        rates.copy_(torch.tensor([0.125, 0.25]))
    found = grads_of(learner, quadratic(A, S, B, Q))
    first, second = 1 - 0.125 * A, 1 - 0.25 * A
    pull = B * (S + first * second * (W - S) - Q)
    assert float(found["model.net.w"]) == pytest.approx(pull * first * second)
    expected = [-pull * A * second * (W - S), -pull * A * first * (W - S)]
    assert found["rates.net/w"].tolist() == pytest.approx(expected)


def importance(progress: float, steps: int) -> Any:
    """The weights of the authors' annealing, ``progress`` from 0 on; the last step alone from 1 on."""
    if progress >= 1:
        return np.eye(steps)[-1]
    decay, least = progress / steps, 0.03 / steps
    weights = np.maximum(np.full(steps, 1 / steps) - decay, least)
    weights[-1] = min(1 / steps + (steps - 1) * decay, 1 - (steps - 1) * least)
    return weights


@pytest.mark.parametrize("seen", [0, 30, 98, 99, 100, 500])
@pytest.mark.parametrize("steps", [1, 3])
def test_mamlpp_anneals_its_loss(seen: int, steps: int) -> None:
    learner = MAMLPlusPlus(Slope(W), 1, "real", inner_steps=steps, inner_lr=0.25, multi_step_until=100, head="none")
    learner.double().tasks_seen.fill_(seen)
    out = learner.meta_loss(quadratic(A, S, B, Q))
    after = [S + (1 - 0.25 * A) ** k * (W - S) for k in range(1, steps + 1)]
    expected = importance(seen / 100, steps) @ [B / 2 * (w - Q) ** 2 for w in after]
    assert float(out.loss.detach()) == pytest.approx(float(expected), rel=1e-6)
    learner.absorb(out.carried)
    assert int(learner.tasks_seen) == seen + 1


def test_mamlpp_anneals_its_order_task_by_task() -> None:
    """Tasks before the border have FOMAML's gradient, those after it MAML's; before and after it all of one kind."""
    for seen, first_order in ((0, [True, True, False]), (5, [False] * 3), (-3, [True] * 3)):
        options: dict[str, Any] = {"inner_steps": 2, "inner_lr": 0.25}
        plus = made(lambda o=options: MAMLPlusPlus(mlp(), WAY, learn_rates=False, first_order_until=2, **o))
        plus.tasks_seen.fill_(seen)
        found = grads_of(plus, tasks())
        total: dict[str, Tensor] = {}
        for t, first in enumerate(first_order):
            plain = made(lambda o=options, f=first: MAML(mlp(), WAY, first_order=f, **o))
            for name, grad in grads_of(plain, tasks().tasks(slice(t, t + 1))).items():
                total[name] = total.get(name, torch.zeros(())) + grad
        same(found, total)


def test_mamlpp_does_not_notice_portions() -> None:
    """A step in portions, absorbed one by one as the engine does, equals the step at once, across both borders."""
    found = []
    for at_once in (3, 2, 1):
        learner = made(
            lambda: MAMLPlusPlus(
                mlp("task"), head="shared", inner_steps=3, multi_step_until=10, first_order_until=2, inner_lr=0.2
            )
        ).train()
        for chunk in ragged(float("nan")).chunks(at_once):
            out = learner.meta_loss(chunk)
            out.loss.sum().backward()
            learner.absorb(out.carried)
        assert int(learner.tasks_seen) == 3
        found.append({name: p.grad for name, p in learner.named_parameters()})
    same(found[0], found[1])
    same(found[0], found[2])


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_mamlpp_gives_each_step_its_norms(taken: int) -> None:
    """Steps and their norms written plainly with F.layer_norm; a query meets those of the last step taken.

    Two steps are trained; a third in testing has the norms and the rates of the second.
    """
    episode = tasks(n_task=1)
    learner = made(lambda: MAMLPlusPlus(mlp("layer"), WAY, inner_steps=2, test_inner_steps=taken, inner_lr=0.2))
    with torch.no_grad():
        for number, p in enumerate(learner.norms.values()):
            p.add_(0.5 * numbers(f"norm {number}", *p.shape))
        for number, p in enumerate(learner.rates.values()):
            p.add_(0.05 * (number + 1) * torch.tensor([1.0, -1.0]))
    own = dict(learner.model.named_parameters())
    assert isinstance(episode.support.x, Tensor) and isinstance(episode.query.x, Tensor)
    names = ["net.linears.0.weight", "net.linears.0.bias", "net.linears.1.weight", "net.linears.1.bias"]
    names += ["head.weight", "head.bias"]
    assert set(names) == set(learner.model.adapted)

    def norm(step: int, layer: int, kind: str) -> Tensor:
        name = f"net.norms.{layer}.{kind}"
        return own[name] if step == 0 else learner.norms[name.replace(".", "/")][0]  # type: ignore[no-any-return]

    def net(p: list[Tensor], step: int, x: Tensor) -> Tensor:
        for layer in (0, 1):
            x = F.linear(x, p[2 * layer], p[2 * layer + 1])
            x = F.layer_norm(x, x.shape[1:], norm(step, layer, "weight"), norm(step, layer, "bias"))
            x = torch.tanh(x)
        return F.linear(x, p[4], p[5])

    params = [own[name].detach().requires_grad_() for name in names]
    for step in range(taken):
        slot = min(step, 1)
        loss = F.cross_entropy(net(params, slot, episode.support.x[0]), episode.support.y[0])  # type: ignore[index]
        grads = torch.autograd.grad(loss, params)
        rates = [learner.rates[name.replace(".", "/")][slot] for name in names]
        params = [(p - r * g).detach().requires_grad_() for p, r, g in zip(params, rates, grads, strict=True)]
    assert_close(outputs(learner, episode)[0], net(params, slot, episode.query.x[0]).detach())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in _trained(learner))


@pytest.mark.parametrize("first_order", [False, True])
def test_mamlpp_meta_gradient_written_plainly(first_order: bool) -> None:
    """All at once, task by task: rates and norms of each step, a query loss after each with that step's norms."""
    episode, steps = tasks(), 3
    learner = made(
        lambda: MAMLPlusPlus(
            mlp("layer"), WAY, inner_steps=steps, multi_step_until=100, first_order_until=500 if first_order else 0
        )
    )
    learner.tasks_seen.fill_(40)
    with torch.no_grad():
        for number, p in enumerate([*learner.norms.values(), *learner.rates.values()]):
            p.add_(0.05 * numbers(f"own {number}", *p.shape))
    own = dict(learner.model.named_parameters())

    def net(p: dict[str, Tensor], step: int, x: Tensor) -> Tensor:
        for layer in (0, 1):
            x = F.linear(x, p[f"net.linears.{layer}.weight"], p[f"net.linears.{layer}.bias"])
            names = [f"net.norms.{layer}.{kind}" for kind in ("weight", "bias")]
            scale, shift = (own[n] if step == 0 else learner.norms[n.replace(".", "/")][step - 1] for n in names)
            x = torch.tanh(F.layer_norm(x, x.shape[1:], scale, shift))
        return F.linear(x, p["head.weight"], p["head.bias"])

    total = torch.zeros((), dtype=torch.float64)
    for t in range(3):
        weights = importance((40 + t) / 100, steps)
        params = {name: own[name] for name in learner.model.adapted}
        for step in range(steps):
            loss = F.cross_entropy(net(params, step, episode.support.x[t]), episode.support.y[t])  # type: ignore[index]
            grads = torch.autograd.grad(loss, list(params.values()), create_graph=not first_order)
            rates = {name: learner.rates[name.replace(".", "/")][step] for name in params}
            params = {n: p - rates[n] * g for (n, p), g in zip(params.items(), grads, strict=True)}
            asked = F.cross_entropy(net(params, step, episode.query.x[t]), episode.query.y[t])  # type: ignore[index]
            total = total + float(weights[step]) * asked
    names, trained = zip(*learner.named_parameters(), strict=True)
    expected = dict(zip(names, torch.autograd.grad(total, trained), strict=True)) | {"loss": total.detach()}
    same(grads_of(learner, episode), expected, 1e-7)  # the shares are float32, as in the authors' code


def test_mamlpp_goes_on_where_it_was() -> None:
    """Three times one step is three steps: each with its own rates and norms, the third with those of the second."""
    learner = made(lambda: MAMLPlusPlus(mlp("layer"), WAY, inner_steps=2, test_inner_steps=3, inner_lr=0.2))
    with torch.no_grad():
        for number, p in enumerate([*learner.norms.values(), *learner.rates.values()]):
            p.add_(0.05 * numbers(f"own {number}", *p.shape))
    episode = tasks()
    whole = outputs(learner, episode)
    learner.loop.test_steps, state = 1, None
    with torch.no_grad():
        for _ in range(3):
            state = learner.adapt(episode.support, state=state)
        assert_close(learner.predict(state, episode.query.unlabelled()), whole)
    assert state is not None and state.steps.tolist() == [3, 3, 3]


def _trained(learner: Any) -> list[nn.Parameter]:
    learner.meta_loss(tasks()).loss.sum().backward()
    return [*learner.norms.values(), *learner.rates.values()]


def test_mamlpp_refuses_what_does_not_fit() -> None:
    with pytest.raises(InputError, match=r"count training tasks and cannot be negative, received -1 and 0"):
        MAMLPlusPlus(MLP(4), 3, multi_step_until=-1)
    with pytest.raises(InputError, match=r"part='norms' adapts what per_step_norms=True leaves to meta-training"):
        MAMLPlusPlus(MLP(4, norm="task"), 3, part="norms")
    MAMLPlusPlus(MLP(4, norm="task"), 3, part="norms", per_step_norms=False).adapt(tasks(dtype=torch.float32).support)


# --- CAVIA -------------------------------------------------------------------------------------------------------


def test_cavia_is_a_network_with_more_inputs() -> None:
    """As the paper writes it: contexts joined to the inputs of a plain network, task by task."""
    episode = tasks("real")
    learner = made(lambda: CAVIA(MLP(4, (6, 5), activation="tanh"), 2, "real", inner_steps=2, inner_lr=0.7))
    assert (learner.layer, learner.film) == ("linears.0", False)
    (first, second), head = learner.model.net.linears, learner.model.head
    wide = torch.cat([first.weight, learner.map.weight], 1)

    def net(x: Tensor, context: Tensor) -> Tensor:
        x = torch.cat([x, context.expand(len(x), -1)], 1)
        return head(torch.tanh(second(torch.tanh(F.linear(x, wide, first.bias)))))  # type: ignore[no-any-return]

    losses, answers = [], []
    for t in range(3):
        context = torch.zeros(5, dtype=torch.float64, requires_grad=True)
        for _ in range(2):
            loss = F.mse_loss(net(episode.support.x[t], context), episode.support.y[t])  # type: ignore[index]
            context = context - 0.7 * torch.autograd.grad(loss, context, create_graph=True)[0]
        answers.append(net(episode.query.x[t], context))  # type: ignore[index]
        losses.append(F.mse_loss(answers[-1], episode.query.y[t]))  # type: ignore[index]
    expected = torch.autograd.grad(torch.stack(losses).sum(), list(learner.parameters()))
    assert_close(outputs(learner, episode), torch.stack(answers).detach())
    found = grads_of(learner, episode)
    assert_close(found["loss"], torch.stack(losses).sum().detach())
    for (name, _), grad in zip(learner.named_parameters(), expected, strict=True):
        assert_close(found[name], grad)


@pytest.mark.parametrize("name", ["conv", "conv-plain", "mlp"])
def test_cavia_modulates_channels(name: str) -> None:
    """FiLM by a hook on the layer, task by task: its output times 1 + S φ plus B φ."""
    if name == "mlp":
        net: nn.Module = mlp("layer")
        where, episode = "norms.1", tasks()
    else:
        norm = "group" if name == "conv" else "none"
        net = Conv4(1, 16, filters=4, norm=norm)  # type: ignore[arg-type]
        where, episode = f"blocks.2.{'norm' if name == 'conv' else 'conv'}", tasks()
        support, query = (replace(part, x=pictures(part)) for part in (episode.support, episode.query))
        episode = Episode(support, query)
    learner = made(lambda: CAVIA(net, WAY, context_size=3, inner_steps=2, context_as="film"))
    assert learner.layer == where
    said, state = outputs(learner, episode), learner.adapt(episode.support)
    channels = learner.map.out_features // 2
    for t in range(3):
        context = torch.zeros(3, dtype=torch.float64, requires_grad=True)

        def film(module: nn.Module, given: Any, out: Tensor) -> Any:
            scale, shift = F.linear(context, learner.map.weight).view(2, channels)  # noqa: B023
            space = (1,) * (out.dim() - 2)
            return out * (1 + scale).view(-1, *space) + shift.view(-1, *space)

        handle = learner.model.net.get_submodule(where).register_forward_hook(film)
        for _ in range(2):
            loss = F.cross_entropy(learner.model.head(learner.model.net(episode.support.x[t])), episode.support.y[t])  # type: ignore[index]
            context = context - torch.autograd.grad(loss, context)[0]
        answer = learner.model.head(learner.model.net(episode.query.x[t])).detach()  # type: ignore[index]
        handle.remove()
        assert_close(state.values[t].detach(), context.detach())
        assert_close(said[t], answer)


def pictures(part: Examples) -> Tensor:
    assert isinstance(part.x, Tensor)
    waves = torch.sin(torch.arange(1, 257, dtype=torch.float64)[:, None] * torch.arange(1, 5) * 0.37)
    return (part.x @ waves.T).reshape(*part.x.shape[:2], 1, 16, 16)


@pytest.mark.parametrize("context_as", ["inputs", "film"])
def test_cavia_without_steps_is_the_plain_network(context_as: Any) -> None:
    learner = made(lambda: CAVIA(mlp(), WAY, inner_steps=0, context_as=context_as))
    episode = tasks()
    assert isinstance(episode.query.x, Tensor)
    plain = learner.model.head(learner.model.net(episode.query.x.flatten(0, 1))).unflatten(0, (3, 12))
    assert_close(outputs(learner, episode), plain.detach())
    assert (learner.adapt(episode.support).values == 0).all()


def test_cavia_learns_a_context_and_nothing_else() -> None:
    learner = made(lambda: CAVIA(mlp(), WAY, context_size=3))
    state = learner.adapt(tasks().support)
    assert state.values.shape == (3, 3) and state.moments is None
    assert set(learner.weights(state.values)) == {"net.linears.0.bias"}
    on = learner.adapt(tasks().support, state=state)  # going on is two steps at once
    learner.loop.test_steps = 2
    assert_close(on.values.detach(), learner.adapt(tasks().support).values.detach())


def test_cavia_and_padding() -> None:
    """A fixed head answers for fewer classes too: NaN in padding changes nothing, a task equals itself alone."""
    learner = made(lambda: CAVIA(mlp("task"), WAY, inner_steps=2))
    clean, dirty = ragged(0.0), ragged(float("nan"))
    together = outputs(learner, dirty)
    assert torch.equal(outputs(learner, clean), together)
    for t in range(3):
        alone = outputs(learner, Episode(dirty.support.task(t), dirty.query.task(t)))
        assert_close(together[t][dirty.query.real[t]], alone[0])
    same(grads_of(learner, clean), grads_of(learner, dirty), 0.0)


def test_cavia_modulates_a_norm_over_several_axes() -> None:
    """Its bias has as many axes as its weight; a channel is a place on the first."""
    net = nn.Sequential(nn.Unflatten(1, (2, 2)), nn.LayerNorm([2, 2]), nn.Flatten())
    learner = made(lambda: CAVIA(net, WAY, context_size=3, out_features=4))
    assert learner.layer == "1" and learner.map.out_features == 4
    context = numbers("context", 3, 3)
    query = tasks().query
    said = learner.model.embed(learner.weights(context), query).out
    assert isinstance(query.x, Tensor)
    plain = net(query.x.flatten(0, 1)).reshape(3, -1, 2, 2)
    scale, shift = learner.map(context)[:, None, :, None].chunk(2, 2)
    assert_close(said, (plain * (1 + scale) + shift).flatten(2))


def test_cavia_knows_that_a_transposed_convolution_has_its_inputs_in_rows() -> None:
    net = nn.Sequential(nn.Unflatten(1, (4, 1)), nn.ConvTranspose1d(4, 4, 2), nn.Flatten(), nn.Linear(8, 5))
    assert CAVIA(net, WAY, context_as="film", out_features=5).layer == "3"
    with pytest.raises(InputError, match=r"'1', a ConvTranspose1d: it must be a norm, a linear layer or a convolution"):
        CAVIA(net, WAY, context_as="film", layer="1", out_features=5)


def test_cavia_refuses_layers_that_cannot_take_a_context() -> None:
    with pytest.raises(InputError, match=r"the layer 'linears\.7': the network has none of that name"):
        CAVIA(MLP(4), 3, layer="linears.7")
    with pytest.raises(InputError, match=r"'blocks\.0\.conv', a Conv2d: it must be a linear layer with a bias"):
        CAVIA(Conv4(norm="none"), 3, layer="blocks.0.conv", context_as="inputs")
    with pytest.raises(InputError, match=r"finds no layer in Sequential that could take a context as more inputs"):
        CAVIA(nn.Sequential(nn.Conv1d(4, 5, 1)), 3, context_as="inputs", out_features=5)
    with pytest.raises(InputError, match=r"finds no layer in Sequential that could take a context as a scale and"):
        CAVIA(nn.Sequential(nn.PReLU()), 3, out_features=4)
    with pytest.raises(InputError, match=r"needs a context of at least one number, received 0"):
        CAVIA(MLP(4), 3, context_size=0)


# --- iMAML -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["gd", "newton"])
@pytest.mark.parametrize("steps", [1, 3, 200])
def test_imaml_on_a_quadratic(solver: Any, steps: int) -> None:
    """φ* = (a s + λ w)/(a + λ), approached as (1 - lr (a + λ))^k or at once; the gradient is b (φ - q) λ/(a + λ)."""
    strength, lr = 1.3, 0.2
    learner = IMAML(
        Slope(W),
        1,
        "real",
        strength=strength,
        solver=solver,
        inner_steps=steps,
        inner_lr=lr,
        head="none",
    )
    found = grads_of(learner, quadratic(A, S, B, Q))
    best = (A * S + strength * W) / (A + strength)
    left = (1 - lr * (A + strength)) ** steps if solver == "gd" else 0.0
    phi = best + left * (W - best)
    assert float(found["loss"]) == pytest.approx(B / 2 * (phi - Q) ** 2)
    assert float(found["model.net.w"]) == pytest.approx(B * (phi - Q) * strength / (A + strength))


class LinearNet(nn.Module):
    """A linear model, with inputs scaled by numbers that every task shares (and that are frozen for part="head")."""

    out_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.gains = nn.Parameter(1 + 0.3 * numbers("gains", 4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gains


@pytest.mark.parametrize("solver", ["gd", "newton"])
def test_imaml_is_ridge_towards_theta(solver: Any) -> None:
    """The head solves a ridge problem towards θ; its meta-gradient, also in the shared body, is the closed form's."""
    episode, strength = tasks("real"), 0.7
    learner = made(
        lambda: IMAML(
            LinearNet(),
            2,
            "real",
            strength=strength,
            solver=solver,
            part="head",
            inner_steps=3000 if solver == "gd" else 3,
            inner_lr=0.2,
            cg_steps=40,
        )
    )
    gains, weight, bias = learner.model.net.gains, learner.model.head.weight, learner.model.head.bias
    theta = torch.cat([weight.T, bias[None]])  # [5, 2]

    def features(part: Examples) -> Tensor:
        assert isinstance(part.x, Tensor)
        x = part.x * gains
        return torch.cat([x, torch.ones_like(x[..., :1])], 2)

    f, y = features(episode.support), episode.support.y
    assert y is not None and episode.query.y is not None
    n = y[0].numel()  # the loss is a mean over rows and values: its Hessian 2/n F'F
    gram = 2 / n * f.transpose(1, 2) @ f + strength * torch.eye(5, dtype=torch.float64)
    phi = torch.linalg.solve(gram, 2 / n * f.transpose(1, 2) @ y + strength * theta)
    loss = (features(episode.query) @ phi - episode.query.y).square().mean((1, 2)).sum()
    expected = torch.autograd.grad(loss, [gains, weight, bias])
    found = grads_of(learner, episode)
    assert_close(found["loss"], loss.detach(), 1e-10)
    for name, grad in zip(["model.net.gains", "model.head.weight", "model.head.bias"], expected, strict=True):
        assert_close(found[name], grad, 1e-10)


def test_imaml_at_the_minimum_is_exact() -> None:
    """Finite differences of the query loss at the (re-solved) minimum, on a network that is not linear."""
    learner = made(lambda: IMAML(mlp("layer"), WAY, strength=3.0, solver="newton", inner_steps=25, cg_steps=80))
    episode, h = tasks(n_task=1), 1e-5
    found = grads_of(learner, episode)
    along = {
        n: torch.sin(torch.arange(p.numel()) + 1.0).double().reshape(p.shape) for n, p in learner.named_parameters()
    }

    def loss_at(step: float) -> float:
        with torch.no_grad():
            for name, p in learner.named_parameters():
                p.add_(along[name], alpha=step)
        value = float(learner.meta_loss(episode).loss.sum().detach())
        with torch.no_grad():
            for name, p in learner.named_parameters():
                p.sub_(along[name], alpha=step)
        return value

    measured = (8 * (loss_at(h) - loss_at(-h)) - (loss_at(2 * h) - loss_at(-2 * h))) / (12 * h)
    claimed = float(sum((found[name] * along[name]).sum() for name in along))
    assert claimed == pytest.approx(measured, rel=1e-7)


def test_imaml_held_tight_does_not_adapt() -> None:
    """λ to infinity: the loss and the gradient of the plain network, in training and in testing."""
    learner = made(lambda: IMAML(mlp(), WAY, strength=1e9, test_strength=1e9, solver="newton", inner_steps=2))
    plain = made(lambda: MAML(mlp(), WAY, inner_steps=0))
    same(grads_of(learner, tasks()), grads_of(plain, tasks()), 1e-7)
    assert_close(outputs(learner, tasks()), outputs(plain, tasks()), 1e-7)


def test_imaml_is_tested_as_maml_is() -> None:
    """λ = 0 at test, the authors' protocol: plain gradient descent from θ."""
    learner = made(lambda: IMAML(mlp("task"), WAY, inner_steps=16, test_inner_steps=4))
    plain = made(lambda: MAML(mlp("task"), WAY, inner_steps=4, inner_lr=0.1))
    assert_close(outputs(learner, tasks()), outputs(plain, tasks()))
    state = learner.adapt(tasks().support, state=learner.adapt(tasks().support))
    learner.test_inner_steps = 8
    assert_close(state.params["head.bias"], learner.adapt(tasks().support).params["head.bias"])


@pytest.mark.parametrize("solver", ["gd", "newton"])
def test_imaml_goes_on_near_theta_and_not_near_where_it_was(solver: Any) -> None:
    """However often it is adapted, φ* = (a s + λ θ)/(a + λ)."""
    learner = IMAML(
        Slope(W), 1, "real", test_strength=1.3, solver=solver, inner_steps=200, inner_lr=0.2, head="none"
    )  # fmt: skip
    support, state = quadratic(A, S, B, Q).support, None
    for _ in range(3):
        state = learner.adapt(support, state=state)
        assert float(state.params["net.w"]) == pytest.approx((A * S + 1.3 * W) / (A + 1.3))


def test_imaml_damping_shrinks_a_quadratic_gradient() -> None:
    """With I(1 + d) + H/λ in place of I + H/λ."""
    learner = IMAML(Slope(W), 1, "real", strength=1.3, solver="newton", cg_damping=1.0, head="none")
    phi = (A * S + 1.3 * W) / (A + 1.3)
    found = grads_of(learner, quadratic(A, S, B, Q))["model.net.w"]
    assert float(found) == pytest.approx(B * (phi - Q) / (2 + A / 1.3))


def test_imaml_where_the_loss_bends_down_is_first_order() -> None:
    """H/λ below -1: no minimum there, and the query's gradient is passed on as it is."""

    class Bump(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([0.1], dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return x * torch.cos(self.w)

    learner = IMAML(Bump(), 1, "real", strength=0.1, inner_steps=0, head="none")
    found = grads_of(learner, quadratic(A, 0.0, B, Q))
    plain = grads_of(MAML(Bump(), 1, "real", inner_steps=0, head="none"), quadratic(A, 0.0, B, Q))
    same(found, plain)


def test_imaml_refuses_what_does_not_fit() -> None:
    with pytest.raises(InputError, match=r"needs a strength above 0 in training .* received 0\.0 and 0\.0"):
        IMAML(MLP(4), 3, strength=0.0)
    with pytest.raises(InputError, match=r"cg_steps of at least 1, received inner_steps=16, .*cg_steps=0"):
        IMAML(MLP(4), 3, cg_steps=0)
    with pytest.raises(InputError, match=r"inner_lr \* strength = 2\.5 diverges from 2 on"):
        IMAML(MLP(4), 3, strength=25.0)
    IMAML(MLP(4), 3, strength=25.0, solver="newton")
