"""Floor 1: UCI heart disease: 920 patients of four hospitals, with different patients and different columns missing.

A. Janosi, W. Steinbrunn, M. Pfisterer, R. Detrano, "Heart Disease", UCI Machine Learning Repository 1989,
doi:10.24432/C52P4X. Not for clinical use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from typing_extensions import override

from quickstudy.data.counts import Count
from quickstudy.data.dataset import check_role
from quickstudy.data.grouptable import check_way, first_of_their_kind, plain_cells
from quickstudy.data.grouptasks import Asked, Group, GroupTasks
from quickstudy.data.source import Origin, place
from quickstudy.data.tablecoding import Coded, Coding, measure
from quickstudy.data.tablefile import Column, column_of, read_cells
from quickstudy.data.tables import TableTasks
from quickstudy.episode import Episode, Examples
from quickstudy.errors import DataError, InputError, UnknownName
from quickstudy.files import data_root
from quickstudy.keys import Integers

__all__ = ["HeartDisease", "HeartTasks", "Hospital"]

Hospital = Literal["cleveland", "hungarian", "switzerland", "va"]
COLUMNS = (
    "age",
    "sex",
    "cp",
    "trestbps",
    "chol",
    "fbs",
    "restecg",
    "thalach",
    "exang",
    "oldpeak",
    "slope",
    "ca",
    "thal",
)
_WORDS = ("cp", "restecg", "slope", "thal")  # numbers that are names
_NEVER_ZERO = ("trestbps", "chol", "thalach", "cp", "slope", "thal")
_EXERCISE = ("exang", "oldpeak", "slope")  # measured in the test in which thalach was
_VALIDATION = 0.2  # of the other hospitals' patients
_CLASSES = ("no disease", "disease")


class HeartTasks(GroupTasks):
    """Tasks of heart disease; in training the first ones may be synthetic tables with as many columns.

    Args:
        synthetic: so many tasks, from the first on, are drawn from ``data.tables`` instead.
        *args: of :class:`GroupTasks`, as is what follows.
        **named: likewise.
    """

    def __init__(self, *args: Any, synthetic: int = 0, **named: Any) -> None:
        super().__init__(*args, **named)
        self._synthetic = synthetic
        self._tables = TableTasks(
            split=self._split,
            target="classes",
            max_features=self.table.size,
            way=2,
            shot=(max(1, self._shot[0] // 2), max(1, self._shot[1] // 2)),
            query=max(1, self._query[0] // 2),
            seed=self._seed,
        )

    @override
    def episodes(self, indices: range | Integers) -> Episode:
        """The tasks with these numbers; see :class:`GroupTasks`."""
        tasks = np.asarray(indices, dtype=np.int64)
        made = tasks < self._synthetic
        if not made.any():
            return super().episodes(tasks)
        if made.all():
            return self._tables.episodes(tasks)
        # Each of them alone, then side by side, in the order asked for.
        each = [self.episodes(tasks[place : place + 1]) for place in range(len(tasks))]
        return Episode(
            Examples.stack([one.support for one in each]),
            Examples.stack([one.query for one in each]),
            index=each[0].indices.new_tensor(tasks.tolist()),
        )


class HeartDisease:
    """Whether a patient has heart disease (a vessel narrowed by more than half), from 13 clinical columns.

    One hospital tests; the patients of the three others train (80 %, by a hash of the row) and validate (20 %). A
    training or validation task is a hospital, or a stratum of it (men, women, younger, older than the median of the
    training patients), and knows some of the columns. A test task is the new hospital, with all its columns: a few of
    its patients are labelled, the others are asked for.

    Published files write a missing value as ``?``; copies exist in which it is 0. Here 0 is missing where it cannot be
    (blood pressure, cholesterol, heart rate, kind of pain, slope, thal); a bare ``0`` vessels (``ca``) is missing, as
    the files that count vessels write ``0.0``; and without a heart rate nothing of the exercise test is known. Zeros of
    fasting sugar and of the resting ECG that stood for a missing value cannot be told from others.

    Two patients stand twice, cell by cell, one of Budapest and one of the V.A.; each is one here, as else one row could
    be labelled and its copy asked for. ``rows_repeated`` in a result counts such rows.

    Args:
        root: the folder that holds ``uci-heart-disease/``.
        hospital: which one tests: ``"cleveland"``, ``"hungarian"``, ``"switzerland"`` or ``"va"``.
        validation: ``"patients"``: a fifth of the three others' patients validates; or the name of a hospital, all of
            whose patients do, and none of whom trains.
        without: columns that are not to be known.
        keep: the least share of columns that a training task knows; see :class:`GroupTasks`.
        synthetic: so many training tasks, the first ones, are synthetic tables (``data.tables``).

    Raises:
        UnknownName: no such hospital.
        InputError: a number that makes no sense.
    """

    name = "uci-heart"
    splits = ("train", "validation", "test")

    def __init__(
        self,
        root: Path | None = None,
        *,
        hospital: str = "va",
        validation: str = "patients",
        without: Sequence[str] = (),
        keep: float = 0.5,
        synthetic: int = 0,
    ) -> None:
        if hospital not in get_args(Hospital):
            raise UnknownName.among("hospital of uci-heart", hospital, get_args(Hospital))
        others = [name for name in get_args(Hospital) if name != hospital]
        if validation not in ("patients", *others):
            raise UnknownName.among("validation of uci-heart", validation, ("patients", *others))
        for name in without:
            if name not in COLUMNS:
                raise UnknownName.among("column of uci-heart", name, COLUMNS)
        if not 0 < keep <= 1 or synthetic < 0:
            raise InputError(
                f"Cannot make tasks with keep = {keep} and synthetic = {synthetic}: expected a share of columns above "
                "0, up to 1, and 0 synthetic tasks or more."
            )
        self.hospital, self.keep, self.synthetic = hospital, keep, synthetic
        self.validation, self.without = validation, tuple(without)
        self._root = root
        self._trained: Coding | None = None

    def as_trained(self, measured: Mapping[str, Any], divided: Mapping[str, Sequence[str]]) -> HeartDisease:
        """The same by the means, deviations and words that a run was trained with.

        Args:
            measured: what :attr:`measured` was then.
            divided: of the hospitals, which do not change.

        Raises:
            KeyError, TypeError, ValueError: it is no such record.
        """
        del divided
        found = copy(self)
        vars(found).pop("_coding", None)
        vars(found).pop("coded", None)
        found._trained = Coding.of_record(measured)
        return found

    @property
    def measured(self) -> dict[str, Any]:
        """What was measured on training patients, as JSON; kept with each run."""
        return {"source": self.name, **self._coding.record, "target": {"classes": list(_CLASSES)}}

    @cached_property
    def _table(self) -> tuple[list[Column], Integers, Integers, list[str], int]:
        """Columns, diagnosis ``[R]``, hospital ``[R]``, each row as written, and how many copies were left out."""
        cells: list[list[str]] = []
        place: list[int] = []
        lines: list[int] = []
        for number, hospital in enumerate(get_args(Hospital)):
            path = data_root(self._root) / "uci-heart-disease" / f"processed.{hospital}.data"
            if not path.is_file():
                raise DataError(
                    f"Cannot find UCI heart disease: there is no file {path}. Put the four files processed.*.data of "
                    "archive.ics.uci.edu/dataset/45 there, or say where they are: --data-root DIR."
                )
            _, rows, at = read_cells(path, (*COLUMNS, "num"))
            for row, line in zip(rows, at, strict=True):
                if row[-1] not in ("0", "1", "2", "3", "4"):
                    raise DataError(f"Cannot use row {line} of {path}: the diagnosis is {row[-1]!r}. Expected 0 to 4.")
            cells += [_cleaned(row) for row in rows]
            lines += at
            place += [number] * len(rows)
        source = str(data_root(self._root) / "uci-heart-disease")
        columns = [
            column_of(source, name, [_plain(row[c]) for row in cells], lines, words=name in _WORDS or None)
            for c, name in enumerate(COLUMNS)
        ]
        sick = np.array([row[-1] != "0" for row in cells], dtype=np.int64)
        numbers = plain_cells([column.values for column in columns])
        once = np.flatnonzero(
            first_of_their_kind([(*about, *row) for *about, row in zip(place, sick, numbers, strict=True)])
        )
        columns = [Column(one.name, one.values[once], one.words) for one in columns]
        texts = [",".join(cells[row]) for row in once]
        return columns, sick[once], np.array(place, dtype=np.int64)[once], texts, len(cells) - len(once)

    @property
    def divided(self) -> dict[str, list[str]]:
        """Role -> its hospitals; kept with each run, which is then tested on no hospital that it was trained on."""
        others = [name for name in get_args(Hospital) if name not in (self.hospital, self.validation)]
        validation = [f"{name}, held back" for name in others] if self.validation == "patients" else [self.validation]
        return {"train": others, "validation": validation, "test": [self.hospital]}

    @cached_property
    def roles(self) -> dict[str, Integers]:
        """Role -> its patients, rows of the table."""
        _, _, place, texts, _ = self._table
        hospitals = get_args(Hospital)
        own = place == hospitals.index(self.hospital)
        share = np.array([_share(f"{hospitals[at]}:{text}") for at, text in zip(place, texts, strict=True)])
        held = share < _VALIDATION
        if self.validation != "patients":
            held = place == hospitals.index(self.validation)
        return {
            "train": np.flatnonzero(~own & ~held),
            "validation": np.flatnonzero(~own & held),
            "test": np.flatnonzero(own),
        }

    @cached_property
    def _coding(self) -> Coding:
        if self._trained is not None:
            return self._trained
        columns = [column for column in self._table[0] if column.name not in self.without]
        return measure("uci-heart-disease", columns, self.roles["train"])

    @cached_property
    def coded(self) -> Coded:
        """The columns as features, by the training patients."""
        return self._coding.code("uci-heart-disease", self._table[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """(F,), the features of a patient."""
        return (self.coded.size,)

    def tasks(self, role: str, *, shot: Count, query: Count, seed: int, way: Count | None = None) -> HeartTasks:
        """Tasks of one role; see :meth:`quickstudy.data.dataset.DataSet.tasks`.

        Args:
            role: one of :attr:`splits`.
            shot: labelled patients of a task, both classes together.
            query: patients asked for; with a range, as many as there are, within it.
            seed: tells sources of the same kind apart.
            way: None or 2.

        Raises:
            UnknownName: no such role.
            InputError: a number makes no sense, or no hospital has as many patients.
            DataError: files are missing or damaged.
        """
        check_role(self, role)
        asked = Asked(self._table[1], _CLASSES)
        check_way(self.name, way, asked)
        train = role == "train"
        about: dict[str, Any] = {"hospital": self.hospital, "keep": self.keep, "synthetic": self.synthetic}
        about |= {"validation": self.validation, "without": list(self.without), "rows_repeated": self._table[4]}
        return HeartTasks(
            self.coded,
            asked,
            self._groups(role),
            data=self.name,
            split=role,
            shot=shot,
            query=query,
            seed=seed,
            keep=self.keep if train else 1.0,
            synthetic=self.synthetic if train else 0,
            about=about,
            origin=Origin(place(self.name), tuple(self.divided[role])),
        )

    def _groups(self, role: str) -> list[Group]:
        columns, _, place, *_ = self._table
        rows, hospitals = self.roles[role], get_args(Hospital)
        if role == "test" or (role == "validation" and self.validation in hospitals):
            return [Group(hospitals[place[rows[0]]], rows)]
        age, sex = columns[0].values, columns[1].values
        older = age > np.nanmedian(age[self.roles["train"]])
        strata = {"all": np.ones(len(age), bool), "men": sex == 1, "women": sex == 0, "older": older, "younger": ~older}
        return [
            Group(f"{hospitals[number]}, {stratum}", rows[(place[rows] == number) & inside[rows]])
            for number in np.unique(place[rows])
            for stratum, inside in strata.items()
        ]


def _cleaned(row: list[str]) -> list[str]:
    """A row with ``?`` where a 0 stands for a missing value; see :class:`HeartDisease`."""
    at = {name: place for place, name in enumerate(COLUMNS)}
    row = list(row)
    for name in _NEVER_ZERO:
        if _plain(row[at[name]]) == "0":
            row[at[name]] = "?"
    if row[at["ca"]] == "0":
        row[at["ca"]] = "?"
    if row[at["thalach"]] == "?":
        for name in _EXERCISE:
            row[at[name]] = "?"
    return row


def _plain(cell: str) -> str:
    """``3.0`` and ``3`` alike."""
    return cell.removesuffix(".0")


def _share(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
