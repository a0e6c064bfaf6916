"""Floor 5: which parameters training reaches: a line of the doctor's table, and a law."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from quickstudy.doctor.measures import PhaseLoss, batch_of, gradients, outputs, seeded, wave
from quickstudy.doctor.patient import listed
from quickstudy.doctor.report import Finding
from quickstudy.episode import Episode
from quickstudy.errors import InputError
from quickstudy.learners.learner import AbstractLearner

__all__ = ["Gradients", "check_reach", "largest_gradients", "phase_gradients"]

GRAPH = "parameters in the graph"
_NO_GRAD = "does not require grad"

Gradients: TypeAlias = list[Tensor | None]


def phase_gradients(learner: AbstractLearner, loss: PhaseLoss) -> Gradients:
    """The gradient of a phase's loss in each parameter; None where it is not in the graph, or where there is none."""
    try:
        with seeded():
            return gradients(learner, loss)
    except RuntimeError as error:
        if _NO_GRAD not in str(error):
            raise
        return [None for _ in learner.parameters()]


def largest_gradients(learner: AbstractLearner, grads: Iterable[Gradients]) -> dict[str, Tensor | None]:
    """Of each parameter that is not frozen, the largest of its gradients; None where no loss reaches it."""
    found: dict[str, Tensor | None] = {}
    for (name, p), *of_losses in zip(learner.named_parameters(), *grads, strict=True):
        if p.requires_grad and p.numel():
            there = [grad for grad in of_losses if grad is not None]
            found[name] = max(there, key=lambda grad: float(grad.abs().max()), default=None)
    return found


def check_reach(learner: AbstractLearner, episode: Episode, grads: Mapping[str, Gradients]) -> Finding:
    """Whether a gradient reaches each parameter that is not frozen.

    Args:
        learner: as it is trained.
        episode: the tasks that it was tried on.
        grads: those of each phase's loss that can be looked at, by the loss's name.
    """
    for name, of_loss in grads.items():
        if all(grad is None for grad in of_loss):
            return _nothing_trains(name)
    if len(grads) < len(learner.traits.phases):  # a parameter may be trained by the loss that was not looked at
        return _not_looked_at(learner, episode)
    largest = largest_gradients(learner, grads.values())
    outside, loss = [name for name, grad in largest.items() if grad is None], " or ".join(grads)
    if not outside:
        return Finding(GRAPH, "ok", f"A gradient of {loss} reaches all {len(largest)} parameters that are not frozen.")
    if "episodes" not in learner.traits.phases:  # what only adapting uses starts each task as it was built
        idle = [name for name in outside if not _adapting_uses(learner, episode, name)]
        if not idle:
            found = f"No gradient of {loss} reaches {listed(outside)}: training does not change them, adapting does."
            return Finding(GRAPH, "note", found, "Nothing, if each task is meant to start from them as built.")
        outside = idle
    found = f"No gradient of {loss} reaches {listed(outside)}: .grad stays None, and training would not change them."
    return Finding(
        GRAPH,
        "problem",
        found,
        "Look for .detach(), .data or torch.no_grad() on the way to the loss, or a layer that is built but not called. "
        "What is meant to stay: requires_grad_(False), or a buffer.",
    )


def _nothing_trains(loss: str) -> Finding:
    what = "The meta-loss" if loss == "meta_loss" else loss
    return Finding(
        GRAPH,
        "problem",
        f"{what} depends on no parameter: nothing would train.",
        "Look for .detach(), .data, torch.no_grad() or a freshly made tensor between the parameters and the loss.",
    )


def _not_looked_at(learner: AbstractLearner, episode: Episode) -> Finding:
    """Why there is no gradient of ``batch_loss``."""
    batch = batch_of(episode)
    if batch is None:
        found = (
            "These tasks do not say which classes they are made of (Episode.classes is None): batch_loss not looked at."
        )
        return Finding(GRAPH, "note", found, "Let the source fill in Episode.classes.")
    refusal = ""
    try:
        with seeded(), torch.no_grad():
            copy.deepcopy(learner).batch_loss(batch)
    except InputError as error:
        refusal = f": {error}"
    return Finding(GRAPH, "note", f"batch_loss was not looked at{refusal}")


def _adapting_uses(learner: AbstractLearner, episode: Episode, name: str) -> bool:
    """Whether predictions change with this parameter; a learner that does not adapt before it is trained may use it."""
    moved = copy.deepcopy(learner).eval()
    try:
        before = outputs(moved, episode)
        with torch.no_grad():
            moved.get_parameter(name).add_(dict(zip(dict(moved.named_parameters()), wave(moved), strict=True))[name])
        return not torch.equal(before, outputs(moved, episode))
    except InputError:
        return True
