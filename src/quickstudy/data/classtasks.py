"""Floor 1: N-way K-shot tasks from a store of classes.

    words of a task  ->  which classes, how many, which examples, how turned  ->  rows of the store  ->  Episode

Everything is drawn for all tasks of a call at once, from one row of words a task. Classes and examples are drawn in
the largest numbers there may be and cut afterwards, so that a task does not depend on those beside it.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, NotRequired, Self, TypeAlias, TypedDict, get_args

import numpy as np
import torch
from typing_extensions import override

from quickstudy.data.batches import ClassBatches
from quickstudy.data.counts import Bounds, Count, as_setting, bounds
from quickstudy.data.dirichlet import WORDS, check_concentration, query_counts
from quickstudy.data.makers import apart_rows
from quickstudy.data.raggedrows import between, taken
from quickstudy.data.rowstore import Rows, RowStore
from quickstudy.data.source import Origin, Place, TaskShape, TaskSource, as_indices
from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError, UnknownName
from quickstudy.keys import Bits, Integers, Key, choose, integers, shuffle

__all__ = ["ClassTasks", "Rotations", "Sizes"]

_CHUNK = 1 << 16  # class numbers written at a time

Rotations: TypeAlias = Literal["none", "classes", "per-class", "per-task"]


class Sizes(TypedDict):
    """Arguments of :class:`ClassTasks` that those with more of their own hand on to it."""

    data: str
    split: str
    way: Count | None
    shot: Count
    query: Count
    seed: int
    dirichlet: NotRequired[float | None]
    place: NotRequired[Place | None]
    makers: NotRequired[bool]


@dataclass(frozen=True, eq=False)
class _Draw:
    """What T tasks are made of; W is the largest way there may be, K the most examples of a class."""

    way: Integers  # [T]
    shot: Integers  # [T, W], 0 beyond a task's way
    query: Integers  # [T, W], likewise
    classes: Integers  # [T, W], numbers for Episode.classes, -1 beyond a task's way
    rows: Integers  # [T, W, K], rows of the (turned) store, each class's in random order


class ClassTasks(TaskSource):
    """Tasks that tell ``way`` classes apart from ``shot`` examples of each.

    Support rows come first class first (all shots of label 0, then of label 1, ...), and so do query rows;
    which class gets which label is random. Where way, shot or query are ranges, tasks are padded to the
    longest of the call and masked.

    Args:
        store: the examples, in an array or wherever they lie.
        classes: class numbers of the store that tasks are drawn from.
        data: name of the data set; with ``split`` and ``seed`` it fixes the tasks.
        split: which part of the data set this is.
        way: classes a task; a number or a range (low, high), drawn for each task, both ends included.
        shot: support examples a class; a range is drawn for each class of each task.
        query: query examples a class; a range is drawn for each task.
        seed: tells sources of the same kind apart.
        rotations: ``"none"``; ``"classes"``, each class turned by 0, 90, 180, 270 degrees is four classes (Santoro et
            al. 2016, Vinyals et al. 2016); ``"per-class"``, each class of a task is turned at random (Finn et al.
            2017, MAML); ``"per-task"``, all classes of a task are turned alike (Sung et al. 2018, Relation Network).
        dirichlet: None: ``query`` examples of each class. A concentration, such as 2: way x query of them in all, and
            the classes' proportions drawn for each task (Veilleux et al. 2021), so that a class may have none.
        place: what names of classes count in, see :class:`quickstudy.data.source.Origin`; None: nothing is kept.
        makers: whether example number k of every class was made by the same person, see :meth:`apart`.

    Raises:
        InputError: a number makes no sense, the way exceeds the classes, shot + query exceed a class, or the
            pictures cannot be turned.
        UnknownName: no such mode of rotation.
    """

    _fewer: Mapping[str, Any] = MappingProxyType({})
    _comparable = False  # whether other data sets make the same bytes of the same file

    def __init__(
        self,
        store: RowStore,
        classes: Sequence[int] | Integers,
        *,
        data: str,
        split: str,
        way: Count | None,
        shot: Count,
        query: Count,
        seed: int,
        rotations: Rotations = "none",
        dirichlet: float | None = None,
        place: Place | None = None,
        makers: bool = False,
    ) -> None:
        check_concentration(dirichlet)
        if rotations not in get_args(Rotations):
            raise UnknownName.among("mode of rotation", rotations, get_args(Rotations))
        self._store, self._data, self._split, self._seed, self._rotations = store, data, split, seed, rotations
        self._dirichlet = None if dirichlet is None else float(dirichlet)
        self._place, self._makers, self._apart = place, makers, False
        self._classes = np.asarray(classes, dtype=np.int64)
        self._way: Bounds = bounds("way", way)
        self._shot: Bounds = bounds("shot", shot)
        self._query: Bounds = bounds("query", query)
        self._key = Key.of(seed, data, split)
        self._check_sizes()
        self._sizes = store.sizes  # which are counted anew at each look
        self._look_up = store.look_up(turned=rotations != "none")

    def _check_sizes(self) -> None:
        where, n = f"{self._data}/{self._split}", self._n_class
        if self._way[1] > n:
            advice = f"Use a way of at most {n}, or a larger split." if n > 1 else "Use a larger split."
            raise InputError(
                f"Cannot draw {self._way[1]}-way tasks from {where}: it has only {n} class{'es' * (n != 1)}. {advice}"
            )
        sizes = self._store.sizes[self._classes]
        smallest, wanted = int(sizes.argmin()), self._most
        if wanted > sizes[smallest]:
            if self._dirichlet is not None:
                raise InputError(self._too_few(where, smallest, int(sizes[smallest])))
            raise InputError(
                f"Cannot draw {self._shot[1]} support and {self._query[1]} query examples a class from {where}: "
                f"the class {self._store.classes[self._classes[smallest]]!r} has only {sizes[smallest]} examples. "
                f"Reduce shot or query so that together they are at most {sizes[smallest]}."
            )

    def _too_few(self, where: str, smallest: int, size: int) -> str:
        most = (size - self._shot[1]) // self._way[1]
        advice = f"Reduce query to at most {most}." if most else "Reduce shot or way."
        return (
            f"Cannot draw Dirichlet queries from {where}: all {self._way[1]} x {self._query[1]} queries of a task may "
            f"be of one class, beside its {self._shot[1]} support examples, but the class "
            f"{self._store.classes[self._classes[smallest]]!r} has only {size} examples. {advice}"
        )

    @property
    def _most(self) -> int:
        """The most examples of one class that a task may take."""
        return self._shot[1] + self._query[1] * (1 if self._dirichlet is None else self._way[1])

    @property
    def _n_class(self) -> int:
        """How many classes there are to choose from, turned ones included."""
        return len(self._classes) * (4 if self._rotations == "classes" else 1)

    @property
    def shape(self) -> TaskShape:
        """Pictures with their channel axis; outputs is the largest way, classes one more than the largest number."""
        numbers = len(self._store.classes) * (4 if self._rotations == "classes" else 1)
        return TaskShape(example=self._store.shape, target="classes", outputs=self._way[1], classes=numbers)

    @cached_property
    def hash(self) -> str:
        """Hex sha256 over the store's hash, the class numbers and the mode of rotation."""
        digest = hashlib.sha256(f"[{json.dumps(self._store.hash)}, [".encode())
        for start in range(0, len(self._classes), _CHUNK):  # as JSON writes it, of a million classes too
            part = ", ".join(map(str, self._classes[start : start + _CHUNK].tolist()))
            digest.update((", " * (start > 0) + part).encode())
        digest.update(f"], {json.dumps(self._rotations)}]".encode())
        return digest.hexdigest()

    @cached_property
    def origin(self) -> Origin | None:
        """The classes; of examples that any data set would read alike, their digests too."""
        if self._place is None:
            return None
        names = tuple(self._store.classes[number] for number in self._classes)
        known = self._comparable and self._store.known
        examples = {self._store.classes[n]: self._store.digests(n) for n in self._classes} if known else {}
        return Origin(self._place, names, examples)

    @property
    def settings(self) -> dict[str, Any]:
        """What makes these tasks."""
        return {
            "data": self._data,
            "split": self._split,
            "rotations": self._rotations,
            "way": as_setting(self._way),
            "shot": as_setting(self._shot),
            "query": as_setting(self._query),
            "seed": self._seed,
        } | self._further

    @property
    def _further(self) -> dict[str, Any]:
        """Settings that most tasks do not have."""
        found: dict[str, Any] = {} if self._dirichlet is None else {"dirichlet": self._dirichlet}
        return found | ({"apart": True} if self._apart else {}) | dict(self._fewer)

    def apart(self) -> Self:
        """The same tasks of the same classes, whose queries were made by other people than their support.

        Raises:
            InputError: nobody knows who made which example, or there are too few of them, or sizes are random.
        """
        where, sizes = f"{self._data}/{self._split}", self._store.sizes[self._classes]
        if not self._makers:
            raise InputError(f"Cannot tell who made the examples of {where}: the data does not say it.")
        fixed = self._shot[0] == self._shot[1] and self._query[0] == self._query[1] and self._dirichlet is None
        if not fixed or (sizes != sizes[0]).any():
            raise InputError(f"Cannot divide the people of {where}: give one shot, one query and even classes.")
        found = copy.copy(self)
        found._apart = True
        return found

    def among(self, n: int) -> Self:
        """Tasks of only ``n`` of the classes, chosen at random, so that each comes more often.

        Raises:
            InputError: fewer than a task has, or more than there are.
        """
        if not self._way[1] <= n * (4 if self._rotations == "classes" else 1) or n > len(self._classes):
            raise InputError(f"Cannot choose {n} of the {len(self._classes)} classes of {self._data}/{self._split}.")
        found = copy.copy(self)
        for name in ("hash", "origin"):  # of the classes
            found.__dict__.pop(name, None)
        order = choose(self._key.fold("among").bits(np.zeros(1, dtype=np.int64), 2 * n), len(self._classes), n)[0]
        found._classes, found._fewer = np.sort(self._classes[order]), {"among": n}
        return found

    def episodes(self, indices: range | Integers) -> Episode:
        """The tasks with these numbers; pictures are uint8 ``[T, N, H, W]`` or ``[T, N, C, H, W]``.

        ``Episode.classes`` holds the store's class numbers, with ``rotations="classes"`` 4 x number + quarter turns.
        """
        tasks = as_indices(indices)
        draw = self._draw(tasks)
        way = torch.from_numpy(draw.way)
        return Episode(
            support=self._examples(draw.rows, np.zeros_like(draw.shot), draw.shot, way),
            query=self._examples(draw.rows, draw.shot, draw.query, way),
            index=torch.from_numpy(tasks.copy()),
            classes=torch.from_numpy(draw.classes[:, : draw.way.max()].copy()),
        )

    @property
    def store(self) -> RowStore:
        """Where the examples are."""
        return self._store

    @property
    def numbers(self) -> Integers:
        """Which classes of the store tasks are drawn from, int64 ``[C]``."""
        return self._classes

    @property
    @override
    def largest(self) -> int:
        """Of the largest way, shot and query."""
        return self._way[1] * (self._shot[1] + self._query[1])

    @property
    @override
    def ahead(self) -> int:
        """As many as the store says."""
        return self._store.ahead

    def names_of(self, episode: Episode) -> list[str]:
        """What the classes of the first task of an episode are called, label by label."""
        assert episode.classes is not None
        turns = 4 if self._rotations == "classes" else 1
        return [self._store.classes[number // turns] for number in episode.classes[0].tolist() if number >= 0]

    def batches(self, size: int) -> ClassBatches:
        """Passes over every example of every class, numbered as in :meth:`episodes`.

        With ``rotations="per-class"`` or ``"per-task"`` each example is turned at random, which leaves its class as
        it is; way, shot and query play no part.

        Args:
            size: examples a batch.

        Raises:
            InputError: a size below 1.
        """
        turns, n = 4 if self._rotations == "classes" else 1, int(self._store.starts[-1])
        ends = self._sizes[self._classes].cumsum()
        each, classes = int(ends[-1]), self.shape.classes or 0

        def where(places: Integers) -> tuple[Integers, Integers]:
            turn, place = np.divmod(places, each)
            which = np.searchsorted(ends, place, side="right")
            number = self._classes[which]
            within = place - ends[which] + self._sizes[number]
            return turn * n + self._store.starts[number] + within, turns * number + turn

        def look_up(rows: Integers, quarters: Integers) -> Rows:
            return self._look_up(rows + quarters * n)

        settings = {
            name: value for name, value in self.settings.items() if name not in ("way", "shot", "query", "dirichlet")
        }
        return ClassBatches(
            self._key.fold("batches"),
            turns * each,
            where,
            size,
            look_up=look_up,
            shape=TaskShape(self._store.shape, "classes", outputs=classes, classes=classes),
            hash=self.hash,
            settings=settings,
            turned=self._rotations in ("per-class", "per-task"),
            ahead=self.ahead,
        )

    def _draw(self, tasks: Integers) -> _Draw:
        """Decide everything about these tasks."""
        n, widest, each = len(tasks), self._way[1], self._words_per_class
        words = self._key.bits(tasks, 2 + 4 * widest + widest * each)
        # Columns: way and query; of each class its shot, its turn, two words that choose it, and its examples' words.
        shots, turns, picks = (words[:, 2 + a * widest : 2 + b * widest] for a, b in ((0, 1), (1, 2), (2, 4)))
        examples = words[:, 2 + 4 * widest :]
        way, query = between(words[:, 0], self._way), between(words[:, 1], self._query)
        present = np.arange(widest) < way[:, None]
        shot = np.where(present, between(shots, self._shot), 0)
        numbers, quarters = self._turned(choose(picks, self._n_class, widest), turns)
        if self._apart:  # words of their own, so that classes are those of the other tasks
            people = self._key.bits(tasks, int(self._sizes[self._classes[0]]), stream=2)
            order = self._key.bits(tasks, widest * people.shape[1], stream=3).reshape(n, widest, -1)
            rows = apart_rows(people, order, self._shot[0], self._query[0])
        else:
            rows = self._choose_examples(examples.reshape(n * widest, each), self._sizes[numbers].reshape(-1))
        first = self._store.starts[numbers] + quarters * int(self._store.starts[-1])
        classes = 4 * numbers + quarters if self._rotations == "classes" else numbers
        rows = first[:, :, None] + rows.reshape(n, widest, -1)
        return _Draw(way, shot, self._queries(tasks, way, query), np.where(present, classes, -1), rows)

    def _queries(self, tasks: Integers, way: Integers, query: Integers) -> Integers:
        """Query examples of each class, ``[T, W]``, where a class would have ``query`` ``[T]`` if all had as many."""
        widest = self._way[1]
        if self._dirichlet is None:
            return np.where(np.arange(widest) < way[:, None], query[:, None], 0)
        # Words of their own, so that ways and classes are those of the balanced tasks.
        words = self._key.bits(tasks, widest * WORDS, stream=1).reshape(-1, widest, WORDS)
        return query_counts(words, self._dirichlet, way, way * query)

    def _choose_examples(self, bits: Bits, sizes: Integers) -> Integers:
        """Examples of some classes in random order: numbers below ``sizes`` ``[rows]``, as ``[rows, K]``."""
        return shuffle(bits, sizes)[:, : self._most] if self._shuffles else choose(bits, sizes, self._most)

    @cached_property
    def _shuffles(self) -> bool:
        """Whether whole classes are shuffled, much the quicker way unless they are much larger than what is taken."""
        return int(self._store.sizes[self._classes].max()) <= 4 * self._most

    @cached_property
    def _words_per_class(self) -> int:
        """Words that the examples of one class take."""
        return int(self._store.sizes[self._classes].max()) if self._shuffles else 2 * self._most

    def _turned(self, picked: Integers, bits: Bits) -> tuple[Integers, Integers]:
        """Class numbers of the store and quarter turns, both ``[T, W]``, of the choices ``picked`` ``[T, W]``."""
        if self._rotations == "classes":
            return self._classes[picked // 4], picked % 4
        numbers = self._classes[picked]
        if self._rotations == "none":
            return numbers, np.zeros_like(numbers)
        quarters = integers(bits if self._rotations == "per-class" else bits[:, :1], 4)
        return numbers, np.broadcast_to(quarters, numbers.shape)

    def _examples(self, rows: Integers, first: Integers, count: Integers, way: torch.Tensor) -> Examples:
        """For each class of each task the rows ``first`` to ``first + count``, ``[T, W]`` both, as Examples."""
        chosen, y, mask = taken(rows, first, count)
        x = self._look_up(chosen.reshape(-1)).reshape(*chosen.shape, *self._store.example)
        if mask is not None:
            x[~mask] = 0
        return Examples(
            x=torch.from_numpy(x),
            y=torch.from_numpy(y),
            target=Classes(way),
            mask=None if mask is None else torch.from_numpy(mask),
        )
