"""Floor 1: daily bars of shares, read from CSV files and checked row by row.

    date,open,high,low,close,volume,symbol

One file of all shares, or one a share in a folder (its name is then the symbol, where there is no such column). Prices
are checked as they are read: what cannot be a price is refused by file and row, and nothing is guessed in silence. An
open, a high or a low may be blank: the day then has no *range*, and its variance is taken from the day before.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import DataError

__all__ = ["CLOSE", "HIGH", "LOW", "OPEN", "VOLUME", "Share", "read_bars", "read_zipped_bars"]

OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
_NUMBERS = ("open", "high", "low", "close", "volume")
_SYMBOLS = ("symbol", "name", "ticker")
_OUTSIDE = 5e-3  # adjusted prices are rounded: so far, as a part of the price, open and close may lie outside the range


@dataclass(frozen=True, eq=False)
class Share:
    """The days of one share, oldest first.

    Args:
        symbol: what it is called.
        dates: ``datetime64[D]`` ``[n]``, strictly rising.
        bars: float64 ``[n, 5]``: open, high, low, close, volume; a close is always there, NaN stands for a gap.
    """

    symbol: str
    dates: NDArray[np.datetime64]
    bars: NDArray[np.float64]

    @property
    def ranged(self) -> NDArray[np.bool_]:
        """Bool ``[n]``: days whose open, high, low and close are there and fit each other."""
        opened, high, low, close = (self.bars[:, column] for column in (OPEN, HIGH, LOW, CLOSE))
        slack = _OUTSIDE * close
        with np.errstate(invalid="ignore"):
            top, bottom = np.maximum(opened, close), np.minimum(opened, close)
            fits: NDArray[np.bool_] = (high >= low) & (top <= high + slack) & (bottom >= low - slack)
        return fits


def read_bars(path: Path) -> tuple[Share, ...]:
    """All shares of a CSV file, or of the ``.csv`` files of a folder, sorted by symbol.

    Raises:
        DataError: nothing there, or something in it cannot be a bar; names file and row.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".csv" and file.is_file())
        if not files:
            raise DataError(f"Cannot read bars from the folder {path}: it holds no file that ends in .csv.")
    elif path.is_file():
        files = [path]
    else:
        raise DataError(
            f"Cannot read bars: there is no file or folder {path}. Give a CSV file, or a folder of one a share, with "
            "the columns date,open,high,low,close,volume,symbol."
        )
    return _joined((str(file), _text(file)) for file in files)


def read_zipped_bars(path: Path) -> tuple[Share, ...]:
    """All shares of a zip file of CSV files, published as they are: rows that contradict themselves have no range.

    Raises:
        DataError: the file is missing, cut off or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            names = sorted(name for name in packed.namelist() if name.lower().endswith(".csv"))
            texts = [(f"{path}:{name}", packed.read(name).decode()) for name in names]
    except FileNotFoundError as error:
        raise DataError(
            f"Cannot read the S&P 500 bars: there is no file {path}. It is published with the Kaggle data set "
            "camnugent/sandp500; put it there, name the folder of data sets (--data-root DIR), or read your own files "
            "with the data set 'bars'."
        ) from error
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read {path}: it is half downloaded or damaged ({error}). Get it again.") from error
    if not texts:
        raise DataError(f"Cannot read {path}: it holds no CSV file.")
    return _joined(texts, published=True)


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"Cannot read {file}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"Cannot read {file}: it is not UTF-8 text ({error.reason}). Save it as CSV in UTF-8."
        ) from error


def _joined(texts: Iterable[tuple[str, str]], *, published: bool = False) -> tuple[Share, ...]:
    found: dict[str, tuple[str, Share]] = {}
    for where, text in texts:
        for share in _Sheet(where, text, published=published).shares():
            if share.symbol in found:
                raise DataError(
                    f"Cannot read {where}: the symbol {share.symbol!r} occurs in {found[share.symbol][0]} too. "
                    "Keep all days of a share in one file."
                )
            found[share.symbol] = (where, share)
    return tuple(share for _, (_, share) in sorted(found.items()))


class _Sheet:
    """One CSV file.

    Args:
        where: its name, for messages.
        text: what it holds.
        published: from a known archive: its few contradictory rows are gaps, not errors.
    """

    def __init__(self, where: str, text: str, *, published: bool) -> None:
        self.where, self.published = where, published
        head = text.split("\n", 1)[0]
        reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=head.count))
        try:
            self.head = [name.strip().lower() for name in next(reader, [])]
            kept = [(reader.line_num, row) for row in reader if row]
        except csv.Error as error:
            raise DataError(f"Cannot read {where}, row {reader.line_num}: it is not CSV ({error}).") from error
        self.lines, self.rows = [line for line, _ in kept], [row for _, row in kept]

    def fail(self, row: int, why: str) -> NoReturn:
        """Refuse the file because of one row."""
        raise DataError(f"Cannot read {self.where}, row {self.lines[row]}: {why}")

    def shares(self) -> list[Share]:
        """The shares in this file, each checked."""
        missing = [name for name in ("date", *_NUMBERS) if name not in self.head]
        if missing:
            raise DataError(
                f"Cannot read {self.where}, row 1: the column{'s' if len(missing) > 1 else ''} {', '.join(missing)} "
                f"{'are' if len(missing) > 1 else 'is'} missing, found {', '.join(self.head) or 'nothing'}. Bars need "
                "the columns date,open,high,low,close,volume, and symbol unless each file is one share."
            )
        if not self.rows:
            raise DataError(f"Cannot read {self.where}: it has no rows below its head.")
        short = next((at for at, row in enumerate(self.rows) if len(row) != len(self.head)), None)
        if short is not None:
            self.fail(short, f"expected {len(self.head)} fields as in the head, found {len(self.rows[short])}.")
        self.columns = list(zip(*self.rows, strict=True))
        dates, symbols = self._dates(), self._symbols()
        bars = np.stack([self._column(name) for name in _NUMBERS], 1)
        self._check_prices(bars)
        names, which = np.unique(symbols, return_inverse=True)
        order = np.argsort(which, kind="stable")
        parts = np.split(order, np.searchsorted(which[order], np.arange(1, len(names))))
        return [self._share(str(name), rows, dates, bars) for name, rows in zip(names, parts, strict=True)]

    def _texts(self, name: str) -> tuple[str, ...]:
        return self.columns[self.head.index(name)]

    def _dates(self) -> NDArray[np.datetime64]:
        texts = [text.strip()[:10] for text in self._texts("date")]
        try:
            if set(map(len, texts)) == {10}:
                return np.array(texts, dtype="datetime64[D]")
        except ValueError:
            pass
        for at, text in enumerate(texts):
            try:
                if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
                    raise ValueError
                np.datetime64(text, "D")
            except ValueError:
                self.fail(at, f"expected a date such as 2017-03-31, found {text!r}.")
        raise AssertionError("one of the dates is wrong")

    def _symbols(self) -> NDArray[np.str_]:
        column = next((name for name in _SYMBOLS if name in self.head), None)
        if column is None:
            return np.full(len(self.rows), Path(self.where).stem)
        symbols = np.strings.strip(np.array(self._texts(column)))
        blank = np.flatnonzero(symbols == "")
        if len(blank):
            self.fail(int(blank[0]), "the symbol is blank. Give every row its share.")
        return symbols

    def _column(self, name: str) -> NDArray[np.float64]:
        """A column of numbers, NaN where a field is blank.

        Raises:
            DataError: a field is neither blank nor a finite number.
        """
        texts = self._texts(name)
        try:
            values = np.array(texts, dtype=np.float64)
            if np.isfinite(values).all():
                return values
        except ValueError:  # a blank, or what is no number
            pass
        texts = tuple(text.strip() for text in texts)
        values = np.array([_number(text) for text in texts])
        given = np.array([text != "" for text in texts])
        bad = np.flatnonzero(given & ~np.isfinite(values))
        if len(bad):
            text = texts[bad[0]]
            self.fail(int(bad[0]), f"the {name} is {text!r}, which is no finite number. Clean or drop that row.")
        return values

    def _check_prices(self, bars: NDArray[np.float64]) -> None:
        blank = np.flatnonzero(np.isnan(bars[:, CLOSE]))
        if len(blank):
            self.fail(int(blank[0]), "the close is blank (NaN). Every day needs a close; drop days without trade.")
        with np.errstate(invalid="ignore"):
            wrong = bars[:, :VOLUME] <= 0
            sold = bars[:, VOLUME] < 0
            crossed = bars[:, HIGH] < bars[:, LOW]
        if wrong.any():
            at, column = (int(place) for place in np.argwhere(wrong)[0])
            self.fail(at, f"the {_NUMBERS[column]} is {bars[at, column]:g}. Prices must be above 0.")
        if sold.any():
            at = int(sold.argmax())
            self.fail(at, f"the volume is {bars[at, VOLUME]:g}. It cannot be below 0.")
        if crossed.any() and not self.published:
            at = int(crossed.argmax())
            self.fail(at, f"the high ({bars[at, HIGH]:g}) is below the low ({bars[at, LOW]:g}). Correct that row.")

    def _share(
        self, symbol: str, rows: NDArray[np.intp], dates: NDArray[np.datetime64], bars: NDArray[np.float64]
    ) -> Share:
        days = dates[rows]
        steps = np.diff(days).astype(np.int64)
        if len(steps) and steps.min() <= 0:
            self._fail_order(symbol, rows, days, int((steps <= 0).argmax()) + 1)
        return Share(symbol, days, bars[rows])

    def _fail_order(self, symbol: str, rows: NDArray[np.intp], days: NDArray[np.datetime64], at: int) -> NoReturn:
        earlier: Sequence[int] = np.flatnonzero(days[:at] == days[at]).tolist()
        if earlier:
            first = self.lines[rows[earlier[0]]]
            self.fail(int(rows[at]), f"{symbol} has the date {days[at]} already in row {first}. Keep one row a day.")
        self.fail(
            int(rows[at]),
            f"the dates of {symbol} are out of order: {days[at]} follows {days[at - 1]}. Sort the file, oldest first.",
        )


def _number(text: str) -> float:
    """The number; infinity, which no column may hold, for what is none."""
    try:
        return float(text) if text else np.nan
    except ValueError:
        return np.inf
