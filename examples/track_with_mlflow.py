"""Follow a meta-training in MLflow: an adapter is a callback, four short methods.

    pip install mlflow
    python examples/track_with_mlflow.py            # then: mlflow ui

``metrics.jsonl`` in the run's folder has the same figures with or without it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import quickstudy
from quickstudy.train import EndEvent, Silent, StepEvent, ValidationEvent


class MLflowCallback(Silent):
    """A run of MLflow for a run of quickstudy.

    Args:
        mlflow: the module ``mlflow``.
        name: of the run.
        params: what it was trained with, shown beside its curves.
    """

    def __init__(self, mlflow: Any, name: str, params: dict[str, Any]) -> None:
        self._mlflow = mlflow
        mlflow.start_run(run_name=name)
        mlflow.log_params(params)

    def step(self, event: StepEvent) -> None:
        """Loss, gradient norm, rate and what else the learner reports."""
        self._mlflow.log_metrics({f"train/{name}": value for name, value in event.logs.items()}, step=event.step)

    def validation(self, event: ValidationEvent) -> None:
        """The figure of meta-validation, and half the width of its interval."""
        found = event.result
        figures = {f"validation/{found.metric}": found.value, "validation/ci95": found.ci95}
        self._mlflow.log_metrics(figures, step=event.step)

    def end(self, event: EndEvent) -> None:
        """A run that was interrupted can go on, under another run of MLflow."""
        status = {"finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}[event.outcome]
        self._mlflow.end_run(status=status)


def main(steps: int = 200) -> None:
    """Train on sine waves, and tell MLflow."""
    try:
        import mlflow
    except ImportError:
        sys.exit("MLflow is not installed. Install it with: pip install mlflow")

    settings = {"train.steps": steps, "train.validate-every": max(1, steps // 2), "train.validate-episodes": 20}
    told = MLflowCallback(mlflow, "sinusoid-maml-fast", settings)
    with tempfile.TemporaryDirectory() as runs:
        run = quickstudy.train("sinusoid-maml-fast", overrides=settings, runs=Path(runs), callbacks=[told])
        print(f"quickstudy told MLflow of {run.trained.step} steps; best validation {run.trained.best:.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
