"""A folder has one holder, who is named, and who lets go of it by dying, wherever the folder lies."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from quickstudy import api
from quickstudy.errors import InputError, StorageError
from quickstudy.runlist import is_training
from quickstudy.train import RunFolder, Silent, StepEvent, runlock
from quickstudy.train.checkpoint import load_checkpoint
from quickstudy.train.runlock import Holder

HELD = (
    r"Another process is training in .*sine-s0-001 \(process {} on \S+, since 20\d\d-\d\d-\d\d \d\d:\d\d UTC\)\. Wait"
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "sine", 0, "")


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that knows no locks."""

    class Refuses:
        LOCK_SH, LOCK_EX, LOCK_NB = 1, 2, 4

        @staticmethod
        def flock(file: Any, how: int) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(runlock, "fcntl", Refuses)


def left_by(run: RunFolder, holder: Holder, count: int = 3) -> None:
    """What a process that was killed leaves."""
    (run.path / ".lock").write_text(f"{count:012d}\n{json.dumps(asdict(holder))}\n")


def test_one_that_is_here_is_named_and_heals_when_it_is_killed(run: RunFolder) -> None:
    code = (
        "import sys, time; from pathlib import Path; from quickstudy.train import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked(): print('in', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(run.path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "in\n"
        with pytest.raises(InputError, match=HELD.format(other.pid)), run.locked():
            pass
        assert is_training(run.path)
        other.kill()
    assert (run.path / ".lock").read_text(), "it had no time to take its name away"
    assert not is_training(run.path)
    with run.locked():
        pass
    assert not (run.path / ".lock").read_text()


@pytest.mark.usefixtures("without_locks")
def test_without_locks_of_the_system(run: RunFolder) -> None:
    with run.locked():
        assert is_training(run.path)
        with pytest.raises(InputError, match=HELD.format(os.getpid())), run.locked():
            pass
    assert not is_training(run.path)
    with run.locked():
        pass


@pytest.mark.usefixtures("without_locks")
@pytest.mark.parametrize("change", [{"process": 2**22 + 1}, {"began": "1"}], ids=["dead", "its number given again"])
def test_a_dead_holder_without_locks_of_the_system(run: RunFolder, change: dict[str, Any]) -> None:
    left_by(run, replace(Holder.this_process(), **change))
    assert not is_training(run.path)
    with run.locked():
        assert is_training(run.path)


@pytest.mark.parametrize("text", ["", "process 12 on a-host, since 2026-01-01 10:00 UTC", "12\n{}", "12\n[1]", "\xff"])
def test_a_file_that_says_nothing_holds_nobody_up(run: RunFolder, text: str) -> None:
    (run.path / ".lock").write_text(text, encoding="latin-1")
    with run.locked():
        pass


def test_another_machine_is_asked_by_its_count(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's lock may be of this machine alone: a count that rises says that somebody works there."""
    monkeypatch.setattr(runlock, "_PATIENCE", 0.3)
    monkeypatch.setattr(runlock, "_BEAT", 0.1)
    there = replace(Holder.this_process(), host="far", place="far away", process=77)
    left_by(run, there)
    over = threading.Event()

    def beats() -> None:
        with (run.path / ".lock").open("r+b", buffering=0) as file:
            runlock._beat(file, over, there)

    other = threading.Thread(target=beats)
    other.start()
    try:
        with pytest.raises(InputError, match=r"\(process 77 on far, since "), run.locked():
            pass
    finally:
        over.set()
        other.join()
    with run.locked():  # it rises no more: that machine lost power
        pass


def test_the_count_rises_while_it_is_held(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlock, "_BEAT", 0.01)
    with run.locked():
        until = time.monotonic() + 20
        while (run.path / ".lock").read_bytes()[:12] == b"0" * 12:
            assert time.monotonic() < until
            time.sleep(0.01)
        said = (run.path / ".lock").read_bytes().split(b"\n")
        assert json.loads(said[1])["process"] == os.getpid()


def test_one_that_was_taken_for_dead_leaves_the_lock_to_the_next(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runlock, "_BEAT", 0.01)
    with run.locked():
        left_by(run, replace(Holder.this_process(), host="far", place="far away"))
        time.sleep(0.1)
        said = (run.path / ".lock").read_text()
    assert said[:12] == f"{3:012d}" and (run.path / ".lock").read_text() == said


def test_one_that_was_taken_for_dead_saves_nothing_more(tmp_path: Path) -> None:
    """As a machine that was put to sleep."""
    there = replace(Holder.this_process(), host="far", place="far away", process=77)

    class Sleeps(Silent):
        def step(self, event: StepEvent) -> None:
            if event.step == 3:
                left_by(RunFolder(tmp_path / "sinusoid-maml-s0-001"), there)

    few = {"train.steps": 4, "train.validate-every": 2, "train.validate-episodes": 2, "train.tasks-per-step": 2}
    with pytest.raises(StorageError, match=r"s0-001: process 77 on far, since .* UTC trains there now\. This process"):
        api.train("sinusoid-maml", overrides=few, runs=tmp_path, device="cpu", callbacks=[Sleeps()])
    assert load_checkpoint(tmp_path / "sinusoid-maml-s0-001" / "checkpoints" / "last").state["step"] == 2


@pytest.mark.skipif(os.name != "posix", reason="no locks of the system")
def test_who_only_looks_keeps_nobody_out(run: RunFolder) -> None:
    """``quickstudy list runs`` has the system's lock for as long as it takes to ask for it."""
    left_by(run, replace(Holder.this_process(), process=2**22 + 1))
    looks = (run.path / ".lock").open("rb")
    assert runlock.try_lock(looks, shared=True)
    over = threading.Timer(0.1, looks.close)
    over.start()
    with run.locked():
        assert looks.closed
    over.join()


def test_a_folder_that_goes_away_meanwhile(run: RunFolder) -> None:
    with run.locked():
        (run.path / ".lock").unlink()
    with run.locked():
        pass


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_a_disk_that_refuses(run: RunFolder, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuses(*given: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open" if number == errno.EROFS else "fsync", refuses)
    sentence = rf"Cannot write .*\.lock: {os.strerror(number)}\. What was there before is unchanged"
    with pytest.raises(StorageError, match=sentence), run.locked():
        pass
