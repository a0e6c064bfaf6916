"""Floor 6: further labelled examples behind those that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from quickstudy.targets import Inputs

__all__ = ["joined", "joined_labels"]


def joined(known: Inputs, more: Inputs) -> Inputs:
    """One after the other; texts are as long as the longest."""
    if isinstance(known, Tensor) and isinstance(more, Tensor):
        return torch.cat(_as_long(known, more))
    assert isinstance(known, dict) and isinstance(more, dict)
    return {name: torch.cat(_as_long(known[name], more[name])) for name in known}


def _as_long(known: Tensor, more: Tensor) -> list[Tensor]:
    if known.dim() != 2 or known.shape[1] == more.shape[1]:
        return [known, more]
    long = max(known.shape[1], more.shape[1])
    return [F.pad(part, (0, long - part.shape[1])) for part in (known, more)]


def joined_labels(known: Any, more: Any) -> Any:
    """Labels likewise: an array of arrays of one kind, else a list."""
    arrays = isinstance(known, np.ndarray) and isinstance(more, np.ndarray)
    if arrays and known.dtype.kind == more.dtype.kind and known.shape[1:] == more.shape[1:]:
        return np.concatenate([known, more])
    return [*known, *more]
