"""Floor 6: further examples behind those that are known, as learners read them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from quickstudy.targets import Inputs

__all__ = ["joined"]


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
