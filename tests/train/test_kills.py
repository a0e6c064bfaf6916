"""Trainings that are killed at any moment, or find the disk full, and go on: to the last bit as if nothing had been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the trainings are forked")


def killed(folder: Path, trials: int, seed: int, limit: float) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.train.killing", str(folder), str(trials), str(seed)]
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
