"""Floor 6: what a run says, and keeps in its folder, of how it was computed: strategies and memory."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from quickstudy import native
from quickstudy.allocator import Trimmer, large_blocks_kept
from quickstudy.files import atomic_write_bytes
from quickstudy.nets.strategy import StrategyRecord
from quickstudy.progress import Line
from quickstudy.train import RunFolder, Silent, StepEvent, ValidationEvent

__all__ = ["MemoryNotes", "StrategyNotes", "bounding_memory"]

_log = logging.getLogger(__name__)

_FAULT = 1e-6  # seconds that a page fault costs at least; benchmarks/allocator.py prints what it was measured to be
_SHARE = 0.05  # of a step's time that is worth a sentence
_OBSERVED = range(2, 6)  # the steps whose page faults are counted; the first one asks for memory in any case


class StrategyNotes(Silent):
    """A training callback: says each way in which networks were run as soon as it was, and writes it down.

    Args:
        record: what the training took down; see ``quickstudy.nets.strategy.recorded``.
        folder: of the run; ``environment.json`` gets lists ``strategies`` and ``compiled`` (how
            meta-steps were compiled, if they were), and whose ``kernels`` computed.
        line: where to say it; None: nowhere.
    """

    def __init__(self, record: StrategyRecord, folder: RunFolder, line: Line | None = None) -> None:
        self._record, self._folder, self._line = record, folder, line
        self._told: list[str] = []

    def step(self, event: StepEvent) -> None:
        """What the step used."""
        del event
        self._tell()

    def validation(self, event: ValidationEvent) -> None:
        """What the validation used."""
        del event
        self._tell()

    def _tell(self) -> None:
        told = [str(use) for use in self._record.uses] + [f"compiled: {how}" for how in self._record.steps]
        news = [text for text in told if text not in self._told]
        if not news:
            return
        if self._line is not None:
            for text in news:
                self._line.keep(text)
            if not self._told:
                self._line.keep(f"kernels: {native.about()}")
        self._told = told
        # A run that goes on, perhaps on another device, keeps what its first part used.
        about = self._environment()
        now = about | {
            "strategies": _added(about.get("strategies", []), self._record.uses),
            "compiled": _added(about.get("compiled", []), self._record.steps),
            "kernels": native.about(),
        }
        if now != about:
            atomic_write_bytes(self._folder.environment, json.dumps(now, indent=1).encode() + b"\n")

    def _environment(self) -> dict[str, Any]:
        try:
            about = json.loads(self._folder.environment.read_bytes())
        except (OSError, ValueError):  # deleted, or cut off when a disk was full: no reason to stop a training
            return {}
        return about if isinstance(about, dict) else {}


def _added(before: list[str], found: Sequence[object]) -> list[str]:
    told = [str(one).removeprefix("strategy: ") for one in found]
    return before + [text for text in told if text not in before]


class MemoryNotes(Silent):
    """A training callback: where freed memory is kept it bounds what piles up; else it says once what that would save.

    The page faults of a few steps are counted, so it speaks only where they cost something.

    Args:
        kept: whether freed memory is kept, None where that is not known; asked when the training begins.
        faults: page faults of this process so far.
        trim: called after each step where memory is kept.
    """

    on_every_rank = True  # each is a process with a memory of its own

    def __init__(
        self,
        kept: Callable[[], bool | None] = large_blocks_kept,
        faults: Callable[[], int] | None = None,
        trim: Callable[[], bool] | None = None,
    ) -> None:
        self._kept, self._count, self._trim = kept(), faults or _page_faults, trim or Trimmer()
        self._before: int | None = None
        self._fewest, self._share, self._seen = math.inf, math.inf, 0

    def step(self, event: StepEvent) -> None:
        """After each step."""
        if self._kept:
            self._trim()
        elif self._kept is False and self._seen < _OBSERVED.stop:
            self._observe(event)

    def validation(self, event: ValidationEvent) -> None:
        """Its page faults are not the next step's."""
        del event
        self._before = None

    def _observe(self, event: StepEvent) -> None:
        now = self._count()
        if self._before is not None:
            faults = now - self._before
            self._fewest = min(self._fewest, faults)
            self._share = min(self._share, _FAULT * faults / max(event.seconds, 1e-9))
        self._before = now
        self._seen += 1
        if self._seen == _OBSERVED.stop and _SHARE <= self._share < math.inf:
            _log.warning(
                "Each step of this training asks the system anew for %s pages of memory that were just given back. "
                "quickstudy.keep_large_blocks(), called once, keeps them for this process, which is faster.",
                f"{self._fewest:,}",
            )


def bounding_memory(
    told: Callable[[int, int], None] | None, trim: Callable[[], bool] | None = None
) -> Callable[[int, int], None] | None:
    """Who is told of a meta-test's progress, and bounds what piles up where freed memory is kept.

    Args:
        told: how many episodes are done, of how many; None: nobody.
        trim: called with each report.
    """
    if not large_blocks_kept():
        return told
    bound = trim or Trimmer()

    def tell(done: int, total: int) -> None:
        bound()
        if told is not None:
            told(done, total)

    return tell


def _page_faults() -> int:
    import resource  # where there is glibc, there is this

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
