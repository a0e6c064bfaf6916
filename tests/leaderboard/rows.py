"""Files of rows, made up: figures that a task of five classes and fifteen queries can have."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from quickstudy.evaluate import Result
from quickstudy.evaluate.answered import mean_of
from quickstudy.evaluate.kept import save_kept
from quickstudy.evaluate.robustness import ECE, WORST_OF_EACH, Robustness
from tests.evaluate.fakes import a_result

VERSIONS = {"quickstudy": "0.1.0", "torch": "2.13.0", "processor": "x86_64", "cpus": 2}


def figures(mean: float, seed: int = 0, episodes: int = 50, spread: float = 4.0) -> list[float]:
    """Accuracies around ``mean``; how hard an episode is is the same whatever the mean."""
    hard = np.random.default_rng(1).normal(0, spread, episodes)
    own = np.random.default_rng(100 + seed).normal(0, 1, episodes)
    return [float(one) for one in np.clip(np.round(75 * mean + hard + own), 0, 75) / 75]


def made(mean: float = 0.8, seed: int = 0, episodes: int = 50, **changes: Any) -> Result:
    return a_result(figures(mean, seed, episodes), **changes)


def infinite(values: list[float], **changes: Any) -> Result:
    """Squared errors, some of which are infinite."""
    found = a_result([1.0] * len(values), metric="mse", way=None, **changes)
    median = float(np.median(values))
    whole: dict[str, Any] = {"mean": math.inf, "ci95": math.inf} | (
        {} if found.diverged else {"mean_converged": math.inf, "ci95_converged": math.inf}
    )
    return replace(found, per_episode=tuple(values), median=median, **whole)


def row(folder: Path, name: str, result: Result, **about: Any) -> Path:
    """Written as benchmarks/results.py writes, below a folder of results."""
    path = folder / "study" / f"{name.replace(' ', '-')}.json"
    save_kept(path, result, {"row": name, "versions": VERSIONS, **about})
    return path


def robust(result: Result, **changes: Any) -> dict[str, Any]:
    """Figures of robustness that stand beside a result."""
    values = np.clip(result.per_episode, 0, 1)  # of errors, which are no shares, something is made up
    clean = mean_of("unchanged", "unchanged tasks", values)
    noisy = mean_of("label noise", "20 % wrong labels", values / 2, at=0.2, difference=(-0.4, 0.01))
    found = Robustness(
        learner=result.learner,
        source=result.source,
        source_hash=result.source_hash,
        recipe_hash=result.recipe_hash,
        checkpoint=result.checkpoint,
        transductive=result.transductive,
        episodes=result.episodes,
        seconds=1.0,
        figures=(clean, noisy),
        not_asked={"10-way": "its head has 5 classes."},
    )
    changed: dict[str, Any] = json.loads(replace(found, **changes).to_json())
    return changed


def seen(result: Result, worst: float, ece: float) -> dict[str, Any]:
    """What a test says of itself, whatever else is asked."""
    clean = mean_of("unchanged", "unchanged tasks", np.array(result.per_episode))
    figures = (
        clean,
        replace(clean, name=WORST_OF_EACH, value=worst),
        replace(clean, name=ECE, metric="ece", value=ece),
    )
    return robust(result, figures=figures, not_asked={})


def edited(path: Path, **changes: Any) -> Path:
    """The file with fields changed; ``provenance__seed`` is one of the provenance, ``...`` removes."""
    content = json.loads(path.read_text())
    for key, value in changes.items():
        part, _, name = key.rpartition("__")
        target = content[part] if part else content
        target[name] = value
        if value is ...:
            del target[name]
    path.write_text(json.dumps(content))
    return path
