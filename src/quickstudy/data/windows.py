"""Floor 1: tasks that are one share and one window of its days.

    days of the share   ... | s ... s+K-1 | h-1 days | q ... q+Q-1 | h days ...
                              support        purge      query        labels

A day's features are of its close and earlier. Its label is of the ``h`` days after it. The first query is the day on
whose close the last label of the support is known, so that the support has no label from a query's future.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.bars import CLOSE, Share
from quickstudy.data.counts import Bounds, Count, as_setting, bounds
from quickstudy.data.source import TaskShape, TaskSource, as_indices
from quickstudy.data.volatility import FEATURES, WARM_UP, Estimator, ahead, daily_variance, known, relative
from quickstudy.episode import Classes, Episode, Examples, Real
from quickstudy.errors import DataError
from quickstudy.keys import Integers, Key, integers

__all__ = ["Asked", "Latest", "Panel", "Period", "WindowTarget", "WindowTasks"]

Floats: TypeAlias = NDArray[np.float64]
WindowTarget: TypeAlias = Literal["volatility", "direction"]

_BLOCK = 21  # days; windows that begin in the same block are one kind for the interval over "classes"


@dataclass(frozen=True)
class Period:
    """Days that the tasks of one role may touch with support, query and labels.

    Args:
        first: the number in the calendar of the first day.
        end: one more than that of the last.
    """

    first: int
    end: int


@dataclass(frozen=True, eq=False)
class Asked:
    """What the queries of T tasks are about, for figures that need more than the answers.

    Args:
        share: int64 ``[T]``, numbers of :attr:`Panel.shares`.
        date: ``datetime64[D]`` ``[T, Nq]``, the day at whose close the question is asked.
        next_return: float64 ``[T, Nq]``, the simple return from that close to the next.
        level: float64 ``[T]``, logarithm of the share's usual variance, which targets are relative to.
    """

    share: Integers
    date: NDArray[np.datetime64]
    next_return: Floats
    level: Floats


@dataclass(frozen=True, eq=False)
class Latest:
    """T shares today: what is known of each, and the one day whose future nobody knows yet.

    Args:
        symbols: of the shares.
        date: ``datetime64[D]`` ``[T]``, each one's last day.
        level: float64 ``[T]``; a forecast of volatility is ``100 * exp((answer + level) / 2)`` percent a day.
        support: ``[T, K, 13]``, the last days whose labels are known.
        query: ``[T, 1, 13]``, the last day, without a label.
    """

    symbols: tuple[str, ...]
    date: NDArray[np.datetime64]
    level: Floats
    support: Examples
    query: Examples


class Panel:
    """All shares, one after the other, with what is known and what follows each day.

    Args:
        shares: sorted by symbol.
        horizon: days that the variance is averaged over.
        estimator: of the daily variance.

    Raises:
        DataError: fewer than two shares.
    """

    def __init__(self, shares: Sequence[Share], *, horizon: int, estimator: Estimator) -> None:
        if len(shares) < 2:
            name = shares[0].symbol if shares else "none"
            raise DataError(
                f"Cannot make tasks of one symbol only ({name}): a task is a share and a window, and meta-learning "
                "needs several shares. Give the bars of at least two."
            )
        self.symbols = tuple(share.symbol for share in shares)
        self.shares, self.horizon, self.estimator = tuple(shares), horizon, estimator
        self.calendar = np.unique(np.concatenate([share.dates for share in shares]))
        self.starts = np.concatenate([[0], np.cumsum([len(share.dates) for share in shares])]).astype(np.int64)
        self.day = np.concatenate([np.searchsorted(self.calendar, share.dates) for share in shares])
        variances = [daily_variance(share, estimator) for share in shares]
        self.variance = np.concatenate(variances)
        self.known = np.concatenate([known(share, own) for share, own in zip(shares, variances, strict=True)])
        self.ahead = np.concatenate([ahead(own, horizon) for own in variances])
        self.next_return = np.concatenate([_next_return(share.bars[:, CLOSE]) for share in shares])

    @cached_property
    def hash(self) -> str:
        """Hex sha256 over symbols, dates and prices."""
        digest = hashlib.sha256(json.dumps([self.symbols, self.horizon, self.estimator, FEATURES]).encode())
        for share in self.shares:
            digest.update(share.dates.astype(np.int64).tobytes() + share.bars.tobytes())
        return digest.hexdigest()


def _next_return(close: Floats) -> Floats:
    found = np.full(len(close), np.nan)
    found[:-1] = close[1:] / close[:-1] - 1
    return found


class WindowTasks(TaskSource):
    """Tasks of one share and one window each.

    ``x`` is float32 ``[T, N, 13]`` (``data.volatility.FEATURES``), relative to the share's mean variance of the 66 days
    up to the first day of the support, on a logarithmic scale. Targets:

    - volatility: ``y = ln(mean of V over the next h days) + gap - level``, real;
    - direction: 1 if the next close is above this one, else 0. Only windows whose support holds both are taken, which
      is known before the first query.

    ``gap`` is the logarithm of a mean minus the mean of the logarithm: with it the answer that is best in squared error
    is the logarithm of the mean variance, which is what QLIKE asks for and what EWMA and GARCH say.

    Args:
        panel: the shares.
        period: days that support, query and labels may touch.
        target: ``"volatility"`` or ``"direction"``.
        gap: see above.
        data: name of the data set; with ``split`` and ``seed`` it fixes the tasks.
        split: the role.
        shot: K, days of the support; with a range the last ones of the largest.
        query: Q, days of the query, likewise the first ones.
        seed: tells sources of the same kind apart.

    Raises:
        InputError: a number makes no sense.
        DataError: no window of this size lies within the period.
    """

    def __init__(
        self,
        panel: Panel,
        period: Period,
        *,
        target: WindowTarget,
        gap: float,
        data: str,
        split: str,
        shot: Count,
        query: Count,
        seed: int,
    ) -> None:
        self.panel, self.period, self.target, self.gap = panel, period, target, gap
        self._data, self._split, self._seed = data, split, seed
        self._shot: Bounds = bounds("shot", shot, 2 if target == "direction" else 1)
        self._query: Bounds = bounds("query", query)
        self._key = Key.of(seed, data, split, target)
        self._first, self._shares, self._ends = self._windows()

    @property
    def horizon(self) -> int:
        """h: days that a label looks ahead."""
        return 1 if self.target == "direction" else self.panel.horizon

    @property
    def days(self) -> int:
        """Days from the first of the support to the last that a label is made of."""
        return self._shot[1] + self._query[1] + 2 * self.horizon - 1

    def _windows(self) -> tuple[Integers, Integers, Integers]:
        """Rows on which a support may begin, share after share; the shares that have any, and where each one's end."""
        panel = self.panel
        found = []
        for start, end in zip(panel.starts[:-1], panel.starts[1:], strict=True):
            first = np.arange(start + WARM_UP, end - self.days + 1)
            inside = (panel.day[first] >= self.period.first) & (panel.day[first + self.days - 1] < self.period.end)
            found.append(self._both_ways(first[inside]))
        counts = np.array([len(one) for one in found])
        shares = np.flatnonzero(counts)
        if not len(shares):
            most = int(np.diff(panel.starts).max())
            raise DataError(
                f"Cannot make tasks of {self._data}/{self._split}: too few days. A window takes {self.days} "
                f"({self._shot[1]} of support, {self._query[1]} of query, {2 * self.horizon - 1} between and behind)"
                f" and {WARM_UP} before it; this split has {max(0, self.period.end - self.period.first)} days, the "
                f"longest share {most} in all. Reduce shot or query, give longer files, or move the splits "
                "(train-until, validate-until)."
            )
        return np.concatenate(found), shares, counts[shares].cumsum()

    def _both_ways(self, first: Integers) -> Integers:
        """For direction, the windows of which even the smallest support has days up and days down."""
        if self.target == "volatility":
            return first
        ups = np.concatenate([[0], np.cumsum(np.nan_to_num(self.panel.next_return) > 0)])
        end, least = first + self._shot[1], self._shot[0]
        found = ups[end] - ups[end - least]
        return np.asarray(first[(found > 0) & (found < least)], dtype=np.int64)

    @property
    def shape(self) -> TaskShape:
        """Rows of 13 numbers; one real value, or two classes."""
        if self.target == "direction":
            return TaskShape((len(FEATURES),), "classes", outputs=2)
        return TaskShape((len(FEATURES),), "real", outputs=1)

    @cached_property
    def hash(self) -> str:
        """Hex sha256 over the bars, what is made of them, and the period."""
        content = [self.panel.hash, self.period.first, self.period.end, self.target, self.gap]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def settings(self) -> dict[str, Any]:
        """What makes these tasks."""
        calendar = self.panel.calendar
        return {
            "data": self._data,
            "split": self._split,
            "target": self.target,
            "horizon": self.horizon,
            "variance": self.panel.estimator,
            "gap": self.gap,
            "from": str(calendar[self.period.first]),
            "to": str(calendar[self.period.end - 1]),
            "shares": len(self._shares),
            **({"way": 2} if self.target == "direction" else {}),
            "shot": as_setting(self._shot),
            "query": as_setting(self._query),
            "seed": self._seed,
        }

    def _drawn(self, tasks: Integers) -> tuple[Integers, Integers, Integers, Integers]:
        """Of each task: number of its share, the row where its (largest) support begins, K and Q."""
        words = self._key.bits(tasks, 4)
        which = integers(words[:, 0], len(self._shares))
        begin = np.where(which > 0, self._ends[which - 1], 0)
        first = self._first[begin + integers(words[:, 1], self._ends[which] - begin)]
        sizes = [
            ends[0] + integers(words[:, 2 + at], ends[1] - ends[0] + 1)
            for at, ends in enumerate((self._shot, self._query))
        ]
        return self._shares[which], first, sizes[0], sizes[1]

    def _rows(self, tasks: Integers) -> tuple[Integers, Integers, Integers, Integers]:
        """Share and first row ``[T]``, support rows ``[T, K]`` and query rows ``[T, Q]`` (-1: none)."""
        share, first, shot, query = self._drawn(tasks)
        last = first + self._shot[1]  # behind the support
        at = np.arange(shot.max())
        support = np.where(at < shot[:, None], (last - shot)[:, None] + at, -1)
        at = np.arange(query.max())
        asked = np.where(at < query[:, None], (last + self.horizon - 1)[:, None] + at, -1)
        return share, first, support, asked

    def episodes(self, indices: range | Integers) -> Episode:
        """The tasks with these numbers.

        ``side`` of both sets, int64 ``[T, 2]``, are the rows of the panel where the (largest) support begins and ends,
        for baselines that know a share's whole past; networks do not see it. ``Episode.classes`` counts the blocks of
        21 days of the calendar in which windows begin: windows of the same time are not independent, and an interval
        over "classes" knows it.
        """
        tasks = as_indices(indices)
        _, first, support, asked = self._rows(tasks)
        level = self._level(first)
        block = torch.from_numpy(self.panel.day[first] // _BLOCK)[:, None]
        return Episode(
            self._examples(support, level, first),
            self._examples(asked, level, first),
            index=torch.from_numpy(tasks.copy()),
            classes=torch.cat([2 * block, 2 * block + 1], 1) if self.target == "direction" else block,
        )

    def asked(self, indices: range | Integers) -> Asked:
        """What the queries of these tasks are about; NaN and NaT on padding."""
        share, first, _, rows = self._rows(as_indices(indices))
        there = rows >= 0
        dates = np.where(there, self.panel.calendar[self.panel.day[rows]], np.datetime64("NaT"))
        return Asked(share, dates, np.where(there, self.panel.next_return[rows], np.nan), self._level(first))

    def latest(self) -> Latest:
        """Every share that is long enough, at its last day, behind as large a support as these tasks have.

        Raises:
            DataError: for direction, no share's support has both days up and days down; those that have not are left
                out.
        """
        shot, ends = self._shot[1], self.panel.starts[1:]
        first = ends - self.horizon - shot
        fits = first >= self.panel.starts[:-1] + WARM_UP
        if self.target == "direction":
            rows = np.maximum(first, 0)[:, None] + np.arange(shot)
            up = (self.panel.next_return[rows] > 0).sum(1)
            fits &= (up > 0) & (up < shot)
        shares = np.flatnonzero(fits)
        if not len(shares):
            raise DataError(
                f"Cannot foretell the next day of {self._data}: of no share do the last {shot} days go both up and "
                "down. Increase shot."
            )
        first, last = first[shares], ends[shares] - 1
        level = self._level(first)
        support = self._examples(first[:, None] + np.arange(shot), level, first)
        query = self._examples(last[:, None], level, first).unlabelled()
        date = self.panel.calendar[self.panel.day[last]]
        return Latest(tuple(self.panel.symbols[share] for share in shares), date, level, support, query)

    def _level(self, first: Integers) -> Floats:
        return np.asarray(self.panel.known[first, 3], dtype=np.float64)

    def _examples(self, rows: Integers, level: Floats, first: Integers) -> Examples:
        there = rows >= 0
        x = relative(self.panel.known[rows], level[:, None])
        x[~there] = 0
        mask = None if there.all() else torch.from_numpy(there)
        place = torch.from_numpy(np.stack([first, first + self._shot[1] - 1], 1))
        if self.target == "direction":
            up = np.where(there, self.panel.next_return[rows] > 0, 0).astype(np.int64)
            way = torch.full((len(rows),), 2)
            return Examples(torch.from_numpy(x), torch.from_numpy(up), Classes(way), mask, place)
        y = np.where(there, self.panel.ahead[rows] + self.gap - level[:, None], 0.0)
        return Examples(torch.from_numpy(x), torch.from_numpy(y.astype(np.float32)[..., None]), Real(1), mask, place)

    def figures(self, outputs: Tensor, episode: Episode) -> dict[str, NDArray[np.float64]]:
        """Volatility: QLIKE, and the squared error of the variance; direction: accuracy.

        With V the mean variance of the next h days and F = exp(answer + level) the forecast,

            qlike = V/F - ln(V/F) - 1        (0 at best; Patton 2011, loss that noise in V does not mislead)
            variance-mse = (V - F)^2         V and F in squared percent a day

        both averaged over a task's queries.
        """
        counted = episode.query.labelled.numpy()
        assert episode.query.y is not None
        if self.target == "direction":
            right = (outputs.argmax(2) == episode.query.y).numpy() & counted
            return {"direction": right.sum(1) / counted.sum(1)}
        level = self._level(self._drawn(episode.indices.numpy())[1])[:, None]
        truth = episode.query.y[..., 0].double().numpy() - self.gap
        said = np.where(counted, outputs[..., 0].double().numpy(), 0.0)
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = np.exp(truth - said)
            qlike = ratio - (truth - said) - 1
            error = 1e4 * (np.exp(truth + level) - np.exp(said + level))
            return {
                "qlike": _mean_of(qlike, counted),
                "variance-mse": _mean_of(error**2, counted),
            }


def _mean_of(values: Floats, counted: NDArray[np.bool_]) -> Floats:
    """Mean over the counted of each row; an answer that is no number is as wrong as can be."""
    found = np.where(counted, values, 0.0).sum(1) / counted.sum(1)
    return np.where(np.isfinite(found), found, np.inf)
