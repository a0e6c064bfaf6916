"""Files become rows and tables; papers' figures stand apart; what is ranked, filtered and sorted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quickstudy.errors import InputError
from quickstudy.evaluate.answered import low_percentile
from quickstudy.leaderboard import Board, published, read_board, render_board
from quickstudy.leaderboard.text import document
from quickstudy.reproduce import claim
from tests.leaderboard.rows import edited, infinite, made, robust, row, seen


@pytest.fixture
def results(tmp_path: Path) -> Path:
    row(tmp_path, "good", made(0.9, 1), train_seconds=600.0, made="2026-01-02")
    row(tmp_path, "better", made(0.91, 2), train_seconds=60.0, energy={"watt_hours": 2.0, "assumption": "x"})
    row(tmp_path, "poor", made(0.5, 3), baseline=True)
    row(tmp_path, "sees all", made(0.95, 4, transductive=True), made="2026-01-03")
    row(tmp_path, "twenty", made(0.5, 5, way=5, shot=5))
    return tmp_path


def board(results: Path) -> Board:
    return read_board(results, papers=False)


def test_rows_are_ranked_in_their_setting(results: Path) -> None:
    table = board(results).tables[0]
    assert table.title == "digits, test, 5-way 1-shot: accuracy in %"
    assert [row.name for row in table.rows] == ["better", "good", "poor", "sees all"]
    assert table.ranks == [1, 2, 3, 1]
    assert table.letters[0] == table.letters[1] or table.pairs[0].clear
    assert not set(table.letters[2]) & set(table.letters[0])
    text = render_board(board(results))
    assert "  1  better    90.9 ± 1.3, 50 episodes" in text and "transductive:" in text and "baseline" in text


def test_one_episode_in_twenty_is_worse(tmp_path: Path) -> None:
    row(tmp_path, "spread", made(episodes=40))
    row(tmp_path, "errors", infinite([1.0] * 30 + [2.0] * 7 + [math.inf] * 3))
    found = {one.name: one for table in board(tmp_path).tables for one in table.rows}
    spread = found["spread"].result.per_episode
    assert found["spread"].percentile == low_percentile(np.array(spread))[0] > sorted(spread)[1]
    assert found["errors"].percentile == math.inf, "of an error it is the 95th percentile"
    said = {one["name"]: one["percentile"] for table in document(board(tmp_path))["tables"] for one in table["rows"]}
    assert said == {"spread": found["spread"].percentile, "errors": "Infinity"}
    text = render_board(board(tmp_path))
    assert f"  p5 {100 * found['spread'].percentile:.1f}" in text and "  p95 ∞" in text


def test_robustness_stands_beside_its_row(tmp_path: Path) -> None:
    result = made(0.9, 1)
    path = row(tmp_path, "good", result, robustness=robust(result))
    row(tmp_path, "plain", made(0.6, 2))
    good, plain = board(tmp_path).tables[0].rows
    assert good.robustness is not None and plain.robustness is None
    text = render_board(board(tmp_path), robustness=True)
    assert f"Robustness of {result.learner}, 50 episodes" in text and "-40.0 ± 1.0" in text.replace("−", "-")
    assert "Robustness" not in render_board(board(tmp_path))
    (said, _) = document(board(tmp_path))["tables"][0]["rows"]
    assert said["provenance"]["robustness"]["figures"][1]["name"] == "20 % wrong labels"
    of_others: list[dict[str, Any]] = [{"source_hash": "0" * 64}, {"source": result.source | {"way": 20}}]
    for changes in of_others:  # other data, and tasks of other sizes of the same data
        edited(path, provenance__robustness=robust(result, **changes))
        (told,) = board(tmp_path).passed_over
        assert "good.json cannot be right: provenance.robustness is of another recipe, checkpoint or tasks" in told
    other = robust(result, weights_sha256="1" * 64)
    edited(path, provenance__weights_sha256="0" * 64, provenance__robustness=other)
    assert "provenance.robustness is of another recipe, checkpoint" in board(tmp_path).passed_over[0]
    edited(path, provenance__weights_sha256="1" * 64)
    assert board(tmp_path).passed_over == ()
    edited(path, provenance__robustness={"figures": 3})
    assert "provenance.robustness.learner is missing: measure it anew" in board(tmp_path).passed_over[0]


def test_worst_class_and_calibration_stand_in_the_row(tmp_path: Path) -> None:
    """Means over seeds, where each seed has them; no part of its own below the table."""
    for seed, (worst, ece) in enumerate([(0.6, 0.02), (0.7, 0.04)]):
        result = made(0.9, seed)
        about = {"series": "a" * 64, "seed": seed, "step": 10, "steps": 10}
        row(tmp_path, f"good {seed}", result, robustness=seen(result, worst, ece), **about)
    row(tmp_path, "plain", made(0.6, 2))
    good, plain = board(tmp_path).tables[0].rows
    assert len(good.entries) == 2 and good.robustness is None
    assert good.worst_class == pytest.approx(0.65) and good.calibration == pytest.approx(0.03)
    assert (plain.worst_class, plain.calibration) == (None, None)
    assert "  worst class 65.0  ECE 3.0  " in render_board(board(tmp_path))
    said, nothing = document(board(tmp_path))["tables"][0]["rows"]
    assert said["worst_class"] == pytest.approx(0.65) and nothing["ece"] is None
    assert said["episodes_of_worst_class_and_ece"] == said["episodes"] and good.asked == good.result.episodes


def test_worst_class_of_fewer_episodes_says_so(tmp_path: Path) -> None:
    """Seeds that were asked on all episodes come first; where none was, the row says of how many it is."""
    for seed, (worst, ece, few) in enumerate([(0.6, 0.02, True), (0.7, 0.04, False)]):
        result, series = made(0.9, seed), "ab"[seed] * 64
        figures = seen(result, worst, ece)
        for figure in figures["figures"]:
            figure["episodes"] = 7 if few else figure["episodes"]
        for name in (series, "c" * 64):
            about = {"series": name, "seed": seed, "step": 10, "steps": 10, "recipe": f"recipe-{name[0]}"}
            row(tmp_path, f"one {seed} {name[0]}", result, robustness=figures, **about)
    rows = {len(one.entries): one for one in board(tmp_path).tables[0].rows if one.asked != 7}
    (few_row,) = (one for one in board(tmp_path).tables[0].rows if one.asked == 7)
    assert rows[2].worst_class == pytest.approx(0.7), "of the seed that was asked on all"
    assert few_row.worst_class == pytest.approx(0.6) and few_row.result.episodes != 7
    said = render_board(board(tmp_path))
    assert "ECE 2.0 (of 7)" in said and "ECE 4.0 (of" not in said


@pytest.mark.parametrize("field", ["value", "low", "high"])
@pytest.mark.parametrize("impossible", ["NaN", "Infinity", 7.0, -0.1])
def test_robustness_that_cannot_be_makes_no_row(tmp_path: Path, field: str, impossible: Any) -> None:
    """All of these figures are shares; one that is none would be ranked first, or break the page's JSON."""
    result = made(0.9)
    robustness = seen(result, 0.6, 0.02)
    robustness["figures"][2][field] = impossible
    row(tmp_path, "good", result, robustness=robustness)
    found = board(tmp_path)
    assert found.tables == () or not any(table.rows for table in found.tables)
    assert f"provenance.robustness.figures.2.{field}: " in found.passed_over[0]


def test_tasks_are_kept_digit_by_digit(tmp_path: Path) -> None:
    """Only figures of episodes are shortened; settings tell whether robustness is of the same tasks."""
    result = made(0.9)
    odd = replace(result, source=result.source | {"rates": [0.123456789]})
    row(tmp_path, "good", odd, robustness=seen(odd, 0.6, 0.02))
    found = board(tmp_path)
    assert found.passed_over == () and found.tables[0].rows[0].result.source == odd.source


def test_robustness_without_figures_is_shown(tmp_path: Path) -> None:
    result = made(0.9)
    row(tmp_path, "good", result, robustness=robust(result, figures=()))
    assert "10-way: not asked. its head has 5 classes." in render_board(board(tmp_path), robustness=True)


def test_each_figure_of_a_paper_stands_once() -> None:
    """A claim that changes the paper's method has no figure of that paper."""
    told = [(one.source, one.learner, one.split, one.way, one.shot, one.transductive, one.mean) for one in published()]
    assert [one for one in told if told.count(one) > 1] == []


def test_columns_that_nothing_stands_in_take_no_room(tmp_path: Path) -> None:
    errors = infinite([1.0] * 37 + [math.inf] * 3)
    row(tmp_path, "errors", errors, train_seconds=5.0, energy={"watt_hours": 0.01, "assumption": "10 W"})
    assert "  p95 ∞  5 s  0.01 Wh" in render_board(board(tmp_path))


def test_papers_stand_apart_and_are_never_ranked(tmp_path: Path) -> None:
    papers = [one for one in read_board(tmp_path).tables if not one.rows]
    assert sum(len(one.published) for one in papers) == len(published())
    five = next(one for one in published() if one.name == "omniglot-maml-5w1s")
    source = {"data": "omniglot", "split": five.split, "way": 5, "shot": 1, "query": 15, "seed": 0}
    worse = made(0.3, source=source | {"rotations": "per-class"}, data="omniglot", split=five.split)
    row(tmp_path, "maml", worse, data=five.data)
    table = read_board(tmp_path).only(way=5, shot=1, data="omniglot").tables[0]
    assert [one.name for one in table.rows] == ["maml"] and table.ranks == [1]
    assert "omniglot-maml-5w1s" in [one.name for one in table.published], "of the very protocol"
    text = render_board(Board((table,)))
    assert text.index("maml") < text.index("published, not measured here:") < text.index("Finn, Abbeel, Levine")
    kinds = {one["kind"] for part in document(Board((table,)))["tables"] for one in part["rows"]}
    assert kinds == {"measured"}


def test_what_is_published_says_its_setting() -> None:
    known = {one.name: one for one in published()}
    assert known["omniglot-maml-5w1s"].transductive and not known["omniglot-protonet-5w1s"].transductive
    assert known["omniglot-protonet-20w1s"].way == 20 and known["omniglot-protonet-20w1s"].mean == 0.96
    assert known["sinusoid-maml"].mean == 0.67, "errors are no percents"


def test_seeds_of_one_training_are_a_row(tmp_path: Path) -> None:
    for seed in range(3):
        about = {"series": "a" * 64, "seed": seed, "step": 10, "steps": 10, "train_seconds": 10.0 * (seed + 1)}
        row(tmp_path, f"maml {seed}", made(0.8 + 0.01 * seed, seed), **about)
    row(tmp_path, "cut", made(0.7, 3), series="a" * 64, seed=3, step=4, steps=10)
    row(tmp_path, "zz", made(0.7, 4), series="a" * 64, seed=0, step=10, steps=10)
    (table,) = board(tmp_path).tables
    whole = next(one for one in table.rows if len(one.entries) > 1)
    assert len(table.rows) == 3, "what was cut short, and a seed's second, stand for themselves"
    assert whole.seeds == (0, 1, 2) and whole.cost == 20
    means = [one.result.mean for one in whole.entries]
    assert whole.result.mean == pytest.approx(sum(means) / 3)
    spread = (sum((one - whole.result.mean) ** 2 for one in means) / 2) ** 0.5
    assert whole.ci95_seeds == pytest.approx(4.302653 * spread / 3**0.5), "Student's, of three"
    assert "3 seeds ± " in render_board(board(tmp_path))
    assert "cut short after 4 of 10 steps" in render_board(board(tmp_path))


def test_a_result_of_an_older_protocol_joins_no_seeds_of_its_claim(tmp_path: Path) -> None:
    """Its recipe or its test was another; a mean over both would be of neither."""
    one = claim("omniglot-protonet-5w1s")
    for seed in range(3):
        about = {"claim": one.name, "protocol": one.protocol(seed) if seed else "f" * 64, "seed": seed}
        row(tmp_path, f"protonet {seed}", made(0.8, seed), **about)
    (table,) = board(tmp_path).tables
    assert sorted(one.seeds for one in table.rows) == [(0,), (1, 2)]
    marks = {one.seeds: one.marks for one in table.rows}
    assert marks == {(0,): ("not the claim's protocol any more",), (1, 2): ()}


def test_other_tasks_are_other_tables_and_the_heading_says_why(tmp_path: Path) -> None:
    for turned in ("none", "classes"):
        result = made(0.8)
        source = result.source | {"rotations": turned, "list": list(range(50))}
        row(tmp_path, turned, made(0.8, source=source))
    titles = [table.title for table in board(tmp_path).tables]
    expected = ["digits, test, 5-way 1-shot, rotations classes", "digits, test, 5-way 1-shot, rotations none"]
    assert titles == [f"{one}: accuracy in %" for one in expected]


def test_rows_of_other_episodes_are_marked(tmp_path: Path) -> None:
    row(tmp_path, "one", made(0.8))
    row(tmp_path, "two", made(0.8, 1, source_hash="e" * 16))
    (table,) = board(tmp_path).tables
    assert table.tasks == [2, 1] or table.tasks == [1, 2]
    assert table.letters == ["", ""] and "tasks 2" in render_board(board(tmp_path))


def test_filters_and_order(results: Path) -> None:
    every = board(results)
    assert [t.sizes for t in every.only(shot=5).tables] == ["5-way 5-shot"]
    assert [r.name for t in every.only(transductive=True).tables for r in t.rows] == ["sees all"]
    assert [r.name for t in every.only(learner="OO").tables for r in t.rows] == ["good", "poor"]
    assert every.only(data="omniglot").tables == () and every.only(way=7).tables == ()
    table = every.only(shot=1, transductive=False).tables[0]
    assert len(table.pairs) == 3, "pairs are corrected for what is left"
    orders = {how: [one.name for one in table.sorted_by(how).rows] for how in ("cost", "energy", "name", "date")}
    assert orders["cost"] == ["better", "good", "poor"] and orders["name"] == ["better", "good", "poor"]
    assert orders["energy"][0] == "better" and orders["date"][0] == "good"
    assert table.sorted_by("date").ranks == [2, 1, 3], "ranks stay those of the figures"


def test_what_is_no_row_is_told_and_hides_nothing(results: Path) -> None:
    edited(results / "study" / "poor.json", mean=0.99)
    (results / "notes.json").write_text("{}")
    found = board(results)
    assert len(found.passed_over) == 2 and "poor.json cannot be right. mean is 0.99" in "".join(found.passed_over)
    assert "poor" not in [one.name for table in found.tables for one in table.rows] and len(found.tables) == 2


def test_an_added_row_takes_the_place_of_its_file(results: Path) -> None:
    content = json.loads((results / "study" / "good.json").read_text())
    checked = {"episodes": [1], "difference": 0.0, "tolerance": "x", "torch": "2", "made": "2026-01-01"}
    content["provenance"]["checked"] = checked
    (results / "zz.json").write_text(json.dumps(content))
    names = [one.marks for table in board(results).tables for one in table.rows if one.name == "good"]
    assert names == [("checked",)]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no folder of results .*nope\. Name it: --results DIR\."):
        read_board(tmp_path / "nope")


def test_a_document_has_every_pair(results: Path) -> None:
    first = document(board(results))["tables"][0]
    assert len(first["pairs"]) == 6 and first["rows"][0]["rank"] == 1
    json.dumps(first, allow_nan=False)
    assert "per_episode" not in json.dumps(first)


def test_parts_of_a_data_set_stand_in_the_heading(tmp_path: Path) -> None:
    """Also where only one of them was tested: a figure of "meta-dataset" alone says nothing."""
    source = made().source | {"data": "meta-dataset", "data-sets": ["omniglot"]}
    row(tmp_path, "one", made(data="meta-dataset", source=source))
    (table,) = board(tmp_path).tables
    assert table.title == "meta-dataset (omniglot), test, 5-way 1-shot: accuracy in %"
    row(tmp_path, "two", made(data="meta-dataset", source=source | {"data-sets": ["dtd"]}))
    titles = [table.title for table in board(tmp_path).tables]
    assert titles[0].startswith("meta-dataset (dtd), ") and titles[1].startswith("meta-dataset (omniglot), ")
