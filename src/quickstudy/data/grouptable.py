"""Floor 1: any table as tasks: each patient, customer, machine ... a task, or each hospital."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.counts import Count
from quickstudy.data.dataset import check_role
from quickstudy.data.grouptasks import Asked, Group, GroupTasks
from quickstudy.data.tablecoding import Coded, code
from quickstudy.data.tablefile import RawTable, order_of, read_table
from quickstudy.errors import DataError, InputError
from quickstudy.keys import Integers

__all__ = ["GroupTable", "check_way"]

_MOST_CLASSES = 10  # a target of whole numbers is classes only where it is said; of words, up to so many kinds
_SHARES = (0.6, 0.15)  # of the groups: training, validation; the rest tests


class GroupTable:
    """A CSV or TSV file with a row an observation; a task is a group of rows.

    Groups are divided by a hash of their names: 60 % train, 15 % validate, 25 % test. Means, deviations, words and the
    target's scale are measured on the training groups alone.

    A row of a group that stands twice, cell by cell, is one row: else it could be known and asked for in one task.

    Args:
        file: the table, its columns named in the first row; blank, ``?``, ``NaN`` and ``NA`` are missing.
        group: the column that says whose row it is, such as ``"patient"``.
        target: the column that is asked for: numbers (regression), or words (classes).
        time: a column of numbers or dates: the support is then the first rows of a group, the query later ones. None:
            support and query are drawn.
        categories: columns whose numbers are names. A target among them has classes.
        keep: in training, the least share of columns that a task knows; see :class:`GroupTasks`.
        repeated: rows that stand twice count twice, as where a few words are all that is known of a row.

    Raises:
        InputError: a share of columns that makes no sense.
    """

    name = "table"
    splits = ("train", "validation", "test")

    def __init__(
        self,
        *,
        file: Path | None = None,
        group: str | None = None,
        target: str | None = None,
        time: str | None = None,
        categories: Sequence[str] = (),
        keep: float = 1.0,
        repeated: bool = False,
    ) -> None:
        if not 0 < keep <= 1:
            raise InputError(f"Cannot make tasks with keep = {keep}: expected a share of columns above 0, up to 1.")
        self._file, self._group, self._target, self._time = file, group, target, time
        self._categories, self._keep, self._repeated = tuple(categories), keep, repeated

    @cached_property
    def raw(self) -> RawTable:
        """The file as it stands.

        Raises:
            InputError: not said which file, group or target.
            DataError: the file cannot be used; names file and row.
        """
        if self._file is None or self._group is None or self._target is None:
            missing = [
                f"--data.{name}"
                for name, given in (("file", self._file), ("group", self._group), ("target", self._target))
                if given is None
            ]
            raise InputError(
                f"Cannot read a table: {' and '.join(missing)} not given. Say which file, which column tells whose row "
                "it is, and which column is asked for: --data.file T.csv --data.group patient --data.target outcome."
            )
        return read_table(
            Path(self._file).expanduser(),
            group=self._group,
            target=self._target,
            time=self._time,
            categories=self._categories,
        )

    @property
    def divided(self) -> dict[str, list[str]]:
        """Role -> its groups; kept with each run, as a table that has grown is divided otherwise."""
        return self.roles

    @cached_property
    def roles(self) -> dict[str, list[str]]:
        """Role -> its groups, sorted.

        Raises:
            DataError: fewer than three groups.
        """
        names = sorted(set(self.raw.group))
        if len(names) < 3:
            raise DataError(
                f"Cannot make tasks of {self.raw.source}: the column {self._group!r} has {len(names)} different names "
                f"({', '.join(map(repr, names))}), and each group is a task: some to train on, others to validate and "
                "test on. Give a table of three groups or more, better of dozens."
            )
        order = sorted(names, key=_digest)
        train = min(max(1, round(_SHARES[0] * len(names))), len(names) - 2)
        last = min(train + max(1, round(_SHARES[1] * len(names))), len(names) - 1)
        parts = {"train": order[:train], "validation": order[train:last], "test": order[last:]}
        return {role: sorted(part) for role, part in parts.items()}

    @cached_property
    def _rows(self) -> dict[str, Integers]:
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(self.raw.group):
            if self._first[row]:
                rows.setdefault(name, []).append(row)
        found = {name: np.array(mine, dtype=np.int64) for name, mine in rows.items()}
        when = self.raw.time
        return found if when is None else {name: order_of(when, mine) for name, mine in found.items()}

    @cached_property
    def _first(self) -> NDArray[np.bool_]:
        """``[R]``, whether no row before is the same, whatever way a missing value is written."""
        if self._repeated:
            return np.ones(len(self.raw.group), dtype=bool)
        parts = [column.values for column in (*self.raw.columns, self.raw.target)]
        parts += [] if self.raw.time is None else [self.raw.time]
        cells = np.where(np.isnan(parts), np.inf, parts).T.tolist()  # no cell is infinite, and NaN is never alike
        seen: set[tuple[Any, ...]] = set()
        found = []
        for name, row in zip(self.raw.group, cells, strict=True):
            before = len(seen)
            seen.add((name, *row))
            found.append(len(seen) > before)
        return np.array(found, dtype=bool)

    @cached_property
    def coded(self) -> Coded:
        """The columns as features, by the training groups' rows."""
        return code(self.raw.source, self.raw.columns, self._training)

    @property
    def _training(self) -> Integers:
        return np.sort(np.concatenate([self._rows[name] for name in self.roles["train"]]))

    @cached_property
    def asked(self) -> Asked:
        """The target: normalised by the training groups, or classes.

        Raises:
            DataError: a single class, too many, or a number that never changes.
        """
        column = self.raw.target
        if column.words is None:
            known = column.values[self._training]
            if not known.std() > 0:
                raise DataError(
                    f"Cannot learn {column.name!r} of {self.raw.source}: it is {known[0]:g} in all training rows."
                )
            return Asked(column.values, None, float(known.mean()), float(known.std()))
        if not 2 <= len(column.words) <= _MOST_CLASSES:
            raise DataError(
                f"Cannot learn {column.name!r} of {self.raw.source}: it has {len(column.words)} different words, "
                f"{', '.join(map(repr, column.words[:3]))} ...; expected 2 to {_MOST_CLASSES} classes, or numbers."
            )
        return Asked(column.values.astype(np.int64), column.words)

    @property
    def shape(self) -> tuple[int, ...]:
        """(F,), the features of a row."""
        return (self.coded.size,)

    def tasks(self, role: str, *, shot: Count, query: Count, seed: int, way: Count | None = None) -> GroupTasks:
        """Tasks of one role; see :meth:`quickstudy.data.dataset.DataSet.tasks`.

        Args:
            role: one of :attr:`splits`.
            shot: support rows of a task, all classes together.
            query: rows asked for; with a range, as many as a group has, within it.
            seed: tells sources of the same kind apart.
            way: None, or the number of classes.

        Raises:
            UnknownName: no such role.
            InputError: a number makes no sense, or no group has as many rows.
            DataError: the file cannot be used; names file and row.
        """
        check_role(self, role)
        check_way(self.name, way, self.asked)
        about: dict[str, Any] = {"group": self._group, "target": self._target, "time": self._time}
        about["names"] = self.roles[role][:100]
        about["rows_repeated"] = int((~self._first).sum())
        return GroupTasks(
            self.coded,
            self.asked,
            [Group(name, self._rows[name]) for name in self.roles[role]],
            data=self.name,
            split=role,
            shot=shot,
            query=query,
            seed=seed,
            ordered=self._time is not None,
            anywhere=role == "train",
            keep=self._keep if role == "train" else 1.0,
            about=about,
        )


def check_way(data: str, way: Count | None, asked: Asked) -> None:
    """A table has the classes that it has.

    Raises:
        InputError: another number of them was asked for.
    """
    if way is None:
        return
    if asked.classes is None:
        raise InputError(f"Cannot draw {way!r}-way tasks from {data}: its target is a number. Leave way out.")
    if way != len(asked.classes) and way not in ((len(asked.classes),) * 2, [len(asked.classes)] * 2):
        raise InputError(
            f"Cannot draw {way!r}-way tasks from {data}: its target has {len(asked.classes)} classes, "
            f"{', '.join(asked.classes)}, in every task. Leave way out."
        )


def _digest(name: str) -> str:
    return hashlib.sha256(f"quickstudy table {name}".encode()).hexdigest()
