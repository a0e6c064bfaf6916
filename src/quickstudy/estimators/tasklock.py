"""Floor 6: one writer at a time: whoever changes a saved task reads it, learns, and writes it back undisturbed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quickstudy.errors import StorageError
from quickstudy.files import storage_error

__all__ = ["held"]

_PATIENCE = 60.0  # seconds
_LOOK = 0.05  # seconds between two tries


@contextmanager
def held(folder: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """The task in a folder is ours to change until the block ends, however it ends.

    The lock is the system's, on a hidden file beside the task: it goes with the process that has it. Where the system
    has no such locks (Windows) nothing is held.

    Args:
        folder: of the task.
        patience: seconds to wait for another process.

    Raises:
        StorageError: another process keeps it for longer than that, or nothing can be written there.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    place = folder.resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(place.with_name(f".{place.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise storage_error(folder, error) from error
    try:
        _take(fcntl, file, folder, patience)
        yield
    finally:
        os.close(file)


def _take(fcntl: Any, file: int, folder: Path, patience: float) -> None:
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise StorageError(
                    f"Cannot change {folder}: another process has been changing it for {patience:g} seconds. Nothing "
                    "was changed. Wait for it, and run again."
                ) from error
            time.sleep(_LOOK)
        else:
            return
