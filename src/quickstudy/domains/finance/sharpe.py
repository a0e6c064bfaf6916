"""What following forecasts of the direction would have earned, and how sure one can be of it.

    returns of a rule, less costs  ->  Sharpe ratio a year, its block-bootstrap interval, the deflated Sharpe ratio

All on simple returns of days, without interest: a rule is long or short one unit of each share and pays for each unit
that it buys or sells.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import e, inf, isfinite, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import InputError
from quickstudy.keys import Integers, Key, integers, uniform

__all__ = [
    "DAYS",
    "Equity",
    "best_of_worthless",
    "bootstrap_interval",
    "deflated_sharpe",
    "held",
    "probability_above",
    "sharpe",
    "stationary_bootstrap",
]

Floats = NDArray[np.float64]

DAYS = 252
"""Days of trade in a year."""

_EULER = 0.5772156649015329


@dataclass(frozen=True, eq=False)
class Equity:
    """A portfolio day by day.

    Args:
        dates: ``datetime64[D]`` ``[D]``, rising: the day at whose close positions are taken.
        returns: ``[D]``, of the day that follows, less costs.
    """

    dates: NDArray[np.datetime64]
    returns: Floats

    @property
    def grown(self) -> Floats:
        """``[D]``: what 1 has become, gains put back in."""
        return np.asarray(np.cumprod(1 + self.returns), dtype=np.float64)


def held(dates: NDArray[np.datetime64], positions: Floats, returns: Floats, cost: float) -> Equity:
    """Equal weights of all windows that are open on a day.

    Each window buys on its first day, changes as its positions do, and sells on its last; each unit of change costs
    ``cost``, so that from long to short is two.

    Args:
        dates: ``[T, N]``, NaT on padding.
        positions: ``[T, N]``, -1 to 1.
        returns: ``[T, N]``, simple, of the day that follows.
        cost: of a unit bought or sold, such as 0.0005 for 5 basis points.
    """
    there = ~np.isnat(dates)
    own = np.where(there, positions, 0.0)
    around = np.pad(own, ((0, 0), (1, 1)))
    traded = np.abs(np.diff(around, axis=1))  # [T, N + 1]: before each day, and after the last
    last = there.sum(1) - 1
    paid = traded[:, :-1].copy()
    rows = np.arange(len(own))
    paid[rows, last] += traded[rows, last + 1]
    earned = (own * np.where(there, returns, 0.0) - cost * paid)[there]
    days, which = np.unique(dates[there], return_inverse=True)
    return Equity(days, np.bincount(which, earned) / np.bincount(which))


def sharpe(returns: Floats) -> float:
    """Mean over standard deviation (ddof 1), times the root of 252; NaN where nothing varies.

    >>> round(sharpe(np.array([0.01, -0.01, 0.02, 0.0])), 3)
    6.148
    """
    spread = returns.std(ddof=1) if len(returns) > 1 else 0.0
    return float(returns.mean() / spread * sqrt(DAYS)) if spread > 0 else float("nan")


def stationary_bootstrap(length: int, draws: int, block: float, key: Key) -> Integers:
    """Positions of ``draws`` series made of runs of days, ``[draws, length]``.

    D. Politis, J. Romano, "The stationary bootstrap", JASA 1994: a run begins anywhere, goes on around the end, and
    ends after each day with probability 1 / ``block``.

    Args:
        length: of the series.
        draws: how many.
        block: mean length of a run, at least 1.
        key: of the randomness.

    Raises:
        InputError: nothing to draw from, or blocks shorter than a day.
    """
    if length < 1 or draws < 1 or not 1 <= block < inf:
        raise InputError(
            f"Cannot draw blocks: expected a series of at least 1 day, 1 draw and a mean block of at least 1, received "
            f"{length}, {draws} and {block}."
        )
    numbers = np.arange(draws)
    begins = integers(key.bits(numbers, length, 0), length)
    anew = uniform(key.bits(numbers, length, 1)) < 1 / block
    anew[:, 0] = True
    day = np.arange(length)
    start = np.maximum.accumulate(np.where(anew, day, 0), 1)  # where the run of each place began
    return np.asarray((np.take_along_axis(begins, start, 1) + day - start) % length)


def bootstrap_interval(
    returns: Floats, *, block: float = 10.0, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The middle ``level`` of the Sharpe ratios of series of blocks.

    Args:
        returns: ``[D]``.
        block: mean length of a block in days.
        draws: how many series.
        level: between 0 and 1.
        seed: of the draws.
    """
    rows = stationary_bootstrap(len(returns), draws, block, Key.of(seed, "sharpe"))
    drawn = returns[rows]
    spread = drawn.std(1, ddof=1)
    ratios = drawn.mean(1)[spread > 0] / spread[spread > 0] * sqrt(DAYS)
    tail = (1 - level) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return float(low), float(high)


def deflated_sharpe(returns: Floats, trials: Floats) -> float:
    """The probability that the true Sharpe ratio is above what the best of so many worthless trials would show.

    D. Bailey, M. López de Prado, "The deflated Sharpe ratio: correcting for selection bias, backtest overfitting and
    non-normality", Journal of Portfolio Management 2014. With SR the ratio a *day* of D days, γ3 and γ4 skewness and
    kurtosis of the returns, N trials whose ratios have the variance v, and γ Euler's constant:

        SR0 = √v ((1 - γ) Φ⁻¹(1 - 1/N) + γ Φ⁻¹(1 - 1/(N e)))
        DSR = Φ( (SR - SR0) √(D - 1) / √(1 - γ3 SR + (γ4 - 1)/4 SR²) )

    Args:
        returns: ``[D]``, of the rule that is judged.
        trials: ``[N]``, ratios a day of *all* rules that were tried, this one too. N = 1: SR0 = 0, which is the
            probabilistic Sharpe ratio.

    Raises:
        InputError: fewer than 3 days, or no trial.
    """
    if len(returns) < 3 or len(trials) < 1 or returns.std() == 0:
        raise InputError(
            f"Cannot deflate a Sharpe ratio of {len(returns)} days and {len(trials)} trials: expected at least 3 days "
            "whose returns vary, and the trial itself."
        )
    z = (returns - returns.mean()) / returns.std()
    ratio = float(returns.mean() / returns.std(ddof=1))
    spread = float(trials.std(ddof=1)) if len(trials) > 1 else 0.0
    bar = best_of_worthless(len(trials), spread)
    return probability_above(ratio, bar, len(returns), float((z**3).mean()), float((z**4).mean()))


def best_of_worthless(trials: int, deviation: float) -> float:
    """SR0: what the best of so many trials is expected to show if none is worth anything; see :func:`deflated_sharpe`.

    >>> round(best_of_worthless(100, (1 / 500) ** 0.5), 4)
    0.1132
    """
    if trials < 2:
        return 0.0
    normal = NormalDist()
    return deviation * ((1 - _EULER) * normal.inv_cdf(1 - 1 / trials) + _EULER * normal.inv_cdf(1 - 1 / (trials * e)))


def probability_above(ratio: float, bar: float, days: int, skew: float, kurtosis: float) -> float:
    """The probability that the true ratio a day is above ``bar``; see :func:`deflated_sharpe`."""
    spread = 1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2
    found = (ratio - bar) * sqrt(days - 1) / sqrt(spread) if spread > 0 else inf
    return NormalDist().cdf(found) if isfinite(found) else float("nan")
