"""The harness with real workers of ours, in tiny sizes; peers are in tests/peers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.speed import settings
from benchmarks.speed.contestants import OURS, RANKS, REFERENCE, TRACED, WRONG, WRONG_TIMED, contestants
from benchmarks.speed.goals import Clock, Reached
from benchmarks.speed.harness import Plan, Row, measure
from benchmarks.speed.process import WorkerError, WorkerProcess
from benchmarks.speed.run import Options, run
from benchmarks.speed.statistics import ratio, spread
from benchmarks.speed.target import measure_goals
from benchmarks.speed.worker import Order
from benchmarks.speed.workloads import WORKLOADS, find

QUICK = Plan(rounds=2, seconds=0.0, quick=True)


def test_who_is_right_is_timed_and_who_is_not_there_is_refused() -> None:
    said: list[str] = []
    plan = Plan(rounds=2, seconds=0.0, quick=True, contestants=(OURS, RANKS, "nobody"))
    row = measure(find("W8"), "as-run", plan, said.append)
    assert {name: len(values) for name, values in row.seconds.items()} == {OURS: 2, RANKS: 2}
    assert row.refused == {"nobody": "not timed: KeyError: 'nobody'"}
    assert all(value > 0 for values in row.seconds.values() for value in values)
    assert row.about[OURS]["threads"] == 1 and row.about[OURS]["kernels"].startswith("torch's")
    assert row.about[OURS]["capability"] == torch.backends.cpu.get_cpu_capability() and row.first == {}
    assert row.best_peer is None and row.ratios() == {}


def test_a_first_order_gradient_gets_no_time_in_w1() -> None:
    said: list[str] = []
    row = measure(find("W1"), "equal", Plan(1, 0.0, quick=True, contestants=(WRONG,)), said.append)
    assert row.seconds == {} and "of its largest entry (float64)" in row.refused[WRONG]
    assert f"  {WRONG} {row.refused[WRONG]}" in said


def test_who_is_right_in_float64_alone_gets_no_time() -> None:
    row = measure(find("W3"), "equal", Plan(1, 0.0, quick=True, contestants=(WRONG_TIMED,)), lambda words: None)
    assert row.seconds == {} and "of its largest entry (float32)" in row.refused[WRONG_TIMED]


def test_a_first_unit_is_that_of_a_fresh_process_with_empty_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    caches: list[Path] = []

    class Fake:
        """A worker that computes nothing; each is a process of its own."""

        def __init__(self, order: Order, python: str, more: dict[str, str] | None = None) -> None:
            self.name, self.asked, self.more = order.contestant, list[str](), more or {}

        def ask(self, do: str, **options: Any) -> dict[str, Any]:
            asked.append((self.name, do))
            if do.startswith("check"):
                np.savez(options["to"], np.ones(2, np.float32 if do == "check-timed" else np.float64))
            if do == "first":
                assert self.asked == []  # nothing was imported or compiled by a check before it
                caches.append(Path(self.more["TORCHINDUCTOR_CACHE_DIR"]))
                assert caches[-1].parent == Path(self.more["TMPDIR"]) and list(caches[-1].parent.iterdir()) == []
            self.asked.append(do)
            return {"processor": 1.0, "wall": {OURS: 2.0}.get(self.name, 32.0)}

        def close(self) -> None:
            pass

    monkeypatch.setattr("benchmarks.speed.harness.WorkerProcess", Fake)
    plan = Plan(rounds=1, seconds=0.0, contestants=(OURS, TRACED))
    row = measure(find("W3"), "equal", plan, lambda words: None)
    assert row.first == {OURS: 2.0, TRACED: 32.0}
    assert len(set(caches)) == 2 and not any(cache.parent.exists() for cache in caches)
    assert asked[:6] == [
        *((REFERENCE, do) for do in ("check", "check-all")),
        *((name, do) for name in (OURS, TRACED) for do in ("check", "check-timed")),
    ]


def test_sampling_in_tiny_sizes_is_timed() -> None:
    plan = Plan(rounds=1, seconds=0.0, quick=True, contestants=(OURS,))
    row = measure(find("W6"), "equal", plan, lambda words: None)
    assert row.refused == {} and set(row.seconds) == {OURS}


def test_a_worker_says_what_it_cannot_do_and_goes_on() -> None:
    worker = WorkerProcess(Order("W3", OURS, "equal", quick=True))
    try:
        with pytest.raises(WorkerError, match="KeyError"):
            worker.ask("dance")
        assert worker.ask("memory")["bytes"] >= 0
        assert worker.ask("about")["versions"]["torch"]
    finally:
        worker.close()


def test_a_worker_that_died_is_reported() -> None:
    worker = WorkerProcess(Order("W3", OURS, "equal", quick=True))
    worker.close()
    with pytest.raises((WorkerError, ValueError)):
        worker.ask("about")


def test_only_the_tuned_get_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    for column, ours, threads in (("equal", False, "1"), ("as-run", True, "1"), ("as-run", False, None)):
        found = settings.environment(column, ours=ours)  # type: ignore[arg-type]
        assert found.get("OMP_NUM_THREADS") == threads and "MALLOC_TRIM_THRESHOLD_" not in found


def test_sampling_is_not_measured_on_made_up_pictures(tmp_path: Path) -> None:
    said: list[str] = []
    options = Options(rows=("W6",), results=tmp_path, page=tmp_path / "page.md")
    assert run(options, said.append) == 0
    assert "W6: not measured, it needs Omniglot: give --data-root or set QUICKSTUDY_DATA." in said
    assert not (tmp_path / "W6.json").exists()


def test_every_workload_has_contestants() -> None:
    for workload in WORKLOADS:
        names = contestants(workload, "as-run", "cpu")
        assert names[0] == OURS and REFERENCE not in names and len(names) >= 3
        assert RANKS not in contestants(workload, "equal", "cpu")


def test_an_unknown_row_is_one_sentence() -> None:
    said: list[str] = []
    assert run(Options(rows=("W9",)), said.append) == 2
    assert said == [f"error: There is no row 'W9'. There are {', '.join(Options().rows)}, G1, G2, G3, G4, G5."]


@pytest.mark.parametrize(
    ("plan", "limit", "words"),
    [
        (Plan(rounds=0), 60, "--rounds: expected a whole number of at least 1, received 0."),
        (Plan(seconds=-1), 60, "--seconds: expected a number above 0, received -1."),
        (Plan(seconds=float("nan")), 60, "--seconds: expected a number above 0, received nan."),
        (Plan(), 0, "--limit-minutes: expected a number above 0, received 0."),
        (Plan(device="gpu"), 60, "--device: expected cpu or cuda, received 'gpu'."),
        (
            Plan(only=("easyfls",)),
            60,
            "There is no peer 'easyfls'. There are easyfsl, higher, higher-our-settings, learn2learn, "
            "learn2learn-our-settings, torch, torchmeta, torchopt; 'none' stands for none of them.",
        ),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(plan: Plan, limit: float, words: str, tmp_path: Path) -> None:
    said: list[str] = []
    options = Options(rows=("W3",), plan=plan, limit=limit, results=tmp_path / "r", page=tmp_path / "page.md")
    assert (run(options, said.append), said) == (2, [f"error: {words}"])
    assert list(tmp_path.iterdir()) == []


def test_rows_of_a_processor_stay_what_they_are_on_a_gpu(tmp_path: Path) -> None:
    said: list[str] = []
    plan = Plan(device="cuda", quick=True)
    assert run(Options(rows=("W1", "W7"), plan=plan, results=tmp_path), said.append) == 0
    words = "not measured, it is a row of the processor; those of a GPU are G1, G2, G3, G4, G5."
    assert said == [f"W1: {words}", f"W7: {words}"]


def test_a_row_that_fails_leaves_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No reference, no time; the other column is tried all the same."""
    monkeypatch.setattr("benchmarks.speed.run.describe", lambda python: {"gpu": None})
    monkeypatch.setattr("benchmarks.speed.run.compile_seconds", lambda python: 1.0)
    monkeypatch.setattr("benchmarks.speed.report.page", lambda folder: "page")

    class Gone:
        """A worker that cannot be started."""

        def __init__(self, *given: Any) -> None:
            raise WorkerError("its process ended with status 1")

    monkeypatch.setattr("benchmarks.speed.harness.WorkerProcess", Gone)
    kept = tmp_path / "results" / "W3.json"
    kept.parent.mkdir()
    kept.write_text("kept")
    said: list[str] = []
    assert run(Options(rows=("W3",), results=kept.parent, page=tmp_path / "page.md"), said.append) == 1
    for column in ("equal", "as-run"):
        words = "was not measured, and what is kept of it stays: its process ended with status 1."
        assert f"error: W3, {column} {words}" in said
    assert kept.read_text() == "kept"


def test_a_row_without_a_peer_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.speed.run.describe", lambda python: {"gpu": None})
    monkeypatch.setattr("benchmarks.speed.run.compile_seconds", lambda python: 1.0)
    monkeypatch.setattr("benchmarks.speed.report.page", lambda folder: "page")

    def alone(workload: Any, column: Any, plan: Plan, say: Any) -> Row:
        return Row(workload.id, column, "cpu", "wall", seconds={OURS: [1.0]}, refused={"higher": "not timed: gone"})

    monkeypatch.setattr("benchmarks.speed.run.measure", alone)
    said: list[str] = []
    options = Options(rows=("W3",), columns=("equal",), results=tmp_path / "results", page=tmp_path / "page.md")
    assert run(options, said.append) == 0
    assert "  W3, equal: there is no peer to compare with, so this is not kept." in said
    assert not (tmp_path / "results").exists()


def test_a_training_that_failed_is_tried_again_and_takes_nobodys_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, said, tried = tmp_path / "T2A.json", list[str](), list[str]()
    fine = {"reached": 5.0, "limit": 60.0, "steps": 10, "last": 0.6, "curve": [], "error": None}
    late, broken = fine | {"reached": None}, fine | {"reached": None, "error": "MemoryError"}
    known = {"quickstudy": fine, "learn2learn": late, "learn2learn-our-settings": broken}
    path.write_text(json.dumps({"id": "T2A", "runs": {"sinusoid": known}}))

    def fails(goal: str, name: str, *given: Any) -> dict[str, Any]:
        tried.append(name)
        return broken | {"error": "OSError: gone"}

    monkeypatch.setattr("benchmarks.speed.target._run", fails)
    assert not measure_goals(path, Plan(), 60.0, ["sinusoid"], said.append, {})
    assert tried == ["learn2learn-our-settings", "higher-our-settings"]
    assert "    failed: OSError: gone" in said
    assert f"  sinusoid, learn2learn: measured before, which stays until it is taken out of {path}" in said
    tried.clear()
    assert not measure_goals(path, Plan(only=("learn2learn",)), 120.0, ["sinusoid"], said.append, {})
    assert tried == ["learn2learn"]
    kept = json.loads(path.read_text())["runs"]["sinusoid"]
    assert kept["learn2learn"]["error"] is None and kept["higher-our-settings"]["error"] == "OSError: gone"


def test_the_middle_and_the_spread() -> None:
    found = spread([4.0, 1.0, 2.0, 3.0, 100.0])
    assert (found.low, found.median, found.high, found.n) == (2.0, 3.0, 4.0, 5)
    assert ratio([10.0, 30.0, 20.0], [1.0, 2.0, 4.0]).median == 10.0
    with pytest.raises(ValueError, match="no measurements"):
        spread([])


def test_the_clock_stands_still_in_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("benchmarks.speed.goals.time.perf_counter", lambda: now[0])
    values = iter([0.5, 0.98])

    def test() -> float:
        now[0] += 1000.0
        return next(values)

    said: list[dict[str, float]] = []
    clock = Clock(test, "omniglot", limit=100.0, say=said.append, every=2)
    with pytest.raises(Reached):
        for _ in range(10):
            now[0] += 1.0
            clock.step()
    assert said == [{"seconds": 2.0, "steps": 2, "value": 0.5}, {"seconds": 4.0, "steps": 4, "value": 0.98}]


def test_the_clock_ends_at_the_limit() -> None:
    said: list[dict[str, float]] = []
    with pytest.raises(Reached):
        Clock(lambda: 9.0, "sinusoid", limit=-1.0, say=said.append).step()
    assert said[0]["value"] == 9.0


def test_quick_runs_write_nothing(tmp_path: Path) -> None:
    options = Options(rows=("G1",), plan=QUICK, results=tmp_path / "results", page=tmp_path / "page.md")
    said: list[str] = []
    assert run(options, said.append) == 0
    assert "G1: not measured, there is no GPU (or --device cuda was not given)." in said
    assert list(tmp_path.iterdir()) == []
