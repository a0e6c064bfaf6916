"""Floor 1: a folder of pictures, by an index in place of a store."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import PIL
from numpy.typing import NDArray

from quickstudy.data.big.abstract import CODE, pixels_of, rows_of
from quickstudy.data.big.building import Plan
from quickstudy.data.big.dividing import as_said, by_names
from quickstudy.data.big.entries import Entry
from quickstudy.data.big.folders import Walk, unchanged
from quickstudy.data.big.keeping import open_or_build
from quickstudy.data.big.streamed import Decode, StreamedStore
from quickstudy.data.classfolders import ClassFolders
from quickstudy.data.picturefiles import SUFFIXES
from quickstudy.errors import DataError

__all__ = ["indexed"]

_log = logging.getLogger(__name__)


def indexed(
    folders: ClassFolders, keep: Literal["index", "pixels"], size: int, channels: int, ahead: int
) -> StreamedStore:
    """The pictures of a folder; which there are is found once, and again when a folder in it has changed.

    A picture that is replaced by another of its name changes no folder. That is noticed when it is drawn, by its size.

    Args:
        folders: of the classes.
        keep: ``"index"``: files are read when they are drawn; ``"pixels"``: all were, once.
        size: pixels along a side.
        channels: of a picture.
        ahead: steps that are read ahead.

    Raises:
        DataError: there is no such folder, a class has no picture or a single one, or pictures cannot be read.
        StorageError: the index cannot be written.
    """
    root, rows, decode = folders.folder, keep == "pixels", pixels_of(size, channels)
    if not root.is_dir():
        raise DataError(f"Cannot find the pictures: {root} is no folder. Give one with a subfolder a class.")
    files = _Files(folders)
    what: list[Any] = [os.path.realpath(root), folders.split, keep]
    what += [size, channels, PIL.__version__] if rows else []
    index = open_or_build(
        "images", what, lambda: files.plan(decode if rows else None), lambda index: unchanged(index.watched())
    )
    row = (channels, size, size) if channels > 1 else (size, size)
    made = [CODE, size, channels]
    return StreamedStore(index, row, files.read, None if rows else decode, files.name, made=made, ahead=ahead)


class _Files:
    """The files of a folder, by their names in it."""

    def __init__(self, folders: ClassFolders) -> None:
        self._folders = folders

    def plan(self, decode: Decode | None) -> Plan:
        """What is to become an index; rows are kept where something decodes them."""
        folders, root = self._folders, self._folders.folder
        folders.refuse_shared()
        watched: list[tuple[str, int]] = [(str(root), root.stat().st_mtime_ns)]
        walk = Walk(folders.parents, root, SUFFIXES, lambda path, time: watched.append((path, time)))
        return Plan(
            _saying(walk),
            self._content,
            self.name,
            self._roles,
            decoded=None if decode is None else rows_of(self._content, decode, self.name),
            each_once=decode is not None,
            more="Add one, or move the folder away.",
            watched=watched,
        )

    def name(self, source: int, key: str) -> str:
        """How errors call a file."""
        del source
        return os.path.join(self._folders.folder, key)

    def read(self, source: int, key: str, offset: int, size: int) -> bytes:
        """All its bytes."""
        del offset, size
        return _bytes_of(self.name(source, key))

    def _content(self, entry: Entry) -> bytes:
        return _bytes_of(self.name(entry.source, entry.key))

    def _roles(self, names: list[str]) -> NDArray[np.uint8]:
        parts = None if self._folders.split == "test" or self._folders.parts else by_names(names)
        return as_said(names, self._folders.roles_of(names)) if parts is None else parts


def _saying(walk: Walk) -> Iterator[Entry]:
    yield from walk.entries()
    if walk.beside:
        _log.warning("%s files were passed over, as no pictures of a class.", f"{walk.beside:,}")


def _bytes_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Mend it or remove it.") from error
