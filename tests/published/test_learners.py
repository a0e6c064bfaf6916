"""Every learner's fast recipe, trained for real, against the floor and the verdict on its page (`make test-all`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quickstudy.recipes import load_recipe, recipe_hash
from tests.published.scripts import REPOSITORY, benchmark

pytestmark = pytest.mark.slow

RESULTS: dict[str, Any] = json.loads((REPOSITORY / "docs/learners/results.json").read_text(encoding="utf-8"))
MARGIN = 0.02
"""What another processor's rounding may cost; the recorded figure minus this is the floor."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_a_fast_recipe_reaches_what_its_page_says(name: str, runs: Path, data_root: Path) -> None:
    """The mean within a margin, and better than each baseline in pairs where the page says so."""
    entry, run = RESULTS[name], benchmark("learners")
    assert entry["recipe"] == recipe_hash(load_recipe(name)), "measured with another recipe: measure it again"
    found, _ = run.tested(load_recipe(name), runs, entry["episodes"], data_root)
    if found.metric == "accuracy":
        assert found.mean >= entry["mean"] - MARGIN
    else:
        assert found.mean <= 1.1 * entry["mean"] + MARGIN
    for which, other in run.rivals(load_recipe(name)).items():
        said = entry["versus"].get(which)
        if said is not None and said["mean"] - said["ci95"] > 0:
            measured = run.difference(found, run.tested(other, runs, entry["episodes"], data_root)[0])
            assert measured["mean"] - measured["ci95"] > 0, which
