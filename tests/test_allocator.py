"""glibc's allocator: kept blocks, what is given back, and the sentence for those who do not keep them."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
from itertools import chain

import pytest

from quickstudy.allocator import Trimmer, keep_large_blocks, large_blocks_kept
from quickstudy.notes import MemoryNotes, bounding_memory
from quickstudy.train import StepEvent

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_elsewhere_than_on_linux_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_large_blocks() is False
    assert large_blocks_kept() is None


def test_another_c_library_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert keep_large_blocks() is False
    assert large_blocks_kept() is None


ASKS = "from quickstudy.allocator import *; "


@on_linux
def test_the_answer_is_of_the_process() -> None:
    if run_python(ASKS + "print(large_blocks_kept())") == "None":
        pytest.skip("this C library is not glibc")
    assert run_python(ASKS + "print(large_blocks_kept())", MALLOC_MMAP_MAX_="0") == "True"
    assert (
        run_python(ASKS + "print(large_blocks_kept(), keep_large_blocks(), large_blocks_kept())") == "False True True"
    )
    late = ASKS + "import numpy; x = numpy.ones(1 << 24); print(keep_large_blocks()); del x; print(large_blocks_kept())"
    assert run_python(late) == "True\nTrue"


@on_linux
def test_blocks_above_glibc_s_threshold_are_used_again() -> None:
    """64 MiB, twice the size from which glibc maps each block singly; a fault is a page of it."""
    code = """
import resource, sys
from quickstudy.allocator import keep_large_blocks, large_blocks_kept
if large_blocks_kept() is None:
    print("not glibc"); raise SystemExit
if sys.argv[1:] == [] and KEEP: keep_large_blocks()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        blocks = [bytearray(b"x") * (64 << 20) for _ in range(2)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
    kept, usual = run_python(code.replace("KEEP", "True")), run_python(code.replace("KEEP", "False"))
    if "not glibc" in (kept, usual):
        pytest.skip("this C library is not glibc")
    assert int(kept) < 200
    assert int(usual) > 4000


def test_what_piles_up_is_given_back_when_it_is_too_much() -> None:
    """Read when it is made, after each step, and after giving back."""
    given: list[int] = []
    sizes = chain(
        # 20 are there, the first step needs 80: up to 150 may be resident.
        (20, 100, 120, 149, 151),
        # Given back, 40 are left: up to 180.
        (40, 120, 179, 180, 200),
        # Given back, 60 are left, and a step needs 100: up to 240.
        (60, 160, 239, 241),
        (50,),
    )
    trim = Trimmer(1.5, lambda: next(sizes), lambda: given.append(1))
    found = [trim() for _ in range(11)]
    assert found == [False, False, False, True, False, False, False, True, False, False, True]
    assert len(given) == 3
    assert next(sizes, None) is None


def test_where_memory_is_not_known_nothing_is_given_back() -> None:
    assert not Trimmer(1.5, lambda: None, lambda: pytest.fail("it was"))()


@on_linux
def test_giving_back_frees_memory() -> None:
    code = """
from quickstudy.allocator import *
from quickstudy.allocator import _give_back, _resident
if not keep_large_blocks(): print("not glibc"); raise SystemExit
blocks = [bytearray(b"x") * (16 << 20) for _ in range(8)]
stays = bytearray(b"x") * (16 << 20)  # above them, so that they are no free top of the heap
del blocks
before = _resident(); _give_back(); print((before - _resident()) >> 20)
"""
    freed = run_python(code)
    if freed == "not glibc":
        pytest.skip("this C library is not glibc")
    assert int(freed) >= 8 * 16 - 1


def observe(faults: list[int], kept: bool | None, seconds: float = 1.0) -> int:
    """How often the trim ran in so many steps."""
    trims: list[int] = []
    counts = iter(faults)

    def trim() -> bool:
        trims.append(1)
        return True

    notes = MemoryNotes(lambda: kept, lambda: next(counts), trim)
    for step in range(1, len(faults) + 1):
        notes.step(StepEvent(step, 100, {}, seconds))
    return len(trims)


def test_it_is_said_once_what_keeping_memory_would_save(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert observe([300_000 * n for n in range(12)], kept=False) == 0
    assert caplog.messages == [
        "Each step of this training asks the system anew for 300,000 pages of memory that were just given back. "
        "quickstudy.keep_large_blocks(), called once, keeps them for this process, which is faster."
    ]


@pytest.mark.parametrize(
    ("faults", "kept"),
    [
        ([100 * n for n in range(12)], False),  # too few to matter
        ([300_000, *[600_000] * 11], False),  # the first steps alone
        ([0, 0, 0, 0, 0, *[300_000] * 7], False),  # one step alone
        ([300_000 * n for n in range(12)], None),  # not glibc
        ([300_000 * n for n in range(5)], False),  # too short a run to tell
    ],
)
def test_it_is_not_said_for_nothing(faults: list[int], kept: bool | None, caplog: pytest.LogCaptureFixture) -> None:
    assert observe(faults, kept) == 0
    assert caplog.messages == []


def test_kept_memory_is_bounded_after_each_step() -> None:
    assert observe([0] * 7, kept=True) == 7


def test_a_meta_test_is_bounded_where_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    trims: list[int] = []

    def trim() -> bool:
        trims.append(1)
        return True

    def hear(done: int, total: int) -> None:
        told.append((done, total))

    monkeypatch.setattr("quickstudy.notes.large_blocks_kept", lambda: False)
    assert bounding_memory(hear, trim) is hear
    monkeypatch.setattr("quickstudy.notes.large_blocks_kept", lambda: True)
    for listener in (hear, None):
        bounding = bounding_memory(listener, trim)
        assert bounding is not None
        bounding(3, 9)
    assert (told, len(trims)) == ([(3, 9)], 2)
