"""Metric learners against NumPy and SciPy from the papers' equations, and against each other where they must agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import correlate2d
from scipy.spatial.distance import cdist, mahalanobis
from scipy.special import expit, log_softmax, softmax
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Key, Keys
from quickstudy.learners.dkt import DKT
from quickstudy.learners.feat import FEAT
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.matching import MatchingNet
from quickstudy.learners.parts.prototypes import Prototypes
from quickstudy.learners.parts.settoset import dropout_factors
from quickstudy.learners.protonet import ProtoNet
from quickstudy.learners.relation import RelationNet
from quickstudy.learners.simplecnaps import Gaussians, SimpleCNAPS
from quickstudy.nets import MLP, Conv4, apply
from quickstudy.nets.norms import make_norm
from tests.rows.metric import ROWS
from tests.smalltasks import assert_close, make, mlp, numbers, outputs, ragged, tasks

ROW = {row.name: row for row in ROWS}
Array = NDArray[Any]


def array(values: Tensor) -> Array:
    return values.detach().numpy()


def learner_of(name: str, kind: type[AbstractLearner]) -> Any:
    learner = make(ROW[name])
    assert isinstance(learner, kind)
    return learner


def task_rows(examples: Examples, t: int) -> tuple[Tensor, Array]:
    """The inputs and labels of one task, without padding."""
    one = examples.task(t)
    assert isinstance(one.x, Tensor) and one.y is not None
    return one.x[0], one.y[0].numpy()


def same_weights(net: nn.Module, build: Callable[[nn.Module], AbstractLearner]) -> AbstractLearner:
    return build(net).double().eval()


def derivative(learner: AbstractLearner, parameter: Tensor, episode: Episode, h: float = 1e-5) -> Tensor:
    """Central differences of the summed meta-loss in one parameter, entry by entry."""
    found = torch.zeros_like(parameter)
    flat, out = parameter.data.view(-1), found.view(-1)
    for i in range(len(flat)):
        values = []
        for sign in (1, -1):
            flat[i] += sign * h
            values.append(float(learner.meta_loss(episode).loss.sum().detach()))
            flat[i] -= sign * h
        out[i] = (values[0] - values[1]) / (2 * h)
    return found


# --- matching networks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["squared", "cosine"])
def test_one_shot_matching_is_one_shot_protonet(distance: Any) -> None:
    net, episode = mlp().double(), tasks(shot=1)
    ours = outputs(same_weights(net, lambda n: MatchingNet(n, distance=distance, temperature=0.5)), episode)
    theirs = outputs(same_weights(net, lambda n: ProtoNet(n, distance=distance, temperature=0.5)), episode)
    assert_close(ours, theirs.log_softmax(2))
    many = tasks(shot=3)
    ours = outputs(same_weights(net, lambda n: MatchingNet(n, distance=distance)), many)
    theirs = outputs(same_weights(net, lambda n: ProtoNet(n, distance=distance)), many)
    assert (ours - theirs.log_softmax(2)).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["matching", "matching-squared"])
def test_matching_against_numpy(name: str) -> None:
    """Several shots; with squared distances divided by a temperature of 1/2."""
    learner, episode = learner_of(name, MatchingNet), ragged()
    said = outputs(learner, episode)

    def alike(f: Array, g: Array) -> Any:
        return f @ g / np.linalg.norm(f) / np.linalg.norm(g) if name == "matching" else -np.square(f - g).sum() / 0.5

    for t in range(3):
        support, y = task_rows(episode.support, t)
        g = array(learner.embed.net(support))
        for q, x in zip(episode.query.real[t].nonzero()[:, 0], task_rows(episode.query, t)[0], strict=True):
            f = array(learner.embed.net(x[None]))[0]
            attention = softmax([alike(f, g_i) for g_i in g])
            for k in range(y.max() + 1):
                assert float(said[t, q, k].exp()) == pytest.approx(sum(attention[y == k]), abs=1e-12)


def lstm(step: Any, x: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
    """The usual equations, one gate after the other."""
    d = len(cell)
    w, b, u = array(step.read.weight), array(step.read.bias), array(step.remember.weight)
    gate = [w[n * d : (n + 1) * d] @ x + b[n * d : (n + 1) * d] + u[n * d : (n + 1) * d] @ hidden for n in range(4)]
    cell = expit(gate[1]) * cell + expit(gate[0]) * np.tanh(gate[2])
    return expit(gate[3]) * np.tanh(cell), cell


def test_full_context_against_numpy() -> None:
    """Appendix A of the paper, example by example, on ragged tasks."""
    learner, episode = learner_of("matching-fce", MatchingNet), ragged(float("nan"))
    said = outputs(learner, episode)
    for t in range(3):
        support, y = task_rows(episode.support, t)
        g = array(learner.embed.net(support))
        n, d = g.shape
        forward, backward = np.zeros((n + 2, d)), np.zeros((n + 2, d))
        c = np.zeros(d)
        for i in range(1, n + 1):
            forward[i], c = lstm(learner.g.forwards, g[i - 1], forward[i - 1], c)
        c = np.zeros(d)
        for i in range(n, 0, -1):
            backward[i], c = lstm(learner.g.backwards, g[i - 1], backward[i + 1], c)
        embedded = forward[1:-1] + backward[1:-1] + g
        for q, x in zip(episode.query.real[t].nonzero()[:, 0], task_rows(episode.query, t)[0], strict=True):
            f = array(learner.embed.net(x[None]))[0]
            h, c = f, np.zeros(d)
            for _ in range(3):
                r = softmax(embedded @ h) @ embedded
                hat, c = lstm(learner.f.step, f, np.concatenate([h, r]), c)
                h = hat + f
            cosine = embedded @ h / np.linalg.norm(embedded, axis=1) / np.linalg.norm(h)
            attention = softmax(cosine)
            expected = [np.log(attention[y == k].sum()) for k in range(y.max() + 1)]
            np.testing.assert_allclose(array(said[t, q, : len(expected)]), expected, atol=1e-12)


def test_the_recurrence_is_torch_lstm_cell() -> None:
    step = learner_of("matching-fce", MatchingNet).g.forwards
    cell = nn.LSTMCell(5, 5).double()
    with torch.no_grad():
        cell.weight_ih.copy_(step.read.weight)
        cell.weight_hh.copy_(step.remember.weight)
        cell.bias_ih.copy_(step.read.bias)
        cell.bias_hh.zero_()
    x, h, c = (numbers(name, 2, 5) for name in "xhc")
    for ours, theirs in zip(step(step.read(x), h, c), cell(x, (h, c)), strict=True):
        assert_close(ours, theirs)


def test_full_context_has_second_derivatives() -> None:
    learner, episode = learner_of("matching-fce", MatchingNet), tasks(n_task=1)
    x = episode.support.x.clone().requires_grad_()  # type: ignore[union-attr]

    def loss(inputs: Tensor) -> Tensor:
        one = replace(episode, support=replace(episode.support, x=inputs))
        return learner.meta_loss(one).loss.sum()  # type: ignore[no-any-return]

    assert torch.autograd.gradgradcheck(loss, (x,))


def test_full_context_of_a_support_in_two_parts() -> None:
    """All features without context are kept, and the whole set is read again, in its order."""
    learner, episode = learner_of("matching-fce", MatchingNet), tasks()
    with torch.no_grad():
        state = learner.adapt(episode.support.rows(slice(0, 7)))
        state = learner.adapt(episode.support.rows(slice(7, 9)), state=state)
        assert_close(learner.predict(state, episode.query), outputs(learner, episode))


# --- relation networks --------------------------------------------------------------------------------------


def test_relation_scores_and_squared_error_against_a_loop_over_pairs() -> None:
    learner, episode = learner_of("relation", RelationNet), ragged(float("nan"))
    said, losses = outputs(learner, episode), learner.meta_loss(episode).loss.detach()
    parts = [*zip(learner.compare.blocks.linears, learner.compare.blocks.norms, strict=True)]
    for t in range(3):
        support, y = task_rows(episode.support, t)
        f = array(learner.embed.net(support))
        squares = []
        queries, truth = task_rows(episode.query, t)
        for q, x, label in zip(episode.query.real[t].nonzero()[:, 0], queries, truth, strict=True):
            for k in range(y.max() + 1):
                pair = np.concatenate([f[y == k].sum(0), array(learner.embed.net(x[None]))[0]])
                for linear, norm in parts:
                    pair = array(linear.weight) @ pair + array(linear.bias)
                    pair = (pair - array(norm.running_mean)) / np.sqrt(array(norm.running_var) + norm.eps)
                    pair = np.tanh(pair * array(norm.weight) + array(norm.bias))
                pair = np.tanh(array(learner.compare.hidden.weight) @ pair + array(learner.compare.hidden.bias))
                logit = float(array(learner.compare.score.weight)[0] @ pair + array(learner.compare.score.bias)[0])
                assert float(said[t, q, k]) == pytest.approx(logit, abs=1e-12)
                squares.append((expit(logit) - (k == label)) ** 2)
        assert float(losses[t]) == pytest.approx(np.mean(squares), abs=1e-12)


def test_relation_of_feature_maps_against_scipy() -> None:
    """Two padded 3x3 convolutions over the maps one above the other, batch norm, ReLU, max-pooling, two layers."""
    learner, episode = learner_of("relation-maps", RelationNet), tasks(n_task=1)
    said = outputs(learner, episode)
    assert isinstance(episode.support.x, Tensor) and isinstance(episode.query.x, Tensor)
    maps = array(learner.embed.net(episode.support.x[0])).reshape(3, 3, 4, 4, 4).sum(1)
    asked = array(learner.embed.net(episode.query.x[0])).reshape(12, 4, 4, 4)
    for q in (0, 7):
        for k in range(3):
            x = np.concatenate([maps[k], asked[q]])
            for block in learner.compare.blocks:
                weight, norm = array(block.conv.weight), block.norm
                x = np.stack([sum(correlate2d(x[i], w[i], "same") for i in range(len(x))) for w in weight])
                x = (x - array(norm.running_mean)[:, None, None]) / np.sqrt(array(norm.running_var) + norm.eps)[
                    :, None, None
                ]
                x = np.maximum(x * array(norm.weight)[:, None, None] + array(norm.bias)[:, None, None], 0)
                x = x.reshape(4, x.shape[1] // 2, 2, x.shape[2] // 2, 2).max((2, 4))
            hidden = np.maximum(
                array(learner.compare.hidden.weight) @ x.ravel() + array(learner.compare.hidden.bias), 0
            )
            logit = array(learner.compare.score.weight)[0] @ hidden + array(learner.compare.score.bias)[0]
            assert float(said[0, q, k]) == pytest.approx(float(logit), abs=1e-12)


def test_a_relation_does_not_see_the_pairs_beside_it() -> None:
    """In eval mode by default; in the published form it does."""
    for name, alone in (("relation", True), ("relation-published", False)):
        learner, episode = make(ROW[name]), tasks()
        first = replace(episode, query=episode.query.rows(slice(0, 2)))
        moved = (outputs(learner, episode)[:, :2] - outputs(learner, first)).abs().max()
        assert (moved < 1e-10) if alone else (moved > 1e-3)


def test_the_published_relation_network_normalises_support_and_query_apart() -> None:
    """In training as in tests, each by its own moments; the comparison by those of all pairs."""
    learner, episode = learner_of("relation-published", RelationNet), ragged(float("nan"))
    losses = learner.train().meta_loss(episode).loss.detach()
    for t in range(3):
        (support, y), (query, truth) = task_rows(episode.support, t), task_rows(episode.query, t)
        s, f = (normalised(learner.embed.net, array(part)) for part in (support, query))
        classes = [s[y == k].sum(0) for k in range(y.max() + 1)]
        pairs = normalised(learner.compare.blocks, np.array([np.concatenate([c, row]) for row in f for c in classes]))
        hidden = np.tanh(pairs @ array(learner.compare.hidden.weight).T + array(learner.compare.hidden.bias))
        scores = expit(hidden @ array(learner.compare.score.weight)[0] + array(learner.compare.score.bias)[0])
        wanted = np.eye(len(classes))[truth].ravel()
        assert float(losses[t]) == pytest.approx(np.square(scores - wanted).mean(), abs=1e-10)


def normalised(net: Any, x: Array) -> Array:
    """Linear layers, each followed by a norm over the rows at hand and tanh."""
    for linear, norm in zip(net.linears, net.norms, strict=True):
        x = x @ array(linear.weight).T + array(linear.bias)
        x = (x - x.mean(0)) / np.sqrt(x.var(0) + norm.eps) * array(norm.weight) + array(norm.bias)
        x = np.tanh(x)
    return x


def test_both_passes_move_running_statistics() -> None:
    """Where support and query go separately: task after task, the support's moments first."""
    net = nn.Sequential(mlp("transductive"), make_norm("batch", 5))
    learner, episode = ProtoNet(net).double().train(), tasks(n_task=2)
    learner.absorb(learner.meta_loss(episode).carried)
    mean = np.zeros(5)
    for t in range(2):
        for part in (episode.support, episode.query):
            mean = 0.9 * mean + 0.1 * normalised(net[0], array(task_rows(part, t)[0])).mean(0)
    np.testing.assert_allclose(array(net[1].running_mean), mean, atol=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["relation", "relation-published", "relation-maps"])
def test_relations_of_no_query(name: str) -> None:
    episode = tasks()
    empty = replace(episode, query=episode.query.rows(slice(0, 0)))
    assert outputs(make(ROW[name]), empty).shape == (3, 0, 3)
    with pytest.raises(InputError, match=r"query: expected at least one example a task, found none in task 0"):
        make(ROW[name]).meta_loss(empty)


def test_relation_statistics_are_absorbed_apart() -> None:
    """One pass in training moves the running moments of network and comparison, by torch's own rule."""
    learner, episode = learner_of("relation-cross-entropy-mean", RelationNet), tasks(n_task=1)
    learner.train()
    out = learner.meta_loss(episode)
    learner.absorb(out.carried)
    assert isinstance(episode.support.x, Tensor) and isinstance(episode.query.x, Tensor)
    x = torch.cat([episode.support.x[0], episode.query.x[0]])
    first = learner.embed.net.linears[0](x)
    assert_close(learner.embed.net.norms[0].running_mean, 0.1 * first.mean(0).detach())
    moved = learner.compare.blocks.norms[0].running_var
    assert (moved - 1).abs().min() > 1e-3  # the comparison's too


def test_relation_losses_differ() -> None:
    net = mlp().double()
    square = RelationNet(net, pooling="mean").double().eval()
    other = RelationNet(net, pooling="mean", loss="cross-entropy").double().eval()
    other.load_state_dict(square.state_dict())
    episode = tasks()
    logits = outputs(square, episode)
    assert_close(logits, outputs(other, episode))
    y = episode.query.y
    assert y is not None
    assert_close(other.meta_loss(episode).loss, F.cross_entropy(logits.mT, y, reduction="none").mean(1))


# --- prototypical networks ----------------------------------------------------------------------------------


def test_learned_temperature() -> None:
    net, episode = mlp().double(), tasks()
    plain = same_weights(net, lambda n: ProtoNet(n))
    learned = same_weights(net, lambda n: ProtoNet(n, learn_temperature=True))
    assert torch.equal(outputs(plain, episode), outputs(learned, episode))
    learner = learner_of("protonet-learned-temperature", ProtoNet)
    learner.meta_loss(episode).loss.sum().backward()
    log = learner.temperature.log
    assert_close(log.grad, derivative(learner, log, episode), 1e-8)
    # d loss / d log T = sum over rows of sum_k (y_k - p_k) logits_k
    logits, y = outputs(learner, episode), episode.query.y
    assert y is not None
    truth = F.one_hot(y, 3)
    expected = ((truth - logits.softmax(2)) * logits).sum(2).mean(1).sum()
    assert_close(log.grad, expected)


def zero_shot_episode(way: tuple[int, ...] = (3, 2, 3)) -> Episode:
    """No support examples; descriptions of 4 numbers a class, NaN where a task has no such class."""
    whole, ways = tasks(), torch.tensor(way)
    there = torch.arange(3) < ways[:, None]
    side = numbers("side", 3, 3, 4).masked_fill(~there[..., None], float("nan"))
    none = torch.zeros(3, 0, dtype=torch.int64)
    support = Examples(torch.zeros(3, 0, 4, dtype=torch.float64), none, Classes(ways), side=side)
    assert whole.query.y is not None
    mask = whole.query.y < ways[:, None]
    return Episode(support, replace(whole.query, target=Classes(ways), mask=mask))


def test_zero_shot_against_a_closed_form() -> None:
    learner = ProtoNet(mlp("batch"), zero_shot=True, side_features=4).double().eval()
    episode = zero_shot_episode()
    said = outputs(learner, episode)
    assert learner.describe is not None and isinstance(episode.support.side, Tensor)
    v = array(learner.describe.map.weight)
    for t, way in enumerate((3, 2, 3)):
        f = array(learner.embed.net(episode.query.x[t]))  # type: ignore[index]
        for k in range(way):
            c = v @ array(episode.support.side[t, k])
            expected = -np.square(f - c / np.linalg.norm(c)).sum(1)
            real = array(episode.query.real[t])
            np.testing.assert_allclose(array(said[t, :, k])[real], expected[real], atol=1e-12)
        assert (said[t, :, way:] == -torch.inf).all()
    learner.train()
    out = learner.meta_loss(episode)
    out.loss.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(out.loss).all() and out.carried
    found = learner.describe.map.weight.grad
    assert isinstance(found, Tensor)
    assert_close(found, derivative(learner, learner.describe.map.weight, episode), 1e-7)


def test_zero_shot_does_not_look_at_examples() -> None:
    learner = ProtoNet(mlp(), zero_shot=True, side_features=4).double().eval()
    bare, whole = zero_shot_episode((3, 3, 3)), tasks()
    rich = replace(bare, support=replace(whole.support, side=bare.support.side))
    assert torch.equal(outputs(learner, bare), outputs(learner, rich))


# --- Simple CNAPS -------------------------------------------------------------------------------------------


def test_simple_cnaps_with_identity_covariance_is_half_a_protonet() -> None:
    net, episode = mlp().double(), tasks()
    cnaps = same_weights(net, lambda n: SimpleCNAPS(n, film=False))
    with torch.no_grad():
        state = cnaps.adapt(episode.support)
        assert isinstance(state, Gaussians)
        plain = replace(state, factors=torch.eye(5, dtype=torch.float64).expand_as(state.factors))
        assert_close(cnaps.predict(plain, episode.query), 0.5 * outputs(same_weights(net, ProtoNet), episode))
        assert (cnaps.predict(state, episode.query) - cnaps.predict(plain, episode.query)).abs().max() > 1e-2


def test_simple_cnaps_distances_against_scipy() -> None:
    """Ragged shots, one-shot classes among them, whose own covariance is 0."""
    learner, episode = learner_of("simple-cnaps-no-film", SimpleCNAPS), ragged(float("nan"))
    said, losses = outputs(learner, episode), learner.meta_loss(episode).loss.detach()
    for t in range(3):
        support, y = task_rows(episode.support, t)
        logits = np.zeros((len(task_rows(episode.query, t)[1]), y.max() + 1))
        z = array(learner.embed.net(support))
        queries = array(learner.embed.net(task_rows(episode.query, t)[0]))
        for k in range(y.max() + 1):
            mine = z[y == k]
            own = np.cov(mine.T) if len(mine) > 1 else np.zeros((5, 5))
            share = len(mine) / (len(mine) + 1)
            q = share * own + (1 - share) * np.cov(z.T) + 0.1 * np.eye(5)
            expected = [-0.5 * mahalanobis(f, mine.mean(0), np.linalg.inv(q)) ** 2 for f in queries]
            np.testing.assert_allclose(array(said[t, episode.query.real[t], k]), expected, rtol=1e-9)
            logits[:, k] = expected
        truth = task_rows(episode.query, t)[1]
        loss = -log_softmax(logits, 1)[np.arange(len(truth)), truth].mean()
        assert float(losses[t]) == pytest.approx(loss, rel=1e-9)


def test_simple_cnaps_in_half_precision() -> None:
    """Covariances are factorised in single precision, and the logits come back in half."""
    learner, episode = SimpleCNAPS(mlp(), film=False), tasks(dtype=torch.float32)
    expected = outputs(learner.eval(), episode)
    found = outputs(learner.half(), tasks(dtype=torch.float16))
    assert found.dtype == torch.float16
    assert_close(found.float(), expected, 0.02)


def test_film_weights_against_numpy() -> None:
    """τ, the generated scales and shifts, and the features they make, written layer by layer."""
    learner, episode = learner_of("simple-cnaps-no-norms", SimpleCNAPS), ragged(float("nan"))
    with torch.no_grad():
        for factor in learner.generator.factors.values():
            factor.mul_(300)  # as after training: else all tasks have the same weights but for a thousandth
        state = learner.adapt(episode.support)
    net = learner.embed.net
    for t in range(3):
        x, y = task_rows(episode.support, t)
        tau = array(x)
        for linear in learner.encoder.net.linears:
            tau = np.maximum(tau @ array(linear.weight).T + array(linear.bias), 0)
        tau = tau.mean(0)
        made = {}
        for key, layers in learner.generator.layers.items():
            value = array(layers[0].weight) @ tau + array(layers[0].bias)
            for layer in list(layers)[1:]:
                value = np.maximum(value, 0)
                value = value + array(layer.weight) @ value + array(layer.bias)
            made[key] = value * array(learner.generator.factors[key])
        z = array(x)
        for n, linear in enumerate(net.linears):
            z = (z @ array(linear.weight).T + array(linear.bias)) * (1 + made[f"scales_{n}"]) + made[f"shifts_{n}"]
            z = np.tanh(z)
        for k in range(y.max() + 1):
            np.testing.assert_allclose(array(state.means[t, k]), z[y == k].mean(0), atol=1e-12)
    first = state.params["linears.0.weight"]
    assert (first[0] - first[2]).abs().max() > 1e-3


def test_tasks_train_the_film_generator_alone() -> None:
    """And exactly: each entry's derivative by central differences."""
    learner, episode = learner_of("simple-cnaps", SimpleCNAPS), tasks(n_task=2)
    learner.train()
    assert not any(layer.training for layer in learner.embed.net.modules())
    out = learner.meta_loss(episode)
    out.loss.sum().backward()
    assert out.carried == {}
    assert all(p.grad is None for p in learner.embed.net.parameters())
    for factor in learner.generator.factors.values():
        assert_close(factor.grad, derivative(learner, factor, episode), 1e-7)
    first = learner.encoder.net.linears[0].bias
    assert_close(first.grad, derivative(learner, first, episode), 1e-7)


def test_plain_batches_train_the_network_alone() -> None:
    learner: Any = SimpleCNAPS(mlp("batch"), example=(4,), classes=9).double().train()
    batch = Examples(numbers("b", 1, 20, 4), (torch.arange(20) % 9)[None], Classes(torch.tensor([9])))
    out = learner.batch_loss(batch)
    out.loss.sum().backward()
    assert out.carried and not learner.embed.net.training
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in learner.classifier.parameters())
    assert learner.embed.net.linears[0].weight.grad.abs().max() > 0
    assert all(p.grad is None for p in [*learner.generator.parameters(), *learner.encoder.parameters()])
    before = learner.embed.net.norms[0].running_mean.clone()
    learner.absorb(out.carried)
    assert not torch.equal(before, learner.embed.net.norms[0].running_mean)


def test_the_penalty_is_the_squared_factors() -> None:
    learner, episode = learner_of("simple-cnaps", SimpleCNAPS), tasks()
    learner.film_penalty = 0.0
    bare = learner.meta_loss(episode).loss
    learner.film_penalty = 0.7
    squares = sum(float(factor.detach().square().sum()) for factor in learner.generator.factors.values())
    assert_close(learner.meta_loss(episode).loss - bare, torch.full((3,), 0.7 * squares, dtype=torch.float64))


# --- FEAT ---------------------------------------------------------------------------------------------------


def attention_by_hand(module: Any, x: Array) -> Array:
    """ψ of one set, row by row."""
    q, k, v = (x @ array(layer.weight).T for layer in (module.query, module.key, module.value))
    rows = []
    for n in range(len(x)):
        share = softmax([q[n] @ k[m] / np.sqrt(x.shape[1]) for m in range(len(x))])
        row = x[n] + array(module.out.weight) @ sum(share[m] * v[m] for m in range(len(x))) + array(module.out.bias)
        row = (row - row.mean()) / np.sqrt(row.var() + module.norm.eps)
        rows.append(row * array(module.norm.weight) + array(module.norm.bias))
    return np.stack(rows)


@pytest.mark.parametrize(("name", "t1", "t2"), [("feat", 2.0, 0.5), ("feat-cosine", 0.1, 0.2)])
def test_feat_against_numpy(name: str, t1: float, t2: float) -> None:
    """Logits, and the meta-loss with its contrast, on ragged tasks."""
    learner, episode = learner_of(name, FEAT), ragged(float("nan"))

    def alike(f: Array, g: Array) -> Array:
        if name == "feat":
            return -np.square(f[:, None] - g).sum(2)  # type: ignore[no-any-return]
        return 1 - cdist(f, g, "cosine")

    learner.balance = 0.3
    with torch.no_grad():
        learner.set_to_set.norm.weight.copy_(numbers("w", 5) + 1.5)
        learner.set_to_set.norm.bias.copy_(numbers("b", 5))
    said, losses = outputs(learner, episode), learner.meta_loss(episode).loss.detach()
    for t in range(3):
        (support, y), (query, truth) = task_rows(episode.support, t), task_rows(episode.query, t)
        s, f = array(learner.embed.net(support)), array(learner.embed.net(query))
        way = y.max() + 1
        centres = attention_by_hand(learner.set_to_set, np.stack([s[y == k].mean(0) for k in range(way)]))
        logits = alike(f, centres) / t1
        np.testing.assert_allclose(array(said[t, episode.query.real[t], :way]), logits, atol=1e-11)
        loss = -log_softmax(logits, 1)[np.arange(len(truth)), truth].mean()
        both, labels = np.concatenate([s, f]), np.concatenate([y, truth])
        middles = np.stack([attention_by_hand(learner.set_to_set, both[labels == k]).mean(0) for k in range(way)])
        logits = alike(both, middles) / t2
        loss += 0.3 * -log_softmax(logits, 1)[np.arange(len(labels)), labels].mean()
        assert float(losses[t]) == pytest.approx(loss, abs=1e-11)


def test_feat_without_attention_is_a_protonet_of_normalised_prototypes() -> None:
    net, episode = mlp().double(), tasks()
    feat = FEAT(net, temperature=1.0).double().eval()
    plain = ProtoNet(net).double().eval()
    with torch.no_grad():
        feat.set_to_set.out.weight.zero_()
        feat.set_to_set.out.bias.zero_()
        state = plain.adapt(episode.support)
        lying = Prototypes(F.layer_norm(state.means, (5,)), torch.ones_like(state.counts), state.moments)
        assert_close(outputs(feat, episode), plain.predict(lying, episode.query))


def test_feat_dropout() -> None:
    """Only in training, by key; the share it takes, and the same for a task however it is padded."""
    learner, episode = learner_of("feat", FEAT), tasks()
    quiet, rate, learner.dropout = learner.meta_loss(episode).loss, learner.dropout, 0.0
    assert_close(learner.meta_loss(episode).loss, quiet)
    learner.dropout = rate
    learner.train()
    first = learner.meta_loss(episode, key=Keys(Key.of(1), np.arange(3))).loss
    assert torch.equal(first, learner.meta_loss(episode, key=Keys(Key.of(1), np.arange(3))).loss)
    assert (first - learner.meta_loss(episode, key=Keys(Key.of(2), np.arange(3))).loss).abs().min() > 1e-6
    keys = Keys(Key.of(5), np.arange(2))
    real = torch.tensor([[False, True, False, True, True], [True, True, True, False, False]])
    packed = torch.ones(2, 3, dtype=torch.bool)
    loose, tight = (dropout_factors(keys, mask, 4000, 0.3, torch.float64) for mask in (real, packed))
    assert torch.equal(loose[0, [1, 3, 4]], tight[0]) and torch.equal(loose[1, :3], tight[1])
    assert set(tight.flatten().tolist()) == {0.0, 1 / 0.7} and float(tight.mean()) == pytest.approx(1, abs=0.03)


def test_feat_trains_its_network_on_plain_batches() -> None:
    learner = FEAT(mlp("batch"), classes=9).double().train()
    batch = Examples(numbers("b", 1, 20, 4), (torch.arange(20) % 9)[None], Classes(torch.tensor([9])))
    out = learner.batch_loss(batch)
    assert out.carried and out.loss.shape == (1,)
    logits = learner.classifier.layer(learner.embed.net(batch.x[0]))  # type: ignore[index,misc]
    assert_close(out.loss[0], F.cross_entropy(logits, batch.y[0]))  # type: ignore[index]


# --- Conv-4 as relation networks have it --------------------------------------------------------------------


def test_the_encoder_of_relation_networks() -> None:
    """Four convolutions; the first two without padding and pooled: 28 -> 13 -> 5 -> 5 -> 5. Torch's own layers."""
    net = Conv4(1, 28, filters=3, halvings=2, padded=False).double().eval()
    assert net.map_shape == (3, 5, 5) and net.out_features == 75
    x = found = numbers("pictures", 2, 1, 28, 28)
    for number, block in enumerate(net.blocks):
        layer: Any = block
        found = F.conv2d(found, layer.conv.weight, padding=int(number > 1))
        norm = layer.norm
        found = F.batch_norm(found, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        found = F.relu(found)
        found = F.max_pool2d(found, 2) if number < 2 else found
    assert_close(net(x), found.flatten(1))
    for strategy in ("loop", "batched"):
        assert_close(apply(net, x[None], strategy=strategy).out[0], net(x))


# --- errors -------------------------------------------------------------------------------------------------


class Bare(nn.Module):
    """Does not say how large its features are."""

    def forward(self, x: Tensor) -> Tensor:
        return x


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: MatchingNet(Bare(), fce=True), r"Cannot build fce=True on Bare: its feature size is not known"),
    (lambda: MatchingNet(MLP(4), fce=True, fce_steps=0), r"at least one step of the query's LSTM, received 0"),
    (lambda: MatchingNet(MLP(4), temperature=-1), r"MatchingNet needs a temperature above 0, received -1"),
    (lambda: RelationNet(Bare()), r"Cannot build a comparison on Bare: the size of its features is not known"),
    (lambda: RelationNet(MLP(4), hidden=0), r"at least one hidden unit, received hidden=0"),
    (lambda: RelationNet(MLP(4), transductive=True), r"transductive=True needs norms that use the current rows"),
    (lambda: RelationNet(MLP(4), norm="transductive"), r"would depend on the queries beside it"),
    (lambda: ProtoNet(MLP(4), zero_shot=True), r"zero_shot=True needs to know the size of a class's description"),
    (
        lambda: ProtoNet(MLP(4, norm="task"), zero_shot=True, side_features=3),
        r"zero_shot=True has no support examples, but the network's norms ask",
    ),
    (lambda: SimpleCNAPS(MLP(4)), r"Cannot build a network that reads support sets"),
    (lambda: SimpleCNAPS(MLP(4), film=False, beta=0.0), r"SimpleCNAPS needs beta above 0"),
    (lambda: FEAT(Bare()), r"Cannot build FEAT on Bare: its feature size is not known"),
    (lambda: FEAT(MLP(4), dropout=1.0), r"a dropout from 0 up to, but not, 1, received 1\.0 and 1\.0"),
    (lambda: FEAT(MLP(4), temperature=0), r"FEAT needs a temperature above 0, received 0"),
    (lambda: Conv4(halvings=5), r"0 to 4 of them can halve, received halvings=5"),
    (lambda: Conv4(1, 5, halvings=2, padded=False), r"Cannot halve pictures of 5 pixels twice"),
]


@pytest.mark.parametrize(("build", "sentence"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
def test_what_does_not_fit_is_refused(build: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        build()


def test_descriptions_that_cannot_be_used_are_refused() -> None:
    learner, support = ProtoNet(mlp(), zero_shot=True, side_features=4).double(), zero_shot_episode().support
    side = support.side
    assert isinstance(side, Tensor)
    for wrong, sentence in (
        (replace(support, side=None), r"the support carries no descriptions of its classes"),
        (replace(support, side=side[..., :2]), r"descriptions of shape \[3, 3, 2\]: .* = \[3, 3, 4\]"),
        (replace(support, side=torch.full_like(side, torch.nan)), r"The description of class 0 of task 0 holds NaN"),
        (replace(support, target=Classes(torch.tensor([3, 1, 3]))), r"Task 1 has a single class"),
    ):
        with pytest.raises(InputError, match=sentence):
            learner.adapt(wrong)


def test_covariances_that_cannot_be_inverted_are_named() -> None:
    class Large(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1e8 * x

    with pytest.raises(InputError, match=r"Cannot invert the covariance of class \d of task \d: .* beta=1\.0 is lost"):
        SimpleCNAPS(Large(), film=False).adapt(tasks(shot=1, dtype=torch.float32).support)


class Flat(nn.Module):
    """One number an example, without an axis of features."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1)


class Wrong(nn.Module):
    """Says that it gives seven features."""

    out_features = 7

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    "build",
    [
        lambda: MatchingNet(Wrong(), fce=True),
        lambda: RelationNet(Wrong()),
        lambda: RelationNet(Wrong(), map_shape=(7, 1, 1)),
        lambda: FEAT(Wrong()),
        lambda: DKT(Wrong(), kernel="spectral"),
    ],
)
def test_features_of_another_size_are_refused(build: Callable[[], AbstractLearner]) -> None:
    with pytest.raises(InputError, match=r"gives 4 features an example, but this learner was built for 7"):
        build().double().adapt(tasks().support)


def test_descriptions_are_not_trained_on_queries_that_cannot_be_scored() -> None:
    learner, episode = ProtoNet(mlp(), zero_shot=True, side_features=4).double(), zero_shot_episode()
    with pytest.raises(InputError, match=r"Cannot train: the query carries no labels"):
        learner.meta_loss(replace(episode, query=episode.query.unlabelled()))


def test_features_of_another_size_than_their_norm_are_refused() -> None:
    learner = DKT(Wrong(), kernel="bn-cosine").double()
    for training in (True, False):
        with pytest.raises(InputError, match=r"A norm was built for 7 channels, but meets 4"):
            learner.train(training).adapt(tasks().support)


def test_features_of_another_size_than_descriptions_become_are_refused() -> None:
    learner = ProtoNet(Wrong(), zero_shot=True, side_features=4).double()
    with pytest.raises(InputError, match=r"gives 4 features an example, but this learner was built for 7"):
        learner.meta_loss(zero_shot_episode())


@pytest.mark.parametrize("build", [ProtoNet, lambda net: SimpleCNAPS(net, film=False), DKT])
def test_features_without_an_axis_are_refused(build: Callable[[nn.Module], AbstractLearner]) -> None:
    with pytest.raises(InputError, match=r"features of shape \[N\]; this learner needs \[N, D\]"):
        build(Flat()).double().adapt(tasks().support)


@pytest.mark.parametrize("name", ["matching", "relation", "simple-cnaps", "feat"])
def test_a_class_without_examples_is_named(name: str) -> None:
    support = tasks().support.rows(slice(0, 6))
    with pytest.raises(InputError, match=r"Class 2 of task 0 has no labelled example"):
        make(ROW[name]).adapt(support)


@pytest.mark.parametrize("name", ["matching", "matching-fce", "relation", "simple-cnaps", "feat"])
def test_a_state_answers_for_its_own_tasks(name: str) -> None:
    learner, episode = make(ROW[name]), tasks()
    state = learner.adapt(episode.support.tasks(slice(0, 1)))
    with pytest.raises(InputError, match=r"Cannot predict: the state is of 1 tasks, the query of 3"):
        learner.predict(state, episode.query)
