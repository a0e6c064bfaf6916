"""Trainings that are killed at any moment, or find the disk full, and go on: to the last bit as if nothing had been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the trainings are forked")


def killed(folder: Path, trials: int, seed: int, limit: float, program: str = "killing") -> dict[str, int]:
    command = [sys.executable, "-m", f"tests.train.{program}", str(folder), str(trials), str(seed)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=limit, cwd=Path(__file__).parents[2])
    assert child.returncode == 0, child.stderr[-3000:]
    found: dict[str, int] = json.loads(child.stdout)
    return found


def disturbances(found: dict[str, int]) -> int:
    return sum(found.get(how, 0) for how in ("before", "after", "full", "time"))


def test_a_few_kills(tmp_path: Path) -> None:
    found = killed(tmp_path, 6, 3, 280)
    assert found["wrong"] == 0 and disturbances(found) >= 6, found
    assert not [name for name in found if name.startswith("status")], found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_hundreds_of_kills(seed: int, tmp_path: Path) -> None:
    found = killed(tmp_path, 100, 100 + seed, 3000)
    assert found["wrong"] == 0 and disturbances(found) >= 120, found
    assert not [name for name in found if name.startswith("status")], found


needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for ranks in /proc")


@needs_proc
@pytest.mark.e2e
def test_a_kill_among_ranks(tmp_path: Path) -> None:
    """One run: seed 340 draws a rank, after about half of the time that the run takes, and then who started them."""
    found = killed(tmp_path, 1, 340, 280, "killing_ranks")
    assert found["wrong"] == 0, found


@needs_proc
@pytest.mark.slow
@pytest.mark.timeout(6000)
def test_a_hundred_runs_of_ranks_that_are_killed(tmp_path: Path) -> None:
    found = killed(tmp_path, 100, 7, 5900, "killing_ranks")
    assert found["wrong"] == 0, found
    assert found["rank"] >= 40 and found["starter"] >= 40, found
