"""Floor 1: what data sets of examples share that are not all read at once: their files, their index, their tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from quickstudy.data.big.dividing import as_said, by_names
from quickstudy.data.big.entries import Entry
from quickstudy.data.big.index import Index
from quickstudy.data.big.sources import Source, find
from quickstudy.data.big.streamed import Decode, StreamedStore, in_order
from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.counts import Count
from quickstudy.data.dataset import check_role
from quickstudy.data.pictureaugment import PictureChanges
from quickstudy.data.picturefiles import read
from quickstudy.data.picturesets import check_pictures
from quickstudy.data.picturetasks import PictureTasks
from quickstudy.data.rowstore import Rows
from quickstudy.data.source import Place, place
from quickstudy.errors import DataError, InputError

__all__ = ["CODE", "AbstractBig", "AbstractBigPictures", "check_ahead", "pixels_of", "rows_of"]

CODE = 1  # to be raised whenever the same bytes would give other rows


def pixels_of(size: int, channels: int) -> Decode:
    """Bytes of a picture file -> its row."""
    return lambda content, name: read(content, name, size, channels)


def rows_of(
    content: Callable[[Entry], bytes], decode: Decode, name: Callable[[int, str], str]
) -> Callable[[Iterable[Entry]], Iterator[tuple[Entry, Rows | DataError]]]:
    """What ``Plan.decoded`` wants."""
    return lambda entries: in_order(entries, content, decode, name)


class AbstractBig(ABC):
    """What ``Shards`` and ``Parquet`` share: an index of their files, and tasks from it.

    Args:
        files: a file, a folder or a pattern, here or for fsspec.
        suffix: of the files of a folder.
        split: ``"names"``: a hash of their names divides the classes; ``"test"``: all test.
        least: classes with fewer examples are left out; None: one with a single example is refused.
        ahead: how many steps are read ahead.

    Raises:
        InputError: an option makes no sense.
    """

    name: str

    def __init__(self, files: str | None, suffix: str, split: str, least: int | None, ahead: int) -> None:
        if least is not None and least < 1:
            raise InputError(f"Cannot leave out classes with fewer than least = {least} examples: expected at least 1.")
        check_ahead(ahead)
        self._files, self._suffix, self._split, self._least, self._ahead = files, suffix, split, least, ahead
        self.splits = ("test",) if split == "test" else ("train", "validation", "test", "train+validation")

    @property
    def files(self) -> str:
        """Where they lie.

        Raises:
            InputError: nobody said it.
        """
        if self._files is None:
            raise InputError(
                f"Cannot look for {self.name}: it is not said where. Give a file, a folder or a pattern: --data.files "
                "PATH, or files = in [data]."
            )
        return self._files

    @property
    def place(self) -> Place:
        """What names of classes count in."""
        return place(self.name, self.files)

    @property
    def divided(self) -> Mapping[str, list[str]]:
        """Role -> the classes that it draws from; kept with each run."""
        return self.store.index.divided()

    @cached_property
    def sources(self) -> list[Source]:
        """The files.

        Raises:
            DataError: there are none, or they cannot be reached.
        """
        return find(self.files, self._suffix, f"{self.name} files")

    @property
    @abstractmethod
    def store(self) -> StreamedStore:
        """All examples, to be read when they are drawn; the index is made once.

        Raises:
            DataError: files are missing, damaged or not what they should be; names the first mistake, and up to five
                others.
            StorageError: the index cannot be written.
        """

    @abstractmethod
    def tasks(
        self,
        role: str,
        *,
        shot: Count,
        query: Count,
        seed: int,
        way: Count | None = None,
        dirichlet: float | None = None,
    ) -> ClassTasks:
        """Tasks of one role; see :meth:`quickstudy.data.dataset.DataSet.tasks`."""

    def _what(self) -> list[Any]:
        """What an index depends on, whatever it is of."""
        files = [[source.address, source.size, source.stamp] for source in self.sources]
        return [files, self._split, self._least]

    def _name_of(self, source: int, key: str) -> str:
        return f"{key} in {self.sources[source].address}"

    def _roles_of(self, names: list[str]) -> NDArray[np.uint8]:
        if self._split == "test":
            return as_said(names, {"test": names})
        parts = by_names(names)
        if parts is None:
            raise DataError(
                f"Cannot divide the classes of {self.files} into training, validation and test: it has {len(names)} "
                f"({', '.join(names)}), and each part needs two. Add classes, or test a learner that was trained on "
                "other data on all of them, with split = 'test'."
            )
        return parts


def check_ahead(ahead: int) -> None:
    """Refuse a number of steps that cannot be read ahead."""
    if not 0 <= ahead <= 64:
        raise InputError(f"Cannot read ahead = {ahead} steps ahead: expected 0 (none) to 64.")


class AbstractBigPictures(AbstractBig):
    """Pictures of one size, changed in training.

    Args:
        size: pixels along a side; of each picture the largest square in its middle is brought to that.
        channels: 3, or 1 for grey pictures.
        augment: change pictures at random in training.
        flip: mirroring is among the changes.
        own: of :class:`AbstractBig`.
    """

    def __init__(self, *own: Any, size: int, channels: int, augment: bool, flip: bool) -> None:
        super().__init__(*own)
        check_pictures(size, channels)
        self.size, self.channels = size, channels
        self.changes = PictureChanges(flip=flip) if augment else None

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, size, size)."""
        return (self.channels, self.size, self.size)

    @property
    def _row(self) -> tuple[int, ...]:
        return self.shape if self.channels > 1 else self.shape[1:]

    @override
    def tasks(
        self,
        role: str,
        *,
        shot: Count,
        query: Count,
        seed: int,
        way: Count | None = None,
        dirichlet: float | None = None,
    ) -> ClassTasks:
        check_role(self, role)
        return PictureTasks(
            self.store,
            self.store.index.numbers(role),
            data=self.name,
            split=role,
            way=way,
            shot=shot,
            query=query,
            seed=seed,
            changes=self.changes if role.startswith("train") else None,
            dirichlet=dirichlet,
            place=self.place,
        )

    def _streamed(self, index: Index, read_part: Callable[[int, str, int, int], bytes], rows: bool) -> StreamedStore:
        return StreamedStore(
            index,
            self._row,
            read_part,
            None if rows else pixels_of(self.size, self.channels),
            self._name_of,
            made=[CODE, self.size, self.channels],
            ahead=self._ahead,
        )
