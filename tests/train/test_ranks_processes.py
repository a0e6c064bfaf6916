"""Ranks as processes: they meet on the loopback address, say what went wrong, are started again, and none is left."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typing_extensions import override

from quickstudy.errors import InputError
from quickstudy.train import EndEvent, Silent, StepEvent
from quickstudy.train.ranks import RanksLost
from quickstudy.train.ranks_launch import _cause, _short_folder, run_ranks
from quickstudy.train.ranks_messages import Job
from quickstudy.train.ranks_rendezvous import LoopbackRendezvous
from quickstudy.train.ranks_worker import store_of_start
from tests.train import ranksjobs

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


class Told(Silent):
    """Keeps what it is told, and fails when it shall."""

    def __init__(self, fail_at: int = -1) -> None:
        self.steps, self.ends, self.fail_at = list[int](), list[str](), fail_at

    @override
    def step(self, event: StepEvent) -> None:
        self.steps.append(event.step)
        if event.step == self.fail_at:
            raise ZeroDivisionError("of the callback")

    @override
    def end(self, event: EndEvent) -> None:
        self.ends.append(f"{event.outcome} after {event.step}")


def children() -> set[int]:
    """Processes that this one started and that are still there."""
    found = set[int]()
    for thread in Path("/proc/self/task").iterdir():
        found |= {int(pid) for pid in (thread / "children").read_text().split()}
    return found


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Neither processes nor settings."""
    environment, before = dict(os.environ), children()
    yield
    assert children() <= before
    assert dict(os.environ) == environment | {"PYTEST_CURRENT_TEST": os.environ["PYTEST_CURRENT_TEST"]}


def test_ranks_meet_on_the_loopback_address(tmp_path: Path) -> None:
    found = run_ranks(Job(ranksjobs.look_around, (), "cpu", threads=1), 3, logs=tmp_path / "logs")
    assert [each["rank"] for each in found] == [0, 1, 2]
    assert len({each["pid"] for each in found}) == 3
    assert {each["parent"] for each in found} == {os.getpid()}
    listens = {address for each in found for address in each["listens"]}
    assert listens == {"0100007F"}, "127.0.0.1 as Linux writes it"
    for each in found:
        assert each["sum"] == [6.0] * 3
        assert each["any"] == [True, False, False]
        assert each["threads"] == 1
        assert each["interfaces"] == {"lo"}
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_one_rank_is_told_once_and_nothing_is_tried_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    callback = Told()
    job = Job(ranksjobs.fail_on_second, (tmp_path,), "cpu", threads=1)
    with pytest.raises(LookupError, match=r"^rank 1 has lost its way") as caught:
        run_ranks(job, 2, callbacks=[callback])
    assert "in fail_on_second" in caught.value.__notes__[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-0", "1-0"]
    assert callback.ends == ["failed after 0"]
    assert capfd.readouterr() == ("", "")


def test_a_killed_rank_takes_the_others_with_it_and_all_are_started_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    callback, notes = Told(), list[str]()
    job = Job(ranksjobs.die_until, (1,), "cpu", threads=1)
    with pytest.warns(UserWarning, match="told once") as warned:
        assert run_ranks(job, 2, callbacks=[callback], note=notes.append, logs=tmp_path / "logs") == 1
    assert len(warned) == 1
    assert notes == [
        "A rank was lost. All 2 are started again and go on from the last checkpoint (1 of at most 3 times)."
    ]
    assert callback.steps == [1, 2, 3]  # not 1, 2, 1, 2, 3
    assert callback.ends == ["failed after 3"]  # the job told of no end of its own
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


class Tidies(Silent):
    """Removes a folder after the second step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @override
    def step(self, event: StepEvent) -> None:
        if event.step == 2:
            shutil.rmtree(self.folder)


def test_ranks_start_again_though_their_logs_are_gone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    logs = tmp_path / "logs"
    job = Job(ranksjobs.die_until, (1,), "cpu", threads=1)
    with pytest.warns(UserWarning, match="told once"):
        assert run_ranks(job, 2, callbacks=[Tidies(logs)], logs=logs, restarts=1) == 1
    assert capfd.readouterr() == ("", "")
    assert not logs.exists()


def test_why_results_could_not_be_exchanged_is_said(tmp_path: Path) -> None:
    """No rank was killed: torch failed on one, for want of memory, and the other hears of it."""
    said = (
        r"^Ranks were lost 1 times, the last time as rank 1 could not exchange its results, perhaps for want of "
        r"memory\. What they printed is in .*logs\. Close other programs, or use fewer ranks\. "
        r"torch said: CUDA out of memory, tried to allocate 20 GiB\.$"
    )
    with pytest.raises(RanksLost, match=said):
        run_ranks(Job(ranksjobs.want_memory, (), "cpu", threads=1), 2, logs=tmp_path / "logs", restarts=0)


def test_who_was_asked_to_leave_is_not_the_cause() -> None:
    """The agent asks those that are still there to leave when one has failed; one that was killed explains all."""
    asked, failed, killed = -signal.SIGTERM, 1, -signal.SIGKILL
    assert sorted([asked, failed, killed], key=_cause) == [killed, failed, asked]


@pytest.mark.e2e
def test_ranks_that_die_too_often(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    job = Job(ranksjobs.die_until, (5,), "cpu", threads=1)
    said = (
        r"^Ranks were lost 1 times, the last time rank 1 \(signal 9\), perhaps for want of memory\. What they printed"
    )
    with pytest.warns(UserWarning), pytest.raises(RanksLost, match=said):
        run_ranks(job, 2, logs=tmp_path / "logs", restarts=0)
    printed = [path.read_text() for path in (tmp_path / "logs").rglob("*") if path.is_file()]
    assert any("printed by a rank" in text for text in printed)
    assert capfd.readouterr() == ("", "")


@pytest.mark.e2e
def test_an_error_of_a_callback_of_the_starter() -> None:
    callback = Told(fail_at=3)
    with pytest.raises(ZeroDivisionError, match="of the callback"):
        run_ranks(Job(ranksjobs.tell_steps, (), "cpu", threads=1), 2, callbacks=[callback])
    assert callback.steps == [1, 2, 3]
    assert callback.ends == ["failed after 3"]


def test_what_a_killed_rank_left_in_the_store_is_not_seen_by_those_started_after_it() -> None:
    place = LoopbackRendezvous("run")  # serves as long as it is held
    meeting = place.next_rendezvous().bootstrap_store_info
    assert meeting is not None
    where = {"MASTER_ADDR": meeting.master_addr, "MASTER_PORT": str(meeting.master_port)}
    first, again, second = (store_of_start(where | {"TORCHELASTIC_RESTART_COUNT": count}) for count in "001")
    first.set("address", "of a rank")
    assert again.check(["address"])
    assert not second.check(["address"])


class Leaves(Silent):
    """As a second Ctrl-C does."""

    @override
    def step(self, event: StepEvent) -> None:
        if event.step == 2:
            raise KeyboardInterrupt


@pytest.mark.e2e
def test_ranks_leave_at_once_when_they_are_not_heard_any_more() -> None:
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_ranks(Job(ranksjobs.tell_steps, (), "cpu", threads=1), 2, callbacks=[Leaves()])
    assert time.monotonic() - started < 60


def test_not_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.train.ranks_launch.os.name", "nt")
    with pytest.raises(InputError, match="Cannot divide the work over ranks on Windows"):
        run_ranks(Job(ranksjobs.tell_steps, (), "cpu", threads=1), 2)


def test_a_long_temporary_folder_is_no_place_for_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    home = Path(tempfile.mkdtemp())
    try:
        monkeypatch.setattr(tempfile, "tempdir", str(deep))
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.setenv("HOME", str(home))
        with _short_folder() as folder:
            assert Path(folder).parent == home
        assert not Path(folder).exists()
        monkeypatch.setenv("HOME", str(deep))
        with pytest.raises(InputError, match=r"too long for one: .*xxx\. Let TMPDIR name a folder"), _short_folder():
            pass
    finally:
        monkeypatch.undo()
        home.rmdir()
