"""Floor 0: where files lie, and how they are written so that nothing is lost.

A file is written beside its place under another name, forced to the disk, and renamed: whoever looks sees
the old file or the new one, whole, whatever happens in between.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import platformdirs

from quickstudy.errors import StorageError

__all__ = [
    "atomic_write",
    "atomic_write_bytes",
    "cache_root",
    "check_writable",
    "data_root",
    "places",
    "replaced_folder",
    "storage_error",
    "sync",
    "sync_folder",
]

_FULL = {errno.ENOSPC, errno.EDQUOT}
# Answers of file systems that cannot fsync a folder; there is nothing more that one could do there.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EISDIR}


def atomic_write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file whole or not at all; folders above it are made.

    Args:
        path: the file to make or replace.
        write: puts the content into the open binary file that it is given; what it returns does not matter.

    Raises:
        StorageError: the disk refused; what was at ``path`` before is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            write(file)
            sync(file)
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise storage_error(path, error) from error
    except BaseException:  # Ctrl-C, or an error of ``write`` itself: leave no litter behind
        _remove(temporary)
        raise
    sync_folder(path)


def atomic_write_bytes(path: Path, data: bytes) -> None:
    """:func:`atomic_write` of ``data``."""
    atomic_write(path, lambda file: file.write(data))


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A new folder to be filled, which takes the place of ``folder`` when the block ends well.

    At any moment at least one whole folder stands, under its name or as one of :func:`places`.

    Raises:
        StorageError: the disk refused; what was at ``folder`` before is still there.
    """
    new, old = _beside(folder, "new"), _beside(folder, "old")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        yield new
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(folder, old)
        os.replace(new, folder)
        sync_folder(folder)
    except OSError as error:
        raise storage_error(folder, error) from error
    shutil.rmtree(old, ignore_errors=True)


def places(folder: Path) -> list[Path]:
    """Where :func:`replaced_folder` may have left ``folder`` when it was killed, the best first."""
    return [place for place in (folder, _beside(folder, "new"), _beside(folder, "old")) if place.exists()]


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def check_writable(folder: Path, what: str, advice: str) -> None:
    """Before work that takes minutes or hours: whether files can be made in a folder, as far as can be known.

    Args:
        folder: where they are to lie; of one that is not there yet the nearest above it counts.
        what: cannot be done otherwise, as in "Cannot save a result in x".
        advice: what to do, in sentences.

    Raises:
        StorageError: nothing can be written there.
    """
    place = folder
    while not place.is_dir() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK):
        raise StorageError(f"Cannot {what} in {place}: nothing can be written there. {advice}")


def storage_error(path: Path, error: OSError) -> StorageError:
    """The sentence for a write to ``path`` that failed before anything was replaced."""
    advice = "Free some space" if error.errno in _FULL else "Make sure that the folder can be written to"
    return StorageError(
        f"Cannot write {path}: {error.strerror or error}. What was there before is unchanged. {advice} and run again."
    )


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass  # the error that brought us here matters more than a file left over


def sync(file: BinaryIO) -> None:
    """Force what was written to an open file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Force the name of ``path``, after a rename, to the disk, where the system can.

    Raises:
        StorageError: the disk did not confirm; the renamed file is in place nevertheless.
    """
    if os.name == "nt":  # folders cannot be opened there
        return
    try:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno in _NO_FOLDER_SYNC:
            return
        raise StorageError(
            f"Cannot make sure of {path}: {error.strerror or error}. The new file is in place and complete, but the "
            "disk did not confirm it. Check the disk and run again."
        ) from error


def data_root(given: Path | None = None) -> Path:
    """The folder of data sets: ``given``, else QUICKSTUDY_DATA, else the platform's user data folder."""
    if given is not None:
        return Path(given).expanduser()
    return _from_environment("QUICKSTUDY_DATA") or Path(platformdirs.user_data_dir("quickstudy", appauthor=False))


def cache_root() -> Path:
    """The folder of what can be made again: QUICKSTUDY_CACHE, else the platform's user cache folder."""
    return _from_environment("QUICKSTUDY_CACHE") or Path(platformdirs.user_cache_dir("quickstudy", appauthor=False))


def _from_environment(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value).expanduser() if value else None
