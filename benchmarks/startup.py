"""How long quickstudy takes to be there, in fresh processes: medians of seconds of the clock, and of the processor.

    python benchmarks/startup.py [--data-root FOLDER] [--repeats 7]

Promised: ``quickstudy --help`` in 0.5 s; the package and the first use of its learners in 0.3 s beyond torch's own
import; the Omniglot cache opened in 0.2 s. A first round warms the disk's cache and, where there is none yet, builds
Omniglot's; it does not count. Leaves with status 1 if a promise is not kept, or something cannot be measured.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

TIMED = """
import time
clock, processor = time.perf_counter(), time.process_time()
{work}
print(time.perf_counter() - clock, time.process_time() - processor)
"""


@dataclass(frozen=True)
class Case:
    """One thing to start.

    Args:
        name: for the table.
        arguments: of Python.
        inside: whether the process times itself (prints seconds and processor seconds) or is timed whole.
        limit: seconds promised, or None.
    """

    name: str
    arguments: tuple[str, ...]
    inside: bool
    limit: float | None = None


def inside(name: str, before: str, work: str, limit: float | None = None) -> Case:
    """A case that is timed from within, after ``before``."""
    return Case(name, ("-c", before + "\n" + TIMED.format(work=work)), True, limit)


def cases(data_root: Path | None) -> list[Case]:
    """What is measured."""
    root = f"Path({str(data_root)!r})" if data_root else "None"
    omniglot = f"from pathlib import Path; from quickstudy.data.omniglot import Omniglot; data = Omniglot({root})"
    first_use = "import quickstudy; quickstudy.learners.MAML; quickstudy.nets.Conv4"
    draw = "data.tasks('train', way=5, shot=1, query=15, seed=0).episodes(range(1))"
    return [
        Case("python -c pass", ("-c", "pass"), False),
        Case("quickstudy --help", ("-m", "quickstudy", "--help"), False, 0.5),
        inside("import torch", "", "import torch"),
        inside("import quickstudy, after torch", "import torch", "import quickstudy", 0.3),
        inside("quickstudy.learners and .nets, after torch", "import torch", first_use, 0.3),
        inside("quickstudy.api, after those", f"import torch; {first_use}", "import quickstudy.api"),
        inside("Omniglot's cache opened", omniglot, "data.store", 0.2),
        inside("Omniglot's first task drawn, opened", omniglot + "; data.store", draw),
    ]


class NotMeasured(Exception):
    """A case could not be started; in the words of its last line."""


def measure(case: Case) -> tuple[float, float]:
    """Seconds of the clock and of the processor, in a process of its own.

    Raises:
        NotMeasured: the process failed.
    """
    spent, started = children(), time.perf_counter()
    done = subprocess.run([sys.executable, *case.arguments], capture_output=True, text=True, check=False)
    took = time.perf_counter() - started
    if done.returncode:
        raise NotMeasured(next(reversed(done.stderr.strip().splitlines()), f"exit status {done.returncode}"))
    if not case.inside:
        return took, children() - spent
    clock, processor = done.stdout.split()[-2:]
    return float(clock), float(processor)


def children() -> float:
    """Processor seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    if given.repeats < 1:
        parser.error(f"--repeats: expected a whole number of at least 1, received {given.repeats}")
    late = 0
    print(
        f"{'median of ' + str(given.repeats) + ' fresh processes':<46}{'seconds':>9}{'processor':>11}{'promised':>10}"
    )
    for case in cases(given.data_root):
        try:
            found = [measure(case) for _ in range(given.repeats + 1)][1:]
        except NotMeasured as why:
            print(f"{case.name}: not measured: {why}")
            late += 1
            continue
        clock, processor = (statistics.median(times) for times in zip(*found, strict=True))
        missed = case.limit is not None and clock > case.limit
        late += missed
        promise = "" if case.limit is None else f"{case.limit:.1f}"
        print(f"{case.name:<46}{clock:>9.3f}{processor:>11.3f}{promise:>10}{'  MISSED' if missed else ''}")
    sys.exit(bool(late))


if __name__ == "__main__":
    main()
