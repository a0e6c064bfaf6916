"""Floor 6: columns in deviations of the labelled rows."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["moments"]


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each column, ``[F]``, in float64; a column of one number has the deviation 1.

    Args:
        rows: ``[n, F]``.
    """
    exact = rows.double()
    deviation = exact.std(0, unbiased=False)
    return exact.mean(0), torch.where(deviation > 1e-12 * exact.abs().amax(0), deviation, 1.0)
