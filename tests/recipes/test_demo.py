"""The demo, small."""

from pathlib import Path

import pytest

from quickstudy.recipes import demo, load_recipe
from quickstudy.recipes.demo import DemoSize, run_demo
from quickstudy.recipes.workers import News

SMALL = DemoSize(episodes=4, scratch_episodes=2, overrides={"train.steps": 2, "train.validate-episodes": 4})


def test_the_demo_small(tmp_path: Path) -> None:
    heard: list[News] = []
    table = run_demo(tmp_path / "report.html", size=SMALL, listen=heard.append)
    assert table.columns == ("5-way 1-shot", "5-way 5-shot")
    assert [(row.name, row.baseline) for row in table.rows] == [
        ("MAML", False),
        ("ProtoNet", False),
        ("trained from scratch", True),
        ("k-nearest neighbours", True),
        ("logistic regression", True),
    ]
    cells = [cell for row in table.rows for cell in row.cells]
    assert all(cell is not None for cell in cells)
    episodes = {row.name: [cell.result.episodes for cell in row.cells if cell is not None] for row in table.rows}
    assert episodes["ProtoNet"] == [4, 4]
    assert episodes["trained from scratch"] == [2, 2]
    page = (tmp_path / "report.html").read_text()
    assert "ProtoNet learns 5 digits from one drawing of each" in page
    assert {news.who for news in heard} >= {"MAML", "ProtoNet"}


def test_what_is_tested_is_what_was_published() -> None:
    size = DemoSize()
    assert (size.episodes, size.scratch_episodes, size.overrides) == (600, 100, {})
    for name in demo.RECIPES.values():
        recipe = load_recipe(name)
        assert recipe.data.name == "glyphs", "digits are for meta-testing alone"


@pytest.mark.e2e
def test_the_whole_demo_beats_the_baselines(tmp_path: Path) -> None:
    """At 1-shot the better learner's paired difference excludes 0."""
    table = run_demo(tmp_path / "report.html")
    one_shot = [row.cells[0] for row in table.rows if not row.baseline]
    assert any(cell is not None and cell.beats_baseline for cell in one_shot)
    best = max(cell.result.mean for cell in one_shot if cell is not None)
    assert best > 0.77
