"""Follow a meta-training in Weights & Biases: an adapter is a callback, four short methods.

    pip install wandb
    WANDB_MODE=offline python examples/track_with_wandb.py          # then: wandb sync wandb/offline-run-*

``metrics.jsonl`` in the run's folder has the same figures with or without it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import quickstudy
from quickstudy.train import EndEvent, Silent, StepEvent, ValidationEvent


class WandbCallback(Silent):
    """A run of Weights & Biases for a run of quickstudy.

    Args:
        wandb: the module ``wandb``.
        project: that the run is put into.
        config: what it was trained with, shown beside its curves.
    """

    def __init__(self, wandb: Any, project: str, config: dict[str, Any]) -> None:
        self._run = wandb.init(project=project, config=config)

    def step(self, event: StepEvent) -> None:
        """Loss, gradient norm, rate and what else the learner reports."""
        self._run.log({f"train/{name}": value for name, value in event.logs.items()}, step=event.step)

    def validation(self, event: ValidationEvent) -> None:
        """The figure of meta-validation, and half the width of its interval."""
        found = event.result
        self._run.log({f"validation/{found.metric}": found.value, "validation/ci95": found.ci95}, step=event.step)
        if event.best:
            self._run.summary["best"] = found.value

    def end(self, event: EndEvent) -> None:
        """Anything but 0 is shown as a run that did not finish."""
        self._run.finish(exit_code=0 if event.outcome == "finished" else 1)


def main(steps: int = 200) -> None:
    """Train on sine waves, and tell Weights & Biases."""
    try:
        import wandb
    except ImportError:
        sys.exit("Weights & Biases is not installed. Install it with: pip install wandb")

    settings = {"train.steps": steps, "train.validate-every": max(1, steps // 2), "train.validate-episodes": 20}
    told = WandbCallback(wandb, "sinusoids", settings)
    with tempfile.TemporaryDirectory() as runs:
        run = quickstudy.train("sinusoid-maml-fast", overrides=settings, runs=Path(runs), callbacks=[told])
        print(f"quickstudy told Weights & Biases of {run.trained.step} steps; best validation {run.trained.best:.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
