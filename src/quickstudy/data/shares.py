"""Floor 1: data sets of daily bars: S&P 500 shares as published, and the user's own files.

C. Nugent, "S&P 500 stock data", https://www.kaggle.com/datasets/camnugent/sandp500.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np

from quickstudy.data.bars import Share, read_bars, read_zipped_bars
from quickstudy.data.counts import Count
from quickstudy.data.dataset import check_role
from quickstudy.data.volatility import FEATURES, Estimator
from quickstudy.data.windows import Panel, Period, WindowTarget, WindowTasks
from quickstudy.errors import DataError, InputError, UnknownName
from quickstudy.files import data_root

__all__ = ["SP500", "Bars"]

_GAP = 0.145
"""About ln E[V] - E[ln V] of the mean variance of five days, given the features, on the training period of the S&P 500
shares, as `domains.finance.pooled.gap_of` finds it; fixed, so that no label depends on other days.
"""


class AbstractShares(ABC):
    """What both data sets share: options, the division of time, and tasks.

    Args:
        target: ``"volatility"`` (real) or ``"direction"`` (of the next day; two classes).
        horizon: days that the variance to be foretold is averaged over.
        variance: ``"garman-klass"`` or ``"parkinson"``.
        train_until: the last day of the training period, such as ``"2015-12-31"``; None: after 60 % of the days.
        validate_until: the last day of the validation period; None: after 80 % of the days.
        purge: days left out behind each period's end, at least the horizon; None: the horizon.
        gap: see :class:`quickstudy.data.windows.WindowTasks`.

    Raises:
        UnknownName: no such target or estimator.
        InputError: a number or date that makes no sense.
    """

    name: str
    splits = ("train", "validation", "test")
    shape = (len(FEATURES),)

    def __init__(
        self,
        target: WindowTarget,
        horizon: int,
        variance: Estimator,
        train_until: str | None,
        validate_until: str | None,
        purge: int | None,
        gap: float,
    ) -> None:
        if target not in get_args(WindowTarget):
            raise UnknownName.among("target of shares", target, get_args(WindowTarget))
        if variance not in get_args(Estimator):
            raise UnknownName.among("estimator of the variance", variance, get_args(Estimator))
        self.horizon = 1 if target == "direction" else horizon
        if horizon < 1 or (purge is not None and purge < self.horizon):
            raise InputError(
                f"Cannot make tasks with horizon = {horizon} and purge = {purge}: expected a horizon of at least 1 day "
                f"and a purge of at least the horizon ({self.horizon}), or no labels would be kept apart."
            )
        self.target, self.variance, self.gap = target, variance, gap
        self.purge = self.horizon if purge is None else purge
        self._until = tuple(_day(name, day) for name, day in (("train", train_until), ("validate", validate_until)))

    @abstractmethod
    def read(self) -> tuple[Share, ...]:
        """The shares."""

    @cached_property
    def panel(self) -> Panel:
        """All shares with features and targets; read at the first call.

        Raises:
            DataError: files are missing, or something in them cannot be a bar.
        """
        return Panel(self.read(), horizon=self.horizon, estimator=self.variance)

    def period(self, role: str) -> Period:
        """The days of a role: all labels of one end at least ``purge`` days before the next one's first support.

        Raises:
            DataError: a period has no days.
        """
        check_role(self, role)
        calendar = self.panel.calendar
        ends = [
            int(np.searchsorted(calendar, day, "right")) if day is not None else int(share * len(calendar))
            for day, share in zip(self._until, (0.6, 0.8), strict=True)
        ]
        first, second = ends
        periods = {
            "train": Period(0, first),
            "validation": Period(first + self.purge, second),
            "test": Period(second + self.purge, len(calendar)),
        }
        found = periods[role]
        if found.first >= found.end:
            raise DataError(
                f"Cannot make tasks of {self.name}/{role}: too few days. The bars go from {calendar[0]} to "
                f"{calendar[-1]}, and nothing of that lies in this split. Set train-until and validate-until to days "
                "within them, in this order."
            )
        return found

    def tasks(self, role: str, *, shot: Count, query: Count, seed: int, way: Count | None = None) -> WindowTasks:
        """Tasks of one role.

        Args:
            role: one of ``train``, ``validation``, ``test``.
            shot: days of the support, in a row.
            query: days of the query, in a row behind it.
            seed: tells sources of the same kind apart.
            way: 2 or None; volatility has no classes.

        Raises:
            UnknownName: no such role.
            InputError: a number makes no sense.
            DataError: files are missing or damaged, or there are too few days or shares.
        """
        if way is not None and (self.target == "volatility" or way not in (2, (2, 2), [2, 2])):
            has = "volatility is a number, not a class" if self.target == "volatility" else "a price goes up or not"
            raise InputError(
                f"Cannot draw {way!r}-way tasks from {self.name}: {has}. Leave way out, or use --data.target direction "
                "with way = 2."
            )
        return WindowTasks(
            self.panel,
            self.period(role),
            target=self.target,
            gap=self.gap,
            data=self.name,
            split=role,
            shot=shot,
            query=query,
            seed=seed,
        )


def _day(name: str, text: str | None) -> np.datetime64 | None:
    if text is None:
        return None
    try:
        if len(text) != 10:
            raise ValueError
        return np.datetime64(text, "D")
    except ValueError as error:
        raise InputError(
            f"Cannot divide time at {name}-until = {text!r}: expected a date such as 2015-12-31."
        ) from error


class SP500(AbstractShares):
    """Daily bars of the 505 shares that were in the S&P 500 in early 2018, from February 2013 to February 2018.

    Not free of survivorship: shares that left the index before 2018 are missing. Of 619,040 rows 21 lack a
    price or contradict themselves (a close far above the high); these days have no range (see ``data.bars``).

    Args:
        root: the folder that holds ``sp500-daily/``; by default QUICKSTUDY_DATA or the platform's data folder.
        target: see :class:`AbstractShares`, as for the rest.
        horizon: likewise.
        variance: likewise.
        train_until: by default the end of 2015.
        validate_until: by default the end of 2016.
        purge: likewise.
        gap: likewise.
    """

    name = "sp500"

    def __init__(
        self,
        root: Path | None = None,
        *,
        target: WindowTarget = "volatility",
        horizon: int = 5,
        variance: Estimator = "garman-klass",
        train_until: str | None = "2015-12-31",
        validate_until: str | None = "2016-12-31",
        purge: int | None = None,
        gap: float = _GAP,
    ) -> None:
        super().__init__(target, horizon, variance, train_until, validate_until, purge, gap)
        self._root = root

    @property
    def file(self) -> Path:
        """The published file."""
        return data_root(self._root) / "sp500-daily" / "individual_stocks_5yr.zip"

    def read(self) -> tuple[Share, ...]:
        """The shares.

        Raises:
            DataError: the file is missing or damaged.
        """
        return read_zipped_bars(self.file)


class Bars(AbstractShares):
    """Daily bars from your own CSV files with the columns ``date,open,high,low,close,volume,symbol``.

    Args:
        folder: a folder of ``.csv`` files; without a column ``symbol`` each file is the share that it is named after.
        file: one CSV file of all shares, instead.
        target: see :class:`AbstractShares`, as for the rest.
        horizon: likewise.
        variance: likewise.
        train_until: by default 60 % of the days.
        validate_until: by default 80 % of the days.
        purge: likewise.
        gap: likewise.

    Raises:
        InputError: not exactly one of ``folder`` and ``file``.
    """

    name = "bars"

    def __init__(
        self,
        *,
        folder: str | None = None,
        file: str | None = None,
        target: WindowTarget = "volatility",
        horizon: int = 5,
        variance: Estimator = "garman-klass",
        train_until: str | None = None,
        validate_until: str | None = None,
        purge: int | None = None,
        gap: float = _GAP,
    ) -> None:
        super().__init__(target, horizon, variance, train_until, validate_until, purge, gap)
        if (folder is None) == (file is None):
            raise InputError(
                "Cannot tell which bars to read: give either --data.folder DIR (one CSV file a share, or several) or "
                f"--data.file FILE, received {'both' if folder else 'neither'}."
            )
        self._where = Path(folder or file or "").expanduser()

    def read(self) -> tuple[Share, ...]:
        """The shares.

        Raises:
            DataError: nothing there, or something in it cannot be a bar; names file and row.
        """
        return read_bars(self._where)
