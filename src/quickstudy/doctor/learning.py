"""Floor 5: a few steps of training: does what falls there show in testing?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import mean

import torch
from torch import Tensor

from quickstudy.doctor.labels import LOOKED_AT, Guesses, certain
from quickstudy.doctor.measures import moved_dtype, outputs, seeded
from quickstudy.doctor.patient import Patient
from quickstudy.doctor.report import Finding
from quickstudy.episode import Classes, Episode, map_leaves
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, task_metric

__all__ = ["check_learning"]

LEARNING = "training shows in testing"
_STEPS, _STEPS_OF_SURROGATES, _WINDOW, _LR = 60, 20, 5, 0.01
_AT_ONCE = 4  # tasks of a closer look


def check_learning(patient: Patient) -> list[Finding]:
    """Train a copy, on new tasks in each step, until the loss halves; ``predict`` must then be better than chance."""
    if not patient.traits.trainable or "episodes" not in patient.traits.phases:
        return [Finding(LEARNING, "ok", "Not looked at: there is no meta-loss to train on.")]
    learner, episode = patient.copy(training=True, dtype=patient.dtype), patient.tasks(patient.dtype)
    trained = [p for p in learner.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.Adam(trained, lr=_LR), []
    name, before = task_metric(outputs(learner.eval(), episode, patient.keys), episode.query)
    learner.train()
    for step in range(_STEPS if patient.traits.exact_meta_gradient else _STEPS_OF_SURROGATES):
        # The same tasks each time could be learned by heart, and that does not show in testing.
        tasks = _tasks(patient, step * episode.n_task, episode.n_task)
        optimizer.zero_grad()
        with seeded(step):
            out = learner.meta_loss(tasks, key=Keys(patient.keys.key, tasks.indices.numpy()))
            out.loss.mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        learner.absorb(out.carried)
        losses.append(float(out.loss.detach().mean()))
        first, last = mean(losses[:_WINDOW]), mean(losses[-_WINDOW:])
        if not last < float("inf") or (len(losses) >= 2 * _WINDOW and 0 <= last < first / 2):
            break
    _, after = task_metric(outputs(learner.eval(), episode, patient.keys), episode.query)
    return [_judged(patient, learner, name, (float(before.mean()), float(after.mean())), losses)]


def _tasks(patient: Patient, first: int, count: int) -> Episode:
    """New tasks of the source, in the learner's own precision."""
    tasks = patient.source.episodes(range(first, first + count))
    return moved_dtype(tasks, patient.dtype).to(patient.episode.support.device)


def _judged(
    patient: Patient, learner: AbstractLearner, name: str, scores: tuple[float, float], losses: list[float]
) -> Finding:
    (before, after), first, last = scores, mean(losses[:_WINDOW]), mean(losses[-_WINDOW:])
    said = (
        f"In {len(losses)} steps the loss went from {first:.3g} to {last:.3g}, {name} of predict from {before:.3g} "
        f"to {after:.3g}."
    )
    if not last < float("inf"):
        return Finding(LEARNING, "problem", said, "Training diverges at once: lower the inner learning rate.")
    halved = patient.traits.exact_meta_gradient and 0 <= last < first / 2  # a surrogate's size means nothing
    wrong, query = None, patient.episode.query
    if isinstance(query.target, Classes):
        chance = float((1 / query.target.way).mean())
        error = 2 * (chance * (1 - chance) / int(query.labelled.sum())) ** 0.5
        if after <= chance + error:
            wrong = _renamed(patient, learner)
    elif halved and (after > before if name == "mse" else after < before):
        wrong = "Targets are out of step: what meta_loss is trained to say is not what predict says."
    if wrong is not None:
        advice = "Let meta_loss use the query's y as they are, and the outputs of predict in the same order of classes."
        return Finding(LEARNING, "problem", f"{said} {wrong}", advice)
    if last < first or last < 0:
        return Finding(LEARNING, "ok", said)
    return Finding(
        LEARNING,
        "note",
        said,
        "The loss did not fall. With meta_loss as a surrogate (Reptile) that means nothing; else try another "
        "learning rate.",
    )


def _renamed(patient: Patient, learner: AbstractLearner) -> str | None:
    """What is wrong, where ``predict`` tells classes apart but calls them by other numbers; else None.

    Being at chance proves nothing: there may be nothing learned yet. Nor does it that other numbers would make the
    guesses right: a learner that ignores the support groups queries too, in groups of its own. So there is a third
    question: are they as right, with the best numbers, on the support inputs of another task?
    """
    own, foreign = (
        [guesses for tasks in _closer(patient, strange) for guesses in _guesses(patient, learner, tasks)]
        for strange in (False, True)
    )
    if certain([found.right - found.chance for found in own]):
        return None
    if not certain([found.renamed - found.renamed_by_chance for found in own]):
        return None
    if not certain([a.renamed - b.renamed for a, b in zip(own, foreign, strict=True)]):
        return None
    return (
        f"Labels are out of step: predict is right in {mean(found.right for found in own):.1%} of the queries of "
        f"{len(own)} tasks, but with other numbers of the classes it would be in "
        f"{mean(found.renamed for found in own):.1%}."
    )


def _closer(patient: Patient, strange: bool) -> Iterator[Episode]:
    """More tasks; ``strange`` ones have support inputs of another task each, labels as they were."""

    def turned(leaf: Tensor) -> Tensor:
        return (leaf.nan_to_num() if leaf.is_floating_point() else leaf).roll(1, 0)  # NaN may stand in padding

    for first in range(0, LOOKED_AT, _AT_ONCE):
        tasks = _tasks(patient, first, _AT_ONCE)
        x = map_leaves(turned, tasks.support.x) if strange else tasks.support.x
        yield replace(tasks, support=replace(tasks.support, x=x))


def _guesses(patient: Patient, learner: AbstractLearner, tasks: Episode) -> Iterator[Guesses]:
    """What ``predict`` says of the queries of each task."""
    said = outputs(learner, tasks, Keys(patient.keys.key, tasks.indices.numpy())).cpu()
    query = tasks.query.to("cpu")
    assert query.y is not None
    for t in range(tasks.n_task):
        keep = query.labelled[t]
        yield Guesses(query.y[t][keep], said[t][keep].argmax(1), said.shape[2], int(tasks.indices[t]))
