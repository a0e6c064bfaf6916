"""Floor 5: a few steps of training: does what falls there show in testing?"""

from __future__ import annotations

from statistics import mean

import torch

from quickstudy.doctor.measures import moved_dtype, outputs, seeded
from quickstudy.doctor.patient import Patient
from quickstudy.doctor.report import Finding
from quickstudy.episode import Classes
from quickstudy.keys import Keys
from quickstudy.learners.learner import task_metric

__all__ = ["check_learning"]

LEARNING = "training shows in testing"
_STEPS, _STEPS_OF_SURROGATES, _WINDOW, _LR = 60, 20, 5, 0.01


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
        numbers = range(step * episode.n_task, (step + 1) * episode.n_task)
        tasks = moved_dtype(patient.source.episodes(numbers), patient.dtype).to(episode.support.device)
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
    return [_judged(patient, name, (float(before.mean()), float(after.mean())), losses)]


def _judged(patient: Patient, name: str, scores: tuple[float, float], losses: list[float]) -> Finding:
    (before, after), first, last = scores, mean(losses[:_WINDOW]), mean(losses[-_WINDOW:])
    said = (
        f"In {len(losses)} steps the loss went from {first:.3g} to {last:.3g}, {name} of predict from {before:.3g} "
        f"to {after:.3g}."
    )
    if not last < float("inf"):
        return Finding(LEARNING, "problem", said, "Training diverges at once: lower the inner learning rate.")
    halved = patient.traits.exact_meta_gradient and 0 <= last < first / 2  # a surrogate's size means nothing
    query, target = patient.episode.query, patient.episode.query.target
    if isinstance(target, Classes):
        chance = float((1 / target.way).mean())
        error = 2 * (chance * (1 - chance) / int(query.labelled.sum())) ** 0.5
        lost, worse = after <= chance + error, after < before - error
    else:
        lost = worse = after > before if name == "mse" else after < before
    if lost and (halved or (worse and last < 0.95 * first)):
        return Finding(
            LEARNING,
            "problem",
            f"{said} Labels are out of step: what meta_loss calls class 0 is another class in predict.",
            "Let meta_loss use the query's y as they are, and the outputs of predict in the same order of classes.",
        )
    if last < first or last < 0:
        return Finding(LEARNING, "ok", said)
    return Finding(
        LEARNING,
        "note",
        said,
        "The loss did not fall. With meta_loss as a surrogate (Reptile) that means nothing; else try another "
        "learning rate.",
    )
