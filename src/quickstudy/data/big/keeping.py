"""Floor 1: indices in the cache folder, each built by one process while others wait for it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quickstudy.data.big.building import Plan, build, unfinished
from quickstudy.data.big.index import Index
from quickstudy.errors import DataError
from quickstudy.files import cache_root, storage_error

__all__ = ["open_or_build"]

_CODE = 1  # to be raised whenever the same files would give another index
_log = logging.getLogger(__name__)


def open_or_build(name: str, what: list[Any], plan: Callable[[], Plan], fresh: Callable[[Index], bool]) -> Index:
    """The index kept in the cache folder; where there is none, or a damaged or a stale one, it is built.

    Args:
        name: what it is of, such as ``"shards"``.
        what: everything that it depends on.
        plan: what to build.
        fresh: whether an index is still right.

    Raises:
        DataError: the examples cannot be used.
        StorageError: the disk refused.
    """
    digest = hashlib.sha256(json.dumps([_CODE, *what]).encode()).hexdigest()[:16]
    folder = cache_root() / "index" / f"{name}-{digest}"
    found = _opened(folder, fresh)
    if found is not None:
        return found
    with _alone(folder):
        found = _opened(folder, fresh)  # another process may have built it meanwhile
        if found is not None:
            return found
        for left in unfinished(folder):  # by a process that was killed: nobody else builds it now
            shutil.rmtree(left, ignore_errors=True)
        return build(folder, plan())


def _opened(folder: Path, fresh: Callable[[Index], bool]) -> Index | None:
    if not (folder / "index.json").exists():
        return None
    try:
        index = Index.open(folder)
    except DataError as error:
        _log.warning("%s It is made anew.", error)
        return None
    return index if fresh(index) else None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While others that want the same wait. The system lets go of the lock when its process ends, however it does."""
    path = folder.with_name(f".{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: two processes may do the same work
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _log.warning("Another process makes the index %s; waiting for it.", folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
