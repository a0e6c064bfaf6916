"""Every learner of the table against every law, and what only some of them have to hold.

The laws stand in ``quickstudy.doctor``, which exports them to other packages; each was seen to fail on a learner broken
for it (``tests/doctor/test_suite.py``) and by mutating the code that it guards.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from quickstudy.doctor import LAWS, Law, Subject
from quickstudy.episode import Classes, Examples
from quickstudy.errors import InputError
from quickstudy.learners import MAML, AbstractLearner, ProtoNet, Reptile
from quickstudy.nets.norms import needs_support_moments, uses_current_rows
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


@pytest.mark.parametrize("name", ["protonet", "maml", "matching", "ridge", "cnp"])
def test_predicting_can_be_mapped_and_differentiated(name: str) -> None:
    """What refuses NaN reads values, which torch.func.vmap does not allow; it must not stand in the way there."""
    learner, episode = make({row.name: row for row in ROWS}[name]), tasks()
    state, x = learner.adapt(episode.support), episode.query.x
    assert isinstance(x, Tensor)

    def said(x: Tensor) -> Tensor:
        return learner.predict(state, replace(episode.query, x=x).unlabelled())

    two = torch.stack([x, x + 0.1])
    assert_close(torch.func.vmap(said)(two), torch.stack([said(x), said(x + 0.1)]))
    mapped = torch.func.vmap(torch.func.grad(lambda x: said(x).sum()))(two)
    assert_close(mapped[0], torch.func.grad(lambda x: said(x).sum())(x))


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in ROWS
        if row.target == "classes" and not (uses_current_rows(make(row)) or needs_support_moments(make(row)))
    ],
    ids=lambda row: row.name,
)
def test_what_stands_in_support_rows_without_a_label_does_not_matter(row: Row) -> None:
    """Norms over the support aside, ours look at labelled rows alone (a minibatch may hold others, for nothing)."""
    learner, episode = make(row), tasks()
    said = []
    for name in ("one", "another"):
        strays = Examples(3 * numbers(name, 3, 2, FEATURES), torch.full((3, 2), -1), episode.support.target)
        support = episode.support.followed_by(strays).rows(torch.tensor([0, 9, 1, 2, 3, 10, 4, 5, 6, 7, 8]))
        said.append(outputs(learner, replace(episode, support=support)))
    assert_close(said[0], said[1], row.tolerance)


@pytest.mark.parametrize("row", [row for row in ROWS if make(row).traits.trainable], ids=lambda row: row.name)
def test_tasks_that_cannot_be_scored_are_not_trained_on(row: Row) -> None:
    """In a loop of one's own, too, where no engine looks at episodes: one sentence, no figure and no IndexError."""
    learner, episode = make(row).train(), tasks(row.target)
    query = episode.query
    assert isinstance(query.x, Tensor) and query.y is not None
    with pytest.raises(InputError, match=r"carr(y|ies) no labels|Episode\.classes"):
        learner.meta_loss(replace(episode, query=query.unlabelled()))
    x = query.x.clone()
    x[1, 2] = torch.nan
    with pytest.raises(InputError, match=r"query\.x: expected finite numbers, found NaN .* in task 1, row 2"):
        learner.meta_loss(replace(episode, query=replace(query, x=x)))
    if row.target == "classes":
        with pytest.raises(InputError, match=r"query\.y: expected class numbers 0 \.\. 2 .* found 3"):
            learner.meta_loss(replace(episode, query=replace(query, y=query.y + 1)))
