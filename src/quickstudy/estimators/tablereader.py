"""Floor 6: tables with words and gaps, made into numbers by what the labelled rows hold, and by nothing else."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from quickstudy.data.tablecoding import Coding, measure
from quickstudy.errors import InputError
from quickstudy.estimators.inputs import AbstractReader, Kind
from quickstudy.estimators.tables import Cell, Table, joined

__all__ = ["TableReader"]

_SHOWN = 3


@dataclass(frozen=True, eq=False)
class TableReader(AbstractReader):
    """Rows of numbers, words and gaps.

    A column of numbers is in deviations of the labelled rows, a gap at their mean, and has a second feature that says
    where gaps are, if labelled rows have some. One of words (20 at the most) is a feature for each; a word that no
    labelled row has is none of them, and a warning says so. What is the same in all labelled rows says nothing, and is
    left out.

    Args:
        columns: how many there are.
        names: what they are called.
        words: whether each is one of words.
        rows: the labelled ones, which everything is measured on: kept, so that further ones are learned as if all had
            been there at once.
    """

    kind: ClassVar[Kind] = "rows"
    columns: int
    names: Sequence[str]
    words: Sequence[bool]
    rows: Sequence[Sequence[Cell]]

    @staticmethod
    def of(table: Table) -> TableReader:
        """A reader of tables like these labelled rows.

        Raises:
            DataError: no column says anything.
        """
        words = [column.words is not None for column in table.columns]
        reader = TableReader(len(words), table.names, words, table.rows)
        _ = reader.coding
        return reader

    def followed_by(self, table: Table) -> TableReader:
        """A reader of these labelled rows and of further ones."""
        return TableReader.of(joined([self.table, self._known(table)]))

    @functools.cached_property
    def table(self) -> Table:
        """The labelled rows."""
        return Table.of_rows(self.rows, self.names, self.words)

    @functools.cached_property
    def coding(self) -> Coding:
        """What the labelled rows say of each column."""
        return measure("the table", self.table.columns, np.arange(len(self.rows)))

    @functools.cached_property
    def _kept(self) -> NDArray[np.int64]:
        """Features that are not the same in all labelled rows."""
        x = self.coding.code("the table", self.table.columns).x
        return np.flatnonzero((x != x[:1]).any(0)).astype(np.int64)

    @property
    def width(self) -> int:
        """Features of a row."""
        return len(self._kept)

    @property
    def is_words(self) -> dict[str, bool]:
        """Column -> whether it is one of words."""
        return dict(zip(self.names, self.words, strict=True))

    @override
    def read(self, X: Table) -> Tensor:
        table = self._known(X)
        unknown = {scale.name: words for scale in self.coding.scales if (words := self._unknown(table, scale.name))}
        if unknown:
            said = "; ".join(f"{name}: {_some(words)}" for name, words in unknown.items())
            warnings.warn(f"Words that no labelled row has, taken for none of those: {said}.", stacklevel=2)
        return torch.from_numpy(self.coding.code(table.source, table.columns).x[:, self._kept])

    def _unknown(self, table: Table, name: str) -> list[str]:
        column = table.columns[table.names.index(name)]
        if column.words is None:
            return []
        there = {column.words[int(value)] for value in column.values[~np.isnan(column.values)]}
        scale = next(scale for scale in self.coding.scales if scale.name == name)
        return sorted(there - set(scale.words or ()))

    def _known(self, table: Table) -> Table:
        """The columns that were learned, each as numbers or as words, as it was then."""
        gone = [name for name in self.names if name not in table.names]
        if gone:
            raise InputError(
                f"Cannot use {table.source}: it has no column {', '.join(map(repr, gone))}, which the labelled rows "
                "had. Name the column as it was then, or add it, blank where it is not known."
            )
        order = [table.names.index(name) for name in self.names]
        rows = [[row[place] for place in order] for row in table.rows]
        return Table.of_rows(rows, self.names, self.words, table.source)

    @property
    @override
    def settings(self) -> dict[str, Any]:
        return {
            "columns": self.columns,
            "names": list(self.names),
            "words": list(self.words),
            "rows": [list(row) for row in self.rows],
        }


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(map(repr, words[:_SHOWN])) + more
