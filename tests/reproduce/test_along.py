"""A run's curve and its time, from what it wrote while it trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quickstudy.errors import DataError
from quickstudy.reproduce.along import Along, read_along


def written(path: Path, *records: dict[str, Any], tail: str = "") -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + tail)
    return path


def test_a_curve_of_training_is_of_means_over_parts(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = [{"step": n, "loss": float(n), "seconds": 0.5} for n in range(1, 41)]
    found = read_along(written(tmp_path / "m.jsonl", *steps, tail='{"step": 41, "lo'), 40)
    assert found.seconds == 20 and found.curve is not None
    assert (found.curve.of, found.curve.metric, len(found.curve.points)) == ("training tasks", "loss", 21)
    assert found.curve.points[:3] == ((1, 1.0), (3, 2.5), (5, 4.5)) and found.curve.points[-1] == (40, 40.0)
    with (tmp_path / "m.jsonl").open("ab") as file:
        file.write(b"\n\xff\xfe\n")
    assert read_along(tmp_path / "m.jsonl", 40) == found, "what is no text ends it, as a line that was cut off does"


def test_validations_are_the_curve_where_there_are_some(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [{"step": 1, "loss": 1.0, "seconds": 1.0}, {"step": 1, "validation_mse": "inf"}]
    found = read_along(written(tmp_path / "m.jsonl", *lines, {"step": 2, "validation_mse": 0.25}), 2)
    assert found.curve is not None and found.curve.of == "validation tasks" and found.curve.metric == "mse"
    assert found.curve.points == ((1, "inf"), (2, 0.25))


def test_a_file_that_is_not_there_and_one_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_along(tmp_path / "none.jsonl", 10) == Along()
    path = written(tmp_path / "m.jsonl", {"step": 1, "seconds": 1.0})

    def closed(self: Path, *given: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(DataError, match=r"Cannot read .*m\.jsonl: Permission denied\. Make sure"):
        read_along(path, 10)
