"""Runs, listed, filtered, and beside each other."""

import fcntl
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from quickstudy import api
from quickstudy.cli.runs import seconds_since
from quickstudy.errors import InputError, NonFiniteLoss
from quickstudy.reports import compare_runs
from quickstudy.runlist import is_training, list_runs, summary
from quickstudy.train import Interrupted, Silent, StepEvent
from tests.cli.conftest import Command

SHORT = {"train.steps": 4, "train.tasks-per-step": 2, "train.validate-every": 2, "train.validate-episodes": 4}


class Fails(Silent):
    """Ends a training at a step."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.at, self.error = at, error

    def step(self, event: StepEvent) -> None:
        if event.step == self.at:
            raise self.error


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two that were tested on the same tasks, one that failed, one that was interrupted, one of another learner."""
    runs = tmp_path_factory.mktemp("runs")
    for number, lr in enumerate((0.001, 0.02)):
        made = api.train("sinusoid-maml-fast", overrides={**SHORT, "train.lr": lr}, runs=runs, device="cpu")
        api.evaluate(made, episodes=20 + 10 * number, report=False)
    with pytest.raises(NonFiniteLoss):
        fails = Fails(3, NonFiniteLoss("The loss became nan at step 3."))
        api.train("sinusoid-maml-fast", overrides=SHORT, runs=runs, device="cpu", callbacks=[fails])
    with pytest.raises(Interrupted):
        api.train(
            "sinusoid-maml-fast",
            overrides=SHORT,
            runs=runs,
            device="cpu",
            callbacks=[Fails(3, Interrupted("Stopped."))],
        )
    api.train("sinusoid-cnp-fast", overrides=SHORT, runs=runs, device="cpu")
    return runs


def names(found: str) -> list[str]:
    return [Path(line.split()[0]).name.removeprefix("sinusoid-") for line in found.splitlines()]


def test_runs_are_listed_with_how_they_ended(quickstudy: Command, several: Path) -> None:
    lines = quickstudy("runs", "--runs", several).out.splitlines()
    assert [line.split()[1] for line in lines] == ["finished", "finished", "finished", "failed", "interrupted"]
    assert lines == quickstudy("list", "runs", "--runs", several).out.splitlines()
    assert "step 4/4" in lines[1] and "maml on sinusoid" in lines[1] and "1 evaluation" in lines[1]
    assert "best validation mse" in lines[1]
    failed = json.loads(quickstudy("runs", "--runs", several, "--status", "failed", "--json").out)
    assert [(run["status"], run["why"]) for run in failed] == [("failed", "The loss became nan at step 3")]
    assert failed[0]["metric"] == "mse"
    assert "\n# failed: The loss became nan at step 3.\n" in quickstudy("show", failed[0]["path"]).out


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["cnp"], ["cnp-fast-s0-001"]),
        (["*-s0-00[12]"], ["cnp-fast-s0-001", "maml-fast-s0-001", "maml-fast-s0-002"]),
        (["--learner", "cnp"], ["cnp-fast-s0-001"]),
        (["maml", "--data", "sinusoid", "--status", "finished"], ["maml-fast-s0-001", "maml-fast-s0-002"]),
        (["--since", "1h", "cnp"], ["cnp-fast-s0-001"]),
        (["--data", "omniglot"], []),
    ],
)
def test_runs_are_filtered(quickstudy: Command, several: Path, arguments: list[str], found: list[str]) -> None:
    done = quickstudy("runs", "--runs", several, *arguments)
    assert names(done.out) == found
    if not found:
        assert done.status == 0
        assert f"No run in {several} is like that." in done.err


def test_runs_that_have_not_changed_for_long(several: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(several / "sinusoid-cnp-fast-s0-001", old)
    for path in [*old.rglob("*")]:
        os.utime(path, (time.time() - 90000,) * 2)
    assert [run.path for run in list_runs(tmp_path)] == [old]
    assert list_runs(tmp_path, since=86400.0) == []
    assert len(list_runs(tmp_path, since=100000.0)) == 1


def test_a_run_that_a_process_trains_is_running(several: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(several / "sinusoid-cnp-fast-s0-001", run)
    assert not is_training(run)
    with (run / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert summary(run).status == "running"
    assert summary(run).status == "finished"
    (run / "recipe.toml").write_text("nonsense")
    assert summary(run).learner is None, "what cannot be read is listed all the same"


def test_a_run_that_failed_and_goes_on_has_not_failed(several: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(several / "sinusoid-maml-fast-s0-003", run)
    assert summary(run).status == "failed"
    with pytest.raises(Interrupted):
        api.train(run, resume=True, device="cpu", callbacks=[Fails(4, Interrupted("Stopped."))])
    assert summary(run).status == "interrupted"
    api.train(run, resume=True, device="cpu")
    assert summary(run).status == "finished"


def test_runs_are_compared_in_pairs(quickstudy: Command, several: Path) -> None:
    a, b, cnp = "sinusoid-maml-fast-s0-001", "sinusoid-maml-fast-s0-002", "sinusoid-cnp-fast-s0-001"
    done = quickstudy("runs", "compare", a, several / b, cnp, "--runs", several)
    assert done.status == 0, done.err
    lines = [line for line in done.out.splitlines() if line]
    assert [line.split()[0] for line in lines[:3]] == ["A", "B", "C"]
    assert any(line.split() == ["train.lr", "0.001", "0.02", "0.001"] for line in lines)
    at = lines.index("5-shot")
    assert lines[at + 1].startswith("  A  mse ") and lines[at + 1].endswith("over 20 episodes")
    assert lines[at + 3] == "  C  not tested"
    assert "A - B" in lines[at + 4] and "of 20 episodes)" in lines[at + 4]
    document = json.loads(quickstudy("runs", "compare", a, b, "--runs", several, "--json").out)
    (tested,) = document["tests"]
    assert tested["pairs"][0]["episodes"] == 20 and tested["pairs"][0]["why_not"] is None
    assert document["recipes"]["train.lr"] == [0.001, 0.02]


def test_why_runs_are_not_paired(several: Path, tmp_path: Path) -> None:
    paths = []
    for seed in (0, 1):
        path = tmp_path / f"run{seed}"
        shutil.copytree(several / "sinusoid-cnp-fast-s0-001", path)
        api.evaluate(path, episodes=4, seed=seed, report=False)
        paths.append(path)
    text = str(compare_runs(paths))
    assert "Their recipes are the same." in text
    assert (
        "A and B are not paired. Cannot compare cnp and cnp in pairs: they were tested on different tasks (seed" in text
    )


def test_runs_that_were_not_tested(several: Path) -> None:
    runs = [several / f"sinusoid-maml-fast-s0-00{number}" for number in (3, 4)]
    assert str(compare_runs(runs)).endswith("None of them was tested: quickstudy evaluate RUN.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare"], "Cannot compare no runs: name two or more."),
        (["compare", "sinusoid-cnp-fast-s0-001"], "Cannot compare 1 run: name two or more."),
        (["compare", *["sinusoid-cnp-fast-s0-001"] * 2], "Cannot compare a run with itself"),
        (["compare", "none", "sinusoid-cnp-fast-s0-001"], "There is no run none."),
        (["compare", "a", "b", "--learner", "maml"], "runs compare takes the folders of runs, and no filter."),
        (["a", "b"], "Expected one pattern, found 2: a b. Put it in quotes; or: runs compare A B."),
        (
            ["--since", "yesterday"],
            "--since: expected 30m, 12h, 2d, 1w or a date such as 2026-01-31, found 'yesterday'.",
        ),
        (["--since", "2999-01-01"], "--since: 2999-01-01 lies in the future."),
        (["--status", "happy"], "--status"),
    ],
)
def test_bad_input(quickstudy: Command, several: Path, arguments: list[str], said: str) -> None:
    done = quickstudy("runs", *arguments, "--runs", several)
    assert done.status == 2
    assert said in done.err


def test_how_long_ago() -> None:
    assert [seconds_since(text) for text in ("30m", "1.5h", "2d", "1w")] == [1800, 5400, 172800, 604800]
    assert seconds_since("1970-01-02T00:00:00+00:00", now=86400.0 + 60) == 60
    with pytest.raises(InputError, match="--since"):
        seconds_since("")
