"""Floor 7: settings of the whole process, which the command line may make and the library may not."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_large_blocks", "set_threads"]

# From glibc's malloc.h; see mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc refuses more (DEFAULT_MMAP_THRESHOLD_MAX on 64-bit systems)
_TRIM_THRESHOLD = 2**31 - 1  # bytes at the top of the heap before they are given back; an int


def keep_large_blocks() -> bool:
    """Let freed memory be used again instead of returned; whether that could be set.

    By default glibc gives each large block back to the system when it is freed and asks for another for the next
    tensor, whose pages are then faulted in one by one. Keeping them is faster.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc, such as musl
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD))


def set_threads(threads: int | None = None) -> None:
    """Let one operation on the CPU use so many threads; by default what OMP_NUM_THREADS says, else one.

    One, because networks of this size gain little from more, and lose much as soon as another process wants the cores:
    threads then wait for each other in busy loops.
    """
    if threads is None:
        given = os.environ.get("OMP_NUM_THREADS", "")
        threads = int(given) if given.isdigit() and int(given) > 0 else 1
    # Read by libraries that are loaded from here on, in this process and in those that it starts.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
