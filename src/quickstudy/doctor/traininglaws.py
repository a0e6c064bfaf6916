"""Floor 5: the laws of training: losses and gradients, in whatever way and in however many pieces they are taken."""

from __future__ import annotations

import torch
from torch import Tensor

from quickstudy.doctor.law import Subject, close, hold, law, trainable
from quickstudy.doctor.measures import (
    PhaseLoss,
    batch_of,
    generators,
    gradients,
    phase_losses,
    slopes,
    tensors_of,
    whole_gradients,
    with_strategy,
)
from quickstudy.doctor.reach import check_reach, phase_gradients
from quickstudy.episode import Episode
from quickstudy.errors import InputError
from quickstudy.keys import Key, Keys

__all__: list[str] = []  # laws are found in LAWS


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


@law(lambda subject, traits: subject.smooth and traits.trainable and subject.follows_query)
def the_meta_gradient_is_exact_where_promised(subject: Subject) -> None:
    """Central differences of the query loss in float64; first-order learners must fail them."""
    learner, episode = subject.make(), subject.episode()
    measured, claimed = slopes(learner, lambda learner: learner.meta_loss(episode))
    exact = abs(claimed - measured) < 1e-7 * max(1, abs(measured))
    promised = learner.traits.exact_meta_gradient
    hold(exact == promised, f"exact_meta_gradient={promised}, but the slope is {measured!r}, the gradient {claimed!r}")


@trainable
def training_reaches_every_parameter(subject: Subject) -> None:
    """Each parameter that is not frozen has a gradient of some phase's loss, or starts each task as it was built."""
    learner, episode = subject.make().train(), subject.episode()
    losses = phase_losses(learner, episode, Keys.default(episode.n_task))
    grads = {loss.name: phase_gradients(loss.begun(subject.make().train()), loss) for loss in losses}
    finding = check_reach(learner, episode, grads)
    hold(finding.verdict != "problem", finding.found)


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
