"""Floor 7: settings of the whole process, which the command line makes and the library leaves to its user."""

from __future__ import annotations

import os

__all__ = ["set_threads"]


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
