"""Floor 1: entries -> index, in bounded memory, whole or not at all.

    walk  ->  (decode)  ->  sort on disk  ->  survey: counts, copies, what is wrong  ->  write

The content's hash is over names of classes and examples and their sizes, all of them, and over the bytes of a thousand
examples, or all where there are fewer: which these are hangs on their names alone. To hash a terabyte would take hours
at each start and tell little more.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import logging
import os
import secrets
import shutil
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.big.entries import Entry, Mistakes
from quickstudy.data.big.index import FORMAT, Index
from quickstudy.data.big.sorting import Line, Sorter
from quickstudy.data.rowstore import Rows
from quickstudy.errors import DataError
from quickstudy.files import storage_error, sync, sync_folder

__all__ = ["Plan", "build", "unfinished"]

_SAMPLE = 1000
_SAY_EVERY = 30.0  # seconds
_PART = 1 << 22
_log = logging.getLogger(__name__)


@dataclass
class Plan:
    """What is to become an index.

    Args:
        entries: all examples, in any order.
        content: gives the bytes of one as they lie in its file.
        name: how errors call an example, from its source and its key.
        roles: names of classes, sorted -> the part of each, ``[C]``; see ``dividing.py``.
        copy: whether the bytes are kept.
        decoded: (entry, its row) for each entry, where rows are to be kept: decoded by several threads, in order; a
            mistake in place of a row does not end it.
        each_once: of equal rows the first is kept; equal ones of two classes are refused. For rows alone.
        least: classes with fewer examples are left out; None: one with a single example is refused.
        more: what to do about a class with a single example.
        about: what else ``index.json`` says.
    """

    entries: Iterable[Entry]
    content: Callable[[Entry], bytes]
    name: Callable[[int, str], str]
    roles: Callable[[list[str]], NDArray[np.uint8]]
    copy: bool = False
    decoded: Callable[[Iterable[Entry]], Iterator[tuple[Entry, Rows | DataError]]] | None = None
    each_once: bool = False
    least: int | None = None
    more: str = "Add one, or leave small classes out: --data.least 2."
    about: Callable[[], dict[str, Any]] = dict
    watched: list[tuple[str, int]] = field(default_factory=list)


def build(folder: Path, plan: Plan) -> Index:
    """Write an index; what was at ``folder`` is replaced when it is whole.

    Raises:
        DataError: examples cannot be read, stand there twice, or a class has a single one.
        StorageError: the disk refused.
    """
    with _replacing(folder) as new, ExitStack() as stack:
        sorter = Sorter(new)
        sample = _Sample(plan.content)
        _collect(plan, sorter, sample, new, stack)
        if not sorter.count:
            raise DataError("Cannot make an index of nothing: there is no example.")
        survey = _Survey(plan)
        survey.read(sorter)
        _write(new, plan, sorter, survey, sample)
        sorter.clear()
    return Index.open(folder)


def unfinished(folder: Path) -> list[Path]:
    """What builders of an index have not finished, or never will."""
    return [path for path in folder.parent.glob(".*.new") if path.name.startswith(f".{folder.name}.")]


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    new = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.new")
    try:
        new.mkdir(parents=True)
        yield new
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(new, folder)
        sync_folder(folder)
    except OSError as error:
        raise storage_error(folder, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _collect(plan: Plan, sorter: Sorter, sample: _Sample, new: Path, stack: ExitStack) -> None:
    """Walk through all entries; what is kept of them is written."""
    kept = stack.enter_context(open(new / "content", "wb")) if plan.copy or plan.decoded else None
    mistakes, told, offset = Mistakes(), time.monotonic(), 0
    found: Iterator[tuple[Entry, Rows | DataError | None]]
    found = iter((entry, None) for entry in plan.entries) if plan.decoded is None else plan.decoded(plan.entries)
    for entry, row in found:
        if isinstance(row, DataError):
            mistakes.add(plan.name(entry.source, entry.key), row)
            continue
        line = Line(os.fsencode(entry.group), os.fsencode(entry.key), entry.source, entry.offset, entry.size)
        content = sample.look_at(line, entry)
        if entry.content is not None:
            line = line._replace(size=len(entry.content))
        if row is not None and kept is not None:
            pixels = row.tobytes()
            kept.write(pixels)
            line = line._replace(offset=offset, digest=_digest(pixels), flat=int(row.min() == row.max()))
            offset += len(pixels)
        elif kept is not None:
            content = plan.content(entry) if content is None else content
            kept.write(content)
            line = line._replace(offset=offset)
            offset += len(content)
        sorter.add(line)
        if time.monotonic() - told > _SAY_EVERY:
            told = time.monotonic()
            _log.warning("%s examples are read so far, once and for all.", f"{sorter.count:,}")
    mistakes.end()
    if kept is not None:
        sync(kept)
        kept.close()


def _digest(pixels: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(pixels, digest_size=8).digest(), "big")


class _Sample:
    """Digests of a thousand examples: those whose names have the smallest digests."""

    def __init__(self, content: Callable[[Entry], bytes]) -> None:
        self._content = content
        self._kept: list[tuple[int, str]] = []  # a heap, the largest first: digests are negative

    def look_at(self, line: Line, entry: Entry) -> bytes | None:
        """Its bytes, where they had to be read or are at hand."""
        named = hashlib.blake2b(line.group + b"\0" + line.key, digest_size=8).digest()
        place = -int.from_bytes(named, "big")
        full = len(self._kept) >= _SAMPLE
        if full and place <= self._kept[0][0]:
            return entry.content
        content = self._content(entry)
        (heapq.heappushpop if full else heapq.heappush)(self._kept, (place, hashlib.sha256(content).hexdigest()))
        return content

    @property
    def digests(self) -> list[str]:
        """Of their bytes, in the order of their names' digests."""
        return [digest for _, digest in sorted(self._kept, reverse=True)]


class _Survey:
    """What is seen in a first passage over the sorted lines: what is wrong, and what will be left out."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._mistakes = Mistakes()
        self.sizes = array("q")
        self.left_out = np.zeros(0, dtype=np.int64)
        """Places of copies, sorted."""

    def read(self, sorter: Sorter) -> None:
        """Read all lines.

        Raises:
            DataError: two examples of a class have the same name, a class has a single one, or equal pictures lie in
                two classes.
        """
        digests = array("Q")
        before: Line | None = None
        for line in sorter.lines():
            if before is None or line.group != before.group:
                self.sizes.append(0)
            elif line.key == before.key:
                self._twice(before, line)
            self.sizes[-1] += 1
            before = line
            if self._plan.each_once:
                digests.append(line.digest)
        self._mistakes.end()
        if self._plan.each_once:
            self._find_copies(np.frombuffer(digests, dtype=np.uint64), sorter)
        if self._plan.least is None:
            self._refuse_single(sorter)
        self._mistakes.end()

    def kept(self, number: int) -> bool:
        """Whether a class is large enough."""
        return self.sizes[number] >= (self._plan.least or 1)

    def left(self, lines: Iterable[Line]) -> Iterator[tuple[Line, int]]:
        """Lines that are not left out, each with the number of its class among all."""
        copies, number, group = iter(self.left_out.tolist()), -1, None
        copy = next(copies, None)
        for at, line in enumerate(lines):
            if line.group != group:
                number, group = number + 1, line.group
            if at == copy:
                copy = next(copies, None)
            elif self.kept(number):
                yield line, number

    def _named(self, line: Line) -> str:
        return self._plan.name(line.source, os.fsdecode(line.key))

    def _twice(self, one: Line, other: Line) -> None:
        group, key = os.fsdecode(one.group), os.fsdecode(one.key)
        where = " and ".join(dict.fromkeys(map(self._named, (one, other))))
        self._mistakes.add(
            repr(key),
            DataError(
                f"Cannot use the example {key!r} of the class {group!r}: it stands there twice ({where}), and names "
                "tell examples apart. Leave one out; where names begin anew in each shard, say --data.keys by-shard."
            ),
        )

    def _find_copies(self, digests: np.ndarray[Any, np.dtype[np.uint64]], sorter: Sorter) -> None:
        order = digests.argsort(kind="stable")
        again = np.zeros(len(order), dtype=bool)
        again[1:] = digests[order[1:]] == digests[order[:-1]]
        if not again.any():
            return
        firsts = order[np.maximum.accumulate(np.where(again, 0, np.arange(len(order))))]
        copies, of = order[again], firsts[again]
        starts = np.concatenate([[0], np.cumsum(self.sizes)])
        group, first = (np.searchsorted(starts, at, side="right") - 1 for at in (copies, of))
        wanted = {int(n) for pair in zip(copies[group != first], of[group != first], strict=True) for n in pair}
        lines = {at: line for at, line in enumerate(sorter.lines()) if at in wanted} if wanted else {}
        for copy, known in sorted(zip(copies[group != first], of[group != first], strict=True)):
            one, other = lines[int(copy)], lines[int(known)]
            self._mistakes.add(
                self._named(one),
                DataError(
                    f"Cannot use {self._named(one)}: its class is {os.fsdecode(one.group)!r}, and the same picture "
                    f"lies in {os.fsdecode(other.group)!r}, as {self._named(other)}. Remove it from one of them."
                ),
            )
        self._mistakes.end()
        self.left_out = np.sort(copies)
        sizes = np.asarray(self.sizes) - np.bincount(group, minlength=len(self.sizes))
        self.sizes = array("q", sizes.tolist())
        _log.warning("%s pictures are copies of others and were left out.", f"{len(copies):,}")

    def _refuse_single(self, sorter: Sorter) -> None:
        if 1 not in self.sizes:
            return
        number, before = -1, b""
        for at, line in enumerate(sorter.lines()):
            number, new = number + (at == 0 or line.group != before), at == 0 or line.group != before
            before = line.group
            if new and self.sizes[number] == 1:
                name = os.fsdecode(line.group)
                self._mistakes.add(
                    repr(name),
                    DataError(
                        f"Cannot use the class {name!r}: it has a single example, {self._named(line)}, and a task "
                        f"needs one to learn from and another to ask for. {self._plan.more}"
                    ),
                )


def _write(new: Path, plan: Plan, sorter: Sorter, survey: _Survey, sample: _Sample) -> None:
    """All files of the index, ``index.json`` last."""
    writer = _Writer(new, digests=plan.decoded is not None)
    with writer.open:
        for line, number in survey.left(sorter.lines()):
            writer.add(line, number)
        writer.end()
    sizes = [size for number, size in enumerate(survey.sizes) if survey.kept(number)]
    if left := len(survey.sizes) - len(sizes):
        _log.warning("%s classes with fewer than %s examples were left out.", f"{left:,}", plan.least)
    if not sizes:
        raise DataError(f"Cannot use these examples: no class has {plan.least} of them. Lower --data.least.")
    _save(new / "starts", np.concatenate([[0], np.cumsum(sizes)]).astype("<i8").tobytes())
    _save(new / "roles", plan.roles(writer.names).tobytes())
    watched = "".join(f"{json.dumps(pair)}\n" for pair in plan.watched)
    _save(new / "watched", watched.encode(errors="surrogateescape"))
    files = [path for path in sorted(new.iterdir()) if not path.name.startswith("sorting-")]
    lengths = {path.name: path.stat().st_size for path in files}
    content = hashlib.sha256(json.dumps([writer.digest.hexdigest(), sample.digests]).encode()).hexdigest()
    about = {**FORMAT, "hash": content, "files": lengths, **plan.about()}
    _save(new / "index.json", json.dumps(about).encode())


class _Writer:
    """Writes what is said of each example and class, line by line.

    Args:
        folder: of the index.
        digests: whether they are written.
    """

    def __init__(self, folder: Path, *, digests: bool) -> None:
        self.open, self._folder = ExitStack(), folder
        self._classes, self._class_ends, self._keys, self._key_ends, self._places = (
            self._file(name) for name in ("classes", "classes.ends", "keys", "keys.ends", "places")
        )
        self._digests = self._file("digests") if digests else None
        self.names: list[str] = []
        self.digest = hashlib.sha256()
        self._group: int | None = None
        self._class_end = self._key_end = 0

    def _file(self, name: str) -> BinaryIO:
        return self.open.enter_context(open(self._folder / name, "wb", buffering=1 << 20))

    def add(self, line: Line, number: int) -> None:
        """The next example.

        Args:
            line: of it.
            number: of its class among all; changes where a class begins.
        """
        if number != self._group:
            self._group = number
            self.names.append(os.fsdecode(line.group))
            self._class_end += len(line.group)
            self._classes.write(line.group)
            self._class_ends.write(_numbers(self._class_end))
            self.digest.update(b"%b\0\n" % line.group)
        self._key_end += len(line.key)
        self._keys.write(line.key)
        self._key_ends.write(_numbers(self._key_end))
        self._places.write(_numbers(line.source, line.offset, line.size))
        self.digest.update(b"%b\0%d\n" % (line.key, line.size))
        if self._digests is not None:
            self._digests.write(array("Q", [0 if line.flat else line.digest]).tobytes())

    def end(self) -> None:
        """All are on the disk."""
        for file in (self._classes, self._class_ends, self._keys, self._key_ends, self._places, self._digests):
            if file is not None:
                sync(file)


def _numbers(*numbers: int) -> bytes:
    return array("q", numbers).tobytes()


def _save(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        for start in range(0, len(content), _PART):
            file.write(content[start : start + _PART])
        sync(file)
