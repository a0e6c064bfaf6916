"""One trial: a training like any other, that may be stopped, and whose failure is a value."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quickstudy.errors import StorageError
from quickstudy.recipes import load_recipe, to_toml
from quickstudy.runlist import summary
from quickstudy.sweeps import SweepFolder
from quickstudy.sweeps.trial import run_trial
from quickstudy.train import Interrupted

SHORT = {
    "train.steps": 20,
    "train.validate-every": 5,
    "train.validate-episodes": 4,
    "train.tasks-per-step": 2,
    "learner.inner-steps": 1,
    "learner.inner-lr": 0.01,
}


def a_folder(path: Path, **more: Any) -> SweepFolder:
    (path / "base.toml").write_text(to_toml(load_recipe("sinusoid-maml-fast", SHORT | more)))
    return SweepFolder(path)


def never(step: int, value: float) -> bool:
    del step, value
    return False


def test_a_trial_is_a_run(tmp_path: Path) -> None:
    told: list[tuple[int, float]] = []

    def report(step: int, value: float) -> bool:
        told.append((step, value))
        return True  # at the last step nothing is saved by stopping

    reached = run_trial(a_folder(tmp_path, **{"train.validate-every": 20}), 7, {"train.lr": 0.01}, report)
    assert reached.outcome == "finished"
    assert reached.run == str(tmp_path / "trials" / "sinusoid-maml-fast-t007-s0-001")
    assert told == [(20, reached.value)]
    run = summary(Path(reached.run or ""))
    assert (run.status, run.step, run.best) == ("finished", 20, reached.value)
    assert "lr = 0.01" in (run.path / "recipe.toml").read_text()


def test_a_trial_that_is_stopped(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    reached = run_trial(folder, 0, {}, lambda step, value: step >= 10)
    assert (reached.outcome, reached.value) == ("pruned", None)
    assert reached.why == "stopped after 10 steps, as others were better by then"
    run = summary(Path(reached.run or ""))
    assert (run.status, run.why) == ("pruned", reached.why)


def test_a_trial_that_was_killed_goes_on(tmp_path: Path) -> None:
    """Its run is that of one never killed, and it says again only what came after its checkpoint."""
    folder = a_folder(tmp_path)

    class KilledError(BaseException):
        pass

    def dies(step: int, value: float) -> bool:
        del value
        if step == 10:
            raise KilledError
        return False

    with pytest.raises(KilledError):
        run_trial(folder, 0, {}, dies)
    told: list[int] = []

    def report(step: int, value: float) -> bool:
        told.append(step)
        return never(step, value)

    reached = run_trial(folder, 0, {}, report)
    assert told == [10, 15, 20]
    whole = run_trial(folder, 1, {}, never)
    assert reached.value == whole.value
    lines = [_measured(Path(one.run or "")) for one in (reached, whole)]
    assert lines[0] == lines[1]
    assert len(list(folder.trials.iterdir())) == 2


def _measured(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_a_folder_without_a_recipe_is_what_a_kill_left(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    (folder.trials / "sinusoid-maml-fast-t000-s0-001").mkdir(parents=True)
    reached = run_trial(folder, 0, {}, never)
    assert [path.name for path in folder.trials.iterdir()] == [Path(reached.run or "").name]


def test_what_diverges_is_counted(tmp_path: Path) -> None:
    reached = run_trial(a_folder(tmp_path), 0, {"learner.inner-lr": 1e30, "learner.inner-steps": 5}, never)
    assert reached.outcome == "diverged"
    assert reached.value is None


def test_values_that_cannot_go_together_are_refused(tmp_path: Path) -> None:
    values = {"learner.inner-steps": 1, "learner.head": "proto"}
    reached = run_trial(a_folder(tmp_path), 0, values, never)
    assert reached.outcome == "refused"
    assert "head" in reached.why
    assert reached.run is None


@pytest.mark.parametrize("error", [StorageError("Cannot write x."), Interrupted("Stopped.")])
def test_what_is_no_fault_of_the_trial_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr("quickstudy.sweeps.trial.train", _raising(error))
    with pytest.raises(type(error)):
        run_trial(a_folder(tmp_path), 0, {}, never)


def test_any_other_error_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("quickstudy.sweeps.trial.train", _raising(ZeroDivisionError("no")))
    reached = run_trial(a_folder(tmp_path), 0, {}, never)
    assert (reached.outcome, reached.why.split(" (")[0]) == ("failed", "ZeroDivisionError: no")
    assert "Traceback" in capsys.readouterr().err, "the worker's log"


def _raising(error: BaseException) -> Callable[..., None]:
    def train(*given: object, **named: object) -> None:
        raise error

    return train


def test_what_is_not_trained_is_measured_as_it_is(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, **{"train.steps": 0, "train.validate-every": 0})
    few, many = (run_trial(folder, steps, {"learner.inner-steps": steps}, never) for steps in (1, 9))
    assert few.outcome == many.outcome == "finished"
    assert few.value is not None and many.value is not None and math.isfinite(few.value)
    assert few.value != many.value


def test_a_trial_of_a_sweep_that_is_dead_leaves(tmp_path: Path) -> None:
    """It finishes its step and saves; whoever starts the sweep again takes it up."""
    folder = a_folder(tmp_path)
    with pytest.raises(Interrupted):
        run_trial(folder, 0, {}, never, parent=1 << 30)
    (run,) = folder.trials.iterdir()
    assert (summary(run).status, summary(run).step) == ("interrupted", 1)
    assert run_trial(folder, 0, {}, never).outcome == "finished"
