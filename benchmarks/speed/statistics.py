"""Medians, spread and ratios of rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Spread", "ratio", "spread"]


@dataclass(frozen=True)
class Spread:
    """The middle of some measurements.

    Args:
        median: half of them are below it.
        low: the lower quartile.
        high: the upper quartile.
        n: how many there are.
    """

    median: float
    low: float
    high: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("no measurements")
    if len(values) == 1:
        return Spread(values[0], values[0], values[0], 1)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high, len(values))


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Spread:
    """How many times as long the first took, round by round: what a round disturbs, it disturbs in both.

    Raises:
        ValueError: not as many rounds of each.
    """
    return spread([a / b for a, b in zip(slow, fast, strict=True)])
