"""The adapters of examples/: what a tracker is told is what metrics.jsonl says."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import quickstudy
from quickstudy.errors import RunError
from quickstudy.train import Callback, History, Silent, StepEvent

EXAMPLES, FAKES = Path(__file__).parents[2] / "examples", Path(__file__).parent / "fakes"
SHORT = {"train.steps": 4, "train.validate-every": 2, "train.validate-episodes": 4}


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def trained(told: Callback, runs: Path, *more: Callback) -> History:
    history = History()
    quickstudy.train("sinusoid-maml-fast", overrides=SHORT, runs=runs, callbacks=[told, history, *more])
    return history


class Breaks(Silent):
    def step(self, event: StepEvent) -> None:
        if event.step == 3:
            raise RunError("no")


def test_mlflow(tmp_path: Path) -> None:
    mlflow, example = module(FAKES / "mlflow.py"), module(EXAMPLES / "track_with_mlflow.py")
    history = trained(example.MLflowCallback(mlflow, "x", SHORT), tmp_path)
    logged: list[Any] = [what for name, what in mlflow.told if name == "log_metrics"]
    steps = [(step, metrics) for step, metrics in logged if "train/loss" in metrics]
    assert [step for step, _ in steps] == [1, 2, 3, 4]
    assert [metrics["train/loss"] for _, metrics in steps] == [record["loss"] for record in history.steps]
    found = [(step, metrics["validation/mse"]) for step, metrics in logged if "validation/mse" in metrics]
    assert found == [(event.step, event.result.value) for event in history.validations]
    assert mlflow.told[:2] == [("start_run", "x"), ("log_params", SHORT)]
    assert mlflow.told[-1] == ("end_run", "FINISHED")
    with pytest.raises(RunError):
        trained(example.MLflowCallback(mlflow, "x", SHORT), tmp_path, Breaks())
    assert mlflow.told[-1] == ("end_run", "FAILED")


def test_weights_and_biases(tmp_path: Path) -> None:
    wandb, example = module(FAKES / "wandb.py"), module(EXAMPLES / "track_with_wandb.py")
    history = trained(example.WandbCallback(wandb, "sinusoids", SHORT), tmp_path)
    logged: list[Any] = [what for name, what in wandb.told if name == "log"]
    assert [data["train/grad_norm"] for _, data in logged if "train/loss" in data] == [
        record["grad_norm"] for record in history.steps
    ]
    found = [(step, data["validation/mse"]) for step, data in logged if "validation/mse" in data]
    assert found == [(event.step, event.result.value) for event in history.validations]
    best = min(event.result.value for event in history.validations)
    assert wandb.told[0] == ("init", ("sinusoids", SHORT))
    assert wandb.told[-1] == ("finish", (0, {"best": best}))
    with pytest.raises(RunError):
        trained(example.WandbCallback(wandb, "sinusoids", SHORT), tmp_path, Breaks())
    assert wandb.told[-1][1][0] == 1


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_without_the_tracker_a_sentence_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit, match=rf"is not installed\. Install it with: pip install {name}$"):
        module(EXAMPLES / f"track_with_{name}.py").main()
