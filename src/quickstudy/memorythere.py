"""Floor 6: how much memory is free: of a GPU, of this machine, of its container, of this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

__all__ = ["memory_there"]

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def memory_there(device: torch.device) -> int | None:
    """Free memory where it is computed, in bytes; None: not known.

    On a CPU it is the least of what the machine has free, what the control groups of this process (a container, a
    batch system's job) and all above them allow, and what ``ulimit -v`` leaves.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [free for free in (_machine(), *_groups(), _process()) if free is not None]
    return max(0, min(known)) if known else None


def _machine() -> int | None:
    free = _kilobytes(_PROC / "meminfo", "MemAvailable:")
    if free is None and hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return free


def _groups() -> Iterator[int]:
    """What each control group above this process leaves, of both versions."""
    try:
        lines = (_PROC / "self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, kinds, path = line.split(":", 2)
        if number == "0":
            root, names = _CGROUP, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            root, names = _CGROUP / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        here = root / path.lstrip("/")
        for group in (here, *here.parents):
            if group != root and root not in group.parents:
                break
            limit, used = _number(group / names[0]), _number(group / names[1])
            if limit is not None and used is not None:
                # Files that were read lie in memory as long as nobody else wants it.
                yield limit - used + (_field(group / "memory.stat", names[2]) or 0)


def _process() -> int | None:
    """What ``ulimit -v`` leaves of the address space."""
    if sys.platform == "win32":
        return None
    import resource

    limit, used = resource.getrlimit(resource.RLIMIT_AS)[0], _kilobytes(_PROC / "self/status", "VmSize:")
    return None if limit == resource.RLIM_INFINITY or used is None else limit - used


def _field(path: Path, key: str) -> int | None:
    """The number that stands behind a word."""
    try:
        line = next(line for line in path.read_text(encoding="utf-8").splitlines() if line.split()[:1] == [key])
        return int(line.split()[1])
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _kilobytes(path: Path, key: str) -> int | None:
    found = _field(path, key)
    return None if found is None else 1024 * found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such file, or "max"
        return None
