"""Every learner's fast recipe, trained for real, against the floor and the verdict on its page (`make test-all`)."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from quickstudy.evaluate import Result
from quickstudy.recipes import load_recipe

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
RESULTS: dict[str, Any] = json.loads((REPOSITORY / "docs/learners/results.json").read_text(encoding="utf-8"))
MARGIN = 0.02
"""What another processor's rounding may cost; the recorded figure minus this is the floor."""


@cache
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("learners", REPOSITORY / "benchmarks/learners.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_a_fast_recipe_reaches_what_its_page_says(name: str, runs: Path, data_root: Path) -> None:
    """The mean within a margin, and better than each baseline in pairs where the page says so."""
    entry, run = RESULTS[name], benchmark()
    found, _ = run.tested(load_recipe(name), runs, entry["episodes"], data_root)
    slack = MARGIN if found.metric == "accuracy" else -MARGIN - 0.1 * entry["mean"]
    assert (
        (found.mean >= entry["mean"] - slack) if found.metric == "accuracy" else (found.mean <= entry["mean"] - slack)
    )
    for which, said in entry["versus"].items():
        if said["mean"] - said["ci95"] > 0:
            other: Result = rival(name, which, runs, entry["episodes"], data_root)
            measured = run.difference(found, other)
            assert measured["mean"] - measured["ci95"] > 0, which


def rival(name: str, which: str, runs: Path, episodes: int, data_root: Path) -> Result:
    run = benchmark()
    if which == "knn":
        return run.untrained(name, "knn", episodes, data_root)  # type: ignore[no-any-return]
    return run.tested(run.plain_for(name), runs, episodes, data_root)[0]  # type: ignore[no-any-return]
