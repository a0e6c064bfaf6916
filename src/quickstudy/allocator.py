"""Floor 0: the C library's allocator, where it is glibc's: freed memory is kept and used again.

By default glibc gives each large block back to the system when it is freed and asks for another for the next tensor,
whose pages are then faulted in one by one. A training step frees and asks for the same hundreds of megabytes each time.
``benchmarks/allocator.py`` measures what keeping them saves, and docs/performance.md says what was tried.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["Trimmer", "keep_large_blocks", "large_blocks_kept"]

# From glibc's malloc.h; see mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc refuses more (DEFAULT_MMAP_THRESHOLD_MAX on 64-bit systems)
_TRIM_THRESHOLD = 2**31 - 1  # bytes at the top of the heap before they are given back; an int
_PAGE_COUNTS = Path("/proc/self/statm")


class _Mallinfo(ctypes.Structure):
    """glibc's ``struct mallinfo``; ``hblks`` counts the blocks that were mapped singly."""

    _fields_ = [
        (name, ctypes.c_int)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def keep_large_blocks() -> bool:
    """Let the C library keep freed memory for the next tensor; whether that could be set.

    For the whole process, from here on. The command line does it; a program of one's own may, in its first lines or
    later. :class:`Trimmer` bounds what piles up where tasks are of many sizes, and ``quickstudy.train`` uses it.

    >>> import quickstudy
    >>> quickstudy.keep_large_blocks() in (True, False)
    True
    """
    library = _glibc()
    if library is None:
        return False
    # The count last, as it decides: no block is mapped singly. Setting a threshold also stops glibc from moving it.
    settings = (
        (_M_TRIM_THRESHOLD, _TRIM_THRESHOLD),
        (_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD),
        (_M_MMAP_MAX, 0),
    )
    return all([library.mallopt(name, value) for name, value in settings])


def large_blocks_kept() -> bool | None:
    """Whether freed large blocks are kept, found by asking for one; None where the allocator is not glibc's."""
    library = _glibc()
    if library is None:
        return None
    before = library.mallinfo().hblks
    block = library.malloc(2 * _LARGEST_MMAP_THRESHOLD)  # no page of it is touched, so it costs nothing
    singly = library.mallinfo().hblks > before
    library.free(block)
    return not singly


class Trimmer:
    """Gives freed memory back when far more has piled up than one step needs; to be called after each step.

    Blocks of many sizes, as of tasks with 5 to 60 classes, leave holes that the next ones do not fit into.

    What one step needs is taken to be the most by which memory rose in a single step; that, unlike what is resident,
    does not add up from step to step.

    Args:
        growth: how many times what is there anyway and one step needs may be resident.
        resident: bytes in memory now, or None where that is not known.
        give_back: returns free memory to the system.
    """

    def __init__(
        self,
        growth: float = 1.5,
        resident: Callable[[], int | None] | None = None,
        give_back: Callable[[], None] | None = None,
    ) -> None:
        self._growth, self._resident, self._give_back = growth, resident or _resident, give_back or _give_back
        self._base = self._before = self._resident() or 0
        self._step = 0

    def __call__(self) -> bool:
        """Look, and give back if it is too much; whether it was."""
        now = self._resident()
        if now is None:
            return False
        self._step = max(self._step, now - self._before)
        self._before = now
        if now <= self._growth * (self._base + self._step):
            return False
        self._give_back()
        self._base = self._before = self._resident() or 0
        return True


def _glibc() -> ctypes.CDLL | None:
    """The C library, if it is glibc's on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL(None)
        library.mallopt.argtypes, library.mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
        library.mallinfo.argtypes, library.mallinfo.restype = (), _Mallinfo
        library.malloc.argtypes, library.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
        library.free.argtypes, library.free.restype = (ctypes.c_void_p,), None
        library.malloc_trim.argtypes, library.malloc_trim.restype = (ctypes.c_size_t,), ctypes.c_int
    except (OSError, AttributeError):  # another C library, such as musl
        return None
    return library


def _give_back() -> None:
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _resident() -> int | None:
    try:
        pages = int(_PAGE_COUNTS.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * _page_size()


def _page_size() -> int:
    import resource  # not on Windows, which has no /proc either

    return resource.getpagesize()
