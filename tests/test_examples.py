"""Every file of examples/ runs from data to printed result."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def test_there_are_examples() -> None:
    assert "maml_from_scratch" in {path.stem for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path) -> None:
    """With few steps, which is its only argument; what it asserts (the same gradient as the library) holds at any."""
    # Trackers are not installed here: others stand in for them.
    paths = [str(Path(__file__).parent / "tracking" / "fakes"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, str(path), "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert "quickstudy" in done.stdout
    assert list(tmp_path.iterdir()) == []
