"""The demo's command; what the demo does is tested in tests/recipes/test_demo.py."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quickstudy.cli.demo import prepare_worker
from quickstudy.data.digits import Digits
from quickstudy.evaluate import Comparison, Entry, cell_name, compare, meta_test
from quickstudy.learners import KNN
from quickstudy.recipes.workers import News
from tests.cli.conftest import Command


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Puts a small table in place of the demo's, and remembers what the command asked for."""
    asked: dict[str, Any] = {}

    def small(report: Path, *, listen: Callable[[News], None], prepare: Callable[[], None]) -> Comparison:
        asked.update(report=report, prepare=prepare)
        listen(News("ProtoNet", 1, 2, "steps"))
        result = meta_test(KNN(), Digits().tasks("test", way=5, shot=1, query=5, seed=0), episodes=4)
        column = cell_name(result)
        return compare([Entry("mine", {column: result}), Entry("other", {column: result}, baseline=True)])

    monkeypatch.setattr("quickstudy.recipes.demo.run_demo", small)
    return asked


def test_it_prints_the_table_and_says_where_the_page_is(
    quickstudy: Command, asked: dict[str, Any], tmp_path: Path
) -> None:
    done = quickstudy("demo", "--report", tmp_path / "page.html")
    assert done.status == 0, done.err
    assert "5-way 1-shot" in done.out
    assert "does not clearly beat other" in done.out
    assert str(tmp_path / "page.html") in done.err
    assert asked == {"report": tmp_path / "page.html", "prepare": prepare_worker}


def test_json(quickstudy: Command, asked: dict[str, Any]) -> None:
    found = json.loads(quickstudy("demo", "--json").out)
    assert found["report"] == "demo-report.html" == str(asked["report"])
    mine, other = found["results"]
    assert (mine["name"], mine["compared_with"], mine["difference"], mine["beats_baseline"]) == (
        "mine",
        "other",
        0,
        False,
    )
    assert other["baseline"] and other["compared_with"] is None
