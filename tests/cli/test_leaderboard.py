"""`quickstudy leaderboard`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from quickstudy import api
from tests.cli.conftest import Command
from tests.leaderboard.rows import edited, made, row


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    row(folder, "good", made(0.9, 1), train_seconds=600.0)
    row(folder, "poor", made(0.5, 3, shot=5))
    return folder


def test_tables_are_printed_filtered_and_as_json(quickstudy: Command, results: Path) -> None:
    done = quickstudy("leaderboard", "--results", results, "--data", "digits")
    assert done.status == 0 and done.out.startswith("digits, test, 5-way 1-shot: accuracy in %\n  1  good  89.")
    assert "10.0 min" in done.out and "poor" in done.out
    said = json.loads(quickstudy("leaderboard", "--results", results, "--data", "digits", "--shot", 5, "--json").out)
    assert [one["name"] for table in said["tables"] for one in table["rows"]] == ["poor"]
    done = quickstudy("leaderboard", "--results", results, "--data", "digits", "--transductive")
    assert (done.status, done.out) == (0, "") and "No row is like that." in done.err


def test_a_page_is_written(quickstudy: Command, results: Path, tmp_path: Path) -> None:
    page = tmp_path / "deep" / "page.html"
    done = quickstudy("leaderboard", "--results", results, "--data", "digits", "--page", page)
    assert (done.status, done.out) == (0, f"{page}\n") and "<td" in page.read_text()


def test_what_is_no_row_is_told(quickstudy: Command, results: Path) -> None:
    path = edited(results / "study" / "poor.json", mean=1.5)
    done = quickstudy("leaderboard", "--results", results, "--data", "digits")
    assert done.status == 0 and f"Passed over: {path} cannot be right. mean or a figure" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--results", "nowhere"], "There is no folder of results nowhere."),
        (["--by", "me"], "--by is of use with --add alone."),
        (["--learner.inner-lr", "0.1"], "--learner.inner-lr is of use with --add alone."),
        (["--shots", "3"], "There is no option called '--shots'. Did you mean '--shot'?"),
        (["--add", "a.json", "--model-index", "a.json"], "Give --add or --model-index, not both."),
        (["--add", "nowhere.json"], "Cannot read the result nowhere.json: No such file or directory."),
        (["--model-index", "nowhere.json"], "Cannot read the result nowhere.json: No such file or directory."),
        (["--sort", "luck"], "Invalid value for '--sort'"),
    ],
)
def test_bad_input_is_a_sentence(quickstudy: Command, arguments: list[str], said: str) -> None:
    done = quickstudy("leaderboard", *arguments)
    assert (done.status, done.out) == (2, "") and said in done.err and "Traceback" not in done.err


def test_a_result_is_added_once(quickstudy: Command, trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    result = api.evaluate(run, episodes=12, report=False)
    file = run / "evaluations" / f"{result.id}.json"
    arguments = ("leaderboard", "--add", file, "--results", tmp_path / "results", "--sample", "5")
    done = quickstudy(*arguments)
    added = tmp_path / "results" / "leaderboard" / f"maml-{result.id}.json"
    assert done.status == 0 and done.out.startswith(f"{added}: added; 5 episodes came out again, to "), done.err
    again = json.loads(quickstudy(*arguments, "--json", "--page", tmp_path / "page.html").out)
    assert again["row"] == str(added) and not again["new"] and len(again["checked"]["episodes"]) == 5
    assert "checked" in (tmp_path / "page.html").read_text()
    index = quickstudy("leaderboard", "--model-index", added)
    assert index.status == 0 and index.out.startswith('model-index:\n- name: "sinusoid-maml"\n  results:\n  - task:\n')
