"""Resident memory of this process, in bytes (Linux; elsewhere the peak of the whole process)."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

__all__ = ["peak_resident", "reset_peak", "resident"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Let the peak begin anew at what is resident now, where the system can."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        pass


def resident() -> int:
    """What is resident now."""
    return _of_status("VmRSS")


def peak_resident() -> int:
    """The most that was resident since the last reset."""
    return _of_status("VmHWM")


def _of_status(name: str) -> int:
    try:
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        return int(lines[name].split()[0]) * 1024
    except (OSError, KeyError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
