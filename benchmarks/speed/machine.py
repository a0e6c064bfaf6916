"""What this machine is and can do, on one thread: ``python -m benchmarks.speed.machine`` prints it as JSON.

The peaks are the best of several tries: a matrix product, a convolution in the layout that the processor's kernels
like best (which can be well above the matrix product), and a copy in memory.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed import settings
from benchmarks.speed.process import ROOT

__all__ = ["busy_share", "describe"]


def describe(python: str = sys.executable) -> dict[str, Any]:
    """Processor, memory, versions and peaks of this machine, found in a fresh process.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    environment = settings.environment("equal", ours=True) | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [python, "-m", "benchmarks.speed.machine"]
    found = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    about: dict[str, Any] = json.loads(found.stdout)
    return about


def busy_share(seconds: float = 1.0) -> float | None:
    """Which share of all cores other programs use while this one waits; None where the system does not say.

    Threads of peers wait for each other in busy loops, so that a busy machine makes them much slower than they are.
    """
    before = _jiffies()
    time.sleep(seconds)
    after = _jiffies()
    if before is None or after is None or after[1] == before[1]:
        return None
    return 1 - (after[0] - before[0]) / (after[1] - before[1])


def _jiffies() -> tuple[int, int] | None:
    """(idle, all) since the machine started."""
    try:
        every = [int(part) for part in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    return every[3] + every[4], sum(every)


def _best_rate(work: Callable[[], object], amount: float, seconds: float = 0.5) -> float:
    """``amount`` a second, at the fastest of many tries."""
    work()
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return amount / best


def _peaks() -> dict[str, float]:
    import torch
    from torch.nn import functional as F

    n = 1024
    a, b, out = (torch.rand(n, n) for _ in range(3))
    product = _best_rate(lambda: torch.mm(a, b, out=out), 2.0 * n**3)
    convolution = 0.0
    with torch.no_grad():
        for size, rows in ((28, 64), (14, 128), (14, 32)):
            x = torch.rand(rows, 64, size, size).to(memory_format=torch.channels_last)
            w = torch.rand(64, 64, 3, 3).to(memory_format=torch.channels_last)
            flop = 2.0 * 9 * 64 * 64 * size**2 * rows
            convolution = max(convolution, _best_rate(lambda x=x, w=w: F.conv2d(x, w, padding=1), flop))  # type: ignore[misc]
    source, target = torch.rand(1 << 26), torch.rand(1 << 26)
    moved = _best_rate(lambda: target.copy_(source), 2.0 * source.numel() * source.element_size())
    return {"matmul_flop_per_s": product, "conv_flop_per_s": convolution, "copy_bytes_per_s": moved}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    """Print it."""
    settings.apply("equal", ours=True)
    import torch

    about = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **_peaks(),
    }
    if hasattr(os, "sysconf"):
        about["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    print(json.dumps(about))


if __name__ == "__main__":
    main()
