"""Floor 1: tasks of several data sets, composed as in Meta-Dataset.

    number of a task  ->  its data set  ->  its composition  ->  which examples of each class  ->  rows  ->  Episode

Each of these is drawn with words of its own, so that a task of one data set is the same whatever others there are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from quickstudy.data.batches import ClassBatches
from quickstudy.data.metadataset.sampling import Composition, Sampler
from quickstudy.data.rowstore import Rows, RowStore
from quickstudy.data.source import Origin, TaskShape, TaskSource, as_indices, place
from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Integers, Key, choose, integers

__all__ = ["Member", "MetaDatasetTasks"]


@dataclass(frozen=True, eq=False)
class Member:
    """A data set, and what is drawn from it.

    Args:
        name: of the data set.
        sampler: of compositions; it numbers the classes that are drawn from.
        store: the examples.
        classes: int64 ``[C]``, the store's number of each class that the sampler numbers.
    """

    name: str
    sampler: Sampler
    store: RowStore
    classes: Integers


class MetaDatasetTasks(TaskSource):
    """Tasks of many ways, shots and data sets: each is of one data set, all of which are equally likely.

    Support and query rows come class by class, as in :class:`quickstudy.data.ClassTasks`; ``Episode.classes`` counts
    through the classes of all data sets. Examples of a class are drawn anew for each task, without replacement (the
    official reader goes through shuffled files, so that an example comes again only when the others have come).

    Args:
        members: the data sets, whose examples have one shape.
        data: how the whole is called.
        split: which part of it this is.
        seed: tells sources of the same kind apart.
        about: what else makes these tasks, for :attr:`settings`.

    Raises:
        InputError: there is no data set, or their examples differ in shape.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        data: str,
        split: str,
        seed: int,
        about: dict[str, Any] | None = None,
    ) -> None:
        if not members:
            raise InputError(f"Cannot draw tasks from {data}/{split}: no data set was named.")
        for member in members:
            if member.store.shape != members[0].store.shape:
                raise InputError(
                    f"Cannot draw tasks from {data}/{split}: examples of {members[0].name} have the shape "
                    f"{list(members[0].store.shape)}, and those of {member.name} {list(member.store.shape)}. Give them "
                    "one size."
                )
        self._members, self._data, self._split, self._seed = tuple(members), data, split, seed
        self._about = about or {}
        self._key = Key.of(seed, data, split)
        self._keys = [self._key.fold(member.name) for member in members]
        self._first = np.concatenate([[0], np.cumsum([len(member.classes) for member in members])])
        self._row = np.concatenate([[0], np.cumsum([int(member.store.starts[-1]) for member in members])])

    @property
    def members(self) -> tuple[Member, ...]:
        """The data sets."""
        return self._members

    @property
    def shape(self) -> TaskShape:
        """Outputs are the largest way, classes how many there are in all data sets together."""
        most = max(member.sampler.most for member in self._members)
        return TaskShape(self._members[0].store.shape, "classes", outputs=most, classes=int(self._first[-1]))

    @cached_property
    def hash(self) -> str:
        """Hex sha256 over names, contents, and the classes that are drawn from."""
        parts = [[member.name, member.store.hash, member.classes.tolist()] for member in self._members]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def settings(self) -> dict[str, Any]:
        """What makes these tasks."""
        names = [member.name for member in self._members]
        return {"data": self._data, "split": self._split, "data-sets": names, "seed": self._seed} | self._about

    @property
    @override
    def origin(self) -> Origin:
        """The classes, each with its data set; their names are published and do not change."""
        return Origin(place(self._data), tuple(self._names))

    @property
    @override
    def largest(self) -> int:
        """Of the data set with the largest tasks."""
        return max(member.sampler.largest for member in self._members)

    @property
    @override
    def ahead(self) -> int:
        """As many as the slowest store says."""
        return max(member.store.ahead for member in self._members)

    @cached_property
    def _names(self) -> list[str]:
        return [f"{member.name}/{member.store.classes[int(n)]}" for member in self._members for n in member.classes]

    def names_of(self, episode: Episode) -> list[str]:
        """What the classes of the first task of an episode are called, label by label."""
        assert episode.classes is not None
        return [self._names[number] for number in episode.classes[0].tolist() if number >= 0]

    def composition(self, index: int) -> tuple[Member, Composition]:
        """The data set and the composition of the task with this number."""
        which = int(self._which(np.array([index]))[0])
        return self._members[which], self._members[which].sampler.number(self._keys[which], index)

    def _which(self, tasks: Integers) -> Integers:
        return integers(self._key.bits(tasks, 1)[:, 0], len(self._members))

    def episodes(self, indices: range | Integers) -> Episode:
        """The tasks with these numbers; pictures are uint8 ``[T, N, C, H, W]``, padded and masked."""
        tasks = as_indices(indices)
        drawn = [self._draw(int(task), int(which)) for task, which in zip(tasks, self._which(tasks), strict=True)]
        way = torch.tensor([len(one.composition.classes) for one in drawn])
        classes = np.full((len(drawn), int(way.max())), -1, dtype=np.int64)
        for row, one in zip(classes, drawn, strict=True):
            row[: len(one.composition.classes)] = self._first[one.which] + one.composition.classes
        return Episode(
            support=self._examples([(one.which, one.support, one.composition.shots) for one in drawn], way),
            query=self._examples([(one.which, one.query, one.queries) for one in drawn], way),
            index=torch.from_numpy(tasks.copy()),
            classes=torch.from_numpy(classes),
        )

    def _draw(self, task: int, which: int) -> _Drawn:
        """Which rows of which store a task is made of."""
        member, key = self._members[which], self._keys[which]
        composition = member.sampler.number(key, task)
        numbers = member.classes[composition.classes]
        wanted = composition.shots + composition.query
        # Words of each class are its own row's, so that they do not hang on how many are taken of the others.
        words = key.fold("examples", task).bits(np.arange(len(numbers)), 2 * int(wanted.max()))
        picked = choose(words, member.store.sizes[numbers], wanted)
        rows = member.store.starts[numbers][:, None] + picked
        place = np.arange(picked.shape[1])
        in_support = place < composition.shots[:, None]
        in_query = ~in_support & (place < wanted[:, None])
        return _Drawn(which, composition, rows[in_support], rows[in_query])

    def _examples(self, parts: list[tuple[int, Integers, Integers]], way: torch.Tensor) -> Examples:
        """Rows of each task, and how many of each class they are, as Examples."""
        longest = max(len(rows) for _, rows, _ in parts)
        example = self._members[0].store.example
        x = np.zeros((len(parts), longest, *example), dtype=np.uint8)
        y = np.zeros((len(parts), longest), dtype=np.int64)
        mask = np.zeros((len(parts), longest), dtype=np.bool_)
        for task, (which, rows, counts) in enumerate(parts):
            x[task, : len(rows)] = self._members[which].store.look_up()(rows)
            y[task, : len(rows)] = np.arange(len(counts)).repeat(counts)
            mask[task, : len(rows)] = True
        return Examples(
            x=torch.from_numpy(x),
            y=torch.from_numpy(y),
            target=Classes(way),
            mask=None if mask.all() else torch.from_numpy(mask),
        )

    def batches(self, size: int) -> ClassBatches:
        """Passes over every example of every class of all data sets, numbered as in :meth:`episodes`.

        Args:
            size: examples a batch.

        Raises:
            InputError: a size below 1.
        """
        sizes = np.concatenate([member.store.sizes[member.classes] for member in self._members])
        starts = np.concatenate(
            [row + member.store.starts[member.classes] for row, member in zip(self._row, self._members, strict=False)]
        )
        ends = sizes.cumsum()

        def where(places: Integers) -> tuple[Integers, Integers]:
            which = np.searchsorted(ends, places, side="right")
            return starts[which] + places - ends[which] + sizes[which], which

        classes = int(self._first[-1])
        return ClassBatches(
            self._key.fold("batches"),
            int(ends[-1]),
            where,
            size,
            look_up=lambda rows, quarters: self._look_up(rows),
            shape=TaskShape(self._members[0].store.shape, "classes", outputs=classes, classes=classes),
            hash=self.hash,
            settings={"data": self._data, "split": self._split, "data-sets": self.settings["data-sets"]}
            | {"seed": self._seed},
            ahead=self.ahead,
        )

    def _look_up(self, rows: Integers) -> Rows:
        """Rows that count through all stores."""
        found = np.empty((len(rows), *self._members[0].store.example), dtype=np.uint8)
        which = np.searchsorted(self._row, rows, side="right") - 1
        for number in np.unique(which):
            of = which == number
            found[of] = self._members[number].store.look_up()(rows[of] - self._row[number])
        return found


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What a task is made of: rows of a store, class by class."""

    which: int
    composition: Composition
    support: Integers
    query: Integers

    @property
    def queries(self) -> Integers:
        """Query examples of each class."""
        return np.full(len(self.composition.classes), self.composition.query)
