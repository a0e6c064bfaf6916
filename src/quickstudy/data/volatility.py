"""Floor 1: what is known of a share at the close of a day, and what is to be foretold of it.

Everything here looks back only, but for :func:`ahead`. The daily variance of Garman and Klass (1980), the usual range
estimator, with O, H, L, C the day's open, high, low and close:

    V = 1/2 ln(H/L)^2 - (2 ln 2 - 1) ln(C/O)^2

or Parkinson's (1980), V = ln(H/L)^2 / (4 ln 2). Both are of the hours of trade; the jump over night is no part of it.

M. Garman, M. Klass, "On the estimation of security price volatilities from historical data", Journal of Business 1980;
M. Parkinson, "The extreme value method for estimating the variance of the rate of return", Journal of Business 1980.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from quickstudy.data.bars import CLOSE, HIGH, LOW, OPEN, VOLUME, Share

__all__ = ["FEATURES", "KNOWN", "WARM_UP", "Estimator", "ahead", "daily_variance", "known", "relative"]

Floats: TypeAlias = NDArray[np.float64]
Estimator: TypeAlias = Literal["garman-klass", "parkinson"]

WARM_UP = 66
"""Days that a share must have behind it: the longest of the averages below."""

FLOOR = 1e-8  # of a daily variance: a hundredth of a percent as a deviation; its logarithm must exist

KNOWN = (
    "day",
    "week",
    "month",
    "quarter",
    "return",
    "return-week",
    "return-month",
    "night",
    "place",
    "volume",
    "ewma",
    "past",
)
"""Columns of :func:`known`."""

FEATURES = (*KNOWN[:4], "ewma", "past", "return", "loss", "return-week", "return-month", "night", "place", "volume")
"""Columns of :func:`relative`."""

_DECAY = 0.94
_CUT = 6.0  # scaled returns beyond it are splits that were not adjusted, more often than news


def daily_variance(share: Share, estimator: Estimator) -> Floats:
    """``[n]``; a day without a range has that of the day before (the floor, before the first)."""
    opened, high, low, close = (share.bars[:, column] for column in (OPEN, HIGH, LOW, CLOSE))
    usable = share.ranged
    with np.errstate(invalid="ignore", divide="ignore"):
        spread, change = np.log(high / low), np.log(close / opened)
        if estimator == "parkinson":
            variance = spread**2 / (4 * np.log(2))
        else:
            variance = spread**2 / 2 - (2 * np.log(2) - 1) * change**2
    last = np.maximum.accumulate(np.where(usable, np.arange(len(usable)), -1))
    return np.maximum(np.where(last >= 0, variance[last], FLOOR), FLOOR)


def known(share: Share, variance: Floats) -> Floats:
    """What is known at each close, ``[n, 12]``; NaN where there are not enough days behind.

    The logarithm of the mean variance of the last 1, 5, 22 and 66 days (day, week, month, quarter); the logarithmic
    return of 1, 5 and 22 days; from the last close to the open; where the close lies between low (-1) and high (1); the
    logarithm of the volume over its mean of 22 days; that of the exponentially weighted mean of all variances so far,
    each weighing 0.94 of the next (RiskMetrics, 1996); the mean of all logarithms of the variance so far.
    """
    close, opened = np.log(share.bars[:, CLOSE]), np.log(share.bars[:, OPEN])
    high, low = share.bars[:, HIGH], share.bars[:, LOW]
    usable = share.ranged & (high > low)
    volume = np.nan_to_num(share.bars[:, VOLUME]) + 1
    columns = [np.log(_mean(variance, days)) for days in (1, 5, 22, WARM_UP)]
    columns += [_since(close, days) for days in (1, 5, 22)]
    night = np.nan_to_num(opened - np.roll(close, 1))
    night[0] = 0
    middle = (2 * share.bars[:, CLOSE] - high - low) / np.where(usable, high - low, 1.0)
    columns += [night, np.where(usable, np.clip(middle, -1, 1), 0.0), np.log(volume / _mean(volume, 22))]
    columns.append(np.log(lfilter([1 - _DECAY], [1, -_DECAY], variance, zi=[_DECAY * variance[0]])[0]))
    columns.append(np.cumsum(np.log(variance)) / np.arange(1, len(variance) + 1))
    return np.stack(columns, 1)


def relative(values: Floats, level: Floats) -> NDArray[np.float32]:
    """Features of some days in units of a share's own past.

    Args:
        values: ``[..., 12]``, of :func:`known`.
        level: the logarithm of the variance that counts as usual, broadcast against ``[...]``.

    Returns:
        float32 ``[..., 13]``.
    """
    scale = np.exp(-level / 2)
    day, night = (np.clip(values[..., at] * scale, -_CUT, _CUT) for at in (4, 7))
    week = np.clip(values[..., 5] * scale / np.sqrt(5), -_CUT, _CUT)
    longer = np.clip(values[..., 6] * scale / np.sqrt(22), -_CUT, _CUT)
    logs = [values[..., at] - level for at in (0, 1, 2, 3, 10, 11)]
    volume = np.clip(values[..., 9], -_CUT, _CUT)
    columns = [*logs, day, np.minimum(day, 0), week, longer, np.abs(night), values[..., 8], volume]
    return np.stack(columns, -1).astype(np.float32)


def ahead(variance: Floats, horizon: int) -> Floats:
    """``[n]``: the logarithm of the mean variance of the ``horizon`` days after each; NaN at the end."""
    found = np.full(len(variance), np.nan)
    means = _mean(variance, horizon)
    found[: len(variance) - horizon] = np.log(means[horizon:])
    return found


def _mean(values: Floats, days: int) -> Floats:
    """Of the last ``days`` values, each in its own sum: what comes later cannot move it by a bit."""
    found = np.full(len(values), np.nan)
    if len(values) >= days:
        found[days - 1 :] = np.lib.stride_tricks.sliding_window_view(values, days).mean(1)
    return found


def _since(values: Floats, days: int) -> Floats:
    found = np.full(len(values), np.nan)
    found[days:] = values[days:] - values[:-days]
    return found
