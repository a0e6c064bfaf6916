"""Floor 4: memory that does not suffice: how that shows, and that fewer tasks at once need less."""

from __future__ import annotations

import torch

__all__ = ["half", "is_out_of_memory"]

_WORDS = ("can't allocate memory", "not enough memory", "out of memory")
"""Of torch's allocator on Linux and macOS, on Windows, and of a GPU's."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had: Python's, a GPU's, or that of torch's allocator on a CPU.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("a shape does not fit"))
    (True, False)
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU's allocator has no error of its own; and one of another rank may have come as its words.
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in _WORDS)


def half(at_once: int | None, most: int) -> int | None:
    """How many tasks to compute together where so many were too many; None where it was one.

    Args:
        at_once: how many it was, None for all.
        most: how many there are.

    >>> half(None, 32), half(16, 5), half(3, 32), half(1, 32)
    (16, 3, 2, None)
    """
    now = min(at_once or most, most)
    return None if now < 2 else (now + 1) // 2
