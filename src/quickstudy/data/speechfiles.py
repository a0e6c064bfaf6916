"""Floor 1: the published files of a data set, in an archive or unpacked."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import IO

from quickstudy.errors import DataError

__all__ = ["Files", "archived", "fingerprint", "published"]

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, OSError, EOFError, RuntimeError)
"""What reading a damaged archive raises."""


class Files:
    """Files by name, whatever they lie in.

    Args:
        fingerprint: changes whenever one of them does.
        find: name, as in the publication, with ``/`` -> what gives its bytes; called where that is asked for.
    """

    def __init__(self, fingerprint: str, find: Callable[[], Mapping[str, Callable[[], bytes]]]) -> None:
        self.fingerprint, self._find = fingerprint, find

    @cached_property
    def _readers(self) -> Mapping[str, Callable[[], bytes]]:
        return self._find()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._readers)

    def reader(self, name: str) -> bytes:
        """The bytes of one."""
        return self._readers[name]()


def published(data: str, folder: Path, archives: Sequence[str], inner: str, title: str) -> Files:
    """The files of the folder ``inner``: in an archive, or unpacked in ``folder``.

    Args:
        data: name of the data set, by which it is fetched.
        folder: of the data set, below the data root.
        archives: names of files that hold them, ``.zip`` (there perhaps in another archive) or ``.tar.gz``; the first
            that is there is taken.
        inner: where in them, whatever folders lie above.
        title: how errors call the data set.

    Raises:
        DataError: none of it is there, or an archive is damaged.
    """
    for path in (folder / name for name in archives):
        if path.is_file():
            return archived(path, inner)
    unpacked = folder / inner
    if unpacked.is_dir():
        paths = sorted(found for found in unpacked.rglob("*") if found.is_file())
        names = {found.relative_to(folder).as_posix(): found.read_bytes for found in paths}
        return Files(fingerprint(paths, folder), lambda: names)
    raise DataError(
        f"Cannot find {title}: there is neither {folder / archives[0]} nor the folder {unpacked}. `quickstudy fetch "
        f"{data}` brings it; or say with --data-root or QUICKSTUDY_DATA which folder holds {folder.name}/."
    )


def archived(path: Path, inner: str = "") -> Files:
    """The files of an archive, or those below its folder ``inner``; see :func:`published`."""
    return Files(_digest(path), partial(_unpacked, path, inner))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error
    return digest.hexdigest()


def _unpacked(path: Path, inner: str) -> dict[str, Callable[[], bytes]]:
    """Name from ``inner`` on -> its bytes, sorted."""
    try:
        if path.name.endswith(".tar.gz"):
            with open(path, "rb") as file:
                return _of_tar(file, inner)
        archive = zipfile.ZipFile(path)  # stays open: reading its list for each member would take most of the time
        found = {name: partial(_member, archive, path, whole) for name, whole in _below(archive.namelist(), inner)}
        packed = [name for name in archive.namelist() if inner and name.endswith(f"{inner}.tar.gz")]
        if found or not packed:
            return dict(sorted(found.items()))
        with archive.open(packed[0]) as file:
            return _of_tar(file, inner)
    except _BROKEN as error:
        raise DataError(f"Cannot read {path}: it is half downloaded or damaged ({error}). Copy it again.") from error


def _of_tar(file: IO[bytes], inner: str) -> dict[str, Callable[[], bytes]]:
    """Everything at once: to go back in a compressed stream is to begin anew."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=file, mode="r|gz") as archive:
        for member in archive:
            for name, _ in _below([member.name], inner):
                content = archive.extractfile(member)
                if content is not None:  # a folder has none
                    found[name] = content.read()
    return {name: partial(bytes, found[name]) for name in sorted(found)}


def _below(names: Iterable[str], inner: str) -> Iterator[tuple[str, str]]:
    """The files below ``inner``: names from there on, and whole."""
    for whole in names:
        name = whole
        if inner:
            _, there, rest = f"/{whole}".partition(f"/{inner}/")
            name = f"{inner}/{rest}" if there and rest else ""
        if name and not name.endswith("/"):
            yield name, whole


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> bytes:
    try:
        return archive.read(name)
    except _BROKEN as error:
        raise DataError(f"Cannot read {name} in {path}: it is damaged ({error}). Copy the file again.") from error


def fingerprint(paths: list[Path], folder: Path) -> str:
    """Of files by name, size and time: reading gigabytes at each start would take longer than most trainings."""
    digest = hashlib.sha256()
    for path, about in _stats(paths):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _stats(paths: list[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    for path in paths:
        try:
            yield path, path.stat()
        except OSError as error:
            raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error
