"""Floor 6: a run's own page, ``report.html``: its curves, one of its episodes, its results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quickstudy.data.source import TaskSource
from quickstudy.evaluate import Curve, Entry, EpisodePicture, Result, cell_name, compare, picture_episode, write_report
from quickstudy.learners.learner import AbstractLearner
from quickstudy.recipes import Recipe
from quickstudy.runs import results_of
from quickstudy.train import RunFolder

__all__ = ["by_column", "curves_of", "write_run_report"]


def write_run_report(run: RunFolder, recipe: Recipe, learner: AbstractLearner, source: TaskSource) -> None:
    """Write ``report.html`` of a run anew.

    Args:
        run: the folder; its metrics and results are shown.
        recipe: as trained.
        learner: as tested.
        source: what it was tested on; its first task is drawn, when it is one of pictures.

    Raises:
        StorageError: the disk refused.
    """
    results = by_column(results_of(run))
    metrics = {result.metric for result in results.values()}
    table = compare([Entry(recipe.learner.name, results)]) if len(metrics) == 1 else None
    environment = json.loads(run.environment.read_bytes()) if run.environment.is_file() else {}
    write_report(
        run.report,
        title=run.path.name,
        lead=f"The learner {recipe.learner.name} on {recipe.data.name}, meta-trained by the recipe {recipe.name}.",
        table=table,
        curves=curves_of(run.metrics, recipe.learner.name),
        pictures=_pictures(learner, source, recipe),
        settings=recipe.model_dump(mode="json", by_alias=True, exclude_none=True),
        versions=environment,
    )


def by_column(results: list[Result]) -> dict[str, Result]:
    """Column -> the last result of it; what was tested otherwise than on the test tasks says so."""
    return {cell_name(result) + ("" if result.split == "test" else f" ({result.split})"): result for result in results}


def _pictures(learner: AbstractLearner, source: TaskSource, recipe: Recipe) -> list[EpisodePicture]:
    shape = source.shape
    if shape.target != "classes" or isinstance(shape.example, dict) or len(shape.example) != 3:
        return []
    caption = f"Task 0 of {recipe.data.name}, as {recipe.learner.name} answers it"
    return [picture_episode(learner, source, caption=caption, ink=True)]


def curves_of(metrics: Path, name: str) -> list[Curve]:
    """Loss, accuracy and validation of a ``metrics.jsonl``; none where there is no such file.

    Args:
        metrics: the file.
        name: whose curves they are.
    """
    if not metrics.is_file():
        return []
    records: list[dict[str, Any]] = []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break  # the tail of a killed run
    curves = []
    for key, quantity in (
        ("loss", "loss"),
        ("accuracy", "training accuracy"),
        ("validation_accuracy", "validation accuracy"),
        ("validation_mse", "validation error"),
    ):
        points = [(record["step"], record[key]) for record in records if key in record and "step" in record]
        if points:
            curves.append(Curve(name, quantity, *zip(*points, strict=True)))
    return curves
