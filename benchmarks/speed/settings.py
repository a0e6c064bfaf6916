"""Threads and memory of a worker, decided before torch is imported.

There are two columns: "equal", one thread, and freed memory kept, for everyone; and "as-run", quickstudy as its command
line runs (with these same settings), the others as they come.
"""

from __future__ import annotations

import os
from typing import Literal, TypeAlias, get_args

__all__ = ["COLUMNS", "Column", "environment"]

Column: TypeAlias = Literal["equal", "as-run"]
COLUMNS: tuple[Column, ...] = get_args(Column)

# What would decide threads or memory from outside.
_DECIDING = ("OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_", "MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")


def tuned(column: Column, *, ours: bool) -> bool:
    """Whether this worker gets one thread and keeps freed memory."""
    return column == "equal" or ours


def environment(column: Column, *, ours: bool) -> dict[str, str]:
    """The environment that a worker starts in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_DECIDING)}
    return kept | ({"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if tuned(column, ours=ours) else {})


def apply(column: Column, *, ours: bool) -> bool:
    """In the worker, before torch: keep freed memory where it is to be kept; whether that was done."""
    if not tuned(column, ours=ours):
        return False
    from quickstudy.allocator import keep_large_blocks

    return keep_large_blocks()
