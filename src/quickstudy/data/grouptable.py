"""Floor 1: any table as tasks: each patient, customer, machine ... a task, or each hospital."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.counts import Count
from quickstudy.data.dataset import check_role
from quickstudy.data.grouptasks import Asked, Group, GroupTasks
from quickstudy.data.source import Origin, place
from quickstudy.data.tablecoding import Coded, Coding, measure
from quickstudy.data.tablefile import RawTable, order_of, read_table
from quickstudy.data.tablekept import Trained
from quickstudy.errors import DataError, InputError
from quickstudy.keys import Integers

__all__ = ["GroupTable", "check_way", "first_of_their_kind", "plain_cells"]

_log = logging.getLogger(__name__)

_MOST_CLASSES = 10  # a target of whole numbers is classes only where it is said; of words, up to so many kinds
_NAMED = 20  # columns or words that are named
_SHARES = (0.6, 0.15)  # of the groups: training, validation; the rest tests


class GroupTable:
    """A CSV or TSV file with a row an observation; a task is a group of rows.

    Groups are divided by a hash of their names: 60 % train, 15 % validate, 25 % test. Means, deviations, words and the
    target's scale are measured on the training groups alone, and kept with a run, which is tested with its own
    (:meth:`as_trained`).

    A row of a group that stands twice, cell by cell, is one row: else it could be known and asked for in one task.

    Args:
        file: the table, its columns named in the first row; blank, ``?``, ``NaN``, ``NA`` and their kin are missing.
        group: the column that says whose row it is, such as ``"patient"``.
        target: the column that is asked for: numbers (regression), or words (classes).
        time: a column of numbers or dates: the support is then the first rows of a group, the query later ones. None:
            support and query are drawn.
        categories: columns whose numbers are names. A target among them has classes.
        classes: the target has classes, though it may be written in numbers.
        without: columns that are not to be known, such as what was written down after the outcome.
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
        classes: bool = False,
        without: Sequence[str] = (),
        keep: float = 1.0,
        repeated: bool = False,
    ) -> None:
        if not 0 < keep <= 1:
            raise InputError(f"Cannot make tasks with keep = {keep}: expected a share of columns above 0, up to 1.")
        self._file, self._group, self._target, self._time = file, group, target, time
        self._categories, self._without, self._classes = tuple(categories), tuple(without), classes
        self._keep, self._repeated = keep, repeated
        self._trained: Trained | None = None

    def as_trained(self, measured: Mapping[str, Any], divided: Mapping[str, Sequence[str]]) -> GroupTable:
        """This table as a run reads it: by the means, deviations, words and classes that the run was trained with.

        Groups that trained or validated the run keep their part, whichever file they stand in; all others test.

        Args:
            measured: what :attr:`measured` was of the table that was trained on.
            divided: what :attr:`divided` was of it.

        Raises:
            KeyError, TypeError, ValueError: they are no such records.
        """
        found = copy(self)
        for name, what in vars(GroupTable).items():
            if isinstance(what, cached_property):  # read or measured already, of the table as it is
                vars(found).pop(name, None)
        found._trained = Trained.of(measured, divided)
        return found

    @property
    def measured(self) -> dict[str, Any]:
        """What was measured on training rows, as JSON; kept with each run."""
        kept = self._trained
        source, group = (self.raw.source, self._group) if kept is None else (kept.source, kept.group)
        return {"source": source, "group": group, **self._coding.record, "target": self.asked.record}

    @cached_property
    def raw(self) -> RawTable:
        """The file as it stands.

        Raises:
            InputError: not said which file, group or target.
            DataError: the file cannot be used; names file and row.
        """
        if self._file is None or self._group is None or self._target is None:
            given = (("--table", self._file), ("--group", self._group), ("--target", self._target))
            raise InputError(
                f"Cannot read a table: {' and '.join(name for name, value in given if value is None)} not given. "
                "Say which file, which column tells whose row it is, and which column is asked for: --table T.csv "
                "--group patient --target outcome."
            )
        decided = None if self._trained is None else self._trained.words(self._target)
        return read_table(
            Path(self._file).expanduser(),
            group=self._group,
            target=self._target,
            time=self._time,
            categories=[*self._categories, *([self._target] if self._classes else [])],
            without=self._without,
            words=decided,
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
            InputError: a run was trained on this table by other groups.
        """
        names, kept = sorted(set(self.raw.group)), self._trained
        if kept is not None and kept.source == self.raw.source and kept.group != self._group:
            raise InputError(
                f"Cannot test a run on {self.raw.source} by {self._group!r}: it was trained on rows of this table by "
                f"{kept.group!r}, and would be asked for them. Leave the group as it is, or give another table."
            )
        if kept is not None:
            return kept.roles(names)
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
        return first_of_their_kind([(name, *row) for name, row in zip(self.raw.group, self._cells, strict=True)])

    @property
    def _cells(self) -> list[list[float]]:
        """Each row as numbers, the same for rows that are alike."""
        parts = [column.values for column in (*self.raw.columns, self.raw.target)]
        return plain_cells(parts + ([] if self.raw.time is None else [self.raw.time]))

    @cached_property
    def _shared(self) -> int:
        """Rows of validation and test groups that a training group has, too, cell by cell."""
        if self._repeated:
            return 0
        rows, training = self._cells, set(self.roles["train"])
        seen = {tuple(row) for name, row in zip(self.raw.group, rows, strict=True) if name in training}
        return sum(name not in training and tuple(row) in seen for name, row in zip(self.raw.group, rows, strict=True))

    @cached_property
    def _coding(self) -> Coding:
        if self._trained is not None:
            return self._trained.coding
        return measure(self.raw.source, self.raw.columns, self._training)

    @cached_property
    def coded(self) -> Coded:
        """The columns as features, by the training groups' rows."""
        return self._coding.code(self.raw.source, self.raw.columns)

    @property
    def _training(self) -> Integers:
        return np.sort(np.concatenate([self._rows[name] for name in self.roles["train"]]))

    @cached_property
    def asked(self) -> Asked:
        """The target: normalised by the training groups, or classes.

        Raises:
            DataError: a single class, too many, one that training did not have, or a number that never changes.
        """
        column = self.raw.target
        if self._trained is not None:
            return self._trained.asked(self.raw.source, column)
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
        if not self.roles[role]:
            known = "all of these names trained or validated the run" if role == "test" else "all are new to the run"
            raise DataError(
                f"Cannot make tasks of the groups of {self.raw.source} for {role}: {known}. Give other groups, or "
                "groups that are others other names."
            )
        about: dict[str, Any] = {"group": self._group, "target": self._target, "time": self._time}
        if self._trained is not None and self._trained.source != self.raw.source:
            about["data"] = f"{self.name} {Path(self.raw.source).name}"  # for reports; the tasks are drawn alike
        about["names"] = self.roles[role][:100]
        mine = np.isin(np.array(self.raw.group), self.roles[role])
        about["rows_repeated"] = int((~self._first[mine]).sum())
        if role != "train":
            about["rows_shared"] = self._shared
        if role != "train" and self.coded.unknown:
            about["words_unknown"] = {name: words[:_NAMED] for name, words in self.coded.unknown.items()}
        found = GroupTasks(
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
            origin=Origin(place(self.name, self._file), tuple(self.roles[role])),
        )
        for remark in (*self._remarks(role), *_too_small(found, role)):
            _log.warning("%s", remark)
        return found

    def _remarks(self, role: str) -> Iterator[str]:
        """What a user might not expect."""
        target, coded, new = self.raw.target, self.coded, self._trained is None
        if role == "train" and new and target.words is None and len(np.unique(target.values)) <= 2:
            yield (
                f"{target.name} has two values and is taken for a number. If they are classes, say --data.classes true "
                "or use the recipe table-classes-maml-fast."
            )
        if role == "train" and coded.left_out:
            said = "; ".join(f"{name}: {why}" for name, why in list(coded.left_out.items())[:_NAMED])
            yield f"Columns that are left out: {said}."
        if role == "train":
            return
        known = len(self.roles["train"]) + len(self.roles["validation"])
        if self._trained is not None and self._trained.source != self.raw.source and known:
            yield (
                f"{known} groups of {self.raw.source} are not tested, as groups of these names trained or validated "
                "the run. If they are others, give them other names."
            )
        if self._shared:
            yield (
                f"{self._shared} rows of groups that validate or test stand in training groups, too, cell by cell. If "
                "they are of the same patients, the figures are too good: give each patient one group."
            )
        if coded.unknown:
            said = "; ".join(f"{name}: {', '.join(map(repr, words[:_NAMED]))}" for name, words in coded.unknown.items())
            yield f"Words that no training row has, and that therefore say nothing: {said}."


def plain_cells(columns: Sequence[NDArray[np.float64]]) -> list[list[float]]:
    """Each row of these columns ``[R]`` as a list, with infinity for what is missing: NaN is never alike."""
    cells: list[list[float]] = np.where(np.isnan(columns), np.inf, columns).T.tolist()
    return cells


def first_of_their_kind(rows: Sequence[tuple[Any, ...]]) -> NDArray[np.bool_]:
    """``[R]``, whether no row before is the same."""
    seen: set[tuple[Any, ...]] = set()
    found = []
    for row in rows:
        found.append(row not in seen)
        seen.add(row)
    return np.array(found, dtype=bool)


def _too_small(tasks: GroupTasks, role: str) -> Iterator[str]:
    if tasks.left_out:
        name, why = next(iter(tasks.left_out.items()))
        of = len(tasks.left_out) + len(tasks.groups)
        yield f"{len(tasks.left_out)} of {of} groups are left out of {role}, such as {name}: {why}."


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
