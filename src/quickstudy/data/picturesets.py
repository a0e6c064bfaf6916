"""Floor 1: what data sets of picture files share: from the files to tasks.

files -> PictureFile -> square pictures of one size -> store (cached) -> PictureTasks

Classes decide the role.
"""

from __future__ import annotations

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL

from quickstudy.data.classfolders import and_more, read_each, with_others
from quickstudy.data.counts import Count
from quickstudy.data.dataset import check_role
from quickstudy.data.pictureaugment import PictureChanges
from quickstudy.data.picturefiles import read
from quickstudy.data.picturetasks import PictureTasks
from quickstudy.data.rowstore import RowStore
from quickstudy.data.source import Place, place
from quickstudy.data.store import ArrayStore, Pictures, open_or_build
from quickstudy.errors import DataError, InputError
from quickstudy.files import cache_root
from quickstudy.keys import Integers

__all__ = ["AbstractPictures", "PictureFile", "check_pictures"]

_CODE = 1  # to be raised whenever the same files would give other pictures
_SIZES = (16, 512)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PictureFile:
    """One file.

    Args:
        group: its class.
        name: tells it apart, and how errors call it.
        read: gives its bytes.
    """

    group: str
    name: str
    read: Callable[[], bytes]


def check_pictures(size: int, channels: int) -> None:
    """Refuse what pictures cannot be brought to.

    Raises:
        InputError: a size or a number of channels that makes no sense.
    """
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise InputError(f"Cannot use size = {size}: expected {_SIZES[0]} to {_SIZES[1]} pixels along a side.")
    if channels not in (1, 3):
        raise InputError(f"Cannot use channels = {channels}: expected 3, or 1 for grey pictures.")


class AbstractPictures(ABC):
    """A data set of picture files.

    Args:
        size: pixels along a side; of each picture the largest square in its middle is brought to that.
        channels: 3, or 1 for grey ones.
        augment: change pictures at random in training (a part of it, mirrored, brightness, contrast, colour).
        flip: mirroring is among the changes.

    Raises:
        InputError: a size or a number of channels that makes no sense.
    """

    name: str
    splits: tuple[str, ...]
    each_once = False
    """Whether copies of a picture are left out, and a picture of two classes is refused; published sets stay as is."""

    def __init__(self, *, size: int, channels: int, augment: bool, flip: bool) -> None:
        check_pictures(size, channels)
        self.size, self.channels = size, channels
        self.changes = PictureChanges(flip=flip) if augment else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, size, size)."""
        return (self.channels, self.size, self.size)

    @property
    def place(self) -> Place:
        """What names of classes count in; see :class:`quickstudy.data.source.Origin`."""
        return place(self.name)

    @property
    @abstractmethod
    def divided(self) -> Mapping[str, list[str]]:
        """Role -> the classes that it draws from; kept with each run."""

    @abstractmethod
    def _find(self) -> list[PictureFile]:
        """All files, in any order."""

    @abstractmethod
    def _fingerprint(self) -> str:
        """Changes whenever a file does: part of the cache's name."""

    def _passed_over(self) -> list[Path]:
        """Files beside the pictures that are not read."""
        return []

    @cached_property
    def pictures(self) -> list[PictureFile]:
        """All of them, in the order of the store, which has no copies: by class, then by name."""
        return sorted(self._find(), key=lambda picture: (picture.group, picture.name))

    @cached_property
    def store(self) -> ArrayStore:
        """All pictures, memory-mapped; read once, then from the cache.

        Raises:
            DataError: files are missing or cannot be read, or hold the same picture in two classes; names the first of
                them, and up to five others.
            StorageError: the cache cannot be written.
        """
        what = [_CODE, self.name, self.size, self.channels, PIL.__version__, self._fingerprint()]
        digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
        return open_or_build(cache_root() / "images" / f"{self.name}-{digest}", self._build)

    def tasks(
        self,
        role: str,
        *,
        shot: Count,
        query: Count,
        seed: int,
        way: Count | None = None,
        dirichlet: float | None = None,
    ) -> PictureTasks:
        """Tasks of one role; see :meth:`quickstudy.data.dataset.DataSet.tasks`."""
        check_role(self, role)
        store, classes = self._of_role(role)
        return PictureTasks(
            store,
            classes,
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

    def _of_role(self, role: str) -> tuple[RowStore, Sequence[int] | Integers]:
        """Where the pictures of a role are, and the numbers of its classes there."""
        return self.store, self.store.numbers(self.divided[role])

    def _build(self) -> ArrayStore:
        files = ((picture.group, picture.name, picture.read) for picture in self.pictures)
        classes = read_each(files, lambda content, name: read(content, name, self.size, self.channels))
        if self.each_once:
            self._leave_out_copies(classes)
        if others := self._passed_over():
            _log.warning("Passed over, as no pictures of a class: %s.", and_more(others))
        return ArrayStore.from_classes({group: np.stack(pictures) for group, pictures in classes.items()})

    def _leave_out_copies(self, classes: dict[str, list[Pictures]]) -> None:
        """Each picture once: of one in the support and a copy in the query the answer could be looked up.

        Args:
            classes: class -> its pictures, in the order of ``pictures``; copies are taken out.
        """
        first: dict[bytes, PictureFile] = {}
        kept: dict[str, list[Pictures]] = {group: [] for group in classes}
        torn: list[tuple[PictureFile, PictureFile]] = []
        copies: list[str] = []
        left = {group: iter(pixels) for group, pixels in classes.items()}
        for picture in self.pictures:
            pixels = next(left[picture.group])
            known = first.setdefault(hashlib.sha256(pixels.tobytes()).digest(), picture)
            if known is picture:
                kept[picture.group].append(pixels)
            elif known.group == picture.group:
                copies.append(picture.name)
            else:
                torn.append((picture, known))
        if torn:
            picture, known = torn[0]
            sentence = (
                f"Cannot use {picture.name}: its class is {picture.group!r}, and the same picture lies in "
                f"{known.group!r}, as {known.name}. Remove it from one of them."
            )
            raise DataError(with_others(sentence, [other.name for other, _ in torn[1:]]))
        single = [group for group, pixels in kept.items() if len(pixels) == 1]
        if single:
            sentence = (
                f"Cannot use the class {single[0]!r}: all its files hold the same picture, and a task needs one to "
                "learn from and another to ask for. Add one, or move the folder away."
            )
            raise DataError(with_others(sentence, [repr(group) for group in single[1:]]))
        if copies:
            _log.warning("%d pictures are copies of others and were left out, such as %s.", len(copies), copies[0])
        classes.update(kept)
