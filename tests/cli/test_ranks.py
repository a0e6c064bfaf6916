"""`--ranks`: runs and tests divided over processes, killed, interrupted, gone on with."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from typing_extensions import override

import quickstudy
from quickstudy.train import History, Interrupted, Silent, StepEvent, ValidationEvent
from tests.cli.conftest import Command
from tests.train.test_ranks_processes import children

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

OVERRIDES = {
    "train.steps": 20,
    "train.tasks-per-step": 5,
    "train.optimizer": "sgd",
    "train.validate-every": 10,
    "train.validate-episodes": 40,
    "train.precision": "float64",
    "evaluate.episodes": 40,
}
RUN = "sinusoid-maml-s0-001"


def train(runs: Path, ranks: int | None, callbacks: Any = (), recipe: Any = "sinusoid-maml", **more: Any) -> Path:
    overrides = {} if more.get("resume") else OVERRIDES
    given = {"overrides": overrides, "runs": runs, "device": "cpu", "callbacks": callbacks, "ranks": ranks} | more
    return quickstudy.train(recipe, **given).path


def weights(run: Path) -> bytes:
    return (run / "checkpoints" / "last" / "weights.safetensors").read_bytes()


def curves(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("alone"), None)


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    history = History()
    run = train(tmp_path_factory.mktemp("divided"), 2, [history])
    assert [step["step"] for step in history.steps] == list(range(1, 21))
    assert [event.step for event in history.validations] == [10, 20]
    return run


def test_two_ranks_write_the_run_of_one(alone: Path, divided: Path) -> None:
    mine, theirs = (load_file(run / "checkpoints" / "last" / "weights.safetensors") for run in (divided, alone))
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        assert (mine[name] - value).abs().max() < 1e-10, name
    for found, expected in zip(curves(divided), curves(alone), strict=True):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value)
    files, about = ({path.name for path in run.rglob("*")} for run in (divided, alone))
    assert files == about
    assert json.loads((divided / "environment.json").read_text())["ranks"] == 2
    assert json.loads((alone / "environment.json").read_text())["ranks"] == 1


def test_a_divided_test_gives_the_same_figures(alone: Path, quickstudy: Command) -> None:
    results = []
    for ranks in (1, 2):
        done = quickstudy("evaluate", alone, "--json", "--ranks", ranks, "--device", "cpu")
        assert done.status == 0, done.err
        assert "Traceback" not in done.err
        results.append({name: value for name, value in json.loads(done.out).items() if name != "seconds"})
    assert results[0] == results[1]
    assert len(results[0]["per_episode"]) == 40


def test_a_test_leaves_the_folder_of_a_training_alone(alone: Path, tmp_path: Path) -> None:
    """A training of the run may be going on, whose ranks print there."""
    run = tmp_path / "run"
    shutil.copytree(alone, run)
    printed = run / "ranks" / "rank0.log"
    printed.parent.mkdir()
    printed.write_text("by a rank of the training")
    quickstudy.evaluate(run, ranks=2, episodes=4, device="cpu", report=False)
    assert [path.read_text() for path in printed.parent.iterdir()] == ["by a rank of the training"]


def test_a_divided_test_has_the_report_of_an_undivided_one(tmp_path: Path) -> None:
    """Calibration is of all answers together."""
    overrides = {"train.steps": 1, "train.tasks-per-step": 1, "train.validate-every": 0}
    run = quickstudy.train("glyphs-protonet-fast", overrides=overrides, runs=tmp_path, device="cpu").path
    sections = []
    for ranks in (1, 2):
        quickstudy.evaluate(run, episodes=40, ranks=ranks, device="cpu")
        page = (run / "report.html").read_text(encoding="utf-8")
        sections.append(re.findall("<h2>Calibration and abstention</h2>.*?</section>", page, re.DOTALL))
    assert len(sections[0]) == 1 and sections[0] == sections[1]


class Kills(Silent):
    """Kills a rank, once."""

    def __init__(self, at: int) -> None:
        self.at, self.steps = at, list[int]()

    @override
    def step(self, event: StepEvent) -> None:
        self.steps.append(event.step)
        if event.step == self.at:
            os.kill(max(children()), signal.SIGKILL)


def test_a_killed_rank_changes_nothing(divided: Path, tmp_path: Path) -> None:
    callback = Kills(8)
    run = train(tmp_path, 2, [callback])
    assert callback.steps == list(range(1, 21))
    assert weights(run) == weights(divided)
    assert curves(run) == curves(divided)
    assert children() == set()


class Interrupts(Silent):
    """Ctrl-C, as the terminal sends it."""

    @override
    def validation(self, event: ValidationEvent) -> None:
        if event.step == 10:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.e2e
def test_an_interrupted_run_goes_on_with_as_many_ranks(divided: Path, tmp_path: Path) -> None:
    run = tmp_path / RUN
    with pytest.raises(
        Interrupted, match=rf"^Stopped after step 1\d of 20\. Go on with: quickstudy train {run} --resume$"
    ):
        train(tmp_path, 2, [Interrupts()])
    assert children() == set()
    assert train(tmp_path, None, recipe=run, resume=True) == run
    assert weights(run) == weights(divided)
    assert curves(run) == curves(divided)


@pytest.mark.e2e
def test_a_run_goes_on_with_another_number_of_ranks(divided: Path, tmp_path: Path) -> None:
    run = tmp_path / RUN
    with pytest.raises(Interrupted):
        train(tmp_path, 2, [Interrupts()])
    train(tmp_path, 1, recipe=run, resume=True)
    assert json.loads((run / "environment.json").read_text())["ranks"] == 1
    mine, theirs = (load_file(each / "checkpoints" / "last" / "weights.safetensors") for each in (run, divided))
    assert all((mine[name] - value).abs().max() < 1e-10 for name, value in theirs.items())


@pytest.mark.e2e
def test_the_command_line_divides_and_can_be_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "quickstudy", "train", "sinusoid-maml", "--ranks", "2", "--runs", str(tmp_path)]
    command += ["--train.tasks-per-step", "5", "--steps", "100000", "--device", "cpu"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    metrics = tmp_path / RUN / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    ranks = subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True, check=True).stdout.split()
    assert len(ranks) == 2
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=100)
    assert child.returncode == 130, err
    assert err.count("ranks: 2 (as asked for)\n") == 1
    assert err.count("Go on with: quickstudy train") == 1 and "Traceback" not in err
    assert not any(Path("/proc", rank).exists() for rank in ranks)


@pytest.mark.e2e
def test_ranks_do_not_outlive_the_process_that_started_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "quickstudy", "train", "sinusoid-maml", "--ranks", "2", "--runs", str(tmp_path)]
    child = subprocess.Popen([*command, "--device", "cpu"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 100
    metrics = tmp_path / RUN / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    ranks = subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True, check=True).stdout.split()
    child.kill()
    child.communicate()
    while any(Path("/proc", rank).exists() for rank in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.e2e
def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    overrides = {"train.steps": 3, "train.tasks-per-step": 4}
    script.write_text(
        "import quickstudy\n"
        f"options = {{'overrides': {overrides}, 'runs': {str(tmp_path)!r}, 'device': 'cpu', 'ranks': 2}}\n"
        "run = quickstudy.train('sinusoid-maml', **options)\n"
        "print(run.trained.step, next(run.learner.parameters()).device)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("3 cpu\n", "")


@pytest.mark.e2e
def test_a_diverged_run_says_so_once(tmp_path: Path, process: Command) -> None:
    options = ("--runs", tmp_path, "--device", "cpu", "--train.lr", "1e3", "--train.optimizer", "sgd", "--steps", "50")
    done = process("train", "sinusoid-maml", "--ranks", "2", *options)
    assert done.status == 1
    assert done.err.count("training diverged") == 1 and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("two", "--ranks: expected a whole number of at least 1, or auto, found 'two'."),
        ("-1", "--ranks: expected a whole number of at least 1, or auto, found '-1'."),
        ("0", "--ranks: expected a whole number of at least 1, or auto, found '0'."),
    ],
)
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_numbers_that_are_none(
    command: str, given: str, said: str, alone: Path, tmp_path: Path, quickstudy: Command
) -> None:
    what = ["sinusoid-maml", "--runs", tmp_path] if command == "train" else [alone]
    done = quickstudy(command, *what, "--ranks", given, "--device", "cpu")
    assert (done.status, done.err) == (2, f"error: {said}\n")
    assert list(tmp_path.iterdir()) == []
