"""Floor 3: sums, means and checks over the classes of each task."""

from __future__ import annotations

import torch
from torch import Tensor

from quickstudy.episode import Classes, Examples, may_read
from quickstudy.errors import InputError


def mask_absent(logits: Tensor, examples: Examples) -> Tensor:
    """``logits`` with -inf for classes that a task does not have; unchanged for other targets."""
    if not isinstance(examples.target, Classes):
        return logits
    absent = torch.arange(logits.shape[2], device=logits.device) >= examples.target.way[:, None]  # [T, W]
    return logits if may_read() and not bool(absent.any()) else logits.masked_fill(absent[:, None], -torch.inf)


def check_classes(examples: Examples) -> None:
    """The tasks tell classes apart.

    Raises:
        InputError: they have other targets.
    """
    if not isinstance(examples.target, Classes):
        kind = type(examples.target).__name__
        raise InputError(
            f"This learner needs classes, the tasks have {kind} targets. Use a learner of such targets, such as MAML."
        )


def membership(examples: Examples) -> Tensor:
    """Bool ``[T, N, W]``: a labelled row is of a class; False everywhere in rows without a label.

    Raises:
        InputError: targets that are no classes.
    """
    check_classes(examples)
    assert examples.y is not None
    classes = torch.arange(examples.max_way, device=examples.device)
    return (classes == examples.y[..., None]) & examples.labelled[..., None]


def class_sums(features: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
    """Each class's feature sum ``[T, W, D]`` and number of labelled rows ``[T, W]``.

    Raises:
        InputError: targets that are no classes.
    """
    weights = membership(examples).to(features.dtype)
    return torch.einsum("tnw,tnd->twd", weights, features), weights.sum(1)


def ways_of(counts: Tensor) -> Tensor:
    """How many classes each task has, ``[T]``.

    Args:
        counts: the number of examples of each class, ``[T, W]``, 0 for those that a task does not have.
    """
    return (torch.arange(1, counts.shape[1] + 1, device=counts.device) * (counts > 0)).amax(1)


def class_means(features: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
    """Class means ``[T, W, D]`` (zero for absent classes) and counts ``[T, W]``.

    Raises:
        InputError: targets that are no classes, or a class without an example.
    """
    sums, counts = class_sums(features, examples)
    check_every_class(counts, examples)
    return sums / counts.clamp(min=1)[..., None], counts


def centres_of(known: Examples) -> Tensor:
    """Class means ``[T, W, D]`` of labelled features, zero for classes that a task does not have."""
    assert isinstance(known.x, Tensor)
    return class_means(known.x, known)[0]


def row_mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean over the rows that count, ``[T, N, ...] -> [T, ...]``.

    Args:
        values: finite in every row.
        counted: bool ``[T, N]``.
    """
    weights = counted.to(values.dtype) / counted.sum(1, keepdim=True).clamp(min=1)
    return torch.einsum("tn,tn...->t...", weights, values)


def check_every_class(counts: Tensor, examples: Examples) -> None:
    """Every class of every task has an example.

    Raises:
        InputError: naming the task and the class; or targets that are no classes.
    """
    check_classes(examples)
    if not may_read():
        return
    assert isinstance(examples.target, Classes)
    present = torch.arange(counts.shape[1], device=counts.device) < examples.target.way[:, None]
    empty = (present & (counts == 0)).nonzero()
    if len(empty):
        task, label = (int(i) for i in empty[0])
        raise InputError(
            f"Class {label} of task {task} has no labelled example in the support. Give at least one of each class."
        )
