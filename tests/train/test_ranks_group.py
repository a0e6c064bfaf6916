"""Ranks that torchrun or srun started: which one this is, and that they train what ranks of our own do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from quickstudy import api
from quickstudy.errors import InputError
from quickstudy.train import fit
from quickstudy.train.checkpoint import versions
from quickstudy.train.ranks_group import first_host, seat
from quickstudy.train.ranks_state import check_agreement
from tests.cli.test_other_data import noise
from tests.table import make
from tests.train.inturn import side_by_side, values
from tests.train.small import Small
from tests.train.test_ranks import ROW

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
SRUN = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "1234"}
RECIPE = ("sinusoid-maml", "--device", "cpu", "--train.precision", "float64", "--steps", "12")


def test_a_process_that_is_alone_has_no_seat() -> None:
    assert seat({}) is None
    assert seat({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "3"}) is None  # a batch script, not srun
    assert seat(TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}) is None


def test_torchruns_environment() -> None:
    found = seat(TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "2", "TORCHELASTIC_RUN_ID": "7"})
    assert found is not None
    assert (found.rank, found.size, found.local, found.host, found.port) == (3, 8, 1, "node1", 29500)
    assert (found.start, found.job, found.hosts_store) == (2, "7@node1:29500", False)
    first = TORCHRUN | {"RANK": "0"}
    started_by_hand, by_torchrun = seat(first), seat(first | {"TORCHELASTIC_USE_AGENT_STORE": "True"})
    assert started_by_hand is not None and started_by_hand.hosts_store
    assert by_torchrun is not None and not by_torchrun.hosts_store


def test_slurms_environment() -> None:
    found = seat(SRUN | {"SLURM_STEP_NODELIST": "rack[03-07,9]-a,b2", "SLURM_STEP_ID": "1", "SLURM_RESTART_COUNT": "1"})
    assert found is not None
    assert (found.rank, found.size, found.host, found.job, found.start) == (2, 4, "rack03-a", "slurm-1234.1", 1)
    assert 20000 <= found.port < 40000
    other = seat(SRUN | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "5000"})
    assert other is not None and (other.host, other.port) == ("10.0.0.1", 5000)


@pytest.mark.parametrize(
    ("nodes", "first"), [("localhost", "localhost"), ("n[1,3-5],m2", "n1"), ("a,b", "a"), ("x[001-100]y[2]", "x001y2")]
)
def test_the_first_of_slurms_nodes(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (TORCHRUN | {"MASTER_PORT": "x"}, r"that torchrun started: MASTER_PORT is 'x' in the environment"),
        ({name: v for name, v in TORCHRUN.items() if name != "LOCAL_RANK"}, r"LOCAL_RANK is not set"),
        (TORCHRUN | {"RANK": "8"}, r"torchrun says that this is rank 8 of 8. Ranks are numbered from 0 to 7"),
        (TORCHRUN | {"MASTER_PORT": "99999"}, r"MASTER_PORT is 99999, and ports end at 65535\."),
        (TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "x"}, r"TORCHELASTIC_RESTART_COUNT is 'x' in the environment"),
        (SRUN | {"SLURM_JOB_ID": "abc"}, r"that SLURM started: SLURM_JOB_ID is 'abc' in the environment"),
        (SRUN | {"SLURM_RESTART_COUNT": "-1"}, r"SLURM_RESTART_COUNT is '-1' in the environment"),
        (SRUN | {"SLURM_PROCID": ""}, r"that SLURM started: SLURM_PROCID is '' in the environment"),
    ],
)
def test_half_an_environment_is_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        seat(environment)


def test_ranks_that_would_train_something_else_are_refused() -> None:
    def asked(ranks: Any) -> None:
        check_agreement(ranks, {"the version of quickstudy": "1", "the data": "a" if ranks.rank < 2 else "b"})

    for outcome in side_by_side(asked, 3):
        with pytest.raises(InputError, match=r"the data is 'a' on rank 0 and 'b' on rank 2. Give all of them the same"):
            values([outcome])


def test_a_test_is_not_started_by_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"A test is started once, and divides its episodes itself"):
        api.evaluate(tmp_path)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def by_srun(runs: Path, port: int, *more: str, of: int = 2, **changed: dict[str, str]) -> list[subprocess.Popen[str]]:
    """Processes as srun starts them on one machine."""
    processes = []
    for rank in range(of):
        about = {"SLURM_PROCID": str(rank), "SLURM_STEP_NUM_TASKS": str(of), "SLURM_LOCALID": str(rank)}
        about |= {"SLURM_JOB_ID": "9", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        about |= changed.get(f"rank{rank}", {})
        what = about.pop("WHAT", "").split() or RECIPE
        command = [sys.executable, "-m", "quickstudy", "train", *what, "--runs", str(runs), *more]
        command += about.pop("MORE", "").split()
        options: dict[str, Any] = {"cwd": about.pop("CWD", None), "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen(command, env=os.environ | about, text=True, **options))
    return processes


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    return [(process.returncode, *said) for process in processes for said in [process.communicate(timeout=200)]]


def test_processes_of_srun_train_what_our_own_ranks_do(tmp_path: Path) -> None:
    whole = api.train(
        "sinusoid-maml",
        overrides={"train.steps": 12, "train.precision": "float64"},
        runs=tmp_path / "own",
        device="cpu",
        ranks=2,
    )
    (status, out, err), (other, nothing, quiet) = ended(by_srun(tmp_path / "srun", free_port()))
    assert (status, other) == (0, 0), err + quiet
    assert "ranks: 2 (started from outside, slurm-9.0)" in err and "finished after 12 steps" in err
    assert not nothing and "finished" not in quiet
    run = Path(out.strip())
    for name in ("last", "best") if (whole.path / "checkpoints/best").exists() else ("last",):
        part = f"checkpoints/{name}/weights.safetensors"
        assert (run / part).read_bytes() == (whole.path / part).read_bytes()
    assert json.loads((run / "environment.json").read_text())["job"] == "slurm-9.0"


def test_processes_that_disagree_end_with_a_sentence(tmp_path: Path) -> None:
    outcomes = ended(by_srun(tmp_path, free_port(), rank1={"MORE": "--seed 3"}))
    for status, _, err in outcomes:
        assert status == 2 and "Traceback" not in err, err
        assert (
            "The ranks do not agree: what is to be trained is " in err and "sinusoid-maml" in err and "on rank 1" in err
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("what", "second", "said"),
    [
        ("version", {}, r"the version of quickstudy is '\d[^']*' on rank 0 and '99.0' on rank 1"),
        ("source", {}, "the hash of the data is 'small' on rank 0 and 'other' on rank 1"),
        ("seed", {"seed": 3}, "the seed is 0 on rank 0 and 3 on rank 1"),
        ("steps", {"steps": 4}, "the number of steps is 2 on rank 0 and 4 on rank 1"),
        ("tasks", {"tasks_per_step": 5}, "the number of tasks a step is 2 on rank 0 and 5 on rank 1"),
        ("rate", {"lr": 0.5}, "its rate is 0.001 on rank 0 and 0.5 on rank 1"),
    ],
)
def test_a_loop_of_ones_own_with_ranks_that_differ_is_refused(
    what: str, second: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(Small):
        hash = "other"

    here, known = threading.local(), versions()
    ours = "quickstudy.train.ranks_state.versions"
    monkeypatch.setattr(ours, lambda: known | {"quickstudy": "99.0"} if here.newer else known)

    def work(ranks: Any) -> None:
        here.newer = what == "version" and ranks.rank == 1
        source = Other() if what == "source" and ranks.rank else Small()
        given: dict[str, Any] = {"steps": 2, "tasks_per_step": 2} | (second if ranks.rank else {})
        fit(make(ROW["protonet"]), source, ranks=ranks, **given)

    for outcome in side_by_side(work, 2):
        with pytest.raises(InputError, match=rf"The ranks do not agree: {said}\. Give all of them the same"):
            values([outcome])


@pytest.mark.slow
def test_another_version_on_one_rank_is_refused(tmp_path: Path) -> None:
    about = tmp_path / "installed" / "quickstudy-99.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: quickstudy\nVersion: 99.0\n")
    path = os.pathsep.join([str(about.parent), *filter(None, sys.path)])
    outcomes = ended(by_srun(tmp_path / "runs", free_port(), rank1={"PYTHONPATH": path}))
    for status, _, err in outcomes:
        assert status == 2 and "Traceback" not in err, err
        assert "The ranks do not agree: the version of quickstudy is '" in err and "and '99.0' on rank 1. Give" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a path that means another folder to each process")
def test_other_data_on_one_rank_are_refused(tmp_path: Path) -> None:
    """The same path, as of two machines, and one picture differs."""
    for number, place in enumerate(("first", "second")):
        noise(tmp_path / place / "mine", [f"kind {n}" for n in range(8)])
        if number:
            Image.new("RGB", (20, 20)).save(tmp_path / place / "mine" / "kind 0" / "0.png")
    what = "images-protonet-fast --data.folder /proc/self/cwd/mine --data.size 16 --episodes.train.way 2 "
    what += "--episodes.test.way 2 --episodes.train.query 1 --episodes.test.query 2 --net.filters 4 "
    what += "--train.validate-every 0 --device cpu"
    rank0, rank1 = (
        {"WHAT": what, "CWD": str(tmp_path / place), "QUICKSTUDY_CACHE": str(tmp_path / "cache" / place)}
        for place in ("first", "second")
    )
    outcomes = ended(by_srun(tmp_path / "runs", free_port(), rank0=rank0, rank1=rank1))
    for status, _, err in outcomes:
        assert status == 2 and "Traceback" not in err, err
        assert "The ranks do not agree: the hash of the data is '" in err and "' on rank 1. Give all of them" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_torchrun_starts_again_what_was_killed_and_goes_on(tmp_path: Path) -> None:
    """A rank is killed; torchrun starts all again, and they go on with the run that they had begun."""
    runs, many = tmp_path / "runs", ("--steps", "600", "--train.validate-every", "0")
    recipe = ("sinusoid-maml", "--device", "cpu", "--train.precision", "float64", *many)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1"]
    launch += ["--master-addr", "127.0.0.1", "--master-port", str(free_port()), "-m", "quickstudy", "train", *recipe]
    child = subprocess.Popen(
        [*launch, "--runs", str(runs)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    state, deadline = runs / "sinusoid-maml-s0-001/checkpoints/last/state.json", time.monotonic() + 120
    while not state.exists():
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.05)
    below = subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(below[1]), signal.SIGKILL)
    said, _ = child.communicate(timeout=250)
    assert child.returncode == 0, said
    assert [path.name for path in runs.iterdir()] == ["sinusoid-maml-s0-001"]
    whole = api.train(
        "sinusoid-maml",
        overrides={"train.steps": 600, "train.precision": "float64", "train.validate-every": 0},
        runs=tmp_path / "own",
        device="cpu",
        ranks=2,
    )
    part = "checkpoints/last/weights.safetensors"
    assert (runs / "sinusoid-maml-s0-001" / part).read_bytes() == (whole.path / part).read_bytes()
    lines = (runs / "sinusoid-maml-s0-001/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 601))


@pytest.mark.slow
def test_a_rank_that_says_nothing_any_more_is_named(tmp_path: Path) -> None:
    """A rank that stands still, as one behind a broken network would: the other gives up after the time-out."""
    one, other = by_srun(
        tmp_path,
        free_port(),
        "--steps",
        "100000",
        rank0={"QUICKSTUDY_RANKS_TIMEOUT": "0.2"},
        rank1={"QUICKSTUDY_RANKS_TIMEOUT": "0.2"},
    )
    try:
        deadline = time.monotonic() + 100
        while not list(tmp_path.glob("*/checkpoints/last/state.json")):
            assert time.monotonic() < deadline and one.poll() is None
            time.sleep(0.1)
        other.send_signal(signal.SIGSTOP)
        _, err = one.communicate(timeout=100)
        assert one.returncode == 1 and "Traceback" not in err
        assert "Nothing can be exchanged with rank 1 of 2, on " in err and " (says rank 0 of 2, on " in err
        assert "--resume" in err
    finally:
        other.kill()
        other.communicate()
        one.kill()
