"""Ranks on two machines: they meet over their network, train what those of one do, and say who is lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from quickstudy import api
from quickstudy.train import Interrupted
from quickstudy.train.checkpoint import load_checkpoint
from quickstudy.train.ranks_network import interface_of, own_address, seen_address, speaking_over
from quickstudy.train.ranks_rollcall import Called, RollCall
from tests.train.machines import Machine, can_make_machines, two_machines
from tests.train.small import StopAfter, metrics
from tests.train.test_ranks_group import RECIPE, ended, free_port

needs_machines = pytest.mark.skipif(not can_make_machines(), reason="needs network namespaces")
VARIABLE = "GLOO_SOCKET_IFNAME"


# --- which network, who is lost ----------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux")
def test_the_network_that_has_an_address_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert own_address("127.0.0.1") == "127.0.0.1"
    assert own_address("no-such-host.invalid") is None
    assert interface_of("127.0.1.1") == "lo"
    assert interface_of("198.51.100.7") is None  # of nobody's here
    with speaking_over("127.0.0.1"):
        assert os.environ[VARIABLE] == "lo"
    assert VARIABLE not in os.environ
    for unknown in (None, "198.51.100.7"):
        with speaking_over(unknown):
            assert VARIABLE not in os.environ
    monkeypatch.setenv(VARIABLE, "eth7")
    with speaking_over("127.0.0.1"):  # what a user says comes first
        assert os.environ[VARIABLE] == "eth7"
    assert os.environ[VARIABLE] == "eth7"


def test_who_keeps_the_meeting_place_takes_the_address_that_others_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own name stands for a loopback address there, on many a machine."""
    seen = {"node1": "127.0.1.1", "10.0.0.2": "10.0.0.1"}
    monkeypatch.setattr("quickstudy.train.ranks_network.own_address", seen.get)
    store = HashStore()
    store.set("address/1", "")
    store.set("address/2", "10.0.0.2")
    assert seen_address(store, 0, 3, "node1") == "10.0.0.1"
    assert store.get("address/0") == b"127.0.1.1"
    store.set("address/2", "127.0.0.1")
    assert seen_address(store, 0, 3, "node1") == "127.0.1.1"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RollCall]]:
    """Four ranks that answer."""
    monkeypatch.setattr("quickstudy.train.ranks_rollcall._ANSWER", 0.5)
    found = [RollCall(rank, "127.0.0.1") for rank in range(4)]
    ranks = [Called(f"rank {rank}", call.place) for rank, call in enumerate(found)]
    for call in found:
        call.begin(ranks)
    yield found
    for call in found:
        call.end()


def test_who_does_not_answer_is_missing(calls: list[RollCall]) -> None:
    calls[2].end()
    calls[3].end()
    assert calls[0].missing() == "rank 2 and rank 3"


def test_who_left_because_of_another_is_not_missing_itself(calls: list[RollCall]) -> None:
    calls[3].end()
    assert calls[1].missing() == "rank 3"
    calls[1].end()
    assert calls[2].missing() == "rank 3"
    calls[2].end()
    assert calls[0].missing() == "rank 3"


def test_a_rank_that_stands_still_does_not_answer(calls: list[RollCall]) -> None:
    """The system takes calls for it."""
    with socket.create_server(("127.0.0.1", 0)) as still:
        call = RollCall(0, "127.0.0.1")
        call.begin([Called("rank 0", call.place), Called("rank 1", still.getsockname()), Called("rank 2", None)])
        assert call.missing() == "rank 1"
        call.end()
    assert len(calls) == 4


def test_all_may_be_there_and_slow(calls: list[RollCall]) -> None:
    assert calls[0].missing().startswith("the other ranks in time, though all of them answer: a step takes longer than")


def test_strangers_change_nothing(calls: list[RollCall]) -> None:
    place = calls[1].place
    assert place is not None
    for said in (
        b"",
        b"\xff\n",
        b"[]\n",
        b'{"rank": [], "missed": [1]}\n',
        b'{"rank": 9, "missed": [2]}\n',
        b"x" * 70_000,
        b"[" * 60_000 + b"\n",
    ):
        with socket.create_connection(place) as stranger:
            try:
                stranger.sendall(said)
                stranger.shutdown(socket.SHUT_WR)
                stranger.recv(1)
            except OSError:
                pass
    with socket.create_connection(place):  # and says nothing
        calls[3].end()
        assert calls[0].missing() == "rank 3"


def test_an_address_that_is_gone_hides_no_other_error(monkeypatch: pytest.MonkeyPatch) -> None:
    call = RollCall(0, "127.0.0.1")
    call.begin([Called("rank 0", call.place)])

    def gone(*given: Any, **more: Any) -> Any:
        raise OSError("Network is unreachable")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "create_connection", gone)
        call.end()
    assert call.place is None


def test_nobody_can_be_asked() -> None:
    call = RollCall(0, None)
    call.begin([Called("rank 0", call.place), Called("rank 1", None)])
    assert call.missing() == ""
    call.end()


# --- two machines ------------------------------------------------------------------------------------


def on_machines(machines: tuple[Machine, Machine], runs: Path, *more: str, **about: str) -> list[Any]:
    """Processes as srun starts them, one on each machine."""
    processes, port = [], str(free_port())
    for rank, machine in enumerate(machines):
        place = {"SLURM_PROCID": str(rank), "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "9"}
        place |= {"MASTER_ADDR": machines[0].address, "MASTER_PORT": port} | about
        command = machine.command(sys.executable, "-m", "quickstudy", "train", *RECIPE, "--runs", str(runs), *more)
        processes.append(
            subprocess.Popen(command, env=os.environ | place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    return processes


def by_torchrun(machines: tuple[Machine, Machine], runs: Path, port: int) -> list[Any]:
    """The same by torchrun, on each machine once."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    launch += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{machines[0].address}:{port}", "--rdzv-id", "7"]
    processes = []
    for number, machine in enumerate(machines):
        here = ["--local-addr", machine.address, "--rdzv-conf", f"is_host={not number}"]
        here += ["-m", "quickstudy", "train", *RECIPE, "--runs", str(runs)]
        # torchrun itself asks what address the machine's name stands for: here a loopback address.
        command = machine.command(*launch, *here, named=False)
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    return processes


@pytest.mark.slow
@needs_machines
@pytest.mark.parametrize("start", ["srun", "torchrun"])
def test_two_machines_train_what_two_ranks_of_one_do(start: str, tmp_path: Path) -> None:
    overrides = {"train.steps": 12, "train.precision": "float64"}
    whole = api.train("sinusoid-maml", overrides=overrides, runs=tmp_path / "own", device="cpu", ranks=2)
    with two_machines() as machines:
        runs = tmp_path / "runs"
        given = on_machines(machines, runs) if start == "srun" else by_torchrun(machines, runs, free_port())
        outcomes = ended(given)
    assert [status for status, _, _ in outcomes] == [0, 0], outcomes
    (run,) = runs.iterdir()
    part = "checkpoints/last/weights.safetensors"
    assert (run / part).read_bytes() == (whole.path / part).read_bytes()


@pytest.mark.slow
@needs_machines
def test_a_network_that_breaks_ends_with_a_sentence_that_names_the_rank(tmp_path: Path) -> None:
    with two_machines() as machines:
        about = {"QUICKSTUDY_RANKS_TIMEOUT": "0.2"}
        processes = on_machines(machines, tmp_path, "--steps", "100000", "--train.validate-every", "0", **about)
        deadline = time.monotonic() + 100
        try:
            while not list(tmp_path.glob("*/checkpoints/last/state.json")):
                assert time.monotonic() < deadline and all(process.poll() is None for process in processes)
                time.sleep(0.1)
            machines[1].unplug()
            (status, _, here), (other, _, there) = ended(processes)
        finally:
            for process in processes:
                process.kill()
    assert (status, other) == (1, 1), here + there
    assert "Traceback" not in here + there
    assert "Nothing can be exchanged with rank 1 of 2, on node2 (says rank 0 of 2, on node1)." in here
    assert "--resume" in here
    assert "Nothing can be exchanged with rank 0 of 2, on node1 (says rank 1 of 2, on node2)." in there
    (run,) = tmp_path.iterdir()
    steps = load_checkpoint(run / "checkpoints/last").state["step"] + 5
    with pytest.raises(Interrupted):
        api.train(run, runs=tmp_path, device="cpu", resume=True, ranks=1, callbacks=[StopAfter(steps)])
    assert [line["step"] for line in metrics(run / "metrics.jsonl")] == list(range(1, steps + 1))
