"""Results are kept as JSON, and the page is made from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed.harness import Row
from benchmarks.speed.promises import LEAST_A_STEP
from benchmarks.speed.report import PAGE, command_line, page, save

MACHINE: dict[str, Any] = {
    "processor": "a processor",
    "family": "25",
    "model": "17",
    "stepping": "1",
    "mhz": 2596.1,
    "capability": "AVX512",
    "compile_seconds": 12.34,
    "cores": 2,
    "python": "3.11",
    "torch": "2.13",
    "gpu": None,
    "matmul_flop_per_s": 1e11,
    "conv_flop_per_s": 2e11,
    "copy_bytes_per_s": 1e10,
}


SOURCE = {"commit": "0123456789abcdef", "changed": False}


def origin(command: str = "x", *, source: dict[str, Any] = SOURCE, **machine: Any) -> dict[str, Any]:
    return {"machine": MACHINE | machine, "source": source, "command": command}


def a_row(column: Any = "equal", **changed: Any) -> Row:
    row = Row("W4", column, "cpu", "processor", date="2026-01-02")
    row.seconds = {"quickstudy": [1.0, 2.0, 1.0], "easyfsl": [3.0, 5.0, 3.5], "learn2learn": [4.0, 5.0, 6.0]}
    row.refused = {"torchmeta": "not timed: differs by 1.0e-03 of the largest entry"}
    row.about = {
        "quickstudy": {"versions": {}, "kernels": "torch's, and C compiled by cc"},
        "easyfsl": {"versions": {"torch": "2.13", "easyfsl": "1.5.0"}, "threads": 1},
    }
    for name, value in changed.items():
        setattr(row, name, value)
    return row


def test_both_columns_of_a_row_are_kept(tmp_path: Path) -> None:
    save(a_row(), origin("one"), tmp_path)
    path = save(a_row("as-run"), origin("two"), tmp_path)
    kept = json.loads(path.read_text())
    assert {name: column["command"] for name, column in kept["columns"].items()} == {"equal": "one", "as-run": "two"}
    assert kept["columns"]["equal"]["seconds"]["easyfsl"] == [3.0, 5.0, 3.5]
    assert kept["columns"]["equal"]["ratios"]["quickstudy"]["median"] == 3.0
    assert kept["columns"]["equal"]["source"] == SOURCE


def test_the_page_says_all(tmp_path: Path) -> None:
    save(a_row(), origin(command_line(["W4", "--rounds", "3"])), tmp_path)
    notes = tmp_path / "notes.md"
    notes.write_text("## What was tried\n")
    text = page(tmp_path, notes)
    assert (
        "| W4 ✔ | ProtoNet step" in text and "easyfsl 3.5 s | quickstudy 1 s | **3.00** (2.75 .. 3.25) ✔ 1.5 |" in text
    )
    assert "not timed: differs by 1.0e-03" in text
    assert "`python benchmarks/bench.py W4 --rounds 3`" in text and "easyfsl 1.5.0" in text
    # 600 pictures at 200 GFLOP/s. Megaflop a product, layer by layer: 0.903, 14.45, 3.61, 0.664 directly; in Winograd's
    # form 0.903, 6.42, 2.10 (16 tiles of a 7x7 map), 0.524 (4 of 3x3).
    assert "| 5.7x of 174 ms | 11.5x of 86.8 ms |" in text
    assert "Work of a unit: 34.8 GFLOP, 17.4 GFLOP in Winograd's form, 479 MB." in text
    line = next(line for line in text.splitlines() if line.startswith("| W4 | equal | 2026-01-02 |"))
    assert (
        "| 0123456 | a processor family 25 model 17 stepping 1, 2 cores, 2596 MHz | AVX512 | matmul 100 GFLOP/s,"
        in line
    )
    assert "torch's, and C compiled by cc (once, in 12.3 s)" in line
    assert text.endswith("## What was tried\n")
    assert "| not measured |  |  | promised 40 over a task loop |" in text
    assert text.count("not measured") >= 12  # the other rows, the GPU's, W7 and T2A


def test_a_busy_machine_is_named(tmp_path: Path) -> None:
    save(a_row(busy=0.4), origin(), tmp_path)
    assert "(other programs used 40% of the machine)" in page(tmp_path, tmp_path / "none.md")
    save(a_row(busy=0.02), origin(), tmp_path)
    assert "other programs used" not in page(tmp_path, tmp_path / "none.md")


def timed(id: str, column: Any = "equal", device: str = "cpu", **seconds: float) -> Row:
    row = Row(id, column, device, "wall", date="2026-01-02")
    row.seconds = {name.replace("_", "-"): [value] for name, value in {"higher": 10.0, **seconds}.items()}
    return row


def line_of(id: str, rows: list[Row], folder: Path) -> str:
    for row in rows:
        save(row, origin(gpu="a GPU"), folder)
    return next(line for line in page(folder, folder / "none.md").splitlines() if line.startswith(f"| {id} "))


def test_each_form_stands_beside_what_was_promised_of_it(tmp_path: Path) -> None:
    row = timed("W3", quickstudy=0.4, quickstudy_traced=0.3, quickstudy_compiled=0.25)
    line = line_of("W3", [row], tmp_path)
    assert "| W3 ✘ |" in line
    assert "**25.00** (25.00 .. 25.00) ✔ 20; traced **33.33** (33.33 .. 33.33); compiled **40.00**" in line
    assert "(40.00 .. 40.00) ✘ 50 |" in line


def test_as_users_run_it_the_promise_is_that_of_what_the_command_line_chooses(tmp_path: Path) -> None:
    large = line_of("W1", [timed("W1", "as-run", quickstudy=9.0, quickstudy_2_ranks=3.0)], tmp_path)
    assert "| W1 ✔ |" in large and "**1.11** (1.11 .. 1.11); 2-ranks **3.33** (3.33 .. 3.33) ✔ 3 |" in large
    small = line_of("W3", [timed("W3", "as-run", quickstudy=0.4, quickstudy_2_ranks=0.6)], tmp_path)
    assert "**25.00** (25.00 .. 25.00) ✔ 20; 2-ranks **16.67** (16.67 .. 16.67) |" in small


def test_steps_are_divided_as_the_command_line_divides_them() -> None:
    from quickstudy import rankcount

    assert rankcount.LEAST_A_STEP == LEAST_A_STEP


@pytest.mark.parametrize(
    ("id", "mark"),
    [
        ("G1", "**5.00** (5.00 .. 5.00) ✘ 10 over a task loop |"),
        ("G2", "**5.00** (5.00 .. 5.00) ✘ 10 over a task loop |"),
        ("G3", "**5.00** (5.00 .. 5.00) ✘ 40 over a task loop |"),
        ("G4", "**5.00** (5.00 .. 5.00); promised close to the launch-free limit |"),
        ("G5", "**5.00** (5.00 .. 5.00); promised close to the launch-free limit |"),
    ],
)
def test_a_gpu_has_promises_of_its_own(id: str, mark: str, tmp_path: Path) -> None:
    line = line_of(id, [timed(id, "as-run", "cuda", quickstudy=2.0)], tmp_path)
    assert mark in line and (f"| {id} ✘ |" in line) == ("✘" in mark)


def test_the_head_says_whether_rows_are_of_one_piece(tmp_path: Path) -> None:
    save(a_row(), origin(), tmp_path)
    head = page(tmp_path, tmp_path / "none.md").split("## Summary")[0]
    assert "All rows are of commit 0123456 and of one machine, a processor family 25 model 17 stepping 1." in head
    save(a_row("as-run"), origin(conv_flop_per_s=2.3e11), tmp_path)
    assert "All rows are of commit" in page(tmp_path, tmp_path / "none.md")  # 15 % apart
    changed = {"commit": "fedcba9876543210", "changed": True}
    save(a_row("as-run"), origin(source=changed, conv_flop_per_s=2.5e11, model="18"), tmp_path)
    head = page(tmp_path, tmp_path / "none.md").split("## Summary")[0]
    assert "**Rows are of 2 commits (0123456, fedcba9 with changes), and of 2 machines (" in head
    assert "and of a machine in several states, by its peaks (convolution 200 .. 250 GFLOP/s).**" in head


def test_results_from_before_this_was_kept_have_a_page(tmp_path: Path) -> None:
    path = save(a_row(), origin(), tmp_path)
    kept = json.loads(path.read_text())
    del kept["columns"]["equal"]["source"], kept["columns"]["equal"]["machine"]["family"]
    del kept["columns"]["equal"]["machine"]["capability"], kept["columns"]["equal"]["about"]["quickstudy"]
    path.write_text(json.dumps(kept))
    assert "**Rows are of commits that were not kept.**" in page(tmp_path, tmp_path / "none.md")


def test_what_preparing_takes_is_told_beside_when_it_is_earned_back(tmp_path: Path) -> None:
    row = timed("W3", quickstudy=0.5, quickstudy_traced=0.4)
    row.first = {"quickstudy": 1.0, "quickstudy-traced": 11.0}
    save(row, origin(), tmp_path)
    text = page(tmp_path, tmp_path / "none.md")
    words = "its first unit takes 11 s, that of quickstudy 1 s; earned back after 100 steps."
    assert f"- equal settings, quickstudy-traced: {words}" in text


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
    goals = {
        "words": "words",
        "runs": {"omniglot": {"quickstudy": a_training(12.5), "learn2learn": a_training(None)}},
        "date": "d",
        "machine": MACHINE,
        "command": "c",
    }
    (tmp_path / "W7.json").write_text(json.dumps(memory))
    (tmp_path / "T2A.json").write_text(json.dumps(goals))
    text = page(tmp_path, tmp_path / "none.md")
    assert "| quickstudy | 100 MB | 200 MB | 2.00 |" in text and "**1.25** (1.20 .. 1.30) ✔ 1.3." in text
    assert "| higher | not measured: gone |" in text
    assert "| T2A | omniglot, learn2learn | d | unknown |" in text
    assert "| omniglot | quickstudy | 12.5 s | 10 | 0.5 | at least **4.8** | ✔ 3 |" in text
    assert "| learn2learn | > 60 s |" in text


def a_training(reached: float | None, spent: float = 60.0, **more: Any) -> dict[str, Any]:
    curve = [{"seconds": spent if reached is None else reached, "steps": 10, "value": 0.5}]
    return {"limit": 60.0, "steps": 10, "last": 0.5, "error": None, "curve": curve, "reached": reached} | more


SOON, LATE, STOPPED = a_training(10.0), a_training(40.0), a_training(None)


@pytest.mark.parametrize(
    ("ours", "peers", "cells"),
    [
        (SOON, {"learn2learn": LATE, "torchmeta": STOPPED}, ["**4.0**", "✔ 3"]),
        (a_training(20.0), {"learn2learn": LATE, "torchmeta": STOPPED}, ["**2.0**", "✘ 3"]),
        (SOON, {"learn2learn": LATE, "torchmeta": a_training(None, 20.0)}, ["at least **2.0**", "3"]),
        (SOON, {"learn2learn": a_training(None, error="gone"), "torchmeta": LATE}, ["**4.0**", "✔ 3"]),
        (SOON, {"learn2learn": LATE | {"machine": MACHINE | {"model": "18"}}}, ["", ""]),
        (SOON, {"learn2learn-our-settings": LATE}, ["", ""]),
        (a_training(None, 30.0), {"learn2learn": LATE}, ["", "✘ 3"]),
    ],
    ids=["kept", "missed", "stopped too soon", "failed", "elsewhere", "by our settings", "never"],
)
def test_time_to_accuracy_stands_beside_what_was_promised(
    ours: dict[str, Any], peers: dict[str, Any], cells: list[str], tmp_path: Path
) -> None:
    about = {"words": "w", "runs": {"omniglot": {"quickstudy": ours, **peers}}, "date": "d", "command": "c"}
    (tmp_path / "T2A.json").write_text(json.dumps(about | {"machine": MACHINE}))
    lines = [line.split(" | ") for line in page(tmp_path, tmp_path / "none.md").splitlines()]
    rows = {line[1]: line for line in lines if line[0] == "| omniglot"}
    assert [cell.rstrip(" |") for cell in rows["quickstudy"][5:]] == cells
    times = {name: row[2] for name, row in rows.items()}
    assert times["quickstudy"] == (
        "never; it ended after 30 s" if ours["reached"] is None else f"{ours['reached']:.0f} s"
    )
    assert times.get("torchmeta") in (None, "> 60 s", "never; it ended after 20 s", "40 s")
    assert ("failed: gone" in times.values()) == any(run["error"] == "gone" for run in peers.values())


def test_the_page_is_made_from_what_was_measured() -> None:
    assert PAGE.read_text() == page(), "run: python benchmarks/bench.py --page"
