"""Floor 1: rows of a table of pictures, one after the other."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quickstudy import native
from quickstudy.keys import Integers

__all__ = ["gather"]


def gather(table: NDArray[np.uint8], rows: Integers) -> NDArray[np.uint8]:
    """``table[rows]``, a copy; in C where it can be had, which asks for pictures some rows before they are copied.

    Args:
        table: uint8 ``[n, bytes]``; contiguous, for C to read it.
        rows: ``[any]``, each from 0 to n - 1.

    Returns:
        uint8 ``[any, bytes]``.

    Raises:
        IndexError: there is no such row.
    """
    readable = table.dtype == np.uint8 and table.flags.c_contiguous
    kernels = _compiled() if readable and native.asked() != "torch" else None
    if kernels is None:
        return table.take(rows, axis=0)
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    out = np.empty((len(rows), table.shape[1]), dtype=np.uint8)
    shape = table.shape
    if kernels.gather(table.ctypes.data, *shape, rows.ctypes.data, len(rows), out.ctypes.data) < len(rows):
        raise IndexError(f"Rows {rows.min()} to {rows.max()} are asked for of a table that has {len(table)}.")
    return out


@functools.cache
def _compiled() -> ctypes.CDLL | None:
    found = native.library(Path(__file__).with_name("gather.c"))
    if found is not None:
        number, array = ctypes.c_int64, ctypes.c_void_p
        found.gather.argtypes, found.gather.restype = (array, number, number, array, number, array), number
    return found
