"""Floor 6: a run's own page, ``report.html``: its curves, one of its episodes, its results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from quickstudy.data.controltasks import ControlTasks
from quickstudy.data.picturetasks import PictureTasks
from quickstudy.data.soundtasks import SoundTasks
from quickstudy.data.source import TaskSource
from quickstudy.data.texttasks import TextTasks
from quickstudy.domains.speech.pictures import spectrograms_of
from quickstudy.evaluate import (
    Entry,
    EpisodePicture,
    Result,
    Section,
    cell_name,
    compare,
    picture_episode,
    write_report,
)
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.parts.agents import AbstractAgent
from quickstudy.recipes import Recipe
from quickstudy.recipes.fitting import curves_of
from quickstudy.runs import changes_of, recipe_of, results_of
from quickstudy.train import RunFolder
from quickstudy.train.callbacks import json_lines

__all__ = ["by_column", "changes_in_words", "heard", "of_control", "records_of", "write_run_report"]


def write_run_report(
    run: RunFolder,
    recipe: Recipe,
    learner: AbstractLearner,
    source: TaskSource,
    sections: Sequence[Section] = (),
) -> None:
    """Write ``report.html`` of a run anew.

    Args:
        run: the folder; its metrics and results are shown.
        recipe: as trained.
        learner: as tested.
        source: what it was tested on; its first task is drawn, when it is one of pictures or of sounds.
        sections: of the last test, such as its calibration; tasks of texts have one more, with those of the first.

    Raises:
        StorageError: the disk refused.
    """
    trained, found = recipe_of(run), results_of(run)
    results = by_column(found, trained.data.name)
    if isinstance(source, TextTasks):
        from quickstudy.domains.language.pages import first_task  # with what counts words, for texts alone

        newest = next(iter(by_column(found[-1:], trained.data.name)), "the test")
        sections = (first_task(newest, source, learner), *sections)
    metrics = {result.metric for result in results.values()}
    table = compare([Entry(recipe.learner.name, results)]) if len(metrics) == 1 else None
    environment = json.loads(run.environment.read_bytes()) if run.environment.is_file() else {}
    write_report(
        run.report,
        title=run.path.name,
        lead=f"The learner {recipe.learner.name}, meta-trained on {trained.data.name} by the recipe {recipe.name}.",
        table=table,
        curves=curves_of(records_of(run.metrics), recipe.learner.name),
        pictures=_pictures(learner, source, recipe),
        sections=[*heard(learner, source), *sections],
        settings=trained.model_dump(mode="json", by_alias=True, exclude_none=True),
        versions=environment,
        notes=[f"The run was changed on the way: {what}" for what in changes_in_words(run)],
    )


def changes_in_words(run: RunFolder) -> list[str]:
    """A sentence for each time that a run went on by other settings, on other data or by another version."""
    return [f"after step {step}, {what}." for step, what in changes_of(run)]


def by_column(results: list[Result], data: str | None = None) -> dict[str, Result]:
    """Column -> the last result of it; what was tested otherwise than on the test tasks says so.

    Args:
        results: oldest first.
        data: name of the data set that was trained on; what was tested on another one says so, too.
    """

    def column(result: Result) -> str:
        name = cell_name(result) + ("" if result.split == "test" else f" ({result.split})")
        return name if data in (None, result.data) else f"{name}, {result.data}"

    return {column(result): result for result in results}


def _pictures(learner: AbstractLearner, source: TaskSource, recipe: Recipe) -> list[EpisodePicture]:
    shape = source.shape
    if shape.target != "classes" or isinstance(shape.example, dict) or len(shape.example) != 3:
        return []
    caption = f"Task 0 of {recipe.data.name}, as {recipe.learner.name} answers it"
    photographs = isinstance(source, PictureTasks)
    names = source.names_of(source.episodes(range(1))) if isinstance(source, PictureTasks) else ()
    return [picture_episode(learner, source, caption=caption, names=names, ink=not photographs)]


def heard(learner: AbstractLearner, source: TaskSource) -> list[Section]:
    """The first task of recordings; nothing of other tasks."""
    if not isinstance(source, SoundTasks):
        return []
    return [spectrograms_of(f"{source.settings['data']}, {source.settings['split']}", source, learner)]


def of_control(learner: AbstractLearner, source: TaskSource, result: Result, name: str = "") -> tuple[Section, ...]:
    """What a test in an environment looks like: returns against steps of adaptation, and rollouts; nothing of others.

    Args:
        learner: as tested.
        source: what it was tested on.
        result: of that test.
        name: what the page calls the learner, where it shows several.
    """
    if not (isinstance(learner, AbstractAgent) and isinstance(source, ControlTasks)):
        return ()
    from quickstudy.domains.control.pictures import return_curves, rollouts  # not loaded by other tests

    column = f"{result.split} tasks of {source.environment.name}"
    found = (return_curves({name or result.learner or "": {column: result}}), rollouts(learner, source))
    return tuple(replace(one, title=f"{one.title}: {name}") for one in found) if name else found


def records_of(metrics: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; none where there is no such file."""
    return list(json_lines(metrics))
