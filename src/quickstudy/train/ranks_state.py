"""Floor 4: what ranks hand to each other in a run: what each found of its tasks, gradients, weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from quickstudy.errors import InputError, RunError
from quickstudy.learners.learner import AbstractLearner
from quickstudy.train.checkpoint import versions
from quickstudy.train.ranks import AbstractRanks

__all__ = [
    "Share",
    "add_gradients",
    "check_agreement",
    "check_same",
    "goes_from_task_to_task",
    "share_weights",
    "versions_named",
]


@dataclass
class Share:
    """What a rank found of its tasks.

    Args:
        logs: name -> ``[T]`` of each portion.
        carried: of each portion.
        has_gradient: which parameters have a gradient; empty: none of them.
    """

    logs: dict[str, list[Tensor]] = field(default_factory=dict)
    carried: list[dict[str, Tensor]] = field(default_factory=list)
    has_gradient: list[bool] = field(default_factory=list)

    def on_cpu(self) -> Share:
        """The same, fit to be sent to other processes."""
        logs = {name: [value.cpu() for value in values] for name, values in self.logs.items()}
        carried = [{name: value.cpu() for name, value in each.items()} for each in self.carried]
        return Share(logs, carried, self.has_gradient)


def goes_from_task_to_task(learner: AbstractLearner) -> bool:
    """Whether a task begins with what the one before it left, so that ranks have to take turns.

    The learner says so itself; layers of others that write their buffers in training (torch's own batch norm) are
    taken for such.
    """
    return learner.traits.in_sequence or any(
        layer.training
        and not type(layer).__module__.startswith("quickstudy.")
        and next(layer.buffers(recurse=False), None) is not None
        for layer in learner.modules()
    )


def versions_named() -> dict[str, Any]:
    """Those that must be the same on each rank, by what they are called."""
    here = versions()
    return {"the version of quickstudy": here["quickstudy"], "that of torch": here["torch"]}


def check_agreement(ranks: AbstractRanks, facts: Mapping[str, Any]) -> None:
    """All ranks would train the same.

    Args:
        ranks: of the run.
        facts: what must be the same on each, by what it is called.

    Raises:
        InputError: they differ; names the first difference, and the ranks.
    """
    said = ranks.exchange(dict(facts))
    for name in facts:
        for rank, theirs in enumerate(said):
            if theirs.get(name) != said[0].get(name):
                raise InputError(
                    f"The ranks do not agree: {name} is {said[0].get(name)!r} on rank 0 and {theirs.get(name)!r} on "
                    f"rank {rank}. Give all of them the same recipe, data and version of quickstudy."
                )


def share_weights(ranks: AbstractRanks, learner: nn.Module) -> None:
    """Give every rank the weights and buffers of rank 0."""
    if ranks.size > 1:
        mine = {name: value.cpu() for name, value in learner.state_dict().items()} if ranks.rank == 0 else None
        learner.load_state_dict(ranks.exchange(mine)[0] or {})


def check_same(ranks: AbstractRanks, learner: nn.Module) -> None:
    """All ranks hold the same weights and buffers, to the last bit.

    Raises:
        RunError: they do not, so something in the learner is not a function of the task and the seed alone.
    """
    if ranks.size == 1:
        return
    digest = hashlib.sha256()
    for value in learner.state_dict().values():
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    if len(set(ranks.exchange(digest.digest()))) > 1:
        raise RunError(
            f"The ranks of this run have come apart: their weights of {type(learner).__name__} are no longer the same. "
            "Something in it is drawn at random without the key that it is given, or depends on the process. Train it "
            "with one rank."
        )


def add_gradients(ranks: AbstractRanks, parameters: Sequence[nn.Parameter], has_gradient: Sequence[bool]) -> None:
    """Sum gradients over ranks, one flat buffer for each type of number.

    Args:
        ranks: of the run.
        parameters: the same on every rank.
        has_gradient: whether any rank has a gradient of each; the others keep None, for the optimiser to leave out.
    """
    kinds: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter, has in zip(parameters, has_gradient, strict=True):
        if has:
            kinds.setdefault(parameter.dtype, []).append(parameter)
    for some in kinds.values():
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in some])
        ranks.add(flat)
        for parameter, part in zip(some, torch.split(flat, [p.numel() for p in some]), strict=True):
            parameter.grad = part.view_as(parameter)
