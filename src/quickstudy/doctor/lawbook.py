"""Floor 5: the laws of what a learner answers and refuses, each a function of a :class:`Subject`.

A law raises AssertionError with a sentence. Which laws speak of a learner is read off its traits. Those of training
stand in ``traininglaws.py``; ``suite.py`` exports them all.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from quickstudy.doctor.law import Subject, close, every, hold, law, refused
from quickstudy.doctor.measures import (
    apart_and_together,
    generators,
    outputs,
    query_portions,
    tensors_of,
    whole_gradients,
)
from quickstudy.episode import Classes, Episode, Examples
from quickstudy.keys import Key, Keys, uniform
from quickstudy.learners.states import load_state, move_state, save_state
from quickstudy.train import Checkpoint, load_checkpoint, load_weights, save_checkpoint

__all__: list[str] = []  # laws are found in LAWS


@every
def inductive_or_says_that_it_is_not(subject: Subject) -> None:
    """Permuting, splitting and dropping queries changes no prediction, unless the learner declares it."""
    learner, tolerance = subject.make(), subject.tolerance
    for name, apart, together in query_portions(learner, subject.episode()):
        if not learner.traits.transductive:
            close(apart, together, tolerance, f"predictions changed when the queries were {name}")
        elif name == "split":
            moved = float((apart - together).abs().nan_to_num(0).max())
            hold(moved > 1e-3, "declared transductive, but queries do not interact")


@every
def padding_does_not_matter(subject: Subject) -> None:
    """NaN in every padded entry changes no output, loss or gradient; each task equals itself without padding."""
    learner = subject.make()
    clean, dirty = subject.ragged(0.0), subject.ragged(float("nan"))
    together = outputs(learner, dirty)
    hold(torch.equal(outputs(learner, clean), together), "what stands in padded entries changes outputs")
    for t in range(dirty.n_task):
        alone = Episode(dirty.support.task(t), dirty.query.task(t))
        unpadded = outputs(learner, alone, Keys(Key.of(0), np.array([t])))  # the default key's number t
        mine = together[t][dirty.query.real[t]][None]
        close(mine[..., : unpadded.shape[2]], unpadded, subject.tolerance, f"task {t} is not what it is unpadded")
        if isinstance(dirty.query.target, Classes):
            absent = mine[..., int(dirty.query.target.way[t]) :]
            hold((absent == -torch.inf).all(), f"classes that task {t} does not have got a logit other than -inf")
    if learner.traits.trainable:
        learner.train()
        losses = [learner.meta_loss(episode).loss for episode in (clean, dirty)]
        hold(torch.isfinite(losses[1]).all() and torch.equal(*losses), "padded entries change the meta-loss")
        for a, b in zip(whole_gradients(learner, clean), whole_gradients(learner, dirty), strict=True):
            hold(torch.isfinite(b).all() and torch.equal(a, b), "padded entries change the meta-gradient")


@law(lambda subject, traits: traits.order_invariant)
def the_order_of_the_support_does_not_matter(subject: Subject) -> None:
    """Shuffled support, same predictions."""
    learner, episode = subject.make(), subject.episode()
    order = torch.from_numpy(Key.of(0, "support").bits(np.arange(1), episode.support.n_example)[0].argsort().copy())
    shuffled = replace(episode, support=episode.support.rows(order))
    close(outputs(learner, episode), outputs(learner, shuffled), subject.tolerance, "the order of the support matters")


@law(lambda subject, traits: traits.renames and isinstance(subject.episode().support.target, Classes))
def renaming_classes_renames_predictions(subject: Subject) -> None:
    """The head does not know label numbers."""
    learner, episode = subject.make(), subject.episode()
    new_name = torch.arange(episode.support.max_way).roll(1)
    y = episode.support.y
    assert y is not None
    renamed = replace(episode, support=replace(episode.support, y=new_name[y]))
    found, expected = outputs(learner, renamed)[..., new_name], outputs(learner, episode)
    close(found, expected, subject.tolerance, "renaming the classes changes more than their names")


@every
def same_key_same_result_and_tasks_do_not_touch(subject: Subject) -> None:
    """A batch of tasks equals a loop over them, with the same key."""
    learner, episode = subject.make(), subject.episode()
    keys = Keys(Key.of(7), np.arange(episode.n_task))
    same = torch.equal(outputs(learner, episode, keys), outputs(learner, episode, keys))
    hold(same, "the same key gives another result")
    numbered = replace(episode, index=torch.arange(episode.n_task))
    apart, together = apart_and_together(learner, numbered, loss=False)
    close(apart, together, subject.tolerance, "a task's predictions depend on the tasks beside it")


@every
def adapting_and_predicting_write_nothing(subject: Subject) -> None:
    """Weights, buffers, training flags, inputs and every global generator are as before."""
    learner, episode = subject.make(), subject.episode()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    x = [leaf.clone() for leaf in tensors_of(episode.support.x)]
    state = generators()
    outputs(learner, episode)
    hold(not any(layer.training for layer in learner.modules()), "training flags changed while predicting")
    if learner.traits.trainable:
        learner.train()
        flags = [layer.training for layer in learner.modules()]  # frozen parts may stay in eval mode
        learner.meta_loss(episode)
        hold(flags == [layer.training for layer in learner.modules()], "training flags changed in meta_loss")
    changed = [name for name, value in learner.state_dict().items() if not torch.equal(before[name], value)]
    hold(not changed, f"written: {', '.join(changed)}")
    hold(all(map(torch.equal, x, tensors_of(episode.support.x))), "the support's inputs were written")
    hold(generators() == state, "a global generator was used; draw from the key instead")


@every
def save_and_load_give_the_same_predictions(subject: Subject) -> None:
    """A checkpoint holds all that a learner knows, and a state can be written to a file and read."""
    learner, other, episode = subject.make(seed=1), subject.make(seed=2), subject.episode()
    expected = outputs(learner, episode)
    with tempfile.TemporaryDirectory() as name:
        save_checkpoint(Path(name) / "last", Checkpoint(learner.state_dict(), {}, {}))
        load_weights(other, load_checkpoint(Path(name) / "last"), Path(name))
    hold(torch.equal(outputs(other, episode), expected), "a learner with these weights loaded says something else")
    with torch.no_grad():
        with tempfile.TemporaryDirectory() as name:
            save_state(Path(name) / "state", learner.adapt(episode.support), learner)
            state = load_state(Path(name) / "state", learner)
        said = learner.predict(state, episode.query.unlabelled())
        # Not to the last bit: tensors that were expanded come back laid out otherwise, and products round otherwise.
        close(said, expected, subject.tolerance, "a saved state is another one")
        away = {str(leaf.device) for leaf in tensors_of(move_state(state, "meta"))}
        hold(away <= {"meta"}, "a moved state has tensors that stayed behind")


@every
def dtype_is_kept(subject: Subject) -> None:
    """float32 gives float32, float64 gives float64."""
    for dtype in (torch.float32, torch.float64):
        learner, episode = subject.make(dtype), subject.episode(dtype)
        found = outputs(learner, episode).dtype
        hold(found == dtype, f"outputs of a {dtype} learner are {found}")
        if learner.traits.trainable:
            found = learner.meta_loss(episode).loss.dtype
            hold(found == dtype, f"the meta-loss of a {dtype} learner is {found}")


@law(lambda subject, traits: traits.incremental)
def more_examples_later(subject: Subject) -> None:
    """What declares itself incremental learns the same in two parts as at once."""
    learner, episode = subject.make(), subject.episode()
    drawn = uniform(Key.of(0, "later").bits(np.arange(1), episode.support.n_example))[0] < 0.5
    first = torch.from_numpy(drawn)
    y = episode.support.y
    if isinstance(episode.support.target, Classes) and y is not None:
        first = first | (y[:1, :, None] == y[:1, None, :]).tril(-1).any(2).logical_not()[0]  # one of each class
    with torch.no_grad():
        state = learner.adapt(episode.support.rows(first.nonzero()[:, 0]))
        # The second part alone need not hold every class.
        state = learner.adapt(episode.support.rows((~first).nonzero()[:, 0]), state=state)
        found = learner.predict(state, episode.query.unlabelled())
    close(found, outputs(learner, episode), subject.tolerance, "adapting in two parts is not adapting at once")


@every
def evaluation_builds_no_graph(subject: Subject) -> None:
    """Under ``no_grad`` nothing remembers how it was computed."""
    learner, episode = subject.make(), subject.episode()
    with torch.no_grad():
        state = learner.adapt(episode.support)
        out = learner.predict(state, episode.query.unlabelled())
    hold(not out.requires_grad, "outputs computed under no_grad require gradients")
    hold(not any(part.grad_fn is not None for part in tensors_of(state)), "a state made under no_grad keeps a graph")


@every
def a_state_belongs_to_its_tasks(subject: Subject) -> None:
    """Each tensor of a state has the task axis first."""
    learner, episode = subject.make(), subject.episode()
    with torch.no_grad():
        state = learner.adapt(episode.support)
    wrong = [list(part.shape) for part in tensors_of(state) if part.dim() == 0 or part.shape[0] != episode.n_task]
    hold(not wrong, f"tensors of the state without the task axis [{episode.n_task}, ...] first: shapes {wrong}")


@every
def a_support_that_cannot_be_learned_from_is_refused(subject: Subject) -> None:
    """No labels, NaN, labels out of range: one sentence each."""
    learner, support = subject.make(), subject.episode().support
    refused(r"Cannot adapt: the support carries no labels", lambda: learner.adapt(support.unlabelled()))
    if isinstance(support.x, Tensor) and support.x.is_floating_point():
        nan = support.x.clone()
        nan[1, 2] = float("nan")
        broken = replace(support, x=nan)
        refused(r"support\.x: expected finite numbers, found NaN .* in task 1, row 2", lambda: learner.adapt(broken))
    if isinstance(support.target, Classes) and support.y is not None:
        learner_of_wrong = _with_label(support, 7 + support.max_way)
        refused(r"support\.y: expected class numbers 0 \.\. \d+ .* in row 0", lambda: learner.adapt(learner_of_wrong))


@every
def a_query_that_cannot_be_answered_is_refused(subject: Subject) -> None:
    """NaN, infinity, or tasks of another number than the state's: one sentence each."""
    learner, episode = subject.make(), subject.episode()
    state, query = learner.adapt(episode.support), episode.query.unlabelled()
    fewer = query.tasks(slice(0, query.n_task - 1))
    sentence = rf"Cannot predict: the state is of {query.n_task} tasks, the query of {query.n_task - 1}\."
    refused(sentence, lambda: learner.predict(state, fewer))
    if isinstance(query.x, Tensor) and query.x.is_floating_point():
        for wrong in (float("nan"), float("inf")):
            broken = query.x.clone()
            broken[1, 2] = wrong
            asked = replace(query, x=broken)
            sentence = r"query\.x: expected finite numbers, found NaN .* in task 1, row 2"
            refused(sentence, lambda asked=asked: learner.predict(state, asked))  # type: ignore[misc]


@law(lambda subject, traits: isinstance(subject.episode().support.target, Classes))
def rows_without_a_label_are_of_no_class(subject: Subject) -> None:
    """Unlabelled rows break nothing, and no class is theirs.

    That they count for nothing would be too much to ask: norms over the support see them, a minibatch may hold them,
    and a semi-supervised learner reads them.
    """
    learner, episode = subject.make(), subject.episode()
    last = episode.support.max_way - 1
    for which, label, another in (("first", 0, last), ("last", last, 0)):
        # Queries of other classes: where they already are, a vote for them tells nothing.
        strays = _of_another_class(episode.query, label)
        supports = [_with_more(episode.support, strays, number) for number in (-1, label, another)]
        said, as_it, as_another = (outputs(learner, replace(episode, support=support)) for support in supports)
        hold(torch.isfinite(said).all(), "unlabelled rows in the support make outputs NaN or infinite")
        taken = torch.equal(said, as_it) and not torch.equal(as_it, as_another)
        hold(not taken, f"unlabelled support rows (-1) count for the {which} class")
    query, kept = episode.query, torch.arange(episode.query.n_example) % 2 == 0
    assert query.y is not None
    half = learner.loss(said, replace(query, y=query.y.masked_fill(~kept, -1)))
    expected = learner.loss(said[:, kept], query.rows(kept.nonzero()[:, 0]))
    close(half, expected, subject.tolerance, "unlabelled queries count in the loss")
    if learner.traits.trainable and "episodes" in learner.traits.phases:
        learner.train()
        more = _with_more(query, episode.support.rows(slice(0, 2)), -1)
        both = replace(episode, support=supports[0], query=more)
        values = [learner.meta_loss(both).loss, *whole_gradients(learner, both)]
        finite = all(bool(torch.isfinite(value).all()) for value in values)
        hold(finite, "unlabelled rows make the meta-loss or its gradient NaN or infinite")


def _of_another_class(part: Examples, label: int) -> Examples:
    """Up to two rows that are not of this class in any task."""
    assert part.y is not None
    return part.rows((part.y != label).all(0).nonzero()[:2, 0])


def _with_more(part: Examples, new: Examples, label: int) -> Examples:
    """A set with other rows before its own, under this label."""
    assert new.y is not None
    n = part.n_example + new.n_example
    own_last = torch.arange(n).roll(new.n_example)
    return part.followed_by(replace(new, y=torch.full_like(new.y, label))).rows(own_last)


def _with_label(support: Examples, label: int) -> Examples:
    assert support.y is not None
    y = support.y.clone()
    y[0, 0] = label
    return replace(support, y=y)
