"""What this machine is and can do, on one thread: ``python -m benchmarks.speed.machine`` prints it as JSON.

    describe          processor, versions, peaks: what a row was measured on
    source            the commit that a row was measured with
    compile_seconds   what the C files of quickstudy take, once on a machine

The peaks are the best of several tries: a matrix product, a convolution in the layout that the processor's kernels
like best (which can be well above the matrix product), and a copy in memory.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed import settings
from benchmarks.speed.process import ROOT

__all__ = ["busy_share", "compile_seconds", "describe", "source"]

# What the figures depend on; results are written while rows are measured.
_MEASURED = ("src", "benchmarks", "tests/peers", ":!benchmarks/results", ":!benchmarks/*.md")


def describe(python: str = sys.executable) -> dict[str, Any]:
    """Processor, memory, versions and peaks of this machine, found in a fresh process.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    about: dict[str, Any] = _in_a_process(python, "describe")
    return about


def compile_seconds(python: str = sys.executable) -> float:
    """How long it takes to compile all C files of quickstudy, into an empty cache.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    with tempfile.TemporaryDirectory() as empty:
        return float(_in_a_process(python, "compile", QUICKSTUDY_CACHE=empty))


def _in_a_process(python: str, do: str, **more: str) -> Any:
    environment = settings.environment("equal", ours=True) | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", **more}
    command = [python, "-m", "benchmarks.speed.machine", do]
    found = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return json.loads(found.stdout)


def source() -> dict[str, Any]:
    """The commit that stands here, and whether what is measured was changed since; None where git does not say."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(_git("status", "--porcelain", "--", *_MEASURED))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "changed": None}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


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


def processor(text: str) -> dict[str, Any]:
    """Name, family, model, stepping and the fastest core's megahertz, as far as they are said.

    Args:
        text: of /proc/cpuinfo.
    """
    pairs = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in text.splitlines())]
    first = dict(reversed(pairs))
    known = {"processor": "model name", "family": "cpu family", "model": "model", "stepping": "stepping"}
    found: dict[str, Any] = {ours: first[theirs] for ours, theirs in known.items() if theirs in first}
    speeds = [float(value) for name, value in pairs if name == "cpu MHz"]
    return found | ({"mhz": max(speeds)} if speeds else {})


def _compile() -> float:
    """In a process with an empty cache."""
    from quickstudy import native

    started = time.perf_counter()
    for file in sorted((ROOT / "src" / "quickstudy").rglob("*.c")):
        native.library(file)
    return time.perf_counter() - started


def _describe() -> dict[str, Any]:
    import torch

    peaks = _peaks()
    cpuinfo = Path("/proc/cpuinfo")  # read while the processor is awake
    about = {
        "processor": platform.processor() or platform.machine(),
        **(processor(cpuinfo.read_text()) if cpuinfo.exists() else {}),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **peaks,
    }
    if hasattr(os, "sysconf"):
        about["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return about


def main() -> None:
    """Print what was asked for."""
    settings.apply("equal", ours=True)
    print(json.dumps(_compile() if sys.argv[1:] == ["compile"] else _describe()))


if __name__ == "__main__":
    main()
