"""Every learner of the table against every law, and what only some of them have to hold.

The laws stand in ``quickstudy.doctor``, which exports them to other packages; each was seen to fail on a learner broken
for it (``tests/doctor/test_suite.py``) and by mutating the code that it guards.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quickstudy.doctor import LAWS, Law, Subject
from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.learners import MAML, AbstractLearner, ProtoNet, Reptile
from tests.table import FEATURES, ROWS, Row, TakesDict, assert_close, make, numbers, outputs, tasks


def subject(row: Row) -> Subject:
    return Subject(row.build, row.target, None, row.tolerance, row.smooth, row.follows_query)


@pytest.mark.parametrize(
    ("law", "row"),
    [
        pytest.param(law, row, id=f"{law.name}-{row.name}")
        for row in ROWS
        for law in LAWS.values()
        if law.applies(subject(row))
    ],
)
def test_law(law: Law, row: Row) -> None:
    law.check(subject(row))


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


@pytest.mark.parametrize("name", ["protonet", "maml", "fine-tune"])
def test_a_state_answers_for_its_own_tasks(name: str) -> None:
    learner, episode = make({row.name: row for row in ROWS}[name]), tasks()
    state = learner.adapt(episode.support.tasks(slice(0, 1)))
    with pytest.raises(InputError, match=r"Cannot predict: the state is of 1 tasks, the query of 3"):
        learner.predict(state, episode.query)
