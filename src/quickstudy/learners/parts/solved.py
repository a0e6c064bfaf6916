"""Floor 3: a linear model for each task on the network's features, what R2D2, LR-D2, MetaOptNet and ridge share."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor, nn

from quickstudy.episode import Classes, Examples, MultiLabel
from quickstudy.errors import InputError
from quickstudy.learners.parts.classwise import check_every_class, membership
from quickstudy.nets.norms import Moments


@dataclass(frozen=True, eq=False)
class SolvedHead:
    """Weights that a solver found on the support's features.

    Args:
        weight: ``[T, D, O]``, O the largest way or the dimension of real targets; ``[T, D + 1, O]`` with a bias.
        moments: what norms measured on the support, where the network has norms that ask for it.
    """

    weight: Tensor
    moments: Moments


def with_ones(features: Tensor) -> Tensor:
    """``[T, N, D]`` with a column of ones, whose weight is the bias: ``[T, N, D + 1]``."""
    return torch.cat([features, torch.ones_like(features[..., :1])], 2)


def refuse_state(state: object, method: str) -> None:
    """For learners that solve each support anew.

    Raises:
        InputError: a state was given.
    """
    if state is not None:
        raise InputError(f"{method} cannot go on from a state: fit it to all examples at once.")


def enter_logarithm(module: nn.Module, name: str, value: float, *, learned: bool) -> None:
    """Give a module the logarithm of a positive number, which stays positive however it is trained.

    Args:
        module: that gets it.
        name: under which.
        value: above 0.
        learned: a parameter; else a buffer, which is saved too.
    """
    start = torch.tensor(log(value))
    if learned:
        module.register_parameter(name, nn.Parameter(start))
    else:
        module.register_buffer(name, start)


def target_columns(examples: Examples, dtype: torch.dtype, *, check: bool = True) -> Tensor:
    """Labels as columns for regression, ``[T, N, O]``: one-hot classes, 0 or 1 a label, or the real values.

    Rows without a label are 0.

    Args:
        examples: labelled, ``[T, N, ...]``.
        dtype: of the result.
        check: whether every class must have an example.

    Raises:
        InputError: a class of a task has no example.
    """
    assert examples.y is not None
    counted = examples.labelled[..., None]
    if isinstance(examples.target, Classes):
        columns = membership(examples).to(dtype)
        if check:
            check_every_class(columns.sum(1), examples)
        return columns
    if isinstance(examples.target, MultiLabel):
        counted = counted & present_columns(examples, examples.y.shape[2])[:, None]
    return torch.where(counted, examples.y.to(dtype), 0.0)


def present_columns(examples: Examples, columns: int) -> Tensor:
    """Bool ``[T, O]``: columns that a task has (all of them for real targets)."""
    if isinstance(examples.target, Classes | MultiLabel):
        return torch.arange(columns, device=examples.device) < examples.target.way[:, None]
    return torch.ones(examples.n_task, columns, dtype=torch.bool, device=examples.device)
