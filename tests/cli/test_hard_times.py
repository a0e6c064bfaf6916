"""Clocks that go backwards, folders that vanish or cannot be written: a sentence at most, and nothing lost."""

from __future__ import annotations

import datetime
import errno
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from quickstudy import api
from quickstudy.errors import StorageError
from quickstudy.evaluate import Result
from quickstudy.runlist import list_runs
from quickstudy.runs import results_of
from quickstudy.train import RunFolder, Silent, StepEvent, runlock
from tests.cli.conftest import Command

SHORT = {"train.steps": 8, "train.validate-every": 2, "train.validate-episodes": 4}


@pytest.fixture
def run(tmp_path: Path, trained: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs" / trained.name))


# --- clocks --------------------------------------------------------------------------------------


class Backwards:
    """A clock that jumps back by an hour at each look, as a broken one might; time.monotonic is left alone."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        self.now -= 3600.0
        return self.now


class BackwardsDate(datetime.datetime):
    clock = Backwards()

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> BackwardsDate:
        return cls.fromtimestamp(cls.clock(), tz)


class EarlierEachStep(Silent):
    """Files that were written get times in the past, each earlier than the one before."""

    def __init__(self, run: Path) -> None:
        self.run, self.at = run, time.time()

    def step(self, event: StepEvent) -> None:
        self.at -= 3600
        for path in self.run.rglob("*"):
            os.utime(path, (self.at, self.at))


def without_seconds(run: Path) -> tuple[list[dict[str, Any]], bytes]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(line["seconds"] >= 0 for line in lines if "seconds" in line)
    kept = [{name: value for name, value in line.items() if name != "seconds"} for line in lines]
    return kept, (run / "checkpoints" / "last" / "weights.safetensors").read_bytes()


def test_training_while_the_clock_goes_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = api.train("sinusoid-maml", overrides=SHORT, runs=tmp_path / "whole", device="cpu").path
    monkeypatch.setattr(time, "time", Backwards())
    monkeypatch.setattr(time, "time_ns", lambda: int(time.time() * 1e9))
    monkeypatch.setattr(runlock, "datetime", BackwardsDate)
    half = api.train("sinusoid-maml", overrides=SHORT | {"train.steps": 4}, runs=tmp_path / "half", device="cpu").path
    api.train(half, overrides={"train.steps": 8}, resume=True, device="cpu", callbacks=[EarlierEachStep(half)])
    assert without_seconds(half) == without_seconds(whole)
    (summary,) = list_runs(half.parent)
    assert (summary.status, summary.step, summary.best) == ("finished", 8, list_runs(whole.parent)[0].best)


def test_the_newest_result_is_the_one_that_was_saved_last(run: Path) -> None:
    """A page shows it, though the clock said that it is older; results of older versions come first."""
    folder, saved = RunFolder(run), []
    for place, episodes in enumerate((5, 3, 4)):
        saved.append(api.evaluate(run, episodes=episodes, report=False).id)
        os.utime(folder.evaluations / f"{saved[-1]}.json", (1e9 - place, 1e9 - place))
    assert [result.id for result in results_of(folder)] == saved
    api.evaluate(run, episodes=5, report=False)
    assert [result.id for result in results_of(folder)] == [*saved[1:], saved[0]]
    (folder.evaluations / ".order").unlink()
    assert [result.id for result in results_of(folder)][-1] != saved[2], "by their files' times"
    api.evaluate(run, episodes=4, report=False)
    assert [result.id for result in results_of(folder)][-1] == saved[2]


def test_runs_of_the_future_are_listed(quickstudy: Command, run: Path) -> None:
    """Files of a machine whose clock is ahead."""
    for path in run.rglob("*"):
        os.utime(path, (time.time() + 7200,) * 2)
    assert str(run) in quickstudy("runs", "--runs", run.parent, "--since", "1h").out


# --- disks ---------------------------------------------------------------------------------------


class TakesAway(Silent):
    """Moves the run's folder while it is trained in."""

    def __init__(self, run: Path, to: Path) -> None:
        self.run, self.to = run, to

    def step(self, event: StepEvent) -> None:
        if event.step == 22:
            self.run.rename(self.to)


def test_a_folder_that_vanishes_while_it_is_trained_in(run: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    with pytest.raises(
        StorageError, match=r"Cannot save step 22: .*recipe\.toml is gone, so the run's folder was moved"
    ):
        api.train(run, overrides={"train.steps": 26}, resume=True, device="cpu", callbacks=[TakesAway(run, away)])
    assert not run.exists(), "nothing is written in its place"
    away.rename(run)
    assert api.train(run, overrides={"train.steps": 26}, resume=True, device="cpu").trained.step == 26


def refuses(number: int) -> Any:
    def call(*given: Any, **named: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return call


def test_a_run_that_cannot_be_written(quickstudy: Command, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so what a read-only disk answers is put in its place; it is said first."""
    real = os.open

    def read_only(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR) and str(path).startswith(str(run)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK or not str(path).startswith(str(run)))
    done = quickstudy("train", run, "--resume", "--steps", "30")
    assert done.status == 1 and f"Cannot write {run / '.lock'}: Read-only file system. What was there" in done.err
    done = quickstudy("evaluate", run)
    assert done.status == 1
    assert (
        f"Cannot save a result in {run}: nothing can be written there. Nothing was measured. Copy the run" in done.err
    )
    assert quickstudy("runs", "--runs", run.parent).status == quickstudy("show", run).status == 0


@pytest.mark.parametrize(
    ("after", "left"),
    [(0, "is not saved."), (1, r"is saved in \S+/evaluations/[0-9a-f]{12}\.json\.")],
    ids=["the result", "the page"],
)
def test_a_result_is_said_where_the_disk_is_full(
    run: Path, monkeypatch: pytest.MonkeyPatch, after: int, left: str
) -> None:
    real, calls = os.replace, [0]

    def full(*given: Any) -> None:
        calls[0] += 1
        if calls[0] > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*given)

    monkeypatch.setattr(os, "replace", full)
    sentence = r"No space left on device\. .* The result, .*error \d+\.\d+ ± \d+\.\d+ over 5 episodes, " + left
    with pytest.raises(StorageError, match=sentence):
        api.evaluate(run, episodes=5)
    kept = [Result.load(path) for path in (run / "evaluations").glob("*.json")]
    assert len(kept) == (1 if after else 0)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_disk_without_room_for_a_new_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """At its recipe, its environment, its lock: half a folder is not left behind."""
    real, calls = os.fsync, [0]

    def full(*given: Any) -> None:
        calls[0] += 1
        if calls[0] > 2 * after:  # a file and its folder
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*given)

    monkeypatch.setattr(os, "fsync", full)
    name = ("recipe.toml", "environment.json", ".lock")[after]
    with pytest.raises(StorageError, match=rf"Cannot write \S*{name}: No space left on device\. .* Free some space"):
        api.train("sinusoid-maml", overrides={"train.steps": 2}, runs=tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise StorageError("Cannot write weights: No space left on device.")

    monkeypatch.setattr("quickstudy.train.saving.save_checkpoint", full)
    with pytest.raises(StorageError, match=r"No space left .* Go on with: quickstudy train \S*-s0-001 --resume$"):
        api.train("sinusoid-maml", overrides={"train.steps": 2}, runs=tmp_path, device="cpu")
