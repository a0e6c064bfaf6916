"""Stopped by Ctrl-C or killed, a run goes on as if nothing had been."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STEPS = 400
RECIPE = ("sinusoid-maml", "--device", "cpu", "--train.validate-every", "100")


def start(runs: Path, *more: str, steps: int = STEPS) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "quickstudy", "train", *RECIPE, "--steps", str(steps), "--runs", str(runs), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(child: "subprocess.Popen[str]") -> tuple[int, str]:
    _, err = child.communicate(timeout=120)
    return child.returncode, err


def wait_for_a_checkpoint(run: Path, child: "subprocess.Popen[str]") -> None:
    state = run / "checkpoints" / "last" / "state.json"
    deadline = time.monotonic() + 100
    while not state.exists():
        assert child.poll() is None, child.communicate()[1]
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)


def content(run: Path) -> tuple[bytes, list[object]]:
    """Weights and curves of a run, without times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("seconds", None)
    return (run / "checkpoints" / "last" / "weights.safetensors").read_bytes(), lines


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("whole")
    status, err = finish(start(runs))
    assert status == 0, err
    return runs / "sinusoid-maml-s0-001"


@pytest.mark.skipif(os.name == "nt", reason="signals are sent as on POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, uninterrupted: Path, number: signal.Signals) -> None:
    run = tmp_path / "sinusoid-maml-s0-001"
    child = start(tmp_path)
    wait_for_a_checkpoint(run, child)
    child.send_signal(number)
    status, err = finish(child)
    if number != signal.SIGKILL:
        assert status == 130, err
        assert f"Go on with: quickstudy train {run} --resume" in err
        assert "Traceback" not in err
    else:
        assert status == -signal.SIGKILL
    stopped_at = json.loads((run / "checkpoints" / "last" / "state.json").read_text())["step"]
    assert 0 < stopped_at < STEPS
    status, err = finish(start(tmp_path, "--resume"))
    assert status == 0, err
    assert not (tmp_path / "sinusoid-maml-s0-002").exists()
    assert content(run) == content(uninterrupted)


def test_more_steps_go_on_from_the_end(tmp_path: Path) -> None:
    run = tmp_path / "sinusoid-maml-s0-001"
    for steps, more in ((10, ()), (20, ("--resume",))):
        status, err = finish(start(tmp_path, *more, steps=steps))
        assert status == 0, err
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()][-1] == 20
