"""A training needs no more memory in its last steps than in its first: tensors that live, and resident memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHORT, LONG = 100, 10_000
MARGIN = 2048  # kilobytes; one graph of the smallest learner here that is kept in each step makes it 20 times as much

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to read memory from")


def trained(steps: int, *rows: str) -> list[tuple[list[int], int]]:
    """For each: live tensors at ten moments, and by how many kilobytes memory grew after the first third."""
    command = [sys.executable, str(Path(__file__).with_name("growing.py")), str(steps), *rows]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return [(tensors, kilobytes[-1] - kilobytes[3]) for tensors, kilobytes in json.loads(done.stdout)]


def test_some_hundred_steps_leave_nothing_behind_and_what_is_kept_of_each_is_seen() -> None:
    """A leak of tensors shows by their number, one of graphs, which Python does not know, by their memory."""
    clean, with_tensors, with_graphs = trained(SHORT, "protonet-batchnorm", "protonet:tensors", "maml-tasknorm:graphs")
    assert len(set(clean[0])) == 1 and clean[1] < MARGIN
    assert with_tensors[0][-1] - with_tensors[0][0] == 0.9 * SHORT and with_graphs[1] > 2 * MARGIN


@pytest.mark.slow
@pytest.mark.parametrize(
    "row",
    [
        "maml-tasknorm",
        "maml-checkpointed",
        "maml-adjoint",
        "maml++",
        "cavia-conv4",
        "imaml",
        "reptile",
        "protonet-batchnorm",
        "matching",
        "cnp",
    ],
)
def test_ten_thousand_steps_leave_nothing_behind(row: str) -> None:
    ((tensors, kilobytes),) = trained(LONG, row)
    assert len(set(tensors)) == 1 and kilobytes < MARGIN
