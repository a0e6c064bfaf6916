"""Floor 1: the published files of a data set, in a zip file or unpacked."""

from __future__ import annotations

import functools
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from quickstudy.errors import DataError

__all__ = ["Files", "fingerprint", "published"]


@dataclass(frozen=True, eq=False)
class Files:
    """Files by name, whatever they lie in.

    Args:
        names: as in the publication, with ``/``.
        reader: gives the bytes of one.
        fingerprint: changes whenever one of them does.
    """

    names: tuple[str, ...]
    reader: Callable[[str], bytes]
    fingerprint: str


def published(folder: Path, zipped: str, inner: str, title: str, page: str = "speech") -> Files:
    """The files of ``folder/zipped``, or of the unpacked folder ``folder/inner``.

    Args:
        folder: of the data set, below the data root.
        zipped: name of the zip file.
        inner: the folder that it holds.
        title: how errors call the data set.
        page: of ``docs/domains``, which says where it is published.

    Raises:
        DataError: neither is there, or the zip file is damaged.
    """
    path, unpacked = folder / zipped, folder / inner
    if path.is_file():
        return _of_zip(path)
    if unpacked.is_dir():
        paths = sorted(found for found in unpacked.rglob("*") if found.is_file())
        names = {found.relative_to(folder).as_posix(): found for found in paths}
        return Files(tuple(names), lambda name: names[name].read_bytes(), fingerprint(paths, folder))
    raise DataError(
        f"Cannot find {title}: there is neither {path} nor the folder {unpacked}. Say with --data-root or "
        f"QUICKSTUDY_DATA which folder holds {folder.name}/; where it is published stands in docs/domains/{page}.md."
    )


def _of_zip(path: Path) -> Files:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with zipfile.ZipFile(path) as archive:
            names = tuple(sorted(name for name in archive.namelist() if not name.endswith("/")))
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"Cannot read {path}: it is half downloaded or damaged ({error}). Copy it again.") from error
    return Files(names, partial(_member, path, digest), digest)


@functools.lru_cache(maxsize=2)
def _archive(path: Path, digest: str) -> zipfile.ZipFile:
    """An open zip file: reading its list of names for each of them would take most of the time."""
    del digest  # another file of this path is another archive
    return zipfile.ZipFile(path)


def _member(path: Path, digest: str, name: str) -> bytes:
    try:
        return _archive(path, digest).read(name)
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError) as error:
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
