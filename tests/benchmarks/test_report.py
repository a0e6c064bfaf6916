"""Results are kept as JSON, and the page is made from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.speed.harness import Row
from benchmarks.speed.report import command_line, page, save

MACHINE: dict[str, Any] = {
    "processor": "a processor",
    "cores": 2,
    "python": "3.11",
    "torch": "2.13",
    "gpu": None,
    "matmul_flop_per_s": 1e11,
    "conv_flop_per_s": 2e11,
    "copy_bytes_per_s": 1e10,
}


def a_row(column: Any = "equal", **changed: Any) -> Row:
    row = Row("W4", column, "cpu", "processor", date="2026-01-02")
    row.seconds = {"quickstudy": [1.0, 2.0, 1.0], "easyfsl": [3.0, 5.0, 3.5], "learn2learn": [4.0, 5.0, 6.0]}
    row.refused = {"torchmeta": "not timed: differs by 1.0e-03 of the largest entry"}
    row.about = {"easyfsl": {"versions": {"torch": "2.13", "easyfsl": "1.5.0"}, "threads": 1}}
    for name, value in changed.items():
        setattr(row, name, value)
    return row


def test_both_columns_of_a_row_are_kept(tmp_path: Path) -> None:
    save(a_row(), MACHINE, "one", tmp_path)
    path = save(a_row("as-run"), MACHINE, "two", tmp_path)
    kept = json.loads(path.read_text())
    assert {name: column["command"] for name, column in kept["columns"].items()} == {"equal": "one", "as-run": "two"}
    assert kept["columns"]["equal"]["seconds"]["easyfsl"] == [3.0, 5.0, 3.5]
    assert kept["columns"]["equal"]["ratios"]["quickstudy"]["median"] == 3.0


def test_the_page_says_all(tmp_path: Path) -> None:
    save(a_row(), MACHINE, command_line(["W4", "--rounds", "3"]), tmp_path)
    notes = tmp_path / "notes.md"
    notes.write_text("## What was tried\n")
    text = page(tmp_path, notes)
    assert "| W4 | ProtoNet step" in text and "easyfsl 3.5 s | quickstudy 1 s | **3.00** (2.75 .. 3.25) | 1.5 |" in text
    assert "not timed: differs by 1.0e-03" in text
    assert "`python benchmarks/bench.py W4 --rounds 3`" in text and "easyfsl 1.5.0" in text
    assert "5.7x of 174 ms" in text  # 34.8 GFLOP at 200 GFLOP/s
    assert text.endswith("## What was tried\n")
    assert text.count("not measured") >= 12  # the other rows, the GPU's, W7 and T2A


def test_a_busy_machine_is_named(tmp_path: Path) -> None:
    save(a_row(busy=0.4), MACHINE, "x", tmp_path)
    assert "(other programs used 40% of the machine)" in page(tmp_path, tmp_path / "none.md")
    save(a_row(busy=0.02), MACHINE, "x", tmp_path)
    assert "other programs used" not in page(tmp_path, tmp_path / "none.md")


def test_break_even() -> None:
    row = Row("W3", "equal", "cpu", "processor")
    row.seconds = {"quickstudy": [0.01], "quickstudy-compiled": [0.002], "quickstudy-traced": [0.02]}
    row.first = {"quickstudy": 0.5, "quickstudy-compiled": 8.5, "quickstudy-traced": 1.0}
    assert row.break_even() == {"quickstudy-traced": None, "quickstudy-compiled": 1000.0}


def test_memory_and_goals_have_their_tables(tmp_path: Path) -> None:
    memory = {
        "words": "words",
        "inner_steps": [1, 10],
        "bytes": {"quickstudy": {"1": {"median": 1e8}, "10": {"median": 2e8}}},
        "refused": {"higher": "not measured: gone"},
        "time_ratio": {"median": 1.25, "low": 1.2, "high": 1.3},
        "about": {},
        "date": "d",
        "machine": MACHINE,
        "command": "c",
    }
    run: dict[str, Any] = {"limit": 60.0, "steps": 10, "last": 0.5, "error": None}
    goals = {
        "words": "words",
        "runs": {"omniglot": {"quickstudy": run | {"reached": 12.5}, "learn2learn": run | {"reached": None}}},
        "date": "d",
        "machine": MACHINE,
        "command": "c",
    }
    (tmp_path / "W7.json").write_text(json.dumps(memory))
    (tmp_path / "T2A.json").write_text(json.dumps(goals))
    text = page(tmp_path, tmp_path / "none.md")
    assert "| quickstudy | 100 MB | 200 MB | 2.00 |" in text and "**1.25** (1.20 .. 1.30)" in text
    assert "| higher | not measured: gone |" in text
    assert "| omniglot | quickstudy | 12.5 s | 10 |" in text and "| learn2learn | > 60 s |" in text
