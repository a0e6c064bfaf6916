"""`quickstudy evaluate --dirichlet`."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from quickstudy.data.glyphs import Glyphs
from quickstudy.data.store import ArrayStore
from tests.cli.conftest import Command

SMALL = ("--train.steps", "1", "--train.tasks-per-step", "1", "--train.validate-every", "0")
SIZES = ("--episodes.train.way", "5", "--episodes.train.query", "1", "--episodes.test.query", "1")


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise in place of the glyphs, which take seconds to draw: ten classes of six pictures."""
    noise = np.random.default_rng(0).integers(0, 256, (10, 6, 28, 28), dtype=np.uint8)
    monkeypatch.setattr(Glyphs, "store", ArrayStore.from_classes({str(n): part for n, part in enumerate(noise)}))
    monkeypatch.setattr(Glyphs, "_roles", {"train": [0, 1, 2, 3, 4], "test": [5, 6, 7, 8, 9]})


@pytest.mark.usefixtures("few_pictures")
def test_evaluate_with_dirichlet_queries(quickstudy: Command, tmp_path: Path) -> None:
    done = quickstudy("train", "glyphs-protonet-fast", *SMALL, *SIZES, "--runs", tmp_path)
    assert done.status == 0, done.err
    assert "Test it on classes that it has never seen: " in done.err
    run = done.out.strip()
    done = quickstudy("evaluate", run, "--episodes", "4", "--dirichlet", "2")
    assert done.status == 0, done.err
    assert "5-way 1-shot, Dirichlet(2) queries" in done.out
    assert "Dirichlet(2)" in (Path(run) / "report.html").read_text()
    done = quickstudy("evaluate", run, "--episodes", "4", "--dirichlet", "2", "--json")
    assert json.loads(done.out)["source"]["dirichlet"] == 2.0
    done = quickstudy("evaluate", run, "--episodes", "4", "--dirichlet", "0")
    assert re.search(r"5-way 1-shot\n", done.out)
    done = quickstudy("evaluate", run, "--episodes", "4", "--dirichlet", "2", "--query", "4")
    assert done.status == 2
    assert "all 5 x 4 queries of a task may be of one class" in done.err
