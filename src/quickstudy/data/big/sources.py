"""Floor 1: files to be read in parts, on this machine or wherever fsspec reaches.

An address with ``://`` in it is fsspec's (``s3://bucket/train-{000..999}.tar``, ``memory://``, ``file://``); anything
else is a path. Both may be a file, a folder, or a pattern with ``*``, ``?`` and ``{000..127}``.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from quickstudy.errors import DataError, InputError

__all__ = ["Source", "find", "is_remote", "reached"]

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_STAMPS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "Last-Modified", "updated", "created")
"""What file systems call that which changes with a file, the most telling first."""


def is_remote(address: str) -> bool:
    """Whether it is for fsspec to read.

    >>> is_remote("s3://bucket/a.tar"), is_remote("/data/a.tar")
    (True, False)
    """
    return "://" in address


@dataclass(frozen=True)
class Source:
    """A file.

    Args:
        address: its path, or its address for fsspec.
        size: in bytes.
        stamp: changes when the file does, as far as its file system tells.
    """

    address: str
    size: int
    stamp: str

    def open(self) -> IO[bytes]:
        """The file, from its beginning on; can be sought in.

        Raises:
            DataError: it cannot be reached.
        """
        with reached(self.address):
            if not is_remote(self.address):
                return open(self.address, "rb")
            system, path = _system(self.address)
            return cast(IO[bytes], system.open(path, "rb"))

    def part(self, offset: int, size: int) -> bytes:
        """Some of its bytes; fewer where it ends before. Several threads may ask at once.

        Raises:
            DataError: it cannot be reached.
        """
        with reached(self.address):
            if not is_remote(self.address):
                with open(self.address, "rb") as file:
                    file.seek(offset)
                    return file.read(size)
            system, path = _system(self.address)
            found = bytes(system.cat_file(path, start=offset, end=offset + size))
        if len(found) > size:  # the whole file, whatever was asked for
            raise _whole_alone(self.address)
        return found


@contextmanager
def reached(address: str) -> Iterator[None]:
    """What goes wrong inside is a sentence: with a file system of others it may be anything.

    Raises:
        DataError: the file cannot be reached.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        if not is_remote(address):
            raise DataError(f"Cannot read {address}: {error.strerror or error}.") from error
        raise _unreached(address, error) from error
    except Exception as error:  # whatever the file system's package raises
        if not is_remote(address):
            raise
        raise _unreached(address, error) from error


def find(address: str, suffix: str, what: str) -> list[Source]:
    """The files that an address means, in the order of their names.

    Args:
        address: a file, a folder (files in it and below), or a pattern.
        suffix: of the files of a folder, such as ``".tar"``.
        what: how errors call them.

    Raises:
        DataError: there are none, one is empty, or they cannot be reached.
    """
    found: list[Source] = []
    for one in _spread(address):
        with reached(one):
            found += _remote(one, suffix) if is_remote(one) else _local(one, suffix)
    if not found:
        raise DataError(
            f"Cannot find {what} at {address}: expected a file, a folder with files called *{suffix}, or a pattern "
            f"such as train-*{suffix} or train-{{000..127}}{suffix}."
        )
    empty = [source.address for source in found if source.size == 0]
    if empty:
        raise DataError(f"Cannot read {empty[0]}: the file is empty (0 bytes). Copy it again or leave it out.")
    return sorted(found, key=lambda source: source.address)


def _spread(address: str) -> list[str]:
    """Each address that ``{000..127}`` stands for."""
    match = _BRACES.search(address)
    if match is None:
        return [address]
    first, last = match.groups()
    numbers = [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
    return [one for n in numbers for one in _spread(address[: match.start()] + n + address[match.end() :])]


def _local(address: str, suffix: str) -> list[Source]:
    path = Path(address).expanduser()
    if path.is_dir():
        paths = [Path(where) / name for where, _, names in os.walk(path, followlinks=True) for name in names]
        paths = [one for one in paths if one.name.endswith(suffix) and not one.name.startswith(".")]
    elif glob.has_magic(address) and not path.exists():
        paths = [Path(one) for one in glob.glob(str(path), recursive=True) if os.path.isfile(one)]
    else:
        paths = [path]
    stats = [(one, one.stat()) for one in paths]  # of one that is not there the error says so
    return [Source(str(one), about.st_size, str(about.st_mtime_ns)) for one, about in stats]


def _remote(address: str, suffix: str) -> list[Source]:
    system, path = _system(address)
    if glob.has_magic(path):
        found = system.glob(path, detail=True)
        if not found and _is_web(system):  # it keeps quiet about a server that cannot be reached
            system.info(re.split(r"[*?\[]", path)[0].rpartition("/")[0] + "/")
    elif system.isdir(path):
        found = {one: about for one, about in system.find(path, detail=True).items() if one.endswith(suffix)}
    else:
        found = {path: system.info(path)}
    files = {one: about for one, about in found.items() if about.get("type", "file") == "file"}
    for one, about in files.items():
        if about.get("size") is None:  # the pages that list files on the web do not say
            about.update(system.info(one))
        if about.get("size") is None:
            raise DataError(
                f"Cannot read {one}: its server does not say how large it is, so that no part of it can be asked for. "
                "Copy it to this machine."
            )
    if files and _is_web(system):
        first = next(iter(files))
        _check_parts(system, first, int(files[first]["size"]))
    return [
        Source(system.unstrip_protocol(one), int(about["size"]), _stamp(about)) for one, about in sorted(files.items())
    ]


def _is_web(system: Any) -> bool:
    return "https" in system.protocol


def _check_parts(system: Any, path: str, size: int) -> None:
    """A server of the web gives out parts of a file; some know whole files alone, and say so when they are asked.

    Raises:
        DataError: this one does not.
    """
    if size < 2:
        return
    try:
        with system.open(path, "rb", block_size=1) as file:
            file.seek(1)
            file.read(1)
    except ValueError as error:  # of fsspec, before anything is sent
        raise _whole_alone(path) from error


def _whole_alone(address: str) -> DataError:
    return DataError(
        f"Cannot read parts of {address}: its server sends whole files alone (it ignores HTTP's Range header). Copy "
        "the files to this machine, or have them given out by a server that knows ranges, such as nginx, Apache or S3."
    )


def _stamp(about: dict[str, Any]) -> str:
    return next((str(about[key]) for key in _STAMPS if about.get(key) is not None), "")


def _system(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path there."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise InputError(
            f"Cannot read {address}: that takes fsspec. Install it with: pip install 'quickstudy[remote]'."
        ) from error
    try:
        system, path = url_to_fs(address)
    except (ImportError, ValueError) as error:  # another package is missing, or there is no such protocol
        raise InputError(
            f"Cannot read {address}: {str(error).rstrip('.')}. Install what reads such addresses (s3fs for s3://, "
            "gcsfs for gs://, aiohttp for https://), or copy the files to this machine."
        ) from error
    return system, path


def _unreached(address: str, error: Exception) -> DataError:
    said = f"{type(error).__name__}: {error}".rstrip(". :")
    if (
        error.__cause__ is not None and str(error.__cause__) not in said
    ):  # such as a certificate that nobody vouches for
        said += f" ({error.__cause__})"
    return DataError(
        f"Cannot reach {address}: {said}. Check the address, the network and your rights there, or copy the files to "
        "this machine."
    )
