"""Every block of docs/toolkit.md runs as printed, and the page names all that the room exports."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from quickstudy import inner
from quickstudy.inner import solvers
from quickstudy.learners import MAML
from quickstudy.nets import MLP

PAGE = (Path(__file__).parents[2] / "docs" / "toolkit.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1][:40])
def test_block(block: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile(block, "toolkit.md", "exec"), {})


def test_one_block_needs_nothing_from_another() -> None:
    assert len(BLOCKS) >= 8
    done = subprocess.run([sys.executable, "-W", "error", "-c", BLOCKS[0]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_page_names_what_the_room_exports() -> None:
    """All but types, and helpers of the learners."""
    helpers = {"descend", "explained", "make_optimizer", "optimize", "plain_step"}
    tools = {name for name in inner.__all__ if callable(getattr(inner, name))} - helpers
    types = {"InnerOptimizer", "MatVec", "Params", "Rate", "Solved", "Solver", "StepLosses", "TaskLosses", "Update"}
    names = sorted(tools - types) + list(solvers.__all__)
    assert [name for name in names if not re.search(rf"\b{name}\b", PAGE)] == []


def test_the_learner_that_the_page_names_can_be_built() -> None:
    (call,) = re.findall(r"`(MAML\(.*?\))`", PAGE)
    assert eval(call, {"MAML": MAML, "net": MLP(4)}).loop.memory == "adjoint"
