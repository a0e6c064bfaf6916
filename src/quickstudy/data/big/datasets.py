"""Floor 1: data sets of examples that are not all read at once: tar shards and Parquet files. See docs/big-data.md."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any, Literal

import numpy as np
import PIL
from typing_extensions import override

from quickstudy.data.big.abstract import AbstractBigPictures, pixels_of, rows_of
from quickstudy.data.big.building import Plan
from quickstudy.data.big.entries import Entry
from quickstudy.data.big.keeping import open_or_build
from quickstudy.data.big.parquets import Parquets
from quickstudy.data.big.streamed import StreamedStore
from quickstudy.data.big.tars import Tars
from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.dataset import check_role
from quickstudy.data.picturefiles import SUFFIXES
from quickstudy.data.rowstore import Rows
from quickstudy.errors import DataError, InputError

__all__ = ["Parquet", "Shards"]


class Shards(AbstractBigPictures):
    """Tar shards of pictures, as WebDataset writes them, here or wherever fsspec reaches.

    Args:
        files: a shard, a folder of them, or a pattern such as ``train-{000..127}.tar``; a path or an address.
        label: ``"auto"``: the text of the file ``.cls`` beside a picture, else the folder it lies in; ``"folder"``;
            what a file with the label is called after the dot, such as ``"txt"``; ``"json.FIELD"``.
        picture: what the picture is called after its dot, where an example has several.
        keep: ``"index"``: only where each picture lies; it is read and decoded when it is drawn. ``"files"``: the
            pictures are copied, as they are, into the cache folder: for shards that are far away. ``"pixels"``: they
            are decoded once, at this size, and memory-mapped; copies of a picture are found then, and used once.
        keys: ``"unique"``: names tell examples of a class apart over all shards; ``"by-shard"``: within each one.
        split: ``"names"``: 60 % of the classes train, 15 % validate, 25 % test, by a hash of their names; ``"test"``:
            all.
        least: classes with fewer examples are left out; by default one with a single example is refused.
        size: pixels along a side; of each picture the largest square in its middle is brought to that.
        channels: 3, or 1 for grey pictures.
        augment: change pictures at random in training.
        flip: mirroring is among the changes; false for letters, signs, and whatever has a left and a right.
        ahead: how many steps are read ahead while the learner computes; 0: none.

    Raises:
        InputError: an option that makes no sense.
    """

    name = "shards"

    def __init__(
        self,
        files: str | None = None,
        *,
        label: str = "auto",
        picture: str | None = None,
        keep: Literal["index", "files", "pixels"] = "index",
        keys: Literal["unique", "by-shard"] = "unique",
        split: Literal["names", "test"] = "names",
        least: int | None = None,
        size: int = 84,
        channels: Literal[1, 3] = 3,
        augment: bool = True,
        flip: bool = True,
        ahead: int = 2,
    ) -> None:
        own = (files, ".tar", split, least, ahead)
        super().__init__(*own, size=size, channels=channels, augment=augment, flip=flip)
        if not label or label == "json" or label == "json.":
            raise InputError(f"Cannot take labels from {label!r}: expected auto, folder, cls, txt or json.FIELD.")
        self._label, self._picture, self._keep, self._keys = label, picture, keep, keys

    @cached_property
    @override
    def store(self) -> StreamedStore:
        rows = self._keep == "pixels"
        what = [*self._what(), self._label, self._picture, self._keep, self._keys]
        what += [self.size, self.channels, PIL.__version__] if rows else []
        index = open_or_build(self.name, what, self._plan, lambda index: True)
        return self._streamed(index, self._read, rows)

    def _plan(self) -> Plan:
        tars = Tars(self.sources, SUFFIXES, self._label, self._picture)
        entries = tars.entries() if self._keys == "unique" else map(self._by_shard, tars.entries())
        rows = rows_of(self._content, pixels_of(self.size, self.channels), self._name_of)
        return Plan(
            entries,
            self._content,
            self._name_of,
            self._roles_of,
            copy=self._keep == "files",
            decoded=rows if self._keep == "pixels" else None,
            each_once=self._keep == "pixels",
            least=self._least,
        )

    def _by_shard(self, entry: Entry) -> Entry:
        shard = os.path.basename(self.sources[entry.source].address)
        return entry._replace(key=f"{shard}/{entry.key}")

    def _content(self, entry: Entry) -> bytes:
        content = self._read(entry.source, entry.key, entry.offset, entry.size)
        if len(content) != entry.size:
            raise DataError(
                f"Cannot read {self._name_of(entry.source, entry.key)}: it is cut off. Copy the shard again."
            )
        return content

    def _read(self, source: int, key: str, offset: int, size: int) -> bytes:
        del key
        return self.sources[source].part(offset, size)


class Parquet(AbstractBigPictures):
    """Parquet files with a column of labels, and one of pictures or several of numbers; here or where fsspec reaches.

    A row of a Parquet file cannot be read alone, so that what is needed of them is copied into the cache folder, once.

    Args:
        files: a file, a folder of them, or a pattern; a path or an address.
        label: the column of labels: text or whole numbers (with the names that Hugging Face's ``datasets`` keeps).
        picture: the column of pictures: files as bytes, or ``{"bytes": ...}``.
        features: columns of numbers, or of lists of them, in place of pictures: one after the other they are an
            example.
        keep: ``"files"``: pictures are copied as they are, and decoded when they are drawn; ``"pixels"``: they are
            decoded once, at this size, and memory-mapped; copies of a picture are found then, and used once. Of
            features the numbers are memory-mapped.
        split: as of :class:`Shards`.
        least: as of :class:`Shards`.
        size: as of :class:`Shards`.
        channels: as of :class:`Shards`.
        augment: as of :class:`Shards`.
        flip: as of :class:`Shards`.
        ahead: as of :class:`Shards`.

    Raises:
        InputError: an option that makes no sense, or pyarrow is not installed.
    """

    name = "parquet"

    def __init__(
        self,
        files: str | None = None,
        *,
        label: str = "label",
        picture: str = "image",
        features: tuple[str, ...] = (),
        keep: Literal["files", "pixels"] = "files",
        split: Literal["names", "test"] = "names",
        least: int | None = None,
        size: int = 84,
        channels: Literal[1, 3] = 3,
        augment: bool = True,
        flip: bool = True,
        ahead: int = 2,
    ) -> None:
        own = (files, ".parquet", split, least, ahead)
        super().__init__(*own, size=size, channels=channels, augment=augment, flip=flip)
        self._label, self._picture, self._features = label, picture, tuple(features)
        self._keep = "features" if features else keep

    @property
    @override
    def shape(self) -> tuple[int, ...]:
        """(channels, size, size), or (D,) of features, for which the files are read."""
        return (int(self.store.index.about["width"]),) if self._features else super().shape

    @cached_property
    @override
    def store(self) -> StreamedStore:
        what = [*self._what(), self._label, self._picture, self._features, self._keep]
        what += [self.size, self.channels, PIL.__version__] if self._keep == "pixels" else []
        index = open_or_build(self.name, what, self._plan, lambda index: True)
        if self._features:
            return StreamedStore(index, (int(index.about["width"]),), self._elsewhere, None, self._name_of)
        return self._streamed(index, self._elsewhere, self._keep == "pixels")

    @override
    def tasks(self, role: str, **sizes: Any) -> ClassTasks:
        if not self._features:
            return super().tasks(role, **sizes)
        check_role(self, role)
        numbers = self.store.index.numbers(role)
        return ClassTasks(self.store, numbers, data=self.name, split=role, place=self.place, **({"way": None} | sizes))

    def _plan(self) -> Plan:
        read_rows = Parquets(self.sources, self._label, None if self._features else self._picture, self._features)
        decode = _numbers if self._features else pixels_of(self.size, self.channels)
        return Plan(
            read_rows.entries(),
            _at_hand,
            self._name_of,
            self._roles_of,
            copy=self._keep == "files",
            decoded=None if self._keep == "files" else rows_of(_at_hand, decode, self._name_of),
            each_once=self._keep == "pixels",
            least=self._least,
            about=lambda: {"width": read_rows.width},
        )

    @override
    def _name_of(self, source: int, key: str) -> str:
        return f"row {int(key)} (of {self.sources[source].address}, and the files before it)"

    def _elsewhere(self, source: int, key: str, offset: int, size: int) -> bytes:
        raise AssertionError("rows of Parquet files are always copied")


def _at_hand(entry: Entry) -> bytes:
    assert entry.content is not None
    return entry.content


def _numbers(content: bytes, name: str) -> Rows:
    del name
    return np.frombuffer(content, dtype="<f4").astype(np.float32)
