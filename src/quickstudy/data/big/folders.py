"""Floor 1: a folder with millions of files, one subfolder a class, walked without a list of them in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from quickstudy.data.big.entries import Entry, class_name
from quickstudy.errors import DataError

__all__ = ["Walk", "count_up_to", "unchanged"]

_LEFT = (".", "__MACOSX")
"""Beginnings of names that are passed over, as in ``classfolders.below``."""


class Walk:
    """The files below the folders of classes.

    Args:
        parents: folders whose subfolders are classes.
        root: what names of examples count from.
        suffixes: of the files wanted, in small letters.
        watch: told of each folder and the time of its last change, in nanoseconds.
    """

    def __init__(
        self, parents: list[Path], root: Path, suffixes: tuple[str, ...], watch: Callable[[str, int], None]
    ) -> None:
        self._parents, self._root, self._suffixes, self._watch = parents, root, suffixes, watch
        self.beside = 0
        """Files that were passed over."""

    def entries(self) -> Iterator[Entry]:
        """All files, each class's together.

        Raises:
            DataError: a folder cannot be read, or holds no file of these kinds.
        """
        for parent in self._parents:
            self._seen(str(parent))
            for path in _folders(parent):
                found = 0
                for entry in self._below(str(path), class_name(path.name), {os.path.realpath(path)}):
                    found += 1
                    yield entry
                if not found:
                    raise DataError(
                        f"Cannot use the folder {path}: it holds no file that can be read "
                        f"({', '.join(self._suffixes)}). Add files, or move the folder away."
                    )

    def _below(self, folder: str, group: str, known: set[str]) -> Iterator[Entry]:
        self._seen(folder)
        inner = []
        with _scanned(folder) as items:
            for item in items:
                if item.name.startswith(_LEFT):
                    self.beside += item.is_file() and not item.name.startswith(".")
                elif item.is_dir():
                    inner.append(item.path)
                elif os.path.splitext(item.name)[1].lower() in self._suffixes:
                    yield Entry(group, os.path.relpath(item.path, self._root), 0, 0, _size(item))
                else:
                    self.beside += 1
        for path in sorted(inner):
            real = os.path.realpath(path)
            if real not in known:  # a ring of links
                yield from self._below(path, group, known | {real})

    def _seen(self, folder: str) -> None:
        try:
            self._watch(folder, os.stat(folder).st_mtime_ns)
        except OSError as error:
            raise _unread(folder, error) from error


def count_up_to(parents: list[Path], suffixes: tuple[str, ...], most: int) -> int:
    """How many files there are, counted until they are more than ``most``; folders that cannot be read hold none."""
    found = 0
    for parent in parents:
        for where, folders, names in os.walk(parent, followlinks=False):
            folders[:] = [name for name in folders if not name.startswith(_LEFT)]
            if where != str(parent):
                found += sum(os.path.splitext(name)[1].lower() in suffixes for name in names)
            if found > most:
                return found
    return found


def unchanged(watched: Iterator[tuple[str, int]]) -> bool:
    """Whether folders are as they were: a file that comes or goes changes its folder's time.

    Args:
        watched: what a :class:`Walk` told.
    """
    try:
        return all(os.stat(folder).st_mtime_ns == time for folder, time in watched)
    except OSError:
        return False


def _folders(parent: Path) -> list[Path]:
    with _scanned(str(parent)) as items:
        return sorted(Path(item.path) for item in items if item.is_dir() and not item.name.startswith(_LEFT))


def _scanned(folder: str) -> os._ScandirIterator[str]:
    try:
        return os.scandir(folder)
    except OSError as error:
        raise _unread(folder, error) from error


def _size(item: os.DirEntry[str]) -> int:
    try:
        return item.stat().st_size
    except OSError as error:  # a link to nowhere
        raise _unread(item.path, error) from error


def _unread(path: str, error: OSError) -> DataError:
    return DataError(f"Cannot read {path}: {error.strerror or error}. Mend it or move it away.")
