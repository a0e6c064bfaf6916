"""Floor 1: millions of lines sorted on disk, in bounded memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from quickstudy.errors import DataError

__all__ = ["Line", "Sorter"]

_AT_ONCE = 250_000
"""Lines sorted in memory: some 50 MB."""

_TOGETHER = 200
"""Files merged at once, below the number that a process may have open."""

_FIELDS = 6


class Line(NamedTuple):
    """An example on its way into an index.

    Args:
        group: its class, as bytes without zeros; lines are sorted by it, then by ``key``.
        key: its name, likewise.
        source: the file that holds it.
        offset: where it begins there.
        size: in bytes, there.
        digest: of its pixels; 0 where nobody has read them.
        flat: 1 where all its pixels are alike.
    """

    group: bytes
    key: bytes
    source: int
    offset: int
    size: int
    digest: int = 0
    flat: int = 0


class Sorter:
    """Takes lines in any order and gives them sorted, as often as one asks.

    Args:
        folder: where to keep them meanwhile.
        at_once: lines in memory.
    """

    def __init__(self, folder: Path, at_once: int = _AT_ONCE) -> None:
        self._folder, self._at_once = folder, at_once
        self._lines: list[bytes] = []
        self._runs: list[Path] = []
        self._made = 0
        self.count = 0

    def add(self, line: Line) -> None:
        """One more.

        Raises:
            DataError: its class or its name cannot be written down.
        """
        if b"\0" in line.group or b"\0" in line.key:
            raise DataError(
                f"Cannot use the name {line.key!r}: there is a zero byte in it, or in its class. Rename it."
            )
        # Zero is the least byte, so that whole lines sort as (group, key) does.
        numbers = b"%d\0%d\0%d\0%x\0%d\n" % line[2:]
        self._lines.append(b"%b\0%b\0%b" % (line.group, line.key, numbers))
        self.count += 1
        if len(self._lines) >= self._at_once:
            self._write()

    def lines(self) -> Iterator[Line]:
        """All of them, sorted."""
        if self._lines:
            self._write()
        while len(self._runs) > _TOGETHER:
            self._runs = [*self._runs[_TOGETHER:], self._joined(self._runs[:_TOGETHER])]
        for text in _merged(self._runs):
            group, key, source, offset, size, digest, flat = text[:-1].split(b"\0")
            yield Line(group, key, int(source), int(offset), int(size), int(digest, 16), int(flat))

    def _write(self) -> None:
        self._lines.sort()
        self._runs.append(self._new())
        with open(self._runs[-1], "wb") as file:
            file.writelines(self._lines)
        self._lines = []

    def _joined(self, runs: list[Path]) -> Path:
        path = self._new()
        with open(path, "wb") as file:
            file.writelines(_merged(runs))
        for run in runs:
            run.unlink()
        return path

    def _new(self) -> Path:
        self._made += 1
        return self._folder / f"sorting-{self._made}"

    def clear(self) -> None:
        """Remove what is on the disk."""
        for run in self._runs:
            run.unlink()
        self._runs = []


def _merged(runs: list[Path]) -> Iterator[bytes]:
    files = [open(run, "rb") for run in runs]
    try:
        yield from heapq.merge(*map(_read, files))
    finally:
        for file in files:
            file.close()


def _read(file: BinaryIO) -> Iterator[bytes]:
    whole = b""
    for part in file:  # names of files may hold line ends
        whole += part
        if whole.count(b"\0") == _FIELDS:
            yield whole
            whole = b""
