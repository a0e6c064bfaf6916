"""Memories, sequence models, neural processes and in-context learners against their papers' equations elsewhere."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.data.sinusoid import Sinusoid
from quickstudy.data.tableprior import normal
from quickstudy.episode import Classes, Episode, Examples, MultiLabel, Real, first_leaf
from quickstudy.errors import InputError
from quickstudy.keys import Key, Keys, shuffle, uniform
from quickstudy.learners.acnp import ACNP
from quickstudy.learners.cnp import CNP
from quickstudy.learners.imaml import IMAML
from quickstudy.learners.incontext import InContext
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.mann import MANN
from quickstudy.learners.parts.lrua import LRUA
from quickstudy.learners.parts.setencoder import Gaussian, perceptron
from quickstudy.learners.parts.temporal import AbstractBlock, CausalAttention, DenseBlock, temporal_block
from quickstudy.learners.parts.transformer import Layer, Transformer, attend, attend_and_self, simplex
from quickstudy.learners.snail import SNAIL
from quickstudy.learners.tabular import TabularInContext
from tests.rows.memory import ROWS
from tests.smalltasks import assert_close, make, mlp, numbers, outputs, ragged, tasks

Array = NDArray[np.float64]
ROW = {row.name: row for row in ROWS}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def weights(module: nn.Module) -> dict[str, Array]:
    return {name: value.detach().numpy() for name, value in module.named_parameters()}


def arrays(learner: nn.Module, prefix: str) -> list[tuple[Array, Array]]:
    """The linear layers of a perceptron, as (weight, bias)."""
    w = weights(learner)
    numbers_ = sorted({int(name.split(".")[1]) for name in w if name.startswith(prefix + ".")})
    return [(w[f"{prefix}.{n}.weight"], w[f"{prefix}.{n}.bias"]) for n in numbers_]


def run(layers: list[tuple[Array, Array]], x: Array) -> Array:
    for number, (weight, bias) in enumerate(layers):
        x = weight @ x + bias
        x = np.tanh(x) if number + 1 < len(layers) else x
    return x


# --- ragged tasks through learners of one way ---------------------------------------------------------


def gradients(learner: AbstractLearner, episode: Episode) -> list[Tensor]:
    learner.zero_grad()
    learner.meta_loss(episode).loss.sum().backward()  # type: ignore[no-untyped-call]
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in learner.parameters()]


@pytest.mark.parametrize("name", ["mann", "mann-batchnorm", "snail", "snail-tasknorm", "cnp", "cnp-batchnorm"])
def test_padding_does_not_matter_to_learners_of_one_way_either(name: str) -> None:
    """They learn tasks of fewer classes too, of which the law of padding does not speak."""
    learner, clean, dirty = make(ROW[name]), ragged(0.0), ragged(float("nan"))
    together = outputs(learner, dirty)
    assert torch.equal(outputs(learner, clean), together)
    for t in range(3):
        keys = Keys(Key.of(0), np.array([t]))  # the default key's number t
        with torch.no_grad():
            state = learner.adapt(dirty.support.task(t), key=keys)
            alone = learner.predict(state, dirty.query.task(t).unlabelled(), key=keys)
        found = together[t][dirty.query.real[t]][None]
        assert_close(found[..., : alone.shape[2]], alone)
        assert (found[..., alone.shape[2] :] == -torch.inf).all()
    learner.train()
    for a, b in zip(gradients(learner, clean), gradients(learner, dirty), strict=True):
        assert torch.isfinite(b).all() and torch.equal(a, b)


@pytest.mark.parametrize("name", ["snail-real", "cnp-real", "acnp", "in-context-real", "tabular-real"])
def test_padding_does_not_matter_to_real_targets(name: str) -> None:
    learner, episode = make(ROW[name]), tasks("real")
    keep = torch.ones(3, 9, dtype=torch.bool)
    keep[0, 2:4], keep[2, 7:] = False, False

    def padded(examples: Examples, filler: float) -> Examples:
        assert isinstance(examples.x, Tensor) and examples.y is not None
        x, y = (leaf.masked_fill(~keep[..., None], filler) for leaf in (examples.x, examples.y))
        return Examples(x, y, examples.target, keep)

    clean, dirty = (
        Episode(padded(episode.support, f), padded(episode.query.rows(slice(0, 9)), f)) for f in (0.0, np.nan)
    )
    assert torch.equal(outputs(learner, clean), outputs(learner, dirty))
    for t in range(3):
        alone = Episode(dirty.support.task(t), dirty.query.task(t))
        assert_close(outputs(learner, alone)[0], outputs(learner, dirty)[t][keep[t]])
    learner.train()
    for a, b in zip(gradients(learner, clean), gradients(learner, dirty), strict=True):
        assert torch.isfinite(b).all() and torch.equal(a, b)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_rows_without_a_label_are_left_out(row: Any) -> None:
    if row.target == "real":
        return  # real targets have no word for "unlabelled"
    learner, episode = make(row), tasks()
    assert episode.support.y is not None
    y = episode.support.y.clone()
    y[:, 1] = -1
    keep = torch.tensor([0, *range(2, 9)])
    support = Examples(episode.support.x, y, episode.support.target)
    expected = outputs(learner, Episode(episode.support.rows(keep), episode.query))
    found = outputs(learner, Episode(support, episode.query))
    if row.name in ("snail-tasknorm", "cnp-transductive"):
        return  # their norms see every row, labelled or not
    assert_close(found, expected)


# --- MANN ---------------------------------------------------------------------------------------------


def lrua_by_hand(cell: LRUA, xs: Array) -> dict[str, Array]:
    """Santoro et al. 2016, equations 2-8, one sequence ``[steps, inputs]``, one loop a sum."""
    hidden, slots, width, heads = cell.sizes
    w = weights(cell)
    h, c = np.zeros(hidden), np.zeros(hidden)
    M, w_r, w_u = np.zeros((slots, width)), np.zeros((heads, slots)), np.zeros(slots)
    r = np.zeros((heads, width))
    for x in xs:
        gates = w["gates.weight"] @ np.concatenate([x, h, r.reshape(-1)]) + w["gates.bias"]
        i, f, o, g = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        k = np.tanh(w["to_keys.weight"] @ h + w["to_keys.bias"]).reshape(heads, width)
        alpha = sigmoid(w["to_mix.weight"] @ h + w["to_mix.bias"])
        ranked = sorted(range(slots), key=lambda s: (round(float(w_u[s]), 5), s))
        w_lu = np.array([1.0 if s in ranked[:heads] else 0.0 for s in range(slots)])
        M[ranked[0]] = 0
        w_w = np.array([alpha[n] * w_r[n] + (1 - alpha[n]) * w_lu for n in range(heads)])
        for n in range(heads):
            for s in range(slots):
                M[s] = M[s] + w_w[n, s] * k[n]
        for n in range(heads):
            lengths = [float(np.linalg.norm(k[n]) * max(float(np.linalg.norm(row)), 1e-30)) for row in M]
            K = np.array([float(k[n] @ M[s]) / lengths[s] for s in range(slots)])
            w_r[n] = np.exp(K) / np.exp(K).sum()
            r[n] = w_r[n] @ M
        w_u = cell.decay * w_u + w_r.sum(0) + w_w.sum(0)
    return {"hidden": h, "cell": c, "reads": r, "rows": M, "read_weights": w_r, "usage": w_u}


def lrua() -> LRUA:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        cell = LRUA(4, hidden=5, slots=6, width=3, heads=2, decay=0.9).double()
        for parameter in cell.parameters():  # keys of some length, so that the floor under cosines is not seen
            parameter.data.mul_(3)
    return cell


def test_memory_against_the_equations() -> None:
    cell, xs = lrua(), numbers("lrua", 2, 9, 4)
    with torch.no_grad():
        memory = cell.empty(2)
        for t in range(9):
            memory = cell(xs[:, t], memory)
    for b in range(2):
        expected = lrua_by_hand(cell, xs[b].numpy())
        for name, value in expected.items():
            found = getattr(memory, name)[b].numpy()
            assert np.abs(found - value).max() < 1e-6, name  # the floor of 1e-4 under lengths
    assert float(memory.usage.std()) > 0.1, "slots are told apart"


def test_mann_reads_each_example_beside_the_label_before_it() -> None:
    """The whole learner as a loop over the equations: (x_1, 0), (x_2, y_1), ..., then (query, y_Ns)."""
    learner, episode = make(ROW["mann-given"]), tasks()
    assert isinstance(learner, MANN) and isinstance(episode.support.x, Tensor) and episode.support.y is not None
    assert isinstance(episode.query.x, Tensor)
    head = weights(learner.head)
    expected = np.zeros((3, 12, 3))
    for t in range(3):
        x, y = episode.support.x[t].numpy(), np.eye(3)[episode.support.y[t].numpy()]
        before = np.concatenate([np.zeros((1, 3)), y[:-1]])
        told = np.concatenate([x, before], 1)
        for q, asked in enumerate(episode.query.x[t].numpy()):
            end = lrua_by_hand(learner.cell, np.concatenate([told, np.concatenate([asked, y[-1]])[None]]))
            read = np.concatenate([end["hidden"], end["reads"].reshape(-1)])
            expected[t, q] = head["weight"] @ read + head["bias"]
    assert np.abs(outputs(learner, episode).numpy() - expected).max() < 1e-4  # the floor under lengths, short keys


def test_mann_goes_on_from_where_it_was() -> None:
    """The first rows, then the others in order, are all rows in order; and another order is another memory."""
    learner, episode = make(ROW["mann-given"]), tasks()
    order = torch.tensor([0, 3, 6, 1, 4, 7, 2, 5, 8])
    support = episode.support.rows(order)
    with torch.no_grad():
        state = learner.adapt(support.rows(slice(0, 4)))
        state = learner.adapt(support.rows(slice(4, 9)), state=state)
        in_parts = learner.predict(state, episode.query)
    whole = outputs(learner, Episode(support, episode.query))
    assert_close(in_parts, whole)
    assert (whole - outputs(learner, episode)).abs().max() > 1e-4


def random_tasks(step: int) -> Episode:
    """16 tasks of five classes, each a normal vector of its own that no other task has: nothing but binding helps."""
    words = Key.of(0, "vectors").bits(np.arange(16 * step, 16 * step + 16), 20 * 32)
    drawn = torch.from_numpy(normal(words)).float().view(16, 20, 32)
    centre, y = drawn[:, :5], [torch.arange(5), torch.arange(5).repeat_interleave(2)]
    way = Classes(torch.full((16,), 5))
    support, query = (
        Examples(centre[:, part] + 0.3 * drawn[:, n : n + len(part)], part.expand(16, -1), way)
        for part, n in zip(y, (5, 10), strict=True)
    )
    return Episode(support, query)


@pytest.mark.slow
def test_mann_finds_labels_again_that_came_one_step_late() -> None:
    """Well above chance (20 %) after 400 steps; with torch's own initial weights it is at chance after 1,300."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        learner = MANN(None, 5, in_features=32, slots=16)
    optimizer = torch.optim.Adam(learner.parameters(), lr=1e-3)
    found = []
    for step in range(400):
        optimizer.zero_grad()
        out = learner.meta_loss(random_tasks(step), key=Keys(Key.of(step), np.arange(16)))
        out.loss.mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.append(float(out.logs["accuracy"].mean()))
    assert float(np.mean(found[-50:])) > 0.45, np.mean(found[-50:])


# --- the order of a support ---------------------------------------------------------------------------


def trained_in_order(kind: str, order: Literal["drawn", "given"]) -> AbstractLearner:
    """Meta-trained on tasks whose classes stand in their order, as all sources list them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        learner: AbstractLearner = (
            MANN(None, 3, in_features=4, hidden=32, slots=8, width=8, heads=1, order=order)
            if kind == "mann"
            else SNAIL(None, 3, in_features=4, length=6, filters=8, keys=(8,) * 3, values=(8,) * 3, order=order)
        )
    optimizer = torch.optim.Adam(learner.parameters(), lr=1e-2)
    for step in range(300):
        optimizer.zero_grad()
        learner.meta_loss(
            blobs(range(32 * step, 32 * step + 32)), key=Keys(Key.of(step), np.arange(32))
        ).loss.mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return learner.eval()


def blobs(numbers_: range) -> Episode:
    """Tasks of three clouds of points about corners of a cube, classes in their order: 1 shot, 2 queries a class."""
    words = Key.of(0, "blobs").bits(np.array(numbers_), 400)
    at = torch.from_numpy(shuffle(words[:, :8], np.full(len(words), 8))[:, :3])
    corner = torch.stack([at // 4 % 2, at // 2 % 2, at % 2, torch.zeros_like(at)], 2) * 2.0 - 1
    noise = torch.from_numpy(2 * uniform(words[:, 8:44]) - 1).float().view(-1, 9, 4) * 0.3
    y = [torch.arange(3), torch.arange(3).repeat_interleave(2)]
    x = [corner[:, part] + noise[:, n : n + len(part)] for part, n in zip(y, (0, 3), strict=True)]
    way = Classes(torch.full((len(words),), 3))
    support, query = (Examples(a.float(), b.expand(len(words), -1), way) for a, b in zip(x, y, strict=True))
    return Episode(support, query)


def accuracy(learner: AbstractLearner, episode: Episode) -> float:
    assert episode.query.y is not None
    return float((outputs(learner, episode).argmax(2) == episode.query.y).double().mean())


@pytest.mark.parametrize("kind", ["mann", "snail"])
def test_labels_are_not_told_by_their_place(kind: str) -> None:
    """Trained on class-ordered supports: as good on supports in another order, where one that kept the order fails."""
    held_out = blobs(range(10**6, 10**6 + 500))
    turned = Episode(held_out.support.rows(torch.tensor([2, 0, 1])), held_out.query)
    learner = trained_in_order(kind, "drawn")
    in_order, in_another = accuracy(learner, held_out), accuracy(learner, turned)
    assert in_order > 0.9 and abs(in_order - in_another) < 0.05, (in_order, in_another)
    by_place = trained_in_order(kind, "given")
    assert accuracy(by_place, held_out) > accuracy(by_place, turned) + 0.3


@pytest.mark.parametrize("name", ["mann", "snail"])
def test_the_order_is_drawn_by_the_key(name: str) -> None:
    """Another key, another order, in adapt and in meta_loss alike; the same rows in the drawn order by hand."""
    learner, given, episode = make(ROW[name]), make(ROW[name + "-given"]), tasks()
    found = []
    for seed in (1, 2):
        keys = Keys(Key.of(seed), np.arange(3))
        drawn = shuffle(keys.fold("order").bits(9), np.full(3, 9))
        by_hand = Episode(episode.support.take(torch.from_numpy(drawn)), episode.query)
        with torch.no_grad():
            found.append(learner.predict(learner.adapt(episode.support, key=keys), episode.query))
            assert_close(found[-1], outputs(given, by_hand))
            assert_close(learner.meta_loss(episode, key=keys).loss, given.meta_loss(by_hand).loss)
    assert (found[0] - found[1]).abs().max() > 1e-4


# --- SNAIL --------------------------------------------------------------------------------------------


def snail_by_hand(blocks: list[AbstractBlock], x: Array) -> Array:
    """Mishra et al. 2018, the blocks over one sequence ``[N, C]``, position by position."""
    for block in blocks:
        w = weights(block)
        added = []
        for n in range(len(x)):
            if isinstance(block, DenseBlock):
                filters = block.outputs - block.inputs
                then = x[n - block.dilation] if n >= block.dilation else np.zeros(x.shape[1])
                both = w["now.weight"] @ x[n] + w["now.bias"] + w["then.weight"] @ then
                added.append(np.tanh(both[:filters]) * sigmoid(both[filters:]))
            else:
                query = w["to_query.weight"] @ x[n] + w["to_query.bias"]
                keys = [w["to_key.weight"] @ row + w["to_key.bias"] for row in x[: n + 1]]
                values = [w["to_value.weight"] @ row + w["to_value.bias"] for row in x[: n + 1]]
                score = np.exp([query @ key / np.sqrt(len(query)) for key in keys])
                added.append((score / score.sum()) @ np.array(values))
        x = np.concatenate([x, np.array(added)], 1)
    return x


def test_snail_against_the_equations() -> None:
    """Each query as the last element of a sequence of its own."""
    learner, episode = make(ROW["snail-real"]), tasks("real")
    assert isinstance(learner, SNAIL) and episode.support.y is not None
    blocks = [block for block in learner.blocks if isinstance(block, AbstractBlock)]
    head, found = weights(learner.head), outputs(learner, episode)
    x, y, asked = (leaf[1].numpy() for leaf in (episode.support.x, episode.support.y, episode.query.x))  # type: ignore[index]
    for q in range(len(asked)):
        sequence = np.concatenate([np.concatenate([x, y], 1), np.concatenate([asked[q], np.zeros(2)])[None]])
        last = snail_by_hand(blocks, sequence)[-1]
        assert np.abs(found[1, q].numpy() - head["weight"] @ last - head["bias"]).max() < 1e-10


@pytest.mark.parametrize("kind", ["temporal", "attention"])
def test_nothing_later_is_seen(kind: str) -> None:
    blocks = temporal_block(4, 3, 8) if kind == "temporal" else [CausalAttention(4, 5, 3)]
    blocks = [block.double() for block in blocks]
    x = numbers("causal", 1, 8, 4).requires_grad_()
    out: Tensor = x
    for block in blocks:
        out = block.over(out)
    for n in range(8):
        (grad,) = torch.autograd.grad(out[0, n, 4:].sum(), x, retain_graph=True)
        seen = grad[0].abs().sum(1) > 0
        assert not seen[n + 1 :].any(), f"position {n} sees what comes later"
        assert seen[: n + 1].all(), f"position {n} does not see all that came before"


@pytest.mark.parametrize(("length", "layers"), [(2, 1), (3, 2), (4, 2), (6, 3), (26, 5), (32, 5)])
def test_receptive_field(length: int, layers: int) -> None:
    """Dilations 1, 2, 4, ... reach exactly 2**layers - 1 steps back, enough for the length and not twice that."""
    blocks = [block.double() for block in temporal_block(2, 2, length)]
    assert len(blocks) == layers and length <= 2**layers < 2 * length
    n = 2**layers + 3
    x = numbers("field", 1, n, 2).requires_grad_()
    out: Tensor = x
    for block in blocks:
        out = block.over(out)
    (grad,) = torch.autograd.grad(out[0, -1, 2:].sum(), x)
    reached = (grad[0].abs().sum(1) > 0).nonzero()[0]
    assert n - int(reached) == 2**layers


def test_snail_goes_on_from_where_it_was_with_ragged_tasks() -> None:
    learner, episode = make(ROW["snail-given"]), ragged(float("nan"))
    support = episode.support.rows(torch.tensor([0, 3, 6, 4, 1, 2, 7, 5, 8]))  # one of each class first
    with torch.no_grad():
        whole = learner.adapt(support)
        both = learner.adapt(support.rows(slice(3, 9)), state=learner.adapt(support.rows(slice(0, 3))))
        assert torch.equal(both.length, whole.length)
        assert_close(learner.predict(both, episode.query), learner.predict(whole, episode.query))


# --- neural processes ---------------------------------------------------------------------------------


def test_cnp_against_numpy() -> None:
    """Deep sets by hand: g(x, mean of h(x, y)), and σ = 0.1 + 0.9 softplus."""
    learner, episode = make(ROW["cnp-real"]), tasks("real")
    assert isinstance(learner, CNP) and episode.support.y is not None
    with torch.no_grad():
        found = learner.distribution(learner.adapt(episode.support), episode.query)
    encoder, decoder = arrays(learner, "encoder"), arrays(learner, "decoder")
    x, y, asked = (leaf[2].numpy() for leaf in (episode.support.x, episode.support.y, episode.query.x))  # type: ignore[index]
    r = np.mean([run(encoder, np.concatenate([a, b])) for a, b in zip(x, y, strict=True)], 0)
    for q in range(len(asked)):
        raw = run(decoder, np.concatenate([asked[q], r]))
        assert np.abs(found.mean[2, q].numpy() - raw[:2]).max() < 1e-12
        assert np.abs(found.std[2, q].numpy() - 0.1 - 0.9 * np.log1p(np.exp(raw[2:]))).max() < 1e-12


def test_cnp_of_classes_against_numpy() -> None:
    """One representation a class, side by side."""
    learner, episode = make(ROW["cnp"]), tasks()
    assert isinstance(learner, CNP) and learner.rows.embed is not None and episode.support.y is not None
    with torch.no_grad():
        f, q = (learner.rows.embed.net(first_leaf(part.x)[0]).numpy() for part in (episode.support, episode.query))
    y = episode.support.y[0].numpy()
    encoder, decoder = arrays(learner, "encoder"), arrays(learner, "decoder")
    r = np.concatenate([np.mean([run(encoder, row) for row in f[y == c]], 0) for c in range(3)])
    expected = np.array([run(decoder, np.concatenate([row, r])) for row in q])
    assert np.abs(outputs(learner, episode)[0].numpy() - expected).max() < 1e-12


def test_acnp_against_numpy() -> None:
    """Two heads of attention by hand over keys and values that two perceptrons made."""
    learner, episode = make(ROW["acnp"]), tasks("real")
    assert isinstance(learner, ACNP) and episode.support.y is not None
    keys, encoder, decoder = (arrays(learner, name) for name in ("to_key", "encoder", "decoder"))
    x, y, asked = (leaf[0].numpy() for leaf in (episode.support.x, episode.support.y, episode.query.x))  # type: ignore[index]
    k = np.array([run(keys, a) for a in x])
    v = np.array([run(encoder, np.concatenate([a, b])) for a, b in zip(x, y, strict=True)])
    found = outputs(learner, episode)[0].numpy()
    for q in range(len(asked)):
        own, read = run(keys, asked[q]), []
        for head in (slice(0, 3), slice(3, 6)):
            score = np.exp(k[:, head] @ own[head] / np.sqrt(3))
            read.append(score @ v[:, head] / score.sum())
        assert np.abs(found[q] - run(decoder, np.concatenate([asked[q], *read]))[:2]).max() < 1e-12


def test_density_against_scipy_and_torch() -> None:
    raw, y = numbers("raw", 2, 5, 6), numbers("y", 2, 5, 3)
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[1, 3:] = False
    there = Gaussian.bounded(raw, 0.1)
    assert float(there.std.min()) > 0.1
    found = there.nll(Examples(y, y.masked_fill(~mask[..., None], float("nan")), Real(3), mask))
    for t, n in ((0, 5), (1, 3)):
        mean, std = there.mean[t, :n], there.std[t, :n]
        by_scipy = -np.asarray(norm.logpdf(y[t, :n].numpy(), mean.numpy(), std.numpy())).sum(1).mean()
        assert float(found[t]) == pytest.approx(by_scipy, abs=1e-12)
        by_torch = -torch.distributions.Normal(mean, std).log_prob(y[t, :n]).sum(1).mean()  # type: ignore[no-untyped-call]
        assert float(found[t]) == pytest.approx(float(by_torch), abs=1e-12)


@pytest.mark.parametrize(("name", "steps"), [("cnp", 1200), ("acnp", 600)])
def test_deviations_are_calibrated(name: str, steps: int) -> None:
    """A minute of training on sine waves: 90 % intervals hold 84 to 97 % of unseen tasks' points, and say something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        learner = (CNP if name == "cnp" else ACNP)(None, 1, "real", in_features=1, width=64)
    source = Sinusoid().tasks("train", shot=(3, 15), query=20, seed=0)
    optimizer = torch.optim.Adam(learner.parameters(), lr=2e-3)
    for step in range(steps):
        optimizer.zero_grad()
        learner.meta_loss(source.episodes(range(16 * step, 16 * step + 16))).loss.mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    episode = Sinusoid().tasks("test", shot=10, query=50, seed=0).episodes(range(200))
    with torch.no_grad():
        state: Any = learner.adapt(episode.support)
        found = learner.distribution(state, episode.query)
    assert episode.query.y is not None
    inside = ((episode.query.y - found.mean).abs() < norm.ppf(0.95) * found.std).double().mean()
    assert 0.84 < float(inside) < 0.97, float(inside)
    error = episode.query.y - found.mean
    explained = 1 - float(error.square().mean() / episode.query.y.var())
    assert explained > 0.8, explained
    # Deviations know where errors are large: likelier than one deviation for all, the best there is.
    everywhere = Gaussian(found.mean, error.square().mean().sqrt().expand_as(found.mean))
    gain = float((everywhere.nll(episode.query) - found.nll(episode.query)).mean())
    assert gain > 0.12, gain


# --- in context ---------------------------------------------------------------------------------------


def torchs_attention(q: Tensor, k: Tensor, v: Tensor, there: Tensor) -> Tensor:
    """Two heads."""
    heads = (torch.stack(part.chunk(2, 2), 1) for part in (q, k, v))
    q, k, v = heads
    read: Tensor = F.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None])
    return torch.cat(list(read.unbind(1)), 2)


def test_attention_against_torch() -> None:
    q, k, v = numbers("q", 2, 4, 6), numbers("k", 2, 5, 6), numbers("v", 2, 5, 8)
    there = torch.tensor([[True] * 5, [True, False, True, True, False]])
    assert_close(attend(q, k, v, there, 2), torchs_attention(q, k, v, there), 1e-12)
    # Each query's own key and value are one more row that only it sees.
    own_k, own_v = numbers("ok", 2, 4, 6), numbers("ov", 2, 4, 8)
    found = attend_and_self(q, (k, v), (own_k, own_v), there, 2)
    for n in range(4):
        more_k, more_v = (torch.cat([a, b[:, n : n + 1]], 1) for a, b in ((k, own_k), (v, own_v)))
        seen = torch.cat([there, torch.ones(2, 1, dtype=torch.bool)], 1)
        assert_close(found[:, n : n + 1], torchs_attention(q[:, n : n + 1], more_k, more_v, seen), 1e-12)


def test_transformer_against_torchs_own_layers() -> None:
    """The same weights in nn.TransformerEncoderLayer, support and one query at a time as one masked sequence."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours = Transformer(8, layers=2, heads=2).double()
        theirs = [nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True) for _ in "ab"]
    for layer, other in zip(ours.layers, theirs, strict=True):
        assert isinstance(layer, Layer)
        layer.to_query.weight.data.copy_(numbers("wq", 8, 8))  # as after training, unlike keys
        copy_layer(layer, other.double())
    support, queries = numbers("support", 2, 5, 8), numbers("query", 2, 3, 8)
    with torch.no_grad():
        found = ours.query(queries, ours.support(support, torch.ones(2, 5, dtype=torch.bool)))
        hidden = torch.zeros(6, 6, dtype=torch.bool)
        hidden[:5, 5] = True  # the support does not see the query
        for n in range(3):
            x = torch.cat([support, queries[:, n : n + 1]], 1)
            for other in theirs:
                x = other.train()(x, src_mask=hidden)  # training mode: the other path is fused
            assert_close(found[:, n], ours.last(x[:, 5]), 1e-10)


def copy_layer(ours: Layer, theirs: nn.TransformerEncoderLayer) -> None:
    parts = [ours.to_query, ours.to_key, ours.to_value]
    theirs.self_attn.in_proj_weight.data = torch.cat([part.weight.data for part in parts])
    theirs.self_attn.in_proj_bias.data = torch.cat([part.bias.data for part in parts])
    pairs = (
        (theirs.self_attn.out_proj, ours.join),
        (theirs.linear1, ours.widen),
        (theirs.linear2, ours.narrow),
        (theirs.norm1, ours.before),
        (theirs.norm2, ours.between),
    )
    for other, mine in pairs:
        other.load_state_dict(mine.state_dict())


@pytest.mark.parametrize("n", [2, 3, 7])
def test_corners_are_equal_in_length_and_angle(n: int) -> None:
    corners = simplex(n).double()
    expected = torch.full((n, n), -1 / (n - 1), dtype=torch.float64).fill_diagonal_(1)
    assert_close(corners @ corners.T, expected, 1e-6)


def test_label_slots_are_drawn_for_each_task_by_the_key() -> None:
    """In training a task's classes get corners at random; outside class c has corner c."""
    learner, episode = make(ROW["in-context"]), tasks()
    assert isinstance(learner, InContext)
    keys = Keys(Key.of(1), np.arange(200))
    support = tasks(n_task=200).support
    slots = learner._random_slots(support, keys)
    assert slots.shape == (200, 3) and all(len(set(row)) == 3 for row in slots.tolist())
    counts = torch.stack([(slots == corner).sum(0) for corner in range(5)])
    assert counts.min() > 20, "all five corners are used by each class"
    assert torch.equal(slots[5:7], learner._random_slots(support.tasks(slice(5, 7)), Keys(Key.of(1), np.arange(5, 7))))
    assert learner.adapt(episode.support).slots.tolist() == [[0, 1, 2]] * 3


def test_a_slot_is_only_a_name() -> None:
    """Swapping two corners in the state and the labels alike swaps nothing: logits are read off at a class's corner."""
    learner, episode = make(ROW["in-context"]), tasks()
    assert isinstance(learner, InContext)
    with torch.no_grad():
        features = learner.rows.support(episode.support)
        swapped = learner._read(features, episode.support, torch.tensor([[1, 0, 2]]).expand(3, 3))
        renamed = Examples(episode.support.x, torch.tensor([1, 0, 2])[episode.support.y], episode.support.target)
        other = learner._read(features, renamed, torch.arange(3).expand(3, 3))
        assert_close(
            learner.predict(swapped, episode.query), learner.predict(other, episode.query)[..., torch.tensor([1, 0, 2])]
        )


# --- tables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tabular", "tabular-real"])
def test_units_of_columns_do_not_matter(name: str) -> None:
    """Columns in other units, shifted, and constant columns added: the same answers."""
    learner, episode = make(ROW[name]), tasks(ROW[name].target)

    def changed(examples: Examples) -> Examples:
        assert isinstance(examples.x, Tensor)
        x = examples.x * torch.tensor([1e3, 1e-3, 7.0, 1.0]) + torch.tensor([5.0, -2.0, 100.0, 0.0])
        constant = torch.full_like(x[..., :1], 3.7)
        return Examples(torch.cat([x, constant], 2), examples.y, examples.target)

    assert_close(
        outputs(learner, Episode(changed(episode.support), changed(episode.query))), outputs(learner, episode), 1e-9
    )


def test_real_targets_keep_their_units() -> None:
    learner, episode = make(ROW["tabular-real"]), tasks("real")
    assert episode.support.y is not None
    scaled = Examples(episode.support.x, 50 * episode.support.y - 3, Real(2))
    assert_close(outputs(learner, Episode(scaled, episode.query)), 50 * outputs(learner, episode) - 3, 1e-9)


def test_a_query_far_away_does_not_overflow() -> None:
    learner, episode = make(ROW["tabular"], torch.float32), tasks(dtype=torch.float32)
    far = Examples(torch.full((3, 1, 4), 1e30), None, episode.query.target)
    nearer = Examples(torch.full((3, 1, 4), 1e10), None, episode.query.target)
    state = learner.adapt(episode.support)
    assert torch.isfinite(learner.predict(state, far)).all()
    assert torch.equal(learner.predict(state, far), learner.predict(state, nearer))


def test_entries_are_cut_at_ten_deviations() -> None:
    """At 9 one step further is told apart, at 11 it is not, however many columns there are room for."""
    learner, episode = make(ROW["tabular"]), tasks()
    assert isinstance(learner, TabularInContext) and isinstance(episode.support.x, Tensor)
    mean, deviation = episode.support.x.mean(1, keepdim=True), episode.support.x.std(1, unbiased=False, keepdim=True)

    def at(deviations: float) -> Tensor:
        query = Examples(mean + deviations * deviation, None, episode.query.target)
        with torch.no_grad():
            return learner.predict(learner.adapt(episode.support), query)

    assert_close(at(11), at(10))
    assert (at(9) - at(9.5)).abs().max() > 1e-6


@pytest.mark.parametrize("name", ["tabular", "tabular-real"])
def test_columns_and_targets_far_from_zero_count(name: str) -> None:
    """Times of day in seconds since 1970, in float64, before a float32 learner: as if counted from that day's noon."""
    learner, episode = make(ROW[name], torch.float32), tasks(ROW[name].target)

    def moved(examples: Examples, by: float) -> Examples:
        assert isinstance(examples.x, Tensor) and examples.y is not None
        y = examples.y if name == "tabular" else 600 * examples.y + by
        return Examples(600 * examples.x + by, y, examples.target)

    near, far = (Episode(moved(episode.support, by), moved(episode.query, by)) for by in (0.0, 1.7e9))
    found = [learner.predict(learner.adapt(e.support), e.query).detach() for e in (near, far)]
    assert all(part.dtype == torch.float32 for part in found)
    moved_back = found[1].double() - (1.7e9 if name == "tabular-real" else 0)
    torch.testing.assert_close(moved_back, found[0].double(), rtol=1e-4, atol=1e-4 if name == "tabular" else 128)
    # A column of one number says nothing, whatever its round-off.
    constant = Examples(torch.full((3, 9, 1), 1.7e9 + 0.1), episode.support.y, episode.support.target)
    assert isinstance(learner, TabularInContext) and float(learner.adapt(constant).scale.abs().max()) == 0


def test_many_views_forget_the_order_of_columns() -> None:
    """The difference that another order of columns makes shrinks with the number of views."""
    episode, order = tasks(), torch.tensor([2, 0, 3, 1])

    def shuffled(examples: Examples) -> Examples:
        assert isinstance(examples.x, Tensor)
        return Examples(examples.x[..., order], examples.y, examples.target)

    spread = []
    for views in (1, 64):
        learner = make(ROW["tabular"])
        assert isinstance(learner, TabularInContext)
        learner.views = views
        difference = outputs(learner, Episode(shuffled(episode.support), shuffled(episode.query)))
        spread.append(float((difference - outputs(learner, episode)).abs().mean()))
    assert spread[1] < 0.4 * spread[0]


def test_weights_are_under_a_mebibyte() -> None:
    for target in ("classes", "real"):
        learner = TabularInContext(10 if target == "classes" else 1, target)
        assert 4 * sum(p.numel() for p in learner.parameters()) < 2**20


# --- implicit gradients: the system that the authors' code solves --------------------------------------


@pytest.mark.parametrize(("damping", "shift"), [(0.0, 0.0), (1.0, 10.0)])
def test_imaml_solves_the_damped_system(damping: float, shift: float) -> None:
    """The gradient is ((1 + damping) I + H / (strength + shift))^-1 of the query's, H and all by torch and NumPy."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dampings = {"cg_damping": damping, "strength_damping": shift}
        learner = IMAML(mlp(), 3, strength=8.0, inner_steps=4, cg_steps=400, **dampings).double()  # type: ignore[arg-type]
    episode = tasks(n_task=1)
    assert episode.support.y is not None and episode.query.y is not None
    x, y, asked = first_leaf(episode.support.x)[0], episode.support.y[0], first_leaf(episode.query.x)[0]
    names = learner.model.adapted
    shapes = {name: p.shape for name, p in learner.model.named_parameters()}

    def loss(flat: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        parts = torch.split(flat, [shapes[name].numel() for name in names])
        at = {name: part.view(shapes[name]) for name, part in zip(names, parts, strict=True)}
        body = {name.removeprefix("net."): p for name, p in at.items() if name.startswith("net.")}
        features = torch.func.functional_call(learner.model.net, body, (inputs,))
        return F.cross_entropy(F.linear(features, at["head.weight"], at["head.bias"]), labels)

    start = torch.cat([p.detach().flatten() for name, p in learner.model.named_parameters() if name in names])
    end = start.clone()
    for _ in range(4):
        end.requires_grad_()
        objective = loss(end, x, y) + 4.0 * (end - start).square().sum()
        end = (end - 0.1 * torch.autograd.grad(objective, end)[0]).detach()
    hessian = torch.autograd.functional.hessian(lambda flat: loss(flat, x, y), end).numpy()  # type: ignore[no-untyped-call]
    reached = float(loss(end, x, y))
    end.requires_grad_()
    outer = torch.autograd.grad(loss(end, asked, episode.query.y[0]), end)[0].numpy()
    expected = np.linalg.solve((1 + damping) * np.eye(len(hessian)) + hessian / (8.0 + shift), outer)
    found = learner.meta_loss(episode)
    assert float(found.logs["support_loss"]) == pytest.approx(reached, abs=1e-7)
    found.loss.sum().backward()  # type: ignore[no-untyped-call]
    grads = dict(learner.model.named_parameters())
    by_name = [none_is_zero(grads[name]).flatten() for name in names]
    assert np.abs(torch.cat(by_name).numpy() - expected).max() < 1e-8


def none_is_zero(p: Tensor) -> Tensor:
    return torch.zeros_like(p) if p.grad is None else p.grad


# --- what cannot be -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mann", "snail", "cnp", "in-context", "tabular"])
def test_tasks_that_do_not_fit(name: str) -> None:
    learner, episode = make(ROW[name]), tasks()
    with pytest.raises(InputError, match=r"Cannot learn 6-way tasks: this learner has room for [35] classes"):
        learner.adapt(tasks(way=6).support)
    with pytest.raises(InputError, match=r"was built for target='classes', the tasks have Real"):
        learner.adapt(tasks("real").support)
    multi = Examples(episode.support.x, torch.zeros(3, 9, 3), MultiLabel(torch.full((3,), 3)))
    with pytest.raises(InputError, match=r"was built for target='classes', the tasks have MultiLabel"):
        learner.adapt(multi)
    assert episode.support.y is not None
    two = Examples(episode.support.x, episode.support.y.clamp(max=1), Classes(torch.full((3,), 3)))
    with pytest.raises(InputError, match=r"Class 2 of task 0 has no labelled example in the support"):
        learner.adapt(two)
    state = learner.adapt(episode.support.tasks(slice(0, 1)))
    with pytest.raises(InputError, match=r"Cannot predict: the state is of 1 tasks, the query of 3"):
        learner.predict(state, episode.query)


@pytest.mark.parametrize("name", ["snail-real", "cnp-real", "acnp", "in-context-real", "tabular-real"])
def test_real_targets_that_do_not_fit(name: str) -> None:
    learner, episode = make(ROW[name]), tasks("real")
    assert episode.support.y is not None
    one = Examples(episode.support.x, episode.support.y[..., :1], Real(1))
    with pytest.raises(InputError, match=r"built for 2 real values an example, the tasks have 1\. Build it with"):
        learner.adapt(one)
    with pytest.raises(InputError, match=r"was built for target='real', the tasks have Classes"):
        learner.adapt(tasks().support)


@pytest.mark.parametrize("name", ["in-context", "tabular"])
def test_nothing_can_be_added_to_what_was_read(name: str) -> None:
    learner, episode = make(ROW[name]), tasks()
    with pytest.raises(InputError, match=r"cannot go on from a state: fit it to all examples at once"):
        learner.adapt(episode.support, state=learner.adapt(episode.support))


@pytest.mark.parametrize(
    ("build", "known"),
    [(MANN, "classes"), (SNAIL, "classes, real"), (CNP, "classes, real"), (InContext, "classes, real")],
)
def test_targets_that_they_cannot_have_are_refused_when_built(build: Any, known: str) -> None:
    with pytest.raises(InputError, match=rf"{build.__name__} has no target 'multi-label'\. Use one of {known}\."):
        build(None, 3, "multi-label", in_features=4)
    with pytest.raises(InputError, match=r"TabularInContext has no target 'multi-label'\. Use one of classes, real\."):
        TabularInContext(3, "multi-label")  # type: ignore[arg-type]
    if build in (MANN, SNAIL):
        with pytest.raises(InputError, match=rf"{build.__name__} has no order 'random'\. Use one of drawn, given\."):
            build(None, 3, in_features=4, order="random")


def test_options_that_make_no_sense() -> None:
    for build in (MANN, SNAIL, CNP, ACNP, InContext):
        with pytest.raises(InputError, match=r"needs to know its size, received outputs=None\. Pass outputs="):
            build(in_features=4)
    with pytest.raises(InputError, match=r"TabularInContext needs to know its size, received outputs=None"):
        TabularInContext()
    with pytest.raises(InputError, match=r"Cannot tell how many numbers describe one example\. Pass in_features="):
        CNP(outputs=3)
    with pytest.raises(InputError, match=r"min_std bounds deviations from below: .* received 0"):
        CNP(outputs=1, target="real", in_features=1, min_std=0)
    with pytest.raises(InputError, match=r"ACNP predicts real values, not 'classes'\. For classes use CNP"):
        ACNP(outputs=3, target="classes", in_features=4)
    with pytest.raises(InputError, match=r"width must be a multiple of its heads, received 10 and 4"):
        ACNP(outputs=1, in_features=4, width=10, heads=4)
    with pytest.raises(InputError, match=r"A CNP of classes predicts no values\. Ask predict"):
        learner = make(ROW["cnp"])
        assert isinstance(learner, CNP)
        learner.distribution(learner.adapt(tasks().support), tasks().query)
    with pytest.raises(InputError, match=r"Cannot build a memory: .* received hidden=200, slots=2, width=40, heads=4"):
        MANN(outputs=5, in_features=4, slots=2)
    with pytest.raises(InputError, match=r"SNAIL needs a length of at least 2 .* received length=1"):
        SNAIL(outputs=5, in_features=4, length=1)
    with pytest.raises(InputError, match=r"Cannot build a transformer of width 10 with 4 layers and 4 heads"):
        InContext(outputs=5, in_features=4, width=10)
    with pytest.raises(InputError, match=r"needs at least one column and one view, received 0 and 8"):
        TabularInContext(5, max_features=0)
    with pytest.raises(InputError, match=r"layers need at least one unit each, received \(3, 0, 2\)"):
        perceptron([3, 0, 2])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_no_query_has_no_answers(row: Any) -> None:
    learner, episode = make(row), tasks(row.target)
    found = learner.predict(learner.adapt(episode.support), episode.query.rows(slice(0, 0)))
    assert found.shape == (3, 0, 2 if row.target == "real" else 3)


@pytest.mark.parametrize("name", ["mann", "snail", "cnp", "in-context", "tabular"])
def test_query_labels_are_checked_in_training(name: str) -> None:
    learner, episode = make(ROW[name]), tasks()
    assert episode.query.y is not None
    wrong = Examples(episode.query.x, episode.query.y.masked_fill(episode.query.y == 2, 7), episode.query.target)
    with pytest.raises(InputError, match=r"query\.y: expected class numbers 0 \.\. 2 .* found 7"):
        learner.meta_loss(Episode(episode.support, wrong))
    with pytest.raises(InputError, match=r"Cannot train: the query carries no labels"):
        learner.meta_loss(Episode(episode.support, episode.query.unlabelled()))


def test_a_density_needs_labels() -> None:
    there = Gaussian.bounded(numbers("raw", 1, 2, 2), 0.1)
    with pytest.raises(InputError, match=r"Cannot compute a loss: these examples carry no labels"):
        there.nll(Examples(numbers("x", 1, 2, 1), None, Real(1)))


def test_examples_of_another_size() -> None:
    learner = make(ROW["mann"])
    wide = Examples(numbers("wide", 1, 3, 7), torch.arange(3)[None], Classes(torch.tensor([3])))
    with pytest.raises(InputError, match=r"built for 4 numbers an example, received 7\. Build it with in_features=7"):
        learner.adapt(wide)
    table = make(ROW["tabular"])
    with pytest.raises(InputError, match=r"Cannot read tables of 7 columns: this learner has room for 6"):
        table.adapt(wide)
    with pytest.raises(InputError, match=r"The support had 4 columns, these rows have 5\. Give every row all columns"):
        table.predict(
            table.adapt(tasks().support.tasks(slice(0, 1))), Examples(numbers("q", 1, 2, 5), None, wide.target)
        )
