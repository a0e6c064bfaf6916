"""Every learner of the table against every law. Seen to fail by mutating the code each law guards."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Key, Keys
from quickstudy.learners import MAML, AbstractLearner, ProtoNet, Reptile, Traits
from quickstudy.train import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from tests.table import FEATURES, ROWS, Row, TakesDict, assert_close, make, numbers, outputs, ragged, tasks


def those(fits: Callable[[Row, Traits], bool]) -> pytest.MarkDecorator:
    """The rows of which a law speaks, by their traits."""
    rows = [row for row in ROWS if fits(row, make(row).traits)]
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


every = those(lambda row, traits: True)
trainable = those(lambda row, traits: traits.trainable)
any_way = those(lambda row, traits: traits.any_way)
# Reptile's and fine-tuning's meta-losses are not query losses: test_oracles.py holds them to their own formulas.
follows_query = those(lambda row, traits: row.smooth and traits.trainable and row.follows_query)


def gradients(learner: AbstractLearner, episode: Episode) -> list[Tensor]:
    learner.zero_grad()
    learner.meta_loss(episode).loss.sum().backward()  # type: ignore[no-untyped-call]
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in learner.parameters()]


@every
def test_inductive_or_says_that_it_is_not(row: Row) -> None:
    """Permuting, splitting and dropping queries changes no prediction, unless the learner declares it."""
    learner, episode = make(row), tasks(row.target)
    whole = outputs(learner, episode)
    order = torch.tensor([7, 2, 11, 0, 1, 3, 4, 5, 6, 8, 9, 10])
    changed = [
        (outputs(learner, replace(episode, query=episode.query.rows(which))), whole[:, which])
        for which in (order, torch.arange(4), torch.tensor([5]))
    ]
    if learner.traits.transductive:
        assert (changed[1][0] - changed[1][1]).abs().max() > 1e-3, "declared transductive, but queries do not interact"
        return
    for alone, together in changed:
        assert_close(alone, together, row.tolerance)


@any_way
def test_padding_does_not_matter(row: Row) -> None:
    """NaN in every padded entry changes no output, loss or gradient; each task equals itself without padding."""
    learner = make(row)
    clean, dirty = ragged(0.0), ragged(float("nan"))
    assert torch.equal(outputs(learner, clean), outputs(learner, dirty))
    for t in range(3):
        alone = Episode(dirty.support.task(t), dirty.query.task(t))
        keys = None if t == 0 else Keys(Key.of(0), np.array([t]))
        with torch.no_grad():
            state = learner.adapt(alone.support, key=keys)
            unpadded = learner.predict(state, alone.query.unlabelled(), key=keys)
        together = outputs(learner, dirty)[t][dirty.query.real[t]][None]
        assert_close(together[..., : unpadded.shape[2]], unpadded, row.tolerance)
        assert (together[..., int(dirty.query.target.way[t]) :] == -torch.inf).all()  # type: ignore[union-attr]
    if learner.traits.trainable:
        learner.train()
        clean_loss, dirty_loss = learner.meta_loss(clean).loss, learner.meta_loss(dirty).loss
        assert torch.isfinite(dirty_loss).all() and torch.equal(clean_loss, dirty_loss)
        for a, b in zip(gradients(learner, clean), gradients(learner, dirty), strict=True):
            assert torch.isfinite(b).all() and torch.equal(a, b)


@those(lambda row, traits: traits.order_invariant)
def test_order_of_the_support(row: Row) -> None:
    learner, episode = make(row), tasks(row.target)
    shuffled = replace(episode, support=episode.support.rows(torch.tensor([3, 8, 0, 5, 1, 7, 2, 6, 4])))
    assert_close(outputs(learner, episode), outputs(learner, shuffled), row.tolerance)


@those(lambda row, traits: row.target == "classes" and traits.renames)
def test_renaming_classes_renames_predictions(row: Row) -> None:
    learner, episode = make(row), tasks(row.target)
    new_name = torch.tensor([2, 0, 1])
    assert episode.support.y is not None
    renamed = replace(episode, support=replace(episode.support, y=new_name[episode.support.y]))
    assert_close(outputs(learner, renamed)[..., new_name], outputs(learner, episode), row.tolerance)


@every
def test_same_key_same_result_and_tasks_do_not_touch(row: Row) -> None:
    """A batch of tasks equals a loop over them, with the same key."""
    learner, episode = make(row), tasks(row.target)
    keys = Keys(Key.of(7), np.arange(3))
    with torch.no_grad():
        whole = learner.predict(learner.adapt(episode.support, key=keys), episode.query, key=keys)
        again = learner.predict(learner.adapt(episode.support, key=keys), episode.query, key=keys)
        assert torch.equal(whole, again)
        for t in range(3):
            one, key = episode.tasks(slice(t, t + 1)), Keys(Key.of(7), np.arange(t, t + 1))
            alone = learner.predict(learner.adapt(one.support, key=key), one.query, key=key)
            assert_close(alone, whole[t : t + 1], row.tolerance)


@every
def test_adapting_and_predicting_write_nothing(row: Row) -> None:
    """Weights, buffers, training flags, inputs and every global generator are as before."""
    learner, episode = make(row), tasks(row.target)
    before = {n: v.clone() for n, v in learner.state_dict().items()}
    flags = [m.training for m in learner.modules()]
    x = episode.support.x.clone()  # type: ignore[union-attr]
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    state = generators()
    outputs(learner, episode)
    if learner.traits.trainable:
        learner.train()
        learner.meta_loss(episode)
        learner.eval()
    assert [m.training for m in learner.modules()] == flags
    assert all(torch.equal(before[n], v) for n, v in learner.state_dict().items())
    assert torch.equal(x, episode.support.x)  # type: ignore[arg-type]
    assert generators() == state


def generators() -> tuple[str, str, object]:
    """The states of torch's, NumPy's and Python's global generators."""
    return repr(torch.get_rng_state().tolist()), repr(np.random.get_state()), random.getstate()


@every
def test_save_and_load_give_the_same_predictions(row: Row, tmp_path) -> None:  # type: ignore[no-untyped-def]
    learner, other, episode = make(row, seed=1), make(row, seed=2), tasks(row.target)
    expected = outputs(learner, episode)
    save_checkpoint(tmp_path / "last", Checkpoint(learner.state_dict(), {}, {}))
    load_weights(other, load_checkpoint(tmp_path / "last"), tmp_path)
    assert torch.equal(outputs(other, episode), expected)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(row: Row, dtype: torch.dtype) -> None:
    learner = make(row, dtype)
    out = outputs(learner, tasks(row.target, dtype=dtype))
    assert out.dtype == dtype
    if learner.traits.trainable:
        assert learner.meta_loss(tasks(row.target, dtype=dtype)).loss.dtype == dtype


@trainable
def test_strategies_agree(row: Row) -> None:
    """Loop, vmap and batched form: same loss and gradients."""
    episode = tasks(row.target)
    found = []
    for strategy in ("loop", "vmap", "batched"):
        learner = make(row)
        holders = [part for part in learner.modules() if hasattr(part, "strategy")]
        if strategy == "batched" and not all(hasattr(holder.net, "batched") for holder in holders):
            continue
        for holder in holders:
            setattr(holder, "strategy", strategy)  # noqa: B010
        learner.train()
        found.append([learner.meta_loss(episode).loss, *gradients(learner, episode)])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert_close(a, b, row.tolerance)


@trainable
def test_chunks_give_the_same_gradient(row: Row) -> None:
    """``tasks_at_once`` changes nothing (a learner that carries state absorbs it between chunks)."""
    episode = tasks(row.target)
    found = []
    for at_once in (3, 2, 1):
        learner = make(row).train()
        for chunk in episode.chunks(at_once):
            out = learner.meta_loss(chunk, key=Keys(Key.of(5), chunk.indices.numpy()))
            out.loss.sum().backward()  # type: ignore[no-untyped-call]
            learner.absorb(out.carried)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in learner.parameters()]
        found.append(grads + list(learner.buffers()))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert_close(a, b, row.tolerance)


@those(lambda row, traits: traits.any_way and traits.trainable)
def test_ragged_chunks_give_the_same_gradient(row: Row) -> None:
    """A task does not notice how long its neighbours in the chunk are."""
    found = []
    for at_once in (3, 1):
        learner, total = make(row).train(), []
        for chunk in ragged(float("nan")).chunks(at_once):
            out = learner.meta_loss(chunk, key=Keys(Key.of(5), chunk.indices.numpy()))
            out.loss.sum().backward()  # type: ignore[no-untyped-call]
            total.append(out.loss.detach())
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in learner.parameters()]
        found.append([torch.cat(total), *grads])
    for a, b in zip(*found, strict=True):
        assert_close(a, b, 1e-9)


@those(lambda row, traits: traits.incremental)
def test_more_examples_later(row: Row) -> None:
    """What declares itself incremental learns the same in two parts as at once."""
    learner, episode = make(row), tasks(row.target)
    first, second = torch.tensor([0, 1, 3, 6]), torch.tensor([2, 4, 5, 7, 8])
    with torch.no_grad():
        state = learner.adapt(episode.support.rows(first))
        # The second part alone need not hold every class.
        state = learner.adapt(episode.support.rows(second), state=state)
        assert_close(learner.predict(state, episode.query), outputs(learner, episode))


@every
def test_evaluation_builds_no_graph(row: Row) -> None:
    learner = make(row)
    out = outputs(learner, tasks(row.target))
    assert not out.requires_grad and out.grad_fn is None


@follows_query
def test_meta_gradient_is_exact_where_promised(row: Row) -> None:
    """Central differences of the query loss in float64; first-order learners must fail them."""
    learner, episode = make(row), tasks(row.target)
    grads = gradients(learner, episode)
    parameters = list(learner.parameters())
    along = [torch.sin(torch.arange(p.numel(), dtype=p.dtype) + 1).reshape(p.shape) for p in parameters]

    def loss_at(step: float) -> float:
        with torch.no_grad():
            for p, d in zip(parameters, along, strict=True):
                p.add_(d, alpha=step)
            # Some learners take fewer steps in training than in adapt: the loss that is trained is meta_loss.
            with torch.enable_grad():
                value = float(learner.meta_loss(episode).loss.sum().detach())
            for p, d in zip(parameters, along, strict=True):
                p.sub_(d, alpha=step)
        return value

    h = 1e-5
    measured = (8 * (loss_at(h) - loss_at(-h)) - (loss_at(2 * h) - loss_at(-2 * h))) / (12 * h)
    claimed = float(sum((g * d).sum() for g, d in zip(grads, along, strict=True)))
    exact = abs(claimed - measured) < 1e-7 * max(1, abs(measured))
    assert exact == learner.traits.exact_meta_gradient, (claimed, measured)


@pytest.mark.parametrize(
    "learner",
    [ProtoNet(TakesDict()), MAML(TakesDict(), head="shared", inner_steps=2), Reptile(TakesDict(), 3)],
    ids=lambda learner: type(learner).__name__,
)
def test_dict_inputs(learner: AbstractLearner) -> None:
    """A dict of tensors goes where a tensor goes."""
    learner = learner.double().eval()

    def split(examples: Examples) -> Examples:
        assert isinstance(examples.x, Tensor)
        return replace(examples, x={"left": examples.x[..., :3], "right": examples.x[..., 3:]})

    episode = tasks()
    episode = replace(episode, support=split(episode.support), query=split(episode.query))
    assert outputs(learner, episode).shape == (3, 12, 3)
    assert torch.isfinite(learner.meta_loss(episode).loss).all()


def test_a_set_of_fewer_classes_adds_to_those_it_names() -> None:
    learner, episode = make(ROWS[0]), tasks()
    assert isinstance(learner, ProtoNet)
    with torch.no_grad():
        state = learner.adapt(episode.support)
        more = replace(episode.support.rows(slice(0, 1)), target=Classes(torch.ones(3, dtype=torch.int64)))
        assert learner.adapt(more, state=state).counts.tolist() == [[4, 3, 3]] * 3


def test_frozen_after_it_was_built_still_adapts() -> None:
    """An evaluation may freeze everything, with gradients on; inference mode is refused with a sentence."""
    learner, episode = make({row.name: row for row in ROWS}["maml"]), tasks()
    expected = outputs(learner, episode)
    learner.requires_grad_(False)
    assert_close(learner.predict(learner.adapt(episode.support), episode.query).detach(), expected)
    with torch.inference_mode(), pytest.raises(InputError, match=r"Cannot adapt under torch\.inference_mode\(\)"):
        learner.adapt(episode.support)


def test_new_classes_join_a_prototypical_network() -> None:
    learner, episode = make(ROWS[0]), tasks()
    two = replace(episode.support.rows(slice(0, 6)), target=Classes(torch.full((3,), 2)))
    with torch.no_grad():
        state = learner.adapt(episode.support.rows(slice(6, 9)), state=learner.adapt(two))
        assert_close(learner.predict(state, episode.query), outputs(learner, episode))


@pytest.mark.parametrize("name", ["protonet", "maml-shared", "maml-proto", "knn-3"])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_raggedness(name: str, data: st.DataObject) -> None:
    """Tasks of any ways, shots and queries: stacked and padded, each is answered as alone."""
    learner = make({row.name: row for row in ROWS}[name])
    episodes = []
    for number in range(data.draw(st.integers(1, 3))):
        shots = data.draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
        y = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))[None]
        way = Classes(torch.tensor([len(shots)]))
        n_query = data.draw(st.integers(1, 4))
        asked = (torch.arange(n_query) % len(shots))[None]
        support = Examples(numbers(f"s{number}", 1, len(y[0]), FEATURES), y, way)
        episodes.append(Episode(support, Examples(numbers(f"q{number}", 1, n_query, FEATURES), asked, way)))
    together = Episode(Examples.stack([e.support for e in episodes]), Examples.stack([e.query for e in episodes]))
    said, losses = outputs(learner, together), learner.loss(outputs(learner, together), together.query)
    for t, one in enumerate(episodes):
        alone = outputs(learner, one)
        assert_close(said[t, : alone.shape[1], : alone.shape[2]], alone[0])
        assert_close(losses[t], learner.loss(alone, one.query)[0])


@every
def test_a_support_that_cannot_be_learned_from_is_refused(row: Row) -> None:
    learner, support = make(row), tasks(row.target).support
    with pytest.raises(InputError, match=r"Cannot adapt: the support carries no labels"):
        learner.adapt(support.unlabelled())
    assert isinstance(support.x, Tensor)
    with pytest.raises(InputError, match=r"support\.x: expected finite numbers, found NaN .* in task 1, row 2"):
        nan = support.x.clone()
        nan[1, 2] = float("nan")
        learner.adapt(replace(support, x=nan))
    if row.target == "classes":
        assert support.y is not None
        with pytest.raises(InputError, match=r"support\.y: expected class numbers 0 \.\. 2 .* found 7 in row 0"):
            wrong = support.y.clone()
            wrong[0, 0] = 7
            learner.adapt(replace(support, y=wrong))


@pytest.mark.parametrize("name", ["protonet", "maml", "fine-tune"])
def test_a_state_answers_for_its_own_tasks(name: str) -> None:
    learner, episode = make({row.name: row for row in ROWS}[name]), tasks()
    state = learner.adapt(episode.support.tasks(slice(0, 1)))
    with pytest.raises(InputError, match=r"Cannot predict: the state is of 1 tasks, the query of 3"):
        learner.predict(state, episode.query)
