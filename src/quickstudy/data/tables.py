"""Floor 1: tasks on synthetic tables, from which a learner of tables gets its prior; see ``tableprior.py``."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from quickstudy.data.counts import Bounds, Count, as_setting, bounds
from quickstudy.data.dataset import check_role
from quickstudy.data.source import TaskShape, TaskSource, as_indices
from quickstudy.data.tableprior import VERSION, TableRows, draw_tables
from quickstudy.episode import Classes, Episode, Examples, Real
from quickstudy.errors import InputError
from quickstudy.keys import Integers, Key, integers, shuffle

__all__ = ["TableTasks", "Tables"]


class TableTasks(TaskSource):
    """Tasks on small tables of numbers, each with its own random law.

    Examples are rows of ``max_features`` float32 numbers; a table of fewer columns has zeros in the others, and no
    column means the same in two tasks. Classes have ``shot`` support rows and ``query`` others each; for real targets
    these are the rows of a task. Support rows come first class first.

    Args:
        split: ``"train"``, ``"validation"`` or ``"test"``; with ``seed`` it fixes the tasks.
        target: ``"classes"`` or ``"real"``.
        max_features: the most columns.
        way: classes a task, at least 2; a number or a range (low, high). None for real targets.
        shot: support rows a class (a task); a range is drawn for each class of each task.
        query: query rows a class (a task); a range is drawn for each task.
        seed: tells sources of the same kind apart.

    Raises:
        InputError: a number makes no sense.
    """

    def __init__(
        self,
        *,
        split: str,
        target: Literal["classes", "real"],
        max_features: int,
        way: Count | None,
        shot: Count,
        query: Count,
        seed: int,
    ) -> None:
        self._split, self._seed, self._target, self._features = split, seed, target, max_features
        # A real target is drawn as one class without a name.
        self._way: Bounds = bounds("way", way, 2) if target == "classes" else (1, 1)
        self._shot, self._query = bounds("shot", shot), bounds("query", query)
        self._key = Key.of(seed, "tables", split, target, max_features)

    @property
    def shape(self) -> TaskShape:
        """Rows of ``max_features`` numbers; classes up to the largest way, or one real value."""
        return TaskShape(example=(self._features,), target=self._target, outputs=self._way[1])

    @cached_property
    def hash(self) -> str:
        """Hex sha256 over what makes the prior."""
        content = ["tables", VERSION, self._target, self._features]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def settings(self) -> dict[str, Any]:
        """What makes these tasks."""
        sizes = {"shot": as_setting(self._shot), "query": as_setting(self._query), "seed": self._seed}
        ways = {"way": as_setting(self._way)} if self._target == "classes" else {}
        return {"data": "tables", "split": self._split, "target": self._target, **ways, **sizes}

    def episodes(self, indices: range | Integers) -> Episode:
        """The tasks with these numbers; ``x`` is float32 ``[T, N, max_features]``."""
        tasks = as_indices(indices)
        widest, most = self._way[1], self._shot[1] + self._query[1]
        words = self._key.fold("sizes").bits(tasks, 2 + widest)
        way = self._way[0] + integers(words[:, 0], self._way[1] - self._way[0] + 1)
        query = self._query[0] + integers(words[:, 1], self._query[1] - self._query[0] + 1)
        shot = self._shot[0] + integers(words[:, 2:], self._shot[1] - self._shot[0] + 1)
        present = np.arange(widest) < way[:, None]
        shot, query = np.where(present, shot, 0), np.where(present, query[:, None], 0)
        # As many rows for every task, so that none depends on those beside it; each class has `most` of them.
        n_row = widest * most
        label = np.minimum(np.arange(n_row) // most, way[:, None] - 1) if self._target == "classes" else None
        rows = draw_tables(self._key, tasks, n_row, self._features, label)
        of_class = self._sort(tasks, rows, way, most)  # [T, W, K] rows of each class
        support = self._examples(rows, of_class, np.zeros_like(shot), shot, way)
        return Episode(
            support,
            self._examples(rows, of_class, shot, query, way),
            index=torch.from_numpy(tasks.copy()),
        )

    def _sort(self, tasks: Integers, rows: TableRows, way: Integers, most: int) -> Integers:
        """Rows of each class, ``[T, W, most]``, which class has which number being random."""
        n_task, n_row = rows.score.shape
        used = np.arange(n_row) < (way * most)[:, None]
        rank = np.argsort(np.argsort(np.where(used, rows.score, np.inf), 1, kind="stable"), 1, kind="stable")
        label = np.where(rows.clustered[:, None], np.arange(n_row) // most, rank // most)
        names = shuffle(self._key.fold("names").bits(tasks, self._way[1]), way)
        label = np.take_along_axis(names, label, 1)
        return np.argsort(label, 1, kind="stable").reshape(n_task, -1, most)

    def _examples(
        self, rows: TableRows, of_class: Integers, first: Integers, count: Integers, way: Integers
    ) -> Examples:
        """Of each class the rows ``first`` to ``first + count``, ``[T, W]`` both."""
        n_task, _, most = of_class.shape
        place = np.arange(most)
        there = ((place >= first[..., None]) & (place < (first + count)[..., None])).reshape(n_task, -1)
        longest = int(there.sum(1).max())
        order = np.argsort(~there, 1, kind="stable")[:, :longest]
        mask = np.take_along_axis(there, order, 1)
        picked = np.take_along_axis(of_class.reshape(n_task, -1), order, 1)
        x = np.where(mask[..., None], np.take_along_axis(rows.x, picked[..., None], 1), 0.0)
        if self._target == "classes":
            y = torch.from_numpy(np.where(mask, order // most, 0))
            target: Classes | Real = Classes(torch.from_numpy(way))
        else:
            score = np.take_along_axis(rows.score, picked, 1)
            y = torch.from_numpy(np.where(mask, score, 0.0).astype(np.float32)[..., None])
            target = Real(1)
        kept = None if mask.all() else torch.from_numpy(mask)
        return Examples(torch.from_numpy(x.astype(np.float32)), y, target, kept)


class Tables:
    """Synthetic tables of numbers, see the module: to train learners of tables on.

    Args:
        target: ``"classes"`` or ``"real"``.
        max_features: the most columns; tables have 2 to as many.

    Raises:
        InputError: no columns.
    """

    name = "tables"
    splits = ("train", "validation", "test")

    def __init__(self, *, target: Literal["classes", "real"] = "classes", max_features: int = 32) -> None:
        if max_features < 1:
            raise InputError(f"A table needs at least one column, received max_features={max_features}.")
        self._target, self._features = target, max_features

    @property
    def shape(self) -> tuple[int, ...]:
        """(max_features,)."""
        return (self._features,)

    def tasks(self, role: str, *, shot: Count, query: Count, seed: int, way: Count | None = None) -> TableTasks:
        """Tasks of one role; see :class:`quickstudy.data.dataset.DataSet`.

        Raises:
            UnknownName: no such role.
            InputError: a number makes no sense, or a way was given to real targets.
        """
        check_role(self, role)
        if self._target == "real" and way is not None:
            raise InputError(f"Cannot draw {way!r}-way tasks with real targets: they have no classes. Leave way out.")
        return TableTasks(
            split=role,
            target=self._target,
            max_features=self._features,
            way=way,
            shot=shot,
            query=query,
            seed=seed,
        )
