"""A run keeps how its table was scaled: the table may grow, another be tested, rows without a target answered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import quickstudy as library
from quickstudy.errors import DataError, InputError
from quickstudy.predicting import predict_rows
from tests.cli.conftest import Command
from tests.data.test_grouptable import grown, made_up, write

SMALL = ("--train.steps", "3", "--train.tasks-per-step", "4", "--net.hidden", "[8]", "--ranks", "1")
COLUMNS = ("--group", "patient", "--target", "y", "--time", "day")


def trained(quickstudy: Command, folder: Path, recipe: str = "table-maml-fast", target: str = "number") -> Path:
    table = write(folder / "t.csv", made_up(target=target))
    done = quickstudy("train", recipe, "--table", table, *COLUMNS, *SMALL, "--runs", folder / "runs")
    assert done.status == 0, done.err
    return Path(done.out.strip())


def evaluated(quickstudy: Command, run: Path, *more: object) -> dict[str, object]:
    done = quickstudy("evaluate", run, "--episodes", "8", "--ranks", "1", "--json", *more)
    assert done.status == 0, done.err
    found: dict[str, object] = json.loads(done.out)
    return found


def test_a_table_that_has_grown(tmp_path: Path, quickstudy: Command) -> None:
    """Wild rows of patients who train change nothing of what the same run says of the same test patients."""
    run = trained(quickstudy, tmp_path)
    before = evaluated(quickstudy, run)
    names = set(json.loads((run / "split.json").read_text())["train"])
    more = [row for row in grown(made_up(), 0) if row["patient"] in names or row["day"] < "2022"]
    assert len(more) > 30 * 8
    write(tmp_path / "t.csv", more)
    after = evaluated(quickstudy, run)
    assert after["per_episode"] == before["per_episode"] and after["others"] == before["others"]


def test_another_table(tmp_path: Path, quickstudy: Command, caplog: pytest.LogCaptureFixture) -> None:
    """Under another name, with patients who trained among others: those who trained are not tested."""
    run = trained(quickstudy, tmp_path)
    before = evaluated(quickstudy, run)
    write(tmp_path / "copy.csv", made_up())
    other = ("--table", tmp_path / "copy.csv", *COLUMNS)
    assert evaluated(quickstudy, run, *other)["per_episode"] == before["per_episode"]
    assert "22 groups of" in caplog.text and "not tested, as groups of these names trained or validated" in caplog.text
    theirs = write(tmp_path / "theirs.csv", [row | {"patient": f"r{row['patient']}"} for row in made_up()])
    result = evaluated(quickstudy, run, "--table", theirs)
    assert result["source"]["groups"] == 30  # type: ignore[index]
    page = (run / "report.html").read_text()
    assert "5-shot, table theirs.csv" in page and "5-shot, table copy.csv" in page, "beside those of its own table"
    assert page.count("root-mean-square error") == 3 and " over groups</span>" in page
    write(tmp_path / "theirs.csv", [{k: v for k, v in row.items() if k != "dose"} for row in made_up()])
    done = quickstudy("evaluate", run, "--table", theirs)
    assert (
        done.status == 2 and "it has no column 'dose', which training had" in done.err and "Traceback" not in done.err
    )


def test_going_on_with_a_table_that_has_grown(tmp_path: Path, quickstudy: Command) -> None:
    """By new patients, who test; more rows of those who train would be another training, and are refused."""
    run = trained(quickstudy, tmp_path)
    kept = [(run / name).read_text() for name in ("table.json", "split.json")]
    write(
        tmp_path / "t.csv", [*made_up(), *(row | {"patient": f"q{row['patient']}", "drug": "Z"} for row in made_up())]
    )
    done = quickstudy("train", run, "--resume", "--ranks", "1")
    assert done.status == 0, done.err
    assert [(run / name).read_text() for name in ("table.json", "split.json")] == kept
    assert evaluated(quickstudy, run)["source"]["groups"] == 38  # type: ignore[index]
    write(tmp_path / "t.csv", grown(made_up()))
    done = quickstudy("train", run, "--resume", "--ranks", "1")
    assert done.status == 1 and "Cannot go on from" in done.err and "Traceback" not in done.err


def test_what_was_kept_is_cut_off(tmp_path: Path, quickstudy: Command) -> None:
    run = trained(quickstudy, tmp_path)
    for text in ('{"columns": [', '{"columns": 3}'):
        (run / "table.json").write_text(text)
        done = quickstudy("evaluate", run)
        assert done.status == 2 and f"Cannot read {run / 'table.json'}, by which the run's table" in done.err


def test_regression_is_in_the_targets_units(tmp_path: Path, quickstudy: Command) -> None:
    result = evaluated(quickstudy, trained(quickstudy, tmp_path))
    rmse, mse = result["others"]["rmse"], result["others"]["mse"]  # type: ignore[index]
    assert mse["per_episode"] == pytest.approx(np.square(rmse["per_episode"]), rel=1e-4)
    assert rmse["ci95_classes"] is not None


def blank(rows: list[dict[str, str]], first: int = 5) -> list[dict[str, str]]:
    """Of each patient the first targets are known."""
    return [row | ({"y": ""} if int(row["day"][-2:]) > first else {}) for row in rows]


def test_rows_without_a_target(tmp_path: Path, quickstudy: Command) -> None:
    """What a test says of a new patient's later rows, for a table that holds this patient alone."""
    run = trained(quickstudy, tmp_path)
    result = evaluated(quickstudy, run)
    name = result["source"]["names"][0]  # type: ignore[index]
    rows = [row for row in made_up() if row["patient"] == name]
    said = predict_rows(run, write(tmp_path / "new.csv", blank(rows)))
    assert [(one.row, one.group) for one in said] == [(7, name), (8, name), (9, name)]
    assert all(one.value is not None and one.classes is None for one in said)
    error = float(np.mean([abs(one.value - float(rows[one.row - 2]["y"])) for one in said]))  # type: ignore[operator]
    assert error == pytest.approx(_error_of(run, name), abs=1e-5)
    with pytest.raises(InputError, match=rf"rows of '{name}' of .*: none of them has a target to learn from"):
        predict_rows(run, write(tmp_path / "new.csv", blank(rows, 0)))
    with pytest.raises(DataError, match=r"it has no column 'dose'"):
        predict_rows(run, write(tmp_path / "new.csv", [{k: v for k, v in row.items() if k != "dose"} for row in rows]))


def _error_of(run: Path, name: str) -> float:
    result = library.evaluate(run, episodes=8, report=False)
    groups = [g for g in result.source["names"] if g not in result.source["left_out"]]
    from quickstudy.recipes.building import build_data, test_tasks
    from quickstudy.runs import as_trained, recipe_of
    from quickstudy.train import RunFolder

    folder = RunFolder(run)
    tasks = test_tasks(recipe_of(folder), as_trained(folder, build_data(recipe_of(folder))))
    place = tasks.episodes(range(8)).classes[:, 0].tolist().index(groups.index(name))  # type: ignore[index]
    return result.per_episode[place]


def test_rows_without_a_class(tmp_path: Path, quickstudy: Command) -> None:
    table = write(tmp_path / "t.csv", made_up(target="words"))
    more = (*SMALL, "--episodes.train.shot", "4", "--episodes.test.shot", "4", "--runs", tmp_path / "runs")
    done = quickstudy(
        "train", "table-classes-maml-fast", "--table", table, "--group", "patient", "--target", "y", *more
    )
    assert done.status == 0, done.err
    rows = [row | {"patient": "new"} for row in made_up(1, target="words")]
    said = predict_rows(Path(done.out.strip()), write(tmp_path / "new.csv", blank(rows)))
    assert len(said) == 3 and all(one.value is None for one in said)
    assert all(one.classes and set(one.classes) == {"ill", "well"} for one in said)
    assert all(sum((one.classes or {}).values()) == pytest.approx(1) for one in said)


def test_a_run_of_no_table(tmp_path: Path) -> None:
    run = library.train("sinusoid-maml", overrides={"train.steps": 1}, runs=tmp_path)
    with pytest.raises(InputError, match=r"Cannot predict rows of a table with .*: it was trained on sinusoid"):
        predict_rows(run.path, tmp_path / "t.csv")
