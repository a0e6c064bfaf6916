"""Floor 3: prototypes that take in the queries most like them (Liu et al. 2020), which BD-CSPN and LaplacianShot share.

Sums over queries leave padding out, so that a task is answered as if alone.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from quickstudy.episode import Examples
from quickstudy.learners.parts.classwise import centres_of, mask_absent, membership, row_mean


def rectified(known: Examples, query: Tensor, real: Tensor, sharpness: float, confident: int | None) -> Tensor:
    """Prototypes of the support and of the queries that are most like it (Liu et al. 2020).

    Each class takes its labelled rows and the queries nearest to its prototype, weighted by exp(ε cos).

    Args:
        known: labelled features ``[T, Ns, D]``.
        query: features ``[T, Nq, D]``, shifted to where the support is.
        real: bool ``[T, Nq]``.
        sharpness: ε.
        confident: queries that a class takes at most; None: all that are nearest to it.

    Returns:
        ``[T, W, D]``, zero for classes that a task does not have.
    """
    assert isinstance(known.x, Tensor)
    centres = F.normalize(centres_of(known), dim=2).transpose(1, 2)
    cosine = F.normalize(query, dim=2) @ centres  # [T, Nq, W]
    best, label = mask_absent(cosine, known).max(2)
    taken = real
    if confident is not None:
        # How many of the same label are surer: unlike a sort it does not depend on the order of the rows.
        surer = (best[:, None] > best[..., None]) & (label[:, None] == label[..., None]) & real[:, None]
        taken = taken & (surer.sum(2) < confident)
    claimed = F.one_hot(label, known.max_way) * taken[..., None]
    rows = torch.cat([known.x, query], 1)
    alike = torch.cat([F.normalize(known.x, dim=2) @ centres, cosine], 1)
    taken_rows = torch.cat([membership(known), claimed], 1).to(query.dtype)
    weights = taken_rows * (sharpness * (alike - 1)).exp()
    weights = weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    return weights.transpose(1, 2) @ rows


def shift_to_support(known: Examples, query: Tensor, real: Tensor) -> Tensor:
    """Queries moved so that their mean is the support's: ``[T, Nq, D]``, zero on padding.

    A lone query stays where it is: moved, it would be the support's mean, whatever it was.
    """
    assert isinstance(known.x, Tensor)
    shift = row_mean(known.x, known.labelled) - row_mean(query, real)
    shift = shift * (real.sum(1, keepdim=True) > 1)
    return torch.where(real[..., None], query + shift[:, None], 0.0)
