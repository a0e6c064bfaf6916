"""Floor 1: tasks that are arrays in memory: of each some labelled examples, which an episode divides anew.

A task has classes of its own (what a label says in one it need not say in another), or numbers. An episode is one of
the tasks: some of its examples are the support, others the query. Tasks may be of different sizes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from quickstudy.data.counts import Bounds, Count, as_setting, bounds
from quickstudy.data.dataset import check_role
from quickstudy.data.source import TaskShape, TaskSource, as_indices
from quickstudy.episode import Classes, Episode, Examples, Real
from quickstudy.errors import DataError, InputError
from quickstudy.keys import Bits, Integers, Key, integers, shuffle

__all__ = ["ArrayTask", "ArrayTasks", "Arrays", "too_small", "usable_classes"]

_NAMED = 20  # tasks left out that are named


@dataclass(frozen=True, eq=False)
class ArrayTask:
    """One task.

    Args:
        name: whose it is.
        x: examples as a network is given them, ``[n, ...]``: float32, or uint8 of pictures.
        y: int64 ``[n]``, the task's own class numbers from 0 on; or float32 ``[n, D]``.
    """

    name: str
    x: NDArray[Any]
    y: NDArray[Any]

    @property
    def real(self) -> bool:
        """Whether labels are numbers."""
        return self.y.ndim == 2

    @cached_property
    def digest(self) -> str:
        """Hex sha256 of what it says, whatever it is called."""
        about = json.dumps([str(self.x.dtype), self.x.shape, self.y.shape])
        content = np.ascontiguousarray(self.x).tobytes() + np.ascontiguousarray(self.y).tobytes()
        return hashlib.sha256(about.encode() + content).hexdigest()


class ArrayTasks(TaskSource):
    """See the module. Tasks come in random order, all of them before any comes again.

    Of classes an episode takes ``way``, each with ``shot`` examples in the support and up to ``query`` others in the
    query; a class that has no more than ``shot`` is passed over. Which class gets which number is random.
    ``Episode.classes`` has the task's place in ``tasks``, for intervals over tasks.

    Args:
        tasks: of this role.
        data: name of the data set; with ``split`` and ``seed`` it fixes the episodes.
        split: the role.
        shot: support examples, a class or in all of numbers; a range is drawn for each class, as far as it has them.
        query: query examples, likewise; as many as there are, up to this.
        seed: tells sources of the same kind apart.
        way: classes an episode, as far as the task has them; None: all of them.
        units: of numbers that are to be said, what 1 is in their own units; none: they are in these.

    Raises:
        InputError: a number makes no sense, or no task has as many examples (naming some).
    """

    def __init__(
        self,
        tasks: Sequence[ArrayTask],
        *,
        data: str,
        split: str,
        shot: Count,
        query: Count,
        seed: int,
        way: Count | None = None,
        units: Sequence[float] = (),
    ) -> None:
        self._data, self._split, self._seed = data, split, seed
        self._real = tasks[0].real
        self._shot: Bounds = bounds("shot", shot)
        self._query: Bounds = bounds("query", query)
        self._way: Bounds | None = None if way is None or self._real else bounds("way", way, 2)
        self._units = np.asarray(units, dtype=np.float64)
        least = 2 if self._way is None else self._way[0]
        self.left_out = {task.name: why for task in tasks if (why := too_small(task.y, self._shot[0], least))}
        self.tasks = tuple(task for task in tasks if task.name not in self.left_out)
        if not self.tasks:
            some = "; ".join(f"{name}: {why}" for name, why in list(self.left_out.items())[:3])
            raise InputError(
                f"Cannot make episodes of {data}/{split} with shot = {shot!r} and query = {query!r}: none of its "
                f"{len(tasks)} tasks has enough examples ({some}). Reduce shot, or give larger tasks."
            )
        self._usable = [usable_classes(task.y, self._shot[0]) for task in self.tasks]
        self._key = Key.of(seed, data, split)

    @property
    def shape(self) -> TaskShape:
        """The examples' shape; outputs is the largest way, or D."""
        first = self.tasks[0]
        example = first.x.shape[1:]
        if first.x.dtype == np.uint8 and len(example) == 2:
            example = (1, *example)
        if self._real:
            return TaskShape(example=example, target="real", outputs=first.y.shape[1])
        most = max(map(len, self._usable))
        return TaskShape(example=example, target="classes", outputs=most if self._way is None else self._ways(most)[1])

    def _ways(self, there: int) -> Bounds:
        """The least and the most classes of an episode of a task that has so many."""
        low, high = (there, there) if self._way is None else self._way
        return min(low, there), min(high, there)

    @cached_property
    def hash(self) -> str:
        """Hex sha256 over names and contents."""
        content = [[task.name, task.digest] for task in self.tasks]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def settings(self) -> dict[str, Any]:
        """What makes these episodes, and which tasks were left out."""
        return {
            "data": self._data,
            "split": self._split,
            **({} if self._way is None else {"way": as_setting(self._way)}),
            "shot": as_setting(self._shot),
            "query": as_setting(self._query),
            "seed": self._seed,
            "tasks": len(self.tasks),
            "left_out": dict(list(self.left_out.items())[:_NAMED]),
            "left_out_in_all": len(self.left_out),
        }

    @override
    def episodes(self, indices: range | Integers) -> Episode:
        """The tasks with these numbers; what the longest has more than others is padding."""
        numbers = as_indices(indices)
        who = self._who(numbers)
        longest = max(len(self.tasks[place].y) for place in who)
        words = self._key.fold("rows").bits(numbers, longest)
        others = self._key.fold("sizes").bits(numbers, 1 + 2 * max((len(c) for c in self._usable), default=0))
        drawn = [self._rows(place, words[t], others[t]) for t, place in enumerate(who)]
        ways = np.array([way for _, _, way in drawn])
        return Episode(
            self._examples(who, [support for support, _, _ in drawn], ways),
            self._examples(who, [query for _, query, _ in drawn], ways),
            index=torch.from_numpy(numbers.copy()),
            classes=torch.from_numpy(who[:, None]),
        )

    @override
    def figures(self, outputs: Tensor, episode: Episode) -> dict[str, NDArray[np.float64]]:
        """Of numbers ``mse``, ``rmse`` and ``mae``, in their own units."""
        query = episode.query
        if not self._real:
            return {}
        assert query.y is not None
        there = query.labelled.numpy()
        error = np.abs(outputs.double().numpy() - query.y.double().numpy()) * (self._units if len(self._units) else 1.0)
        error = np.where(np.isfinite(error), error, np.inf)
        mse = np.array([np.square(one[mine]).mean() for one, mine in zip(error, there, strict=True)])
        mae = np.array([one[mine].mean() for one, mine in zip(error, there, strict=True)])
        return {"mse": mse, "rmse": np.sqrt(mse), "mae": mae}

    def _rows(self, place: int, words: Bits, sizes: Bits) -> tuple[Integers, Integers, int]:
        """Rows of the support and of the query, each with its class's number beside it, ``[2, n]``; and the way."""
        task, n = self.tasks[place], len(self.tasks[place].y)
        order = shuffle(words[None, :n], np.array([n]))[0]
        low, high = self._shot
        if task.real:
            shot = min(int(low + integers(sizes[:1], high - low + 1)[0]), n - 1)
            zero = np.zeros(n, dtype=np.int64)
            pairs = np.stack([order, zero])
            return pairs[:, :shot], pairs[:, shot : shot + self._query[1]], 1
        usable = self._usable[place]
        fewest, most = self._ways(len(usable))
        way = int(fewest + integers(sizes[:1], most - fewest + 1)[0])
        chosen = usable[shuffle(sizes[None, 1 : 1 + len(usable)], np.array([len(usable)]))[0]][:way]
        shots = low + integers(sizes[1 + len(usable) : 1 + len(usable) + way], high - low + 1)
        support, query = [], []
        for label, (number, shot) in enumerate(zip(chosen, shots, strict=True)):
            mine = order[task.y[order] == number]
            cut = min(int(shot), len(mine) - 1)
            support.append(np.stack([mine[:cut], np.full(cut, label)]))
            asked = mine[cut : cut + self._query[1]]
            query.append(np.stack([asked, np.full(len(asked), label)]))
        return np.concatenate(support, 1), np.concatenate(query, 1), way

    def _who(self, numbers: Integers) -> Integers:
        """Of each episode, the place of its task."""
        n = len(self.tasks)
        key, turns = self._key.fold("order"), numbers // n
        orders = {int(turn): shuffle(key.bits(np.array([turn]), n), np.array([n]))[0] for turn in np.unique(turns)}
        return np.array([orders[int(number) // n][int(number) % n] for number in numbers], dtype=np.int64)

    def _examples(self, who: Integers, rows: Sequence[Integers], ways: Integers) -> Examples:
        longest = max(part.shape[1] for part in rows)
        first = self.tasks[0]
        x = np.zeros((len(who), longest, *first.x.shape[1:]), dtype=first.x.dtype)
        y = np.zeros((len(who), longest, *first.y.shape[1:]), dtype=first.y.dtype)
        mask = np.arange(longest) < np.array([part.shape[1] for part in rows])[:, None]
        for t, (place, (mine, labels)) in enumerate(zip(who, rows, strict=True)):
            task = self.tasks[place]
            x[t, : len(mine)] = task.x[mine]
            y[t, : len(mine)] = task.y[mine] if task.real else labels
        target = Real(first.y.shape[1]) if first.real else Classes(torch.from_numpy(ways))
        kept = None if mask.all() else torch.from_numpy(mask)
        return Examples(torch.from_numpy(x), torch.from_numpy(y), target, kept)


def usable_classes(y: NDArray[Any], shot: int) -> Integers:
    """Classes that have an example more than a support needs; none of numbers."""
    return np.flatnonzero(np.bincount(y) > shot) if y.ndim == 1 else np.zeros(0, dtype=np.int64)


def too_small(y: NDArray[Any], shot: int, way: int) -> str:
    """Why a task of these labels cannot be an episode; empty if it can.

    Args:
        y: as :class:`ArrayTask` has them.
        shot: the least support examples.
        way: the least classes.
    """
    need = shot + 1
    if y.ndim == 2:
        return "" if len(y) >= need else f"{len(y)} examples, of {need}"
    found = len(usable_classes(y, shot))
    what = "class" if found == 1 else "classes"
    return "" if found >= way else f"{found} {what} of {need} examples or more, where {way} are needed"


@dataclass(eq=False)
class Arrays:
    """Tasks that somebody held in memory, as ``quickstudy.MetaLearner`` was given them.

    What stands in a recipe says how such examples are read; the tasks themselves do not stand in it, and nobody else
    has them: where they are asked for, that is an error of one sentence.

    Args:
        kind: of the examples: ``"rows"``, ``"pictures"``, ``"sounds"``, or ``"arrays"`` of any one shape.
        digest: of the tasks.
        columns: what the columns of rows are called.
        mean: of each column of rows over the training tasks, or one of all numbers of arrays; empty: as they are.
        deviation: likewise.
        target_mean: of each number that is to be said, over the training tasks.
        target_deviation: likewise.
        rate: samples a second of sounds, as the network hears them.
        white: the number of the brightest pixels of pictures.

    Attributes:
        held: role -> its tasks; whoever has them fills it in.
    """

    kind: Literal["rows", "pictures", "sounds", "arrays"] = "rows"
    digest: str = ""
    columns: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_deviation: tuple[float, ...] = ()
    rate: int = 8000
    white: float = 255.0
    held: dict[str, Sequence[ArrayTask]] = field(default_factory=dict, init=False)

    @property
    def name(self) -> str:
        """Its name in the registry."""
        return "arrays"

    @property
    def splits(self) -> tuple[str, ...]:
        """There are no test tasks: those that were given train, or validate."""
        return ("train", "validation")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        self._check()
        return next(iter(self.held.values()))[0].x.shape[1:]

    def tasks(self, role: str, *, shot: Count, query: Count, seed: int, way: Count | None = None) -> ArrayTasks:
        """Episodes of one role; see :class:`ArrayTasks`."""
        check_role(self, role)
        self._check()
        if not self.held.get(role):
            raise InputError(f"There are no tasks to play the role {role!r}: too few were given.")
        sizes: dict[str, Any] = {"shot": shot, "query": query, "seed": seed, "way": way}
        return ArrayTasks(self.held[role], data=self.name, split=role, units=self.target_deviation, **sizes)

    def _check(self) -> None:
        if not self.held:
            raise DataError(
                "These tasks were arrays in memory, given to quickstudy.MetaLearner, and no file has them. Use the "
                "learner as it is, or call meta_fit with such tasks again."
            )
