"""Floor 2: Gaussian process regression for every task, by Cholesky factors.

C. Rasmussen, C. Williams, "Gaussian processes for machine learning", 2006, algorithm 2.1. The prior's mean is 0:
subtract another one from ``y`` first.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import torch
from torch import Tensor

from quickstudy.inner.solvers.ridge import check_finite, factorise, per_task, weighed


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """What T Gaussian processes know of their examples; float64, whatever the network's dtype.

    Args:
        factor: Cholesky factor of K + noise I, ``[T, N, N]``; of the identity on padding.
        weights: (K + noise I)⁻¹ y, ``[T, N, O]``; 0 on padding.
        mask: bool ``[T, N]``.
    """

    factor: Tensor
    weights: Tensor
    mask: Tensor


def gp_fit(kernel: Tensor, y: Tensor, noise: Tensor | float, mask: Tensor | None = None) -> GaussianProcess:
    """The posterior given ``y``; the O columns are independent processes with one kernel.

    Args:
        kernel: prior covariance of the examples, ``[T, N, N]``.
        y: observed values, ``[T, N, O]``.
        noise: their variance about the process, above 0; one number, or ``[T]``.
        mask: bool ``[T, N]``, False on rows that do not count.

    Raises:
        InputError: a covariance is singular even with the noise.

    >>> gp_fit(torch.ones(1, 1, 1), torch.ones(1, 1, 1), noise=1.0).weights
    tensor([[[0.5000]]], dtype=torch.float64)
    """
    if mask is None:
        mask = torch.ones(kernel.shape[:2], dtype=torch.bool, device=kernel.device)
    covariance = torch.where(mask[:, :, None] & mask[:, None, :], kernel.double(), 0.0)
    values = weighed(y, mask)
    for part in (covariance, values):
        check_finite(part, "Gaussian process")
    added = torch.where(mask, per_task(noise, kernel, "noise")[:, None], 1.0)
    factor = factorise(covariance + torch.diag_embed(added), "Gaussian process", "Use a larger noise.")
    return GaussianProcess(factor, torch.cholesky_solve(values, factor), mask)


def gp_predict(process: GaussianProcess, cross: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean and variance at new points (of the process itself: add the noise for new observations).

    Args:
        process: from :func:`gp_fit`.
        cross: prior covariance of new points and examples, ``[T, Q, N]``.
        prior: prior variance of the new points, ``[T, Q]``.

    Returns:
        Mean ``[T, Q, O]``, variance ``[T, Q]``; float64.
    """
    known = torch.where(process.mask[:, None], cross.double(), 0.0)
    half = torch.linalg.solve_triangular(process.factor, known.transpose(1, 2), upper=False)  # [T, N, Q]
    return known @ process.weights, prior.double() - half.square().sum(1)


def gp_log_marginal(process: GaussianProcess, y: Tensor) -> Tensor:
    """Log marginal likelihood of each column, ``[T, O]``, float64.

    Args:
        process: from :func:`gp_fit`, given the same values.
        y: observed values, ``[T, N, O]``.
    """
    fit = (weighed(y, process.mask) * process.weights).sum(1)
    log_det = 2 * process.factor.diagonal(dim1=-2, dim2=-1).log().sum(1, keepdim=True)
    return -0.5 * (fit + log_det + process.mask.double().sum(1, keepdim=True) * log(2 * pi))
