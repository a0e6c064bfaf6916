"""Floor 1: TFRecord files, read and written without TensorFlow.

A record is its length (8 bytes, the lowest first), the masked CRC-32C of these 8, its content, and the masked CRC-32C
of that. Nothing else is in a file: where a record begins is known once those before it were walked over.
"""

from __future__ import annotations

import mmap
import struct
import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from quickstudy.data.metadataset.crc import checksums, crc32c, masked
from quickstudy.errors import DataError
from quickstudy.files import atomic_write
from quickstudy.keys import Integers

__all__ = ["FRAME", "Maps", "check_records", "content_of", "maps", "read_records", "record_starts", "write_records"]

_HEAD = struct.Struct("<QI")
_TAIL = struct.Struct("<I")
FRAME = _HEAD.size + _TAIL.size
"""Bytes of a record beside its content."""

_AT_ONCE = 1 << 22  # bytes that are checked, or written, together
_OPEN = 128  # files that are mapped at a time: a process may have some hundreds of open ones


def write_records(path: Path, contents: Iterable[bytes]) -> int:
    """Write a file, whole or not at all; byte for byte what TensorFlow writes of the same contents.

    Args:
        path: of the file; folders above it are made.
        contents: of the records.

    Returns:
        How many there are.

    Raises:
        StorageError: the disk refused; what was there before is unchanged.
    """
    count = 0

    def write(file: BinaryIO) -> None:
        nonlocal count
        for some in _batches(contents):
            for content, checksum in zip(some, checksums(some).tolist(), strict=True):
                length = struct.pack("<Q", len(content))
                file.write(length + _TAIL.pack(masked(crc32c(length))) + content + _TAIL.pack(masked(checksum)))
            count += len(some)

    atomic_write(path, write)
    return count


def record_starts(path: Path) -> Integers:
    """Where each record begins, and where the file ends: int64 ``[n + 1]``. Only lengths are read.

    Raises:
        DataError: the file is missing, cut off, damaged, or no TFRecord file.
    """
    starts = array("q", [0])
    with _mapped(path) as content:
        end = len(content)
        while starts[-1] < end:
            starts.append(starts[-1] + FRAME + _length(path, content, len(starts) - 1, starts[-1]))
    return np.frombuffer(starts, dtype=np.int64)


def read_records(path: Path) -> Iterator[bytes]:
    """The contents of a file, one after the other, each with a right checksum.

    Raises:
        DataError: as of :func:`record_starts`, or a checksum is wrong.
    """
    starts = record_starts(path)
    with _mapped(path) as content:
        for first, last in _runs(starts):
            pieces = [content[starts[n] + _HEAD.size : starts[n + 1] - _TAIL.size] for n in range(first, last)]
            for number, (piece, checksum) in enumerate(zip(pieces, checksums(pieces).tolist(), strict=True), first):
                (said,) = _TAIL.unpack_from(content, starts[number + 1] - _TAIL.size)
                if said != masked(checksum):
                    raise _wrong_content(f"record {number} of {path}, at byte {starts[number]}")
                yield piece


def check_records(path: Path) -> int:
    """Compare all checksums of a file; how many records it has.

    Raises:
        DataError: as of :func:`read_records`.
    """
    return sum(1 for _ in read_records(path))


def content_of(record: bytes, name: str) -> bytes:
    """The content of one record, whose checksums are right.

    Args:
        record: its bytes, frame and all.
        name: how errors call it.

    Raises:
        DataError: a checksum is wrong, or the bytes are no record.
    """
    if len(record) < FRAME:
        raise DataError(f"Cannot read {name}: it is cut off. Copy the file again.")
    length, checksum = _HEAD.unpack_from(record)
    if masked(crc32c(record[:8])) != checksum or length != len(record) - FRAME:
        raise DataError(f"Cannot read {name}: no record of this length begins there. Copy the file again.")
    content = record[_HEAD.size : -_TAIL.size]
    if masked(int(checksums([content])[0])) != _TAIL.unpack(record[-_TAIL.size :])[0]:
        raise _wrong_content(name)
    return content


class Maps:
    """Files that are read in parts, memory-mapped: the latest stay open. Several threads may ask at once.

    Args:
        most: how many are open at a time.
    """

    def __init__(self, most: int = _OPEN) -> None:
        self._most, self._open = most, OrderedDict[tuple[str, int], mmap.mmap]()
        self._lock = threading.Lock()

    def part(self, path: str, edition: int, offset: int, size: int) -> bytes:
        """Some bytes of a file; fewer where it ends before.

        Args:
            path: of the file.
            edition: tells it from others that were there before.
            offset: where they begin.
            size: how many there are.

        Raises:
            DataError: it cannot be opened.
        """
        key = path, edition
        with self._lock:
            found = self._open.pop(key, None)
            found = _mapped(Path(path)) if found is None else found
            self._open[key] = found
            if len(self._open) > self._most:
                self._open.popitem(last=False)  # closed when no thread reads it any more
        return found[offset : offset + size]


maps = Maps()
"""Of the whole process, so that the files of many data sets, and of all their roles, are not too many."""


def _mapped(path: Path) -> mmap.mmap:
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:  # nothing can be mapped of nothing
        raise DataError(f"Cannot use {path}: the file is empty (0 bytes). Copy it again.") from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Copy the file there.") from error


def _length(path: Path, content: mmap.mmap, number: int, start: int) -> int:
    """What the record that begins at ``start`` says of its length, checked."""
    where = f"record {number} of {path}, at byte {start}"
    left = len(content) - start
    head = content[start : start + _HEAD.size]
    if len(head) < _HEAD.size:
        raise DataError(f"Cannot read {where}: the file is cut off, {left} bytes follow. Copy it again.")
    length, checksum = _HEAD.unpack(head)
    if masked(crc32c(head[:8])) != checksum:
        if number:
            raise DataError(
                f"Cannot read {where}: the checksum of its length is wrong, so the file is damaged. Copy it again."
            )
        packed = " (it is compressed with gzip: unpack it)" if head[:2] == b"\x1f\x8b" else ""
        raise DataError(
            f"Cannot use {path}: it is no TFRecord file{packed}, as the checksum of its first length is wrong. "
            "Expected one that was written by TensorFlow or by `quickstudy convert`."
        )
    if length + FRAME > left:
        raise DataError(
            f"Cannot read {where}: it has {length} bytes, and the file is cut off after {left}. Copy it again."
        )
    return int(length)


def _wrong_content(name: str) -> DataError:
    return DataError(
        f"Cannot read {name}: the checksum of its content is wrong, so it is damaged. Copy the file again."
    )


def _runs(starts: Integers) -> Iterator[tuple[int, int]]:
    """First and last record, excluded, of pieces of a file that are looked at together."""
    first, count = 0, len(starts) - 1
    while first < count:
        last = int(np.searchsorted(starts, starts[first] + _AT_ONCE, side="right")) - 1
        last = min(max(last, first + 1), count)
        yield first, last
        first = last


def _batches(contents: Iterable[bytes]) -> Iterator[list[bytes]]:
    some: list[bytes] = []
    size = 0
    for content in contents:
        some.append(content)
        size += len(content)
        if size >= _AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some
