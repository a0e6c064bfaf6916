"""Floor 5: the laws that every learner is held to, each a function of a :class:`Subject`; ``suite.py`` exports them.

A law raises AssertionError with a sentence. Which laws speak of a learner is read off its traits.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from quickstudy.doctor.measures import (
    PhaseLoss,
    apart_and_together,
    batch_of,
    central_difference,
    generators,
    gradients,
    moved_dtype,
    outputs,
    phase_losses,
    query_portions,
    tensors_of,
    with_strategy,
)
from quickstudy.doctor.smalltasks import ragged_of, small_tasks
from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Key, Keys, uniform
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.states import load_state, move_state, save_state
from quickstudy.train import Checkpoint, load_checkpoint, load_weights, save_checkpoint

__all__ = ["LAWS", "Law", "Subject"]


@dataclass(frozen=True)
class Subject:
    """A learner that laws are held against.

    Args:
        build: a new learner with random weights from torch's global generator, which is seeded around the call.
        target: the kind of small tasks that it is given.
        tasks: other tasks to give it: T regular ones, without masks, at least three.
        tolerance: of float64 comparisons.
        smooth: its network has no kinks (ReLU, max-pooling), so that finite differences mean something.
        follows_query: ``meta_loss`` is the query loss (Reptile's is a surrogate).
    """

    build: Callable[[], AbstractLearner]
    target: str = "classes"
    tasks: Episode | None = None
    tolerance: float = 1e-10
    smooth: bool = True
    follows_query: bool = True

    def make(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> AbstractLearner:
        """The learner in eval mode, its weights fixed by ``seed``."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.build().to(dtype).eval()

    def episode(self, dtype: torch.dtype = torch.float64) -> Episode:
        """The tasks."""
        return moved_dtype(small_tasks(self.target) if self.tasks is None else self.tasks, dtype)

    def ragged(self, filler: float) -> Episode:
        """The same tasks with rows missing, and classes too if the learner takes any way."""
        return ragged_of(self.episode(), filler, any_way=self.make().traits.any_way)


@dataclass(frozen=True)
class Law:
    """One law.

    Args:
        check: raises AssertionError where the subject breaks it.
        speaks_of: whether it applies.
    """

    check: Callable[[Subject], None]
    speaks_of: Callable[[Subject, Traits], bool]

    @property
    def name(self) -> str:
        """As it is shown in a test's id."""
        return self.check.__name__

    def applies(self, subject: Subject) -> bool:
        """Whether it speaks of this subject, by its traits."""
        return self.speaks_of(subject, subject.make().traits)


LAWS: dict[str, Law] = {}


Holds: TypeAlias = Callable[[Subject], None]


def law(speaks_of: Callable[[Subject, Traits], bool]) -> Callable[[Holds], Holds]:
    """Enter a function among the laws."""

    def enter(check: Holds) -> Holds:
        LAWS[check.__name__] = Law(check, speaks_of)
        return check

    return enter


every = law(lambda subject, traits: True)
trainable = law(lambda subject, traits: traits.trainable)


def hold(condition: object, sentence: str) -> None:
    """The condition is true, or the law is broken."""
    if not condition:
        raise AssertionError(sentence)


def close(a: Tensor, b: Tensor, tolerance: float, sentence: str) -> None:
    """Two tensors agree."""
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance, msg=lambda found: f"{sentence}\n{found}")


def refused(pattern: str, call: Callable[[], Any]) -> None:
    """The call ends in an InputError that says this."""
    try:
        call()
    except InputError as error:
        hold(re.search(pattern, str(error)), f"expected an InputError that says {pattern!r}, found {str(error)!r}")
        return
    except Exception as error:
        raise AssertionError(f"expected an InputError that says {pattern!r}, found {error!r}") from error
    raise AssertionError(f"expected an InputError that says {pattern!r}, but nothing was refused")


def whole_gradients(learner: AbstractLearner, episode: Episode, key: Keys | None = None) -> list[Tensor]:
    """The meta-gradient, zero where a parameter is not in the graph."""
    return filled(learner, gradients(learner, lambda learner: learner.meta_loss(episode, key=key)))


def filled(learner: AbstractLearner, grads: list[Tensor | None]) -> list[Tensor]:
    """Zero where a parameter is not in the graph."""
    return [torch.zeros_like(p) if g is None else g for p, g in zip(learner.parameters(), grads, strict=True)]


def wave(learner: AbstractLearner) -> list[Tensor]:
    """A direction in the space of the parameters in which each of them has its part."""
    return [torch.sin(torch.arange(p.numel(), dtype=p.dtype) + 1).reshape(p.shape) for p in learner.parameters()]


def slopes(learner: AbstractLearner, loss: Callable[[AbstractLearner], MetaLoss]) -> tuple[float, float]:
    """The slope of a loss along one direction: by central differences, and by its gradient."""
    grads, along = filled(learner, gradients(learner, loss)), wave(learner)
    h = 1e-5
    near, far = (central_difference(learner, loss, along, step) for step in (h, 2 * h))
    measured = (4 * near - far) / 3  # of fourth order in h
    return measured, float(sum((g * d).sum() for g, d in zip(grads, along, strict=True)))


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


@trainable
def strategies_agree(subject: Subject) -> None:
    """Loop, vmap and batched form: same loss and gradients."""
    found, episode = {}, subject.episode()
    for strategy in ("loop", "vmap", "batched"):
        learner = with_strategy(subject.make(), strategy)
        if learner is not None:
            learner.train()
            found[strategy] = [learner.meta_loss(episode).loss, *whole_gradients(learner, episode)]
    for strategy, values in found.items():
        for a, b in zip(found["loop"], values, strict=True):
            close(b, a, subject.tolerance, f"strategy {strategy!r} gives another loss or gradient than 'loop'")


def _in_chunks(subject: Subject, episode: Episode, at_once: int) -> list[Tensor]:
    """Losses, gradients and buffers after one pass over the tasks, so many at once."""
    learner, losses = subject.make().train(), []
    for chunk in episode.chunks(at_once):
        out = learner.meta_loss(chunk, key=Keys(Key.of(5), chunk.indices.numpy()))
        out.loss.sum().backward()  # type: ignore[no-untyped-call]
        learner.absorb(out.carried)
        losses.append(out.loss.detach())
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in learner.parameters()]
    return [torch.cat(losses), *grads, *learner.buffers()]


@trainable
def chunks_give_the_same_gradient(subject: Subject) -> None:
    """``tasks_at_once`` changes nothing (a learner that carries state absorbs it between chunks)."""
    episode = subject.episode()
    whole = _in_chunks(subject, episode, episode.n_task)
    for at_once in (2, 1):
        for a, b in zip(whole, _in_chunks(subject, episode, at_once), strict=True):
            close(b, a, subject.tolerance, f"with {at_once} tasks at once, losses, gradients or buffers differ")


@trainable
def ragged_chunks_give_the_same_gradient(subject: Subject) -> None:
    """A task does not notice how long its neighbours in the chunk are."""
    ragged, tolerance = subject.ragged(float("nan")), max(subject.tolerance, 1e-9)
    apart = _in_chunks(subject, ragged, 1)
    for a, b in zip(_in_chunks(subject, ragged, ragged.n_task), apart, strict=True):
        close(a, b, tolerance, "a ragged task's loss or gradient depends on the tasks beside it")


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


@law(lambda subject, traits: subject.smooth and traits.trainable and subject.follows_query)
def the_meta_gradient_is_exact_where_promised(subject: Subject) -> None:
    """Central differences of the query loss in float64; first-order learners must fail them."""
    learner, episode = subject.make(), subject.episode()
    measured, claimed = slopes(learner, lambda learner: learner.meta_loss(episode))
    exact = abs(claimed - measured) < 1e-7 * max(1, abs(measured))
    promised = learner.traits.exact_meta_gradient
    hold(exact == promised, f"exact_meta_gradient={promised}, but the slope is {measured!r}, the gradient {claimed!r}")


@law(lambda subject, traits: "batches" in traits.phases and traits.trainable)
def what_is_trained_on_batches_can_be(subject: Subject) -> None:
    """``batch_loss`` of a plain labelled batch is one finite loss with its gradient, and nothing is written."""
    learner, batch = subject.make().train(), batch_of(subject.episode())
    if batch is None:
        return
    try:
        loss = learner.batch_loss(batch).loss
    except InputError as error:
        # Built without classes=, it cannot, and says so; with them the law holds it to more.
        hold("classes" in str(error), f"batch_loss is refused, but not for the number of classes: {error}")
        return
    hold(loss.shape == (1,) and torch.isfinite(loss).all(), f"batch_loss: expected one finite loss, found {loss}")
    for phase in phase_losses(learner, subject.episode(), Keys.default(1)):
        if phase.name != "meta_loss":
            _batches_are_trained_on(subject, phase)


def _batches_are_trained_on(subject: Subject, phase: PhaseLoss) -> None:
    """One loss of plain batches has the gradient of its slope, writes nothing and turns nothing."""
    learner = phase.begun(subject.make().train())
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    flags, state = [layer.training for layer in learner.modules()], generators()
    inputs = [leaf.clone() for leaf in tensors_of(phase.data)]
    grads = gradients(learner, phase)
    hold(any(g is not None for g in grads), f"no parameter has a gradient of {phase.name}")
    changed = [name for name, value in learner.state_dict().items() if not torch.equal(before[name], value)]
    hold(not changed, f"{phase.name} wrote into {', '.join(changed)}; carry it, and absorb it")
    hold(flags == [layer.training for layer in learner.modules()], f"training flags changed in {phase.name}")
    hold(all(map(torch.equal, inputs, tensors_of(phase.data))), f"{phase.name} wrote into its batch")
    hold(generators() == state, f"{phase.name} used a global generator; draw from the key instead")
    if subject.smooth:
        measured, claimed = slopes(learner, phase)
        exact = abs(claimed - measured) < 1e-7 * max(1, abs(measured))
        hold(exact, f"the gradient of {phase.name} is not its derivative: {claimed!r}, but the slope is {measured!r}")


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
    """NaN, or tasks of another number than the state's: one sentence each, and what is padded may hold anything."""
    learner, episode = subject.make(), subject.episode()
    state, query = learner.adapt(episode.support), episode.query.unlabelled()
    more = query.tasks(slice(0, query.n_task - 1))
    sentence = rf"Cannot predict: the state is of {query.n_task} tasks, the query of {query.n_task - 1}\."
    refused(sentence, lambda: learner.predict(state, more))
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
    labelled = {label: replace(episode, support=_more(episode.support, episode.query, label)) for label in (-1, 0)}
    said, first = (outputs(learner, labelled[label]) for label in (-1, 0))
    hold(torch.isfinite(said).all(), "unlabelled rows in the support make outputs NaN or infinite")
    last = outputs(
        learner, replace(episode, support=_more(episode.support, episode.query, episode.support.max_way - 1))
    )
    taken = torch.equal(said, last) and not torch.equal(said, first)
    hold(not taken, "unlabelled support rows (-1) count for the last class")
    query, kept = episode.query, torch.arange(episode.query.n_example) % 2 == 0
    assert query.y is not None
    half = learner.loss(said, replace(query, y=query.y.masked_fill(~kept, -1)))
    expected = learner.loss(said[:, kept], query.rows(kept.nonzero()[:, 0]))
    close(half, expected, subject.tolerance, "unlabelled queries count in the loss")
    if learner.traits.trainable and "episodes" in learner.traits.phases:
        learner.train()
        both = replace(labelled[-1], query=_more(query, episode.support, -1))
        values = [learner.meta_loss(both).loss, *whole_gradients(learner, both)]
        finite = all(bool(torch.isfinite(value).all()) for value in values)
        hold(finite, "unlabelled rows make the meta-loss or its gradient NaN or infinite")


def _more(part: Examples, other: Examples, label: int) -> Examples:
    """A set with two rows of another before its own, under this label."""
    new = other.rows(slice(0, 2))
    assert new.y is not None
    n = part.n_example
    return part.followed_by(replace(new, y=torch.full_like(new.y, label))).rows(torch.arange(n + 2).roll(2))


def _with_label(support: Examples, label: int) -> Examples:
    assert support.y is not None
    y = support.y.clone()
    y[0, 0] = label
    return replace(support, y=y)
