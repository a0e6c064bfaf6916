"""Floor 1: how many queries each class has, when that is random: proportions from a Dirichlet distribution.

O. Veilleux, M. Boudiaf, P. Piantanida, I. Ben Ayed, "Realistic evaluation of transductive few-shot learning", NeurIPS
2021: in practice nobody hands over as many queries of each class. With concentration a = 2, as there, the largest of
five classes has more than a third of all queries in two tasks of three.

Proportions are Gamma(a) numbers divided by their sum, rounded to counts as the authors' code does in effect. All is a
function of random words, as for the rest of a task. Unlike theirs no example is in the support and among the queries.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import InputError
from quickstudy.keys import Bits, Integers, uniform

__all__ = ["WORDS", "check_concentration", "log_gamma_variates", "query_counts"]

Floats = NDArray[np.float64]

_TRIES = 16  # each is accepted with a probability above 0.95 (Marsaglia and Tsang 2000)
WORDS = 3 * _TRIES + 1
"""Random words that one class takes."""


def check_concentration(concentration: float | None) -> None:
    """It is None (balanced queries) or a number above 0.

    Raises:
        InputError: it is not.
    """
    if concentration is not None and not 0 < concentration < math.inf:
        raise InputError(
            f"Cannot draw queries from a Dirichlet distribution of concentration {concentration}: expected a number "
            "above 0, such as 2 (the larger, the more even the classes). Leave it out for even classes."
        )


def log_gamma_variates(bits: Bits, shape: float) -> Floats:
    """Logarithms of Gamma numbers (scale 1), which underflow for no shape.

    G. Marsaglia, W. Tsang, "A simple method for generating gamma variables", 2000: with d = s - 1/3 for a shape s of
    at least 1, d (1 + x / sqrt(9 d))^3 of a normal x, accepted or drawn anew. Below 1, s + 1 and a factor U^(1/s).

    Args:
        bits: uint64 ``[..., WORDS]``.
        shape: above 0.

    Returns:
        ``[...]``.
    """
    u = uniform(bits)
    d = (shape if shape >= 1 else shape + 1) - 1 / 3
    first, second, third = (u[..., 1 + part :: 3] for part in range(3))  # [..., _TRIES] each
    normal = np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second)
    root = 1 + normal / math.sqrt(9 * d)
    log_v = 3 * np.log(np.where(root > 0, root, 1.0))
    limit = normal**2 / 2 + d - d * np.exp(log_v) + d * log_v
    accepted = (root > 0) & (np.log1p(-third) < limit)
    # Sixteen refusals in a row come once in 10^20 numbers; they give the mean.
    chosen = np.take_along_axis(log_v, accepted.argmax(-1)[..., None], -1)[..., 0]
    log_value: Floats = np.log(d) + np.where(accepted.any(-1), chosen, 0.0)
    if shape < 1:
        log_value += np.log1p(-u[..., 0]) / shape
    return log_value


def query_counts(bits: Bits, concentration: float, way: Integers, total: Integers) -> Integers:
    """How many queries each class of each task has.

    Proportions times ``total`` are rounded down, and what is missing goes to the largest remainders.

    Args:
        bits: uint64 ``[T, W, WORDS]``.
        concentration: a, the same for every class.
        way: ``[T]``, classes of each task, at most W.
        total: ``[T]``, queries of each task.

    Returns:
        ``[T, W]``, 0 beyond a task's way; each row sums to its total.
    """
    logs = log_gamma_variates(bits, concentration)
    logs = np.where(np.arange(bits.shape[1]) < way[:, None], logs, -np.inf)
    shares = np.exp(logs - logs.max(1, keepdims=True))
    wanted = shares / shares.sum(1, keepdims=True) * total[:, None]
    counts: Integers = np.floor(wanted).astype(np.int64)
    rank = (counts - wanted).argsort(1, kind="stable").argsort(1, kind="stable")
    counts += rank < (total - counts.sum(1))[:, None]
    return counts
