"""Floor 3: sums, means and checks over the classes of each task."""

from __future__ import annotations

import torch
from torch import Tensor

from quickstudy.episode import Classes, Examples
from quickstudy.errors import InputError


def same_tasks(n_task: int, query: Examples) -> None:
    """A state answers for the tasks that it was adapted to.

    Raises:
        InputError: the query is of another number of tasks.
    """
    if n_task != query.n_task:
        raise InputError(
            f"Cannot predict: the state is of {n_task} tasks, the query of {query.n_task}. Adapt to each task."
        )


def mask_absent(logits: Tensor, examples: Examples) -> Tensor:
    """``logits`` with -inf for classes that a task does not have; unchanged for other targets."""
    if not isinstance(examples.target, Classes):
        return logits
    absent = torch.arange(logits.shape[2], device=logits.device) >= examples.target.way[:, None]  # [T, W]
    return logits.masked_fill(absent[:, None], -torch.inf) if bool(absent.any()) else logits


def class_sums(features: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
    """Each class's feature sum ``[T, W, D]`` and number of labelled rows ``[T, W]``."""
    assert examples.y is not None
    members = torch.arange(examples.max_way, device=features.device) == examples.y[..., None]  # [T, N, W]
    members = members & examples.labelled[..., None]
    weights = members.to(features.dtype)
    return torch.einsum("tnw,tnd->twd", weights, features), weights.sum(1)


def class_means(features: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
    """Class means ``[T, W, D]`` (zero for absent classes) and counts ``[T, W]``."""
    sums, counts = class_sums(features, examples)
    check_every_class(counts, examples)
    return sums / counts.clamp(min=1)[..., None], counts


def check_every_class(counts: Tensor, examples: Examples) -> None:
    """Every class of every task has an example.

    Raises:
        InputError: naming the task and the class.
    """
    if not isinstance(examples.target, Classes):
        raise InputError(f"This learner needs classes, the tasks have {examples.target}. Use MAML or Reptile instead.")
    present = torch.arange(counts.shape[1], device=counts.device) < examples.target.way[:, None]
    empty = (present & (counts == 0)).nonzero()
    if len(empty):
        task, label = (int(i) for i in empty[0])
        raise InputError(
            f"Class {label} of task {task} has no labelled example in the support. Give at least one of each class."
        )
