"""A result as a file: complete, plain JSON, refused when it is not what it should be."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from quickstudy.errors import DataError, StorageError
from quickstudy.evaluate import Result, cell_name
from tests.evaluate.fakes import a_result


def no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


def test_the_file_holds_every_field_and_reads_back_equal(tmp_path: Path) -> None:
    result = a_result([0.1, 0.7, 1 / 3], way=(5, 20), recipe_hash="abc")
    path = tmp_path / "evaluations" / f"{result.id}.json"
    result.save(path)
    assert Result.load(path) == result
    raw = json.loads(path.read_text(), parse_constant=no_constant)
    published = "schema metric mean ci95 ci95_classes episodes way shot query split seed transductive balanced_prior"
    assert {*published.split(), "source_hash", "recipe_hash", "per_episode"} <= raw.keys()
    assert raw["per_episode"] == [0.1, 0.7, 1 / 3] and raw["schema"] == 1 and raw["way"] == [5, 20]


def test_infinite_figures_stay_json(tmp_path: Path) -> None:
    result = a_result([1.0, 2.0], metric="mse", mean=math.inf, ci95=math.inf, per_episode=(1.0, math.inf))
    text = result.to_json()
    assert json.loads(text, parse_constant=no_constant)["mean"] == "Infinity"
    assert Result.from_json(text) == result


def test_printed_it_is_a_sentence() -> None:
    result = a_result([0.5, 0.7], ci95_classes=None)
    said = f"accuracy {100 * result.mean:.1f} ± {100 * result.ci95:.1f} % over 2 episodes; "
    assert str(result) == f"{said}{result.learner} on {result.data}, {result.split}, {cell_name(result)}"
    assert f"; ± 1.0 % over classes; {result.learner} on" in str(dataclasses.replace(result, ci95_classes=0.01))
    assert str(dataclasses.replace(result, transductive=True)).endswith("; transductive")
    assert repr(result).startswith("Result(metric='accuracy'")


def test_the_id_stands_for_the_settings_and_not_for_the_outcome() -> None:
    result = a_result([0.5, 0.7])
    assert len(result.id) == 12
    same = dataclasses.replace(result, mean=0.1, per_episode=(0.0, 0.2), seconds=9.0)
    assert same.id == result.id
    changes: list[dict[str, Any]] = [
        {"recipe_hash": "x"},
        {"checkpoint": "best"},
        {"first": 600},
        {"source_hash": "x"},
        {"source": {"way": 20}},
        {"learner": "reptile"},
        {"learner_seed": 1},
        {"transductive": True},
    ]
    ids = {dataclasses.replace(result, **change).id for change in changes}
    assert len(ids | {result.id}) == len(changes) + 1


def test_the_id_survives_the_file() -> None:
    result = a_result([0.5, 0.7], source={"way": [5, 20], "seed": 0})
    assert Result.from_json(result.to_json()).id == result.id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": "high"}, r"Cannot read old\.json as a result: mean: Input should be a valid number"),
        ({"colour": "red"}, r"colour: Unexpected keyword argument"),
        ({"schema": 2}, r"reads results of schema 1, found 2"),
        ({"episodes": 3}, r"3 episodes announced, figures of 2 given"),
    ],
)
def test_what_is_no_result_is_refused(change: dict[str, Any], message: str) -> None:
    text = json.dumps(json.loads(a_result([0.5, 0.7]).to_json()) | change)
    with pytest.raises(DataError, match=message):
        Result.from_json(text, "old.json")


def test_a_cut_off_or_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    a_result([0.5, 0.7]).save(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"Cannot read .*r\.json as a result: Invalid JSON.*quickstudy evaluate"):
        Result.load(path)
    with pytest.raises(DataError, match=r"Cannot read the result .*missing\.json: No such file"):
        Result.load(tmp_path / "missing.json")


def test_a_full_disk_leaves_the_old_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.json"
    old = a_result([0.5, 0.7])
    old.save(path)

    def full(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        a_result([0.1, 0.2]).save(path)
    assert Result.load(path) == old
    assert list(tmp_path.iterdir()) == [path]
