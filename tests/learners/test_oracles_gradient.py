"""Answers known from elsewhere for the kin of MAML: closed forms, identities, NumPy, torch.optim on plain modules."""

from __future__ import annotations

import copy
import gc
import weakref
from dataclasses import replace
from typing import Any, cast, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.episode import Episode, Examples, MultiLabel, Real
from quickstudy.errors import InputError
from quickstudy.learners.anil import ANIL
from quickstudy.learners.boil import BOIL
from quickstudy.learners.cavia import CAVIA
from quickstudy.learners.fomaml import FOMAML
from quickstudy.learners.imaml import IMAML
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.maml import MAML
from quickstudy.learners.mamlpp import MAMLPlusPlus
from quickstudy.learners.metacurvature import MetaCurvature, ModeMatrices
from quickstudy.learners.metasgd import MetaSGD
from quickstudy.learners.parts.headed import Part, TargetKind
from quickstudy.learners.parts.innerloop import FastWeights, Memory
from quickstudy.learners.protomaml import FOProtoMAML, ProtoMAML
from quickstudy.learners.protonet import ProtoNet
from quickstudy.learners.reptile import Reptile
from quickstudy.learners.unicornmaml import UnicornMAML
from quickstudy.nets import MLP, Conv4
from tests.rows.gradient import ROWS
from tests.smalltasks import Picture, Slope, assert_close, make, mlp, numbers, outputs, quadratic, tasks

ROW = {row.name: row for row in ROWS}


def seeded(build, seed: int = 0):  # type: ignore[no-untyped-def]
    """A float64 learner in eval mode with weights of its own seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().double().eval()


def gradient(learner: AbstractLearner, episode: Episode) -> dict[str, Tensor]:
    """Name -> gradient of the summed meta-loss; 0 where there is none."""
    learner.zero_grad()
    learner.meta_loss(episode).loss.sum().backward()  # type: ignore[no-untyped-call]
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in learner.named_parameters()}


def same_learner(a: AbstractLearner, b: AbstractLearner, episode: Episode) -> None:
    """Equal predictions, equal losses, equal gradients in the parameters that both have."""
    assert_close(outputs(a, episode), outputs(b, episode))
    assert_close(a.meta_loss(episode).loss.detach(), b.meta_loss(episode).loss.detach())
    ga, gb = gradient(a, episode), gradient(b, episode)
    common = ga.keys() & gb.keys()
    assert len(common) >= min(len(ga), len(gb)) and max(float(ga[n].abs().max()) for n in common) > 1e-3
    for name in common:
        assert_close(ga[name], gb[name])


# --- FOMAML ------------------------------------------------------------------------------------------


def test_fomaml_takes_the_query_gradient_where_it_ended() -> None:
    """Its outer gradient is that of a plain network which has the weights φ; MAML's is that times (I - lr H) a step."""
    episode, lr, steps = tasks(n_task=1), 0.3, 2
    fomaml = seeded(lambda: FOMAML(mlp(), 3, inner_steps=steps, inner_lr=lr))
    maml = seeded(lambda: MAML(mlp(), 3, inner_steps=steps, inner_lr=lr))
    assert_close(outputs(fomaml, episode), outputs(maml, episode))
    names = [n for n, _ in fomaml.model.named_parameters()]
    shapes = [p.shape for p in fomaml.model.parameters()]

    def loss_of(flat: Tensor, part: Examples) -> Tensor:
        cuts = torch.split(flat, [s.numel() for s in shapes])
        w = {n: c.reshape(s) for n, c, s in zip(names, cuts, shapes, strict=True)}
        h = part.x[0]  # type: ignore[index]
        for layer in (0, 1):
            h = torch.tanh(h @ w[f"net.linears.{layer}.weight"].T + w[f"net.linears.{layer}.bias"])
        return F.cross_entropy(h @ w["head.weight"].T + w["head.bias"], part.y[0])  # type: ignore[index]

    flat = torch.cat([p.detach().flatten() for p in fomaml.model.parameters()])
    hessians = []
    for _ in range(steps):
        flat = flat.requires_grad_()
        hessians.append(torch.autograd.functional.hessian(lambda w: loss_of(w, episode.support), flat))  # type: ignore[no-untyped-call]
        (g,) = torch.autograd.grad(loss_of(flat, episode.support), flat)
        flat = (flat - lr * g).detach()
    (at_end,) = torch.autograd.grad(loss_of(flat.requires_grad_(), episode.query), flat)
    assert_close(torch.cat([g.flatten() for g in gradient(fomaml, episode).values()]), at_end)
    for hessian in reversed(hessians):
        at_end = at_end - lr * hessian @ at_end
    assert_close(torch.cat([g.flatten() for g in gradient(maml, episode).values()]), at_end)


def test_the_rate_of_the_authors_code_is_ways_times_smaller() -> None:
    """It sums the support's cross-entropy over the classes; ours is the mean. In plain modules, step by step."""
    episode, lr, way, shot = tasks(n_task=1), 0.1, 3, 3
    learner = seeded(lambda: MAML(mlp(), way, inner_steps=2, inner_lr=way * lr))
    module = plain_module(learner)
    for _ in range(2):
        module.zero_grad()
        (F.cross_entropy(module(episode.support.x[0]), episode.support.y[0], reduction="sum") / shot).backward()  # type: ignore[index,no-untyped-call]
        with torch.no_grad():
            for p in module.parameters():
                assert p.grad is not None
                p.sub_(lr * p.grad)
    assert_close(outputs(learner, episode)[0], module(episode.query.x[0]).detach())  # type: ignore[index]


@pytest.mark.parametrize("memory", get_args(Memory))
def test_adapting_without_a_graph_keeps_one_set_of_weights(memory: Any) -> None:
    """However many steps: the weights that a step began with, and those that it made."""
    learner = seeded(lambda: MAML(mlp(), 3, memory=memory))
    alive: list[int] = []
    made: list[weakref.ref[Tensor]] = []

    def update(step: int, params: dict[str, Tensor], grads: dict[str, Tensor]) -> dict[str, Tensor]:
        after = {name: p - 0.1 * grads[name] for name, p in params.items()}
        made.append(weakref.ref(after["head.bias"]))
        gc.collect()
        alive.append(sum(tensor() is not None for tensor in made))
        return after

    with torch.no_grad():
        support = tasks().support
        learner.loop.run(learner.model, support, learner.model.start(support), learner.loss, 12, update)
    assert len(alive) == 12 and max(alive) <= 3


# --- Meta-SGD ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fixed", "shared", "proto", "film"])
def test_meta_sgd_with_equal_rates_is_maml(name: str) -> None:
    options: dict[str, Any] = {"inner_steps": 3, "inner_lr": 0.2}
    options |= {"part": "film", "head": "proto"} if name == "film" else {"head": name}
    a = seeded(lambda: MetaSGD(mlp(), 3, **options))
    b = seeded(lambda: MAML(mlp(), 3, **options))
    with torch.no_grad():
        for rate in a.rates.values():  # were built in float32
            rate.fill_(0.2)
    same_learner(a, b, tasks())


def test_first_rates_of_either_sign() -> None:
    rates = MetaSGD(mlp(), 3, inner_lr=-0.25).rates
    assert all(bool((rate == -0.25).all()) for rate in rates.values())


@pytest.mark.parametrize("rate", [0.3, 0.0, -0.4])
def test_gradient_in_the_rates_on_a_quadratic(rate: float) -> None:
    """One step: w' = w - α g_s, and dL_q/dα = -g_s g_q(w'), dL_q/dw = g_q(w') (1 - α a); α may be negative."""
    a, b, s, q, w = 2.0, 3.0, 1.5, -0.7, 0.4
    learner = MetaSGD(Slope(w), 1, "real", head="none").double()
    (alpha,) = learner.rates.values()
    with torch.no_grad():
        alpha.fill_(rate)
    out = learner.meta_loss(quadratic(a, s, b, q))
    out.loss.sum().backward()  # type: ignore[no-untyped-call]
    g_s = a * (w - s)
    w1 = w - rate * g_s
    g_q = b * (w1 - q)
    assert float(out.loss.detach()) == pytest.approx(b / 2 * (w1 - q) ** 2)
    assert alpha.grad is not None and float(alpha.grad) == pytest.approx(-g_s * g_q)
    grad = learner.model.net.w.grad
    assert isinstance(grad, Tensor) and float(grad) == pytest.approx(g_q * (1 - rate * a))


def test_gradient_in_every_rate() -> None:
    """-∇L_support(θ) ∘ ∇L_query(φ), the two gradients taken by hand."""
    episode = tasks(n_task=1)
    learner = seeded(lambda: MetaSGD(mlp(), 3, random_rates=True))
    weights = {n: p.detach()[None].requires_grad_() for n, p in learner.model.named_parameters()}
    loss = learner.loss(learner.model.run(weights, episode.support)[0], episode.support).sum()
    g_s = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    after = {n: (p - learner.rates[n.replace(".", "/")] * g_s[n]).detach().requires_grad_() for n, p in weights.items()}
    loss = learner.loss(learner.model.run(after, episode.query)[0], episode.query).sum()
    g_q = dict(zip(after, torch.autograd.grad(loss, list(after.values())), strict=True))
    found = gradient(learner, episode)
    for name in weights:
        assert_close(found["rates." + name.replace(".", "/")], -(g_s[name] * g_q[name])[0])


def test_first_rates() -> None:
    assert {float(r.detach().min()) for r in MetaSGD(mlp(), 3, inner_lr=0.25).rates.values()} == {0.25}
    drawn = torch.cat([r.detach().flatten() for r in MetaSGD(mlp(), 3, random_rates=True).rates.values()])
    assert 0.005 <= drawn.min() < 0.02 and 0.085 < drawn.max() <= 0.1
    shared = MetaSGD(mlp(), head="shared", inner_steps=2).rates["head/weight"]
    assert shared.shape == (1, 5)  # one row of rates for however many classes


# --- ANIL and BOIL -----------------------------------------------------------------------------------


class Fixed(nn.Module):
    """A body that has nothing to adapt."""

    out_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.tensor(2.0), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.frequency * x)


def test_anil_on_a_frozen_body_is_maml() -> None:
    """There the head is all there is to adapt."""
    anil = seeded(lambda: ANIL(Fixed(), 3, inner_steps=3, inner_lr=0.2))
    maml = seeded(lambda: MAML(Fixed(), 3, inner_steps=3, inner_lr=0.2))
    same_learner(anil, maml, tasks())


@pytest.mark.parametrize("cls", [ANIL, BOIL])
def test_the_meta_gradient_by_hand(cls: type[ANIL] | type[BOIL]) -> None:
    """The network as matrices; a step moves the head's two tensors, or the body's four, and keeps its graph."""
    episode, lr, steps = tasks(), 0.2, 2
    learner = seeded(lambda: cls(mlp(), 3, inner_steps=steps, inner_lr=lr))
    theta = [p.detach().clone().requires_grad_() for p in learner.model.parameters()]
    moving = range(4, 6) if cls is ANIL else range(4)

    def loss_of(p: list[Tensor], part: Examples, t: int) -> Tensor:
        h = torch.tanh(part.x[t] @ p[0].T + p[1])  # type: ignore[index]
        h = torch.tanh(h @ p[2].T + p[3])
        return F.cross_entropy(h @ p[4].T + p[5], part.y[t])  # type: ignore[index]

    total = torch.zeros((), dtype=torch.float64)
    for t in range(3):
        phi = list(theta)
        for _ in range(steps):
            grads = torch.autograd.grad(loss_of(phi, episode.support, t), [phi[i] for i in moving], create_graph=True)
            for i, g in zip(moving, grads, strict=True):
                phi[i] = phi[i] - lr * g
        total = total + loss_of(phi, episode.query, t)
    assert [n.split(".")[1] for n, _ in learner.named_parameters()] == ["net"] * 4 + ["head"] * 2
    for found, expected in zip(gradient(learner, episode).values(), torch.autograd.grad(total, theta), strict=True):
        assert_close(found, expected)
    assert_close(learner.meta_loss(episode).loss.sum().detach(), total.detach())


def test_anil_is_softmax_regression_on_fixed_features() -> None:
    """The head's gradient descent, in NumPy."""
    episode, lr, steps = tasks(), 0.4, 6
    learner = seeded(lambda: ANIL(mlp(), 3, inner_steps=steps, inner_lr=lr))
    with torch.no_grad():
        support, query = (learner.model.features(part).numpy() for part in (episode.support, episode.query))
    said = outputs(learner, episode)
    assert episode.support.y is not None
    for t in range(3):
        w, b = learner.model.head.weight.detach().numpy().copy(), learner.model.head.bias.detach().numpy().copy()
        truth = np.eye(3)[episode.support.y[t].numpy()]
        for _ in range(steps):
            logits = support[t] @ w.T + b
            p = np.exp(logits - logits.max(1, keepdims=True))
            error = (p / p.sum(1, keepdims=True) - truth) / len(truth)
            w, b = w - lr * error.T @ support[t], b - lr * error.sum(0)
        assert_close(said[t], torch.from_numpy(query[t] @ w.T + b))


def test_anil_computes_features_once() -> None:
    calls = []

    class Counting(nn.Module):
        out_features = 4

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            calls.append(len(x))
            return torch.tanh(self.scale * x)

    episode = tasks()
    learners: list[ANIL | MAML] = [ANIL(Counting(), 3, inner_steps=7)]
    learners += [MAML(Counting(), 3, part="head", memory=m, inner_steps=7) for m in get_args(Memory)]
    for learner in learners:
        calls.clear()
        learner.double().meta_loss(episode).loss.sum().backward()  # type: ignore[no-untyped-call]
        assert calls == [27, 36]  # the support once, the query once


def plain_module(learner: MAML | BOIL) -> nn.Sequential:
    """The learner's network and head as ordinary modules with copies of its weights."""
    return nn.Sequential(copy.deepcopy(learner.model.net), copy.deepcopy(learner.model.head))


def trained(module: nn.Module, moving: list[nn.Parameter], support: Examples, lr: float, steps: int) -> None:
    """torch.optim's SGD on one task's support, in place."""
    optimizer = torch.optim.SGD(moving, lr)
    assert isinstance(support.x, Tensor) and support.y is not None
    for _ in range(steps):
        optimizer.zero_grad()
        said = module(support.x[0])
        if isinstance(support.target, MultiLabel):
            loss = F.binary_cross_entropy_with_logits(said, support.y[0].double())
        else:
            loss = F.cross_entropy(said, support.y[0])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def by_torch_optim(learner: MAML | BOIL, episode: Episode, moves, lr: float, steps: int) -> Tensor:  # type: ignore[no-untyped-def]
    """Predictions ``[T, Nq, W]`` of plain modules of which the parameters named by ``moves`` are trained."""
    found = []
    for t in range(episode.n_task):
        module = plain_module(learner)
        trained(module, [p for n, p in module.named_parameters() if moves(n)], episode.support.task(t), lr, steps)
        found.append(module(episode.query.x[t]).detach())  # type: ignore[index]
    return torch.stack(found)


def test_boil_moves_the_body_alone() -> None:
    episode = tasks()
    learner = seeded(lambda: BOIL(mlp("layer"), 3, inner_steps=4, inner_lr=0.3))
    assert_close(outputs(learner, episode), by_torch_optim(learner, episode, lambda n: n.startswith("0."), 0.3, 4))
    state = learner.adapt(episode.support)
    assert {n.split(".")[0] for n in state.params} == {"net"}
    assert learner.model.adapted and gradient(learner, episode)["model.head.weight"].abs().max() > 1e-3


# --- UNICORN-MAML ------------------------------------------------------------------------------------


def test_unicorn_after_one_step_has_class_means_in_its_head() -> None:
    """From equal logits: w_k = w + α/W (c_k - c), and no feature has learned; with no step all classes are alike."""
    episode, lr = tasks(), 0.3
    learner = seeded(lambda: UnicornMAML(mlp(), inner_lr=lr))
    learner.loop.test_steps = 0
    assert_close(outputs(learner, episode).softmax(2), torch.full((3, 12, 3), 1 / 3, dtype=torch.float64))
    learner.loop.test_steps = 1
    state = learner.adapt(episode.support)
    with torch.no_grad():
        features = learner.model.features(episode.support)
    assert episode.support.y is not None
    for t in range(3):
        centre = features[t].mean(0)
        for k in range(3):
            mean = features[t][episode.support.y[t] == k].mean(0)
            assert_close(
                state.params["head.weight"][t, k].detach(),
                (learner.model.head.weight[0] + lr / 3 * (mean - centre)).detach(),
            )
    for name, p in learner.model.net.named_parameters():
        assert_close(state.params[f"net.{name}"].detach(), p.detach().expand(3, *p.shape))
    learner.loop.test_steps = 2  # the next step does
    moved = learner.adapt(episode.support).params["net.linears.0.weight"] - learner.model.net.linears[0].weight
    assert moved.abs().max() > 1e-4


@pytest.mark.parametrize("first_order", [False, True])
def test_unicorn_is_maml_from_equal_rows_whose_gradients_are_added(first_order: bool) -> None:
    episode = tasks()
    unicorn = seeded(lambda: UnicornMAML(mlp(), inner_steps=4, inner_lr=0.2, first_order=first_order))
    maml = MAML(copy.deepcopy(unicorn.model.net), 3, inner_steps=4, inner_lr=0.2, first_order=first_order).double()
    with torch.no_grad():
        maml.model.head.weight.copy_(unicorn.model.head.weight.expand(3, -1))
        maml.model.head.bias.copy_(unicorn.model.head.bias.expand(3))
    assert_close(outputs(unicorn, episode), outputs(maml, episode))
    one, each = gradient(unicorn, episode), gradient(maml, episode)
    assert_close(one.pop("model.head.weight"), each.pop("model.head.weight").sum(0, keepdim=True))
    assert_close(one.pop("model.head.bias"), each.pop("model.head.bias").sum(0, keepdim=True))
    for name in one:
        assert_close(one[name], each[name])


def test_what_the_rows_share_has_no_effect() -> None:
    """Softmax does not see it: another w, the same predictions and the same gradients; its own gradient is 0."""
    episode = tasks()
    learner = seeded(lambda: UnicornMAML(mlp("task"), inner_steps=4, inner_lr=0.2, first_order=False))
    before, grads = outputs(learner, episode).softmax(2), gradient(learner, episode)
    with torch.no_grad():
        learner.model.head.weight.zero_()
        learner.model.head.bias.add_(3)
    assert_close(outputs(learner, episode).softmax(2), before)
    for name, g in gradient(learner, episode).items():
        assert_close(g, torch.zeros_like(g) if ".head." in name else grads[name])


def test_unicorn_is_first_order_unless_asked_otherwise() -> None:
    episode = tasks()
    found = [
        gradient(seeded(lambda o=options: UnicornMAML(mlp(), inner_steps=4, **o)), episode)
        for options in ({}, {"first_order": True}, {"first_order": False})
    ]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert max(float((found[0][name] - found[2][name]).abs().max()) for name in found[0]) > 1e-4
    assert not UnicornMAML(mlp()).traits.exact_meta_gradient


def test_a_shared_head_alone_needs_no_second_step() -> None:
    """Its features are the same all along, and learn from the query loss after one step."""
    learner = seeded(lambda: MAML(mlp(), head="shared", part="head", inner_steps=1, inner_lr=0.3))
    assert gradient(learner, tasks())["model.net.linears.0.weight"].abs().max() > 1e-4
    same_learner(learner, seeded(lambda: ANIL(mlp(), head="shared", inner_steps=1, inner_lr=0.3)), tasks())


def test_unicorn_needs_two_steps() -> None:
    with pytest.raises(InputError, match=r"head='shared' needs at least 2 inner steps, received 1"):
        UnicornMAML(mlp(), inner_steps=1)


# --- ProtoMAML ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [ProtoMAML, FOProtoMAML])
def test_protomaml_without_a_step_is_a_prototypical_network(cls: type[ProtoMAML] | type[FOProtoMAML]) -> None:
    """Logits up to |f|^2, which is the same for all classes: equal losses, equal gradients through the means."""
    episode = tasks()
    learner = seeded(lambda: cls(mlp("task"), inner_steps=0))
    protonet = seeded(lambda: ProtoNet(mlp("task")))
    difference = outputs(learner, episode) - outputs(protonet, episode)
    assert_close(difference, difference[..., :1].expand(-1, -1, 3))
    assert difference.min() > 0.1
    assert_close(learner.meta_loss(episode).loss.detach(), protonet.meta_loss(episode).loss.detach())
    ours, theirs = gradient(learner, episode), gradient(protonet, episode)
    for name, g in ours.items():
        assert_close(g, theirs[name.replace("model.", "embed.")])
    assert max(float(g.abs().max()) for g in ours.values()) > 1e-2


def test_first_order_protomaml_keeps_the_gradient_through_the_means() -> None:
    """d/dθ of L_query(start(θ) - lr g) with g a constant, where start(θ) holds 2c and -|c|^2; c in NumPy's order."""
    episode, lr = tasks(n_task=1), 0.1
    learner = seeded(lambda: FOProtoMAML(mlp(), inner_steps=1, inner_lr=lr))
    net = learner.model.net

    def start() -> dict[str, Tensor]:
        f = net(episode.support.x[0])  # type: ignore[index]
        c = torch.stack([f[episode.support.y[0] == k].mean(0) for k in range(3)])  # type: ignore[index]
        body = {f"net.{n}": p[None] for n, p in net.named_parameters()}
        return body | {"head.weight": 2 * c[None], "head.bias": -c.square().sum(1)[None]}

    first = start()
    # `first` depends on θ twice over; what the inner step differentiates is `first` itself.
    leaves = {n: p.detach().requires_grad_() for n, p in first.items()}
    loss = learner.loss(learner.model.run(leaves, episode.support)[0], episode.support).sum()
    g = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    after = {n: p - lr * g[n] for n, p in first.items()}
    loss = learner.loss(learner.model.run(after, episode.query)[0], episode.query).sum()
    expected = torch.autograd.grad(loss, list(net.parameters()))
    for a, b in zip(gradient(learner, episode).values(), expected, strict=True):
        assert_close(a, b)
    exact = seeded(lambda: ProtoMAML(mlp(), inner_steps=1, inner_lr=lr))
    assert (gradient(exact, episode)["model.net.linears.0.weight"] - expected[0]).abs().max() > 1e-3


@pytest.mark.parametrize("cls", [ProtoMAML, FOProtoMAML])
def test_protomaml_is_torch_optim_from_prototypes(cls: type[ProtoMAML] | type[FOProtoMAML]) -> None:
    """Plain modules whose last layer is set to 2c and -|c|^2, the means in NumPy; then SGD on all of it."""
    episode, lr, steps = tasks(), 0.1, 3
    learner = seeded(lambda: cls(mlp("layer"), inner_steps=steps, inner_lr=lr))
    assert isinstance(learner.model.net, nn.Module) and episode.support.y is not None
    for t, said in enumerate(outputs(learner, episode)):
        body = copy.deepcopy(learner.model.net)
        features = body(episode.support.x[t]).detach().numpy()  # type: ignore[index]
        means = np.stack([features[episode.support.y[t].numpy() == k].mean(0) for k in range(3)])
        head = nn.Linear(5, 3).double()
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(2 * means))
            head.bias.copy_(torch.from_numpy(-np.square(means).sum(1)))
        module = nn.Sequential(body, head)
        trained(module, list(module.parameters()), episode.support.task(t), lr, steps)
        assert_close(said, module(episode.query.x[t]).detach())  # type: ignore[index]


# --- Meta-Curvature ----------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["fixed", "shared", "proto"])
def test_meta_curvature_at_the_identity_is_maml(head: str) -> None:
    options: dict[str, Any] = {
        "inner_steps": 2,
        "inner_lr": 0.2,
        "test_inner_steps": 3,
        "test_inner_lr": 0.1,
        "head": head,
    }
    a = seeded(lambda: MetaCurvature(mlp("task"), 3, **options))
    b = seeded(lambda: MAML(mlp("task"), 3, **options))
    same_learner(a, b, tasks())


def test_the_step_of_meta_curvature_in_numpy() -> None:
    """θ - α G ×_1 M_o ×_2 M_i ×_3 M_f, each product a loop-free NumPy tensordot over one axis."""
    episode, lr = tasks(), 0.2
    learner = seeded(
        lambda: MetaCurvature(
            nn.Sequential(Picture(), Conv4(1, 16, filters=4, norm="none")), 3, inner_lr=lr, out_features=4
        )
    )
    with torch.no_grad():
        for name, p in learner.curvature.named_parameters():
            p.add_(0.3 * numbers(name, *p.shape))
    weights = {n: p.detach().expand(3, *p.shape).clone().requires_grad_() for n, p in learner.model.named_parameters()}
    loss = learner.loss(learner.model.run(weights, episode.support)[0], episode.support).sum()
    grads = torch.autograd.grad(loss, list(weights.values()))
    state = learner.adapt(episode.support)

    def along(tensor: np.ndarray, matrix: np.ndarray, axis: int) -> np.ndarray:
        return np.moveaxis(np.tensordot(matrix, tensor, axes=(1, axis)), 0, axis)

    ranks = set()
    for (name, p), g in zip(weights.items(), grads, strict=True):
        matrices = learner.curvature[name.replace(".", "/")]
        own = {n: m.detach().numpy() for n, m in matrices.named_parameters()}
        for t in range(3):
            moved = g[t].numpy()
            ranks.add(moved.ndim)
            if moved.ndim == 1:
                moved = moved * own["vector"]
            else:
                moved = along(along(moved, own["out"], 0), own["into"], 1)
            if moved.ndim == 4:
                flat = moved.reshape(*moved.shape[:2], -1)
                moved = along(flat, own["filter"], 2).reshape(moved.shape)
            assert_close(state.params[name][t].detach(), p[t].detach() - lr * torch.from_numpy(moved))
    assert ranks == {1, 2, 4}


def test_the_gradient_in_the_matrices() -> None:
    """After one step -α G_q (G_s M_i^T)^T for M_o and -α G_q^T M_o G_s for M_i: the paper's outer product."""
    episode, lr = tasks(n_task=1), 0.2
    learner = seeded(lambda: MetaCurvature(mlp(), 3, inner_lr=lr))
    with torch.no_grad():
        for name, p in learner.curvature.named_parameters():
            p.add_(0.3 * numbers(name, *p.shape))
    found, state = gradient(learner, episode), learner.adapt(episode.support)
    start = {n: p.detach()[None].requires_grad_() for n, p in learner.model.named_parameters()}
    after = {n: p.detach().requires_grad_() for n, p in state.params.items()}
    by_set = []
    for weights, part in ((start, episode.support), (after, episode.query)):
        loss = learner.loss(learner.model.run(weights, part)[0], part).sum()
        by_set.append(dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True)))
    for name, g_s in by_set[0].items():
        g_q, key = by_set[1][name][0].numpy(), "curvature." + name.replace(".", "/")
        own = {n: m.detach().numpy() for n, m in learner.curvature[name.replace(".", "/")].named_parameters()}
        g_s = g_s[0].numpy()
        if "vector" in own:
            expected = {"vector": -lr * g_q * g_s}
        else:
            expected = {"out": -lr * g_q @ (g_s @ own["into"].T).T, "into": -lr * g_q.T @ own["out"] @ g_s}
        for matrix, value in expected.items():
            assert_close(found[f"{key}.{matrix}"], torch.from_numpy(value))


def test_a_head_for_any_way_has_no_matrix_over_classes() -> None:
    assert set(dict(ModeMatrices(torch.Size([1, 5]), any_way=True).named_parameters())) == {"into"}
    learner = seeded(lambda: MetaCurvature(mlp(), head="shared", inner_steps=2))
    assert outputs(learner, tasks(way=5)).shape[2] == 5


# --- Parts of a network ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "norm", "moves"),
    [
        ("all", "layer", lambda n: True),
        ("head", "layer", lambda n: n.startswith("1.")),
        ("body", "layer", lambda n: n.startswith("0.")),
        ("biases", "layer", lambda n: n.startswith("1.") or n.endswith("bias")),
        ("norms", "layer", lambda n: n.startswith("1.") or "norms" in n),
    ],
)
def test_a_part_is_torch_optim_on_those_parameters(part: Part, norm: str, moves) -> None:  # type: ignore[no-untyped-def]
    """The others stay; with biases and norms the head moves as well."""
    episode = tasks()
    learner = seeded(lambda: MAML(mlp(norm), 3, part=part, inner_steps=3, inner_lr=0.3))
    assert_close(outputs(learner, episode), by_torch_optim(learner, episode, moves, 0.3, 3))


class WithAdapter(nn.Module):
    """A network whose layers put out more: written with modules and parameters of its own, not with an adapter."""

    def __init__(self, net: MLP, head: nn.Linear, part: str, down: list[Tensor]) -> None:
        super().__init__()
        self.net, self.head, self.part = copy.deepcopy(net), copy.deepcopy(head), part
        widths = [len(linear.weight) for linear in net.linears]  # type: ignore[arg-type]
        self.scale = nn.ParameterList(nn.Parameter(torch.ones(w, dtype=torch.float64)) for w in widths)
        self.shift = nn.ParameterList(nn.Parameter(torch.zeros(w, dtype=torch.float64)) for w in widths)
        self.down = nn.ParameterList(nn.Parameter(a.clone()) for a in down)
        self.up = nn.ParameterList(
            nn.Parameter(torch.zeros(w, len(a), dtype=torch.float64)) for w, a in zip(widths, down, strict=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        for n, (linear, norm) in enumerate(zip(self.net.linears, self.net.norms, strict=True)):
            h = linear(x)
            if self.part == "lora":
                h = h + (x @ self.down[n].T) @ self.up[n].T
            h = norm(h)
            if self.part == "film":
                h = h * self.scale[n] + self.shift[n]
            x = torch.tanh(h)
        return self.head(x)  # type: ignore[no-any-return]

    def moving(self) -> list[nn.Parameter]:
        lists = (self.scale, self.shift) if self.part == "film" else (self.up, self.down)
        return [*self.head.parameters(), *(p for which in lists for p in which)]


@pytest.mark.parametrize(("part", "norm"), [("film", "none"), ("film", "layer"), ("lora", "none"), ("lora", "layer")])
def test_an_adapter_is_torch_optim_on_its_parameters(part: Part, norm: str) -> None:
    episode = tasks()
    learner = seeded(lambda: MAML(mlp(norm), 3, part=part, rank=2, inner_steps=3, inner_lr=0.3))
    named = dict(learner.model.named_parameters())
    down = [named[n].detach() for n in named if n.startswith("adapter.down")]
    found = []
    for t in range(3):
        module = WithAdapter(learner.model.net, learner.model.head, part, down)
        trained(module, module.moving(), episode.support.task(t), 0.3, 3)
        found.append(module(episode.query.x[t]).detach())  # type: ignore[index]
    assert_close(outputs(learner, episode), torch.stack(found))
    assert set(learner.adapt(episode.support).params) == {n for n in named if not n.startswith("net.")}


def test_low_rank_steps_with_orthogonal_rows_are_full_steps() -> None:
    """B' = -lr G A^T, so W' = W - lr G A^T A: on a linear network A^T A = I makes it gradient descent on W itself."""
    episode = tasks("real")
    build: dict[str, Any] = {"inner_steps": 1, "inner_lr": 0.2, "head": "none"}
    full = seeded(lambda: MAML(nn.Linear(4, 2, bias=False), 2, "real", **build))
    low = seeded(lambda: MAML(nn.Linear(4, 2, bias=False), 2, "real", part="lora", rank=2, **build))
    a = numbers("orthogonal", 2, 4)
    with torch.no_grad():
        low.model.adapter.down[0].copy_(a)
    state, start = full.adapt(episode.support), full.model.net.weight
    change = state.params["net.weight"] - start  # -lr G
    own = low.adapt(episode.support).params
    assert_close((own["adapter.up.0"] @ a).detach(), (change @ a.T @ a).detach())
    # of full rank, and orthogonal: nothing is lost
    square = seeded(lambda: MAML(nn.Linear(4, 4, bias=False), 4, "real", part="lora", rank=4, **build))
    whole = seeded(lambda: MAML(nn.Linear(4, 4, bias=False), 4, "real", **build))
    with torch.no_grad():
        square.model.adapter.down[0].copy_(torch.linalg.qr(numbers("square", 4, 4))[0])

    def widened(part: Examples) -> Examples:
        assert part.y is not None
        return Examples(part.x, torch.cat([part.y, part.y.square()], 2), Real(4))

    wide = Episode(widened(episode.support), widened(episode.query))
    assert_close(outputs(square, wide), outputs(whole, wide))


@pytest.mark.parametrize("part", ["film", "lora"])
def test_a_frozen_network_is_adapted_and_meta_trained_through_its_adapter(part: Part) -> None:
    """All meta-gradient is in the adapter and the head; φ holds nothing of the network's own size."""
    episode = tasks()
    learner = seeded(lambda: MAML(mlp().requires_grad_(False), 3, part=part, rank=1, inner_steps=2, inner_lr=0.3))
    found = gradient(learner, episode)
    assert all(float(g.abs().max()) == 0 for n, g in found.items() if ".net." in n)
    assert all(float(g.abs().max()) > 0 for n, g in found.items() if ".net." not in n)
    with torch.no_grad():
        state = learner.adapt(episode.support)
    assert not any(n.startswith("net.") for n in state.params)


def test_prototypes_are_of_the_adapted_network() -> None:
    """A meta-trained adapter is part of θ: the first head is made of features that it has changed."""
    episode = tasks()
    learner = seeded(lambda: ProtoMAML(mlp(), part="lora", rank=2, inner_steps=0))
    with torch.no_grad():
        for n, p in learner.model.adapter.named_parameters():
            p.add_(0.3 * numbers(n, *p.shape))
        net = copy.deepcopy(learner.model.net)
        named = dict(learner.model.adapter.named_parameters())
        for n, linear in enumerate(net.linears):
            linear.weight.add_(named[f"up.{n}"] @ named[f"down.{n}"])
    merged = seeded(lambda: ProtoMAML(net, inner_steps=0))
    assert_close(outputs(learner, episode), outputs(merged, episode))


def test_reptile_moves_half_way_in_the_adapter_alone() -> None:
    learner, episode = make(ROW["reptile-lora"]), tasks()
    assert isinstance(learner, Reptile)
    learner.test_inner_steps = learner.inner_steps
    end = learner.adapt(episode.support).params
    found = gradient(learner, episode)
    for name, p in learner.named_parameters():
        if ".net." in name:
            assert found[name].abs().max() == 0
        else:
            assert_close(found[name], (p - end[name.removeprefix("model.")]).sum(0).detach())


# --- Multi-label -------------------------------------------------------------------------------------


def test_multi_label_is_binary_cross_entropy_of_each_label() -> None:
    episode = tasks("multi-label")
    learner = seeded(lambda: MAML(mlp(), 3, "multi-label", inner_steps=3, inner_lr=0.5))
    assert_close(outputs(learner, episode), by_torch_optim(learner, episode, lambda n: True, 0.5, 3))
    assert learner.traits.targets == ("multi-label",)
    assert float(learner.meta_loss(episode).logs["accuracy"].mean()) > 0.5


def test_multi_label_tasks_of_fewer_classes_than_outputs() -> None:
    """They get as many outputs as they have classes, and the answer of the same task filled up with a third."""
    episode = tasks("multi-label", way=2, shot=4, query=6)
    learner = seeded(lambda: MAML(mlp(), 3, "multi-label", inner_steps=0))
    said = outputs(learner, episode)
    assert said.shape == (3, 12, 2)
    assert episode.query.y is not None
    three = replace(episode.query, y=F.pad(episode.query.y, (0, 1)), target=MultiLabel(torch.full((3,), 3)))
    with torch.no_grad():
        assert_close(learner.predict(FastWeights({}, None), three), outputs_of_three(learner, three))
    assert_close(said, outputs_of_three(learner, three)[..., :2])
    assert torch.isfinite(learner.meta_loss(episode).loss).all()


def outputs_of_three(learner: MAML, query: Examples) -> Tensor:
    assert isinstance(query.x, Tensor)
    head = learner.model.head
    assert isinstance(head, nn.Linear)
    return head(learner.model.net(query.x.flatten(0, 1))).unflatten(0, (3, 12)).detach()  # type: ignore[no-any-return]


# --- Bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (
            lambda: MAML(mlp(), 3, part="head", head="none"),
            r"part='head' asks for a network and a head, but head='none'",
        ),
        (lambda: MAML(mlp(), head="shared", part="body"), r"part='body' leaves the head as it was .* Use head='fixed'"),
        (lambda: MAML(mlp(), head="proto", part="body"), r"but head='proto' is made anew for each task"),
        (lambda: MAML(mlp(), 3, part=cast(Part, "neck")), r"There is no part called 'neck'\. Known: all, head, body"),
        (lambda: MAML(mlp(), 3, part="norms"), r"part='norms' has nothing to adapt: MLP has no norms"),
        (
            lambda: MAML(mlp(), 3, "multi-label", head="shared"),
            r"makes a row for each class, but the targets are multi-",
        ),
        (
            lambda: MAML(mlp(), 3, memory=cast(Any, "ajoint")),
            r"This learner has no memory 'ajoint'\. Use one of unrolled, checkpointed, adjoint",
        ),
        (
            lambda: MAML(mlp(), 3, head=cast(Any, "foo")),
            r"This learner has no head 'foo'\. Use one of fixed, shared, proto, none",
        ),
        (
            lambda: MAML(mlp(), 3, strategy=cast(Any, "lop")),
            r"This learner has no strategy 'lop'\. Use one of auto, packed, loop",
        ),
        (
            lambda: MAML(mlp(), 3, cast(Any, "clases")),
            r"This learner has no target 'clases'\. Use one of classes, multi-label, re",
        ),
        (
            lambda: MAML(mlp(), 3, inner_lr=float("nan")),
            r"Inner learning rates must be numbers of at least 0, received na",
        ),
        (lambda: MAML(mlp(), 3, test_inner_lr=float("inf")), r"must be numbers of at least 0, received 0\.1 and inf"),
        (lambda: MetaSGD(mlp(), 3, inner_lr=float("nan")), r"Inner learning rates must be numbers"),
        (
            lambda: Reptile(mlp(), 3, moments=cast(Any, "carry")),
            r"Reptile has no moments 'carry'\. Use one of reset, carried",
        ),
        (
            lambda: Reptile(mlp(), 3, optimizer=cast(Any, "rmsprop")),
            r"Reptile has no optimizer 'rmsprop'\. Use one of adam, sgd",
        ),
        (
            lambda: CAVIA(mlp(), 3, context_as=cast(Any, "filmm")),
            r"CAVIA has no context_as 'filmm'\. Use one of auto, inputs, film",
        ),
        (lambda: CAVIA(mlp(), 3, head=cast(Any, "shared")), r"CAVIA has no head 'shared'\. Use one of fixed, none"),
        (lambda: IMAML(mlp(), 3, solver=cast(Any, "nevton")), r"iMAML has no solver 'nevton'\. Use one of gd, newton"),
        (lambda: IMAML(mlp(), 3, inner_lr=float("nan")), r"iMAML needs steps, rate and damping of at least 0"),
        (lambda: IMAML(mlp(), 3, test_strength=float("nan")), r"iMAML needs a strength above 0 in training"),
        (lambda: MetaSGD(mlp(), 3, inner_steps=-1), r"Inner steps cannot be negative, received -1"),
        (lambda: ANIL(mlp("batch"), 3), r"Layer 'norms\.0' keeps running statistics"),
        (lambda: MetaSGD(mlp(), 3, inner_lr=-float("inf")), r"must be numbers, here of either sign, received -inf"),
        (lambda: MAML(mlp(), 0), r"A head has a whole number of outputs, at least 1, received outputs=0"),
        (lambda: BOIL(mlp(), -1), r"A head has a whole number of outputs, at least 1, received outputs=-1"),
        (lambda: ANIL(mlp(), cast(int, 2.0)), r"at least 1, received outputs=2\.0"),
    ],
)
def test_options_that_do_not_fit(build, sentence: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=sentence):
        build()


@pytest.mark.parametrize(
    ("build", "found"),
    [
        (lambda: MAML(mlp(), 3, out_features=7), r"Expected \[N, 7\] from MLP, .* found \[N, 5\]\. .* out_features="),
        (lambda: ANIL(nn.Unflatten(1, (2, 2)), 3, out_features=4), r"\[N, 4\] from Unflatten, .* found \[N, 2, 2\]"),
        (lambda: MAML(nn.Linear(4, 2), 3, head="none"), r"Expected \[N, 3\] from Linear, .* \[N, 2\]\. .* outputs="),
        (lambda: ProtoMAML(mlp(), out_features=7), r"Expected \[N, 7\] from MLP, .* found \[N, 5\]"),
        (lambda: MetaSGD(mlp(), 2, "real", head="none"), r"Expected \[N, 2\] from MLP, .* found \[N, 5\]"),
    ],
)
def test_a_network_of_another_size_is_refused(build, found: str) -> None:  # type: ignore[no-untyped-def]
    learner = build().double()
    with pytest.raises(InputError, match=found):
        learner.adapt(tasks(learner.traits.targets[0]).support)


@pytest.mark.parametrize("cls", [MetaSGD, MAMLPlusPlus])
def test_a_first_rate_may_be_a_whole_number(cls: type[MetaSGD] | type[MAMLPlusPlus]) -> None:
    """``inner-lr = 1`` in a recipe is an integer."""
    rates = cls(mlp(), 3, inner_lr=1).rates
    assert all(rate.is_floating_point() and bool((rate == 1).all()) for rate in rates.values())


@pytest.mark.parametrize(
    ("built", "given"),
    [("classes", "multi-label"), ("multi-label", "classes"), ("classes", "real"), ("real", "classes")],
)
def test_tasks_of_another_target_are_refused(built: TargetKind, given: str) -> None:
    with pytest.raises(InputError, match=rf"built for target='{built}', the tasks have '{given}'\. Build it with"):
        MAML(mlp(), 3, built).double().adapt(tasks(given).support)


def test_more_labels_than_outputs_are_refused() -> None:
    with pytest.raises(InputError, match=r"Cannot learn 4-way tasks: this learner's head has 3 outputs"):
        MAML(mlp(), 3, "multi-label").double().adapt(tasks("multi-label", way=4).support)


# --- What every one of them must not take ------------------------------------------------------------

KIN: dict[str, Any] = {
    "maml": MAML,
    "maml-adjoint": lambda *a, **o: MAML(*a, memory="adjoint", **o),
    "anil": ANIL,
    "maml++": MAMLPlusPlus,
    "cavia": CAVIA,
    "imaml": IMAML,
    "reptile": Reptile,
}


@pytest.mark.parametrize("name", KIN)
def test_meta_loss_looks_at_labels(name: str) -> None:
    """As ``adapt`` does; a class without an example, no label at all, and labels that no class has."""
    learner, episode = seeded(lambda: KIN[name](mlp(), 3)), tasks()
    assert episode.support.y is not None and episode.query.y is not None
    for wrong, sentence in (
        (episode.support.y.masked_fill(episode.support.y == 2, 0), r"Class 2 of task 0 has no labelled example"),
        (torch.full_like(episode.support.y, -1), r"Class 0 of task 0 has no labelled example"),
        (episode.support.y + 1, r"support\.y: expected class numbers 0 \.\. 2"),
    ):
        with pytest.raises(InputError, match=sentence):
            learner.meta_loss(Episode(replace(episode.support, y=wrong), episode.query))
    with pytest.raises(InputError, match=r"query\.y: expected class numbers 0 \.\. 2"):
        learner.meta_loss(Episode(episode.support, replace(episode.query, y=episode.query.y + 1)))
    with pytest.raises(InputError, match=r"Cannot train: the query carries no labels \(y is None\)"):
        learner.meta_loss(Episode(episode.support, episode.query.unlabelled()))


@pytest.mark.parametrize("name", KIN)
def test_going_on_with_other_tasks_is_refused(name: str) -> None:
    learner = seeded(lambda: KIN[name](mlp(), 3))
    state = learner.adapt(tasks().support)
    with pytest.raises(InputError, match=r"Cannot learn 4-way tasks: this learner's head has 3 outputs"):
        learner.adapt(tasks(way=4).support, state=state)
    with pytest.raises(InputError, match=r"built for target='classes', the tasks have 'real'"):
        learner.adapt(tasks("real").support, state=state)
    with pytest.raises(InputError, match=r"the state is of 3 tasks, the support of 2"):
        learner.adapt(tasks(n_task=2).support, state=state)


@pytest.mark.parametrize("name", ["maml", "maml++", "imaml", "reptile"])
def test_a_head_for_any_way_goes_on_with_the_classes_that_it_has(name: str) -> None:
    learner = seeded(lambda: KIN[name](mlp(), head="shared"))
    state = learner.adapt(tasks(way=3).support)
    if name == "imaml":
        with pytest.raises(InputError, match=r"iMAML goes on near θ, .* other classes than the state's"):
            learner.adapt(tasks(way=2).support, state=state)
    else:
        learner.adapt(tasks(way=2).support, state=state)
    with pytest.raises(InputError, match=r"Cannot go on with 4-way tasks: the state has 3 classes"):
        learner.adapt(tasks(way=4).support, state=state)


@pytest.mark.parametrize("solver", ["gd", "newton"])
@pytest.mark.parametrize("name", KIN)
def test_a_state_without_a_step_is_not_the_learner_itself(name: str, solver: str) -> None:
    """Training moves θ; what a task was taught before stays as it was."""
    options = {"solver": solver} if name == "imaml" else {}
    learner, episode = seeded(lambda: KIN[name](mlp("layer"), 3, test_inner_steps=0, **options)), tasks()
    with torch.no_grad():
        state = learner.adapt(episode.support)
        kept = {n: p.clone() for n, p in getattr(state, "params", {"values": getattr(state, "values", None)}).items()}
        for p in learner.parameters():
            p.add_(1)
    for n, p in getattr(state, "params", {"values": getattr(state, "values", None)}).items():
        assert torch.equal(p, kept[n]), n
