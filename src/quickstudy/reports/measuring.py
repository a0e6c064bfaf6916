"""Floor 6: what a report measures of a run: along inner steps, along shots, and of every answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.dataset import DataSet
from quickstudy.data.source import TaskSource
from quickstudy.episode import Episode
from quickstudy.errors import InputError
from quickstudy.evaluate import Curve, Result, episode_ci95, meta_test
from quickstudy.evaluate.calibration import Collector
from quickstudy.evaluate.metatest import evaluating
from quickstudy.evaluate.scores import score
from quickstudy.keys import Key, Keys
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.registry import learners
from quickstudy.recipes import Recipe
from quickstudy.recipes.building import build_data, test_tasks
from quickstudy.recipes.parts import takes
from quickstudy.recipes.schema import kebab
from quickstudy.reports.classes import ClassAnswers
from quickstudy.runs import Which, as_trained, learner_of, leave_out_known, recipe_of, which_checkpoint
from quickstudy.train import RunFolder
from quickstudy.train.precision import in_precision

__all__ = ["Answered", "Asked", "StepsTaken", "answered", "ask", "by_shots", "by_steps", "shots_curve"]

_SHOTS = (1, 2, 3, 5, 10, 20)
_MOST_STEPS = 8  # numbers of inner steps that are looked at, beside none
_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Asked:
    """A run whose learner is asked.

    Args:
        name: what the page calls it.
        folder: of the run.
        recipe: as trained.
        which: the checkpoint.
        learner: of that checkpoint, on its device.
        data: as the run reads it.
        role: of the tasks.
        source: of the tasks.
    """

    name: str
    folder: RunFolder
    recipe: Recipe
    which: Which
    learner: AbstractLearner
    data: DataSet
    role: str
    source: TaskSource

    def tasks(self, **sizes: Any) -> TaskSource:
        """The same tasks in another size."""
        return test_tasks(self.recipe, self.data, role=self.role, **sizes)

    def computing(self, learner: AbstractLearner) -> AbstractLearner:
        """In the precision that results are measured in."""
        return in_precision(learner, self.recipe.evaluate.precision)


def ask(name: str, folder: RunFolder, role: str, data_root: Path | None, device: torch.device) -> Asked:
    """A run and the tasks that it is asked.

    Raises:
        InputError: its data set has no such role, or its learner cannot learn these tasks.
        CheckpointError: its checkpoint is missing or broken.
    """
    recipe, which = recipe_of(folder), which_checkpoint(folder)
    learner = learner_of(folder, recipe, which).to(device)
    data = as_trained(folder, leave_out_known(folder, build_data(recipe, data_root)))
    return Asked(name, folder, recipe, which, learner, data, role, test_tasks(recipe, data, role=role))


# --- every answer ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Answered:
    """All answers of a run to the tasks of a report.

    Args:
        result: their figures.
        calibration: probabilities; None of tasks without classes.
        classes: what was taken for what; None where classes have no numbers.
    """

    result: Result
    calibration: Collector | None
    classes: ClassAnswers | None


def answered(asked: Asked, episodes: int, progress: Callable[[int, int], None] | None = None) -> Answered:
    """Ask a run.

    Args:
        asked: the run.
        episodes: how many tasks.
        progress: told how many are done.
    """
    of_classes = asked.source.shape.target == "classes"
    calibration = Collector() if of_classes else None
    settings = asked.source.settings
    # Tasks made of hospitals or users number those, not what is answered.
    numbered = asked.source.shape.classes is not None and settings.get("way") is not None and "groups" not in settings
    classes = ClassAnswers(asked.source) if of_classes and numbered else None

    def observe(outputs: Tensor, episode: Episode) -> None:
        for one in (calibration, classes):
            if one is not None:
                one(outputs, episode)

    result = meta_test(
        asked.computing(asked.learner), asked.source, episodes=episodes, progress=progress, observe=observe
    )
    return Answered(result, calibration, classes if classes is not None and classes.asked else None)


# --- along shots -------------------------------------------------------------------------------


def by_shots(asked: Asked, episodes: int, progress: Callable[[int, int], None] | None = None) -> list[Result]:
    """A result for each number of shots that the data and the learner allow, the recipe's own among them.

    Args:
        asked: the run.
        episodes: how many tasks of each.
        progress: told how many numbers of shots are done.
    """
    own = asked.recipe.episodes.test.shot
    shots = sorted({*_SHOTS, own}) if isinstance(own, int) else list(_SHOTS)
    found = []
    for place, shot in enumerate(shots):
        try:
            tasks = asked.tasks(shot=shot)
            found.append(meta_test(asked.computing(asked.learner), tasks, episodes=episodes))
        except InputError:  # too few examples of a class, or a learner that was built for other sizes
            continue
        finally:
            if progress is not None:
                progress(place + 1, len(shots))
    return found


def shots_curve(name: str, results: Sequence[Result]) -> Curve:
    """Figures against shots."""
    shots = [float(result.shot) for result in results if isinstance(result.shot, int)]
    means = [result.mean for result in results if isinstance(result.shot, int)]
    half = [result.ci95 for result in results if isinstance(result.shot, int)]
    return Curve(name, results[0].metric, shots, means, half, along="shots")


# --- along inner steps -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class StepsTaken:
    """Losses and figures of the same tasks after so many inner steps each.

    Args:
        option: of the learner, that says how many steps it takes.
        trained: how many it was trained with.
        metric: of the figures.
        steps: the numbers of steps that were looked at.
        support: ``[steps, episodes]``, the loss on the support.
        query: ``[steps, episodes]``, that on the query.
        figures: ``[steps, episodes]``.
    """

    option: str
    trained: int
    metric: str
    steps: list[int] = field(default_factory=list)
    support: list[NDArray[np.float64]] = field(default_factory=list)
    query: list[NDArray[np.float64]] = field(default_factory=list)
    figures: list[NDArray[np.float64]] = field(default_factory=list)

    def curves(self, name: str) -> list[Curve]:
        """A curve for each of the three."""
        found = []
        kinds = [("support loss", self.support), ("query loss", self.query), (f"query {self.metric}", self.figures)]
        if np.allclose(self.query, self.figures):  # squared errors are both
            kinds.pop()
        for quantity, rows in kinds:
            means = [float(row.mean()) for row in rows]
            half = [episode_ci95(row) for row in rows]
            found.append(Curve(name, quantity, self.steps, means, half, along="inner steps"))
        return found


def by_steps(asked: Asked, episodes: int, progress: Callable[[int, int], None] | None = None) -> StepsTaken | None:
    """The same tasks after none, one, two ... inner steps; None of a learner whose steps cannot be counted.

    The learner is built again for each number and adapts anew, so that steps with rates or norms of their own are those
    that it takes.

    Args:
        asked: the run.
        episodes: how many tasks.
        progress: told how many numbers of steps are done.
    """
    option = _option(asked.recipe)
    if option is None:
        return None
    trained = int(asked.recipe.learner.options.get(option) or asked.recipe.learner.options.get("inner_steps") or 1)
    numbers = _numbers(trained)
    found: StepsTaken | None = None
    for place, steps in enumerate(numbers):
        try:
            recipe = recipe_of(asked.folder, {f"learner.{kebab(option)}": steps})
            learner = learner_of(asked.folder, recipe, asked.which).to(_device_of(asked.learner))
        except InputError:  # a shared head needs two steps or more
            continue
        metric, support, query, figures = _losses(asked.computing(learner), asked.source, episodes)
        found = found or StepsTaken(option, trained, metric)
        found.steps.append(steps)
        for kept, row in zip((found.support, found.query, found.figures), (support, query, figures), strict=True):
            kept.append(row)
        if progress is not None:
            progress(place + 1, len(numbers))
    return found if found is not None and len(found.steps) > 1 else None


def _option(recipe: Recipe) -> str | None:
    """The option of the learner that says how many steps it takes when it is tested."""
    cls = learners.get(recipe.learner.name)
    if takes(cls, "test_inner_steps"):
        return "test_inner_steps"
    # Of learners that train on the support alone every step is one of testing.
    return "steps" if takes(cls, "steps") and takes(cls, "lr") else None


def _numbers(trained: int) -> list[int]:
    """0, 1, 2 ... up to twice as many as in training, evenly thinned out where they are many."""
    most = max(2 * trained, 5) if trained <= 10 else trained
    if most <= _MOST_STEPS + 2:
        return list(range(most + 1))
    return sorted({0, trained, *np.unique(np.geomspace(1, most, _MOST_STEPS).round().astype(int)).tolist()})


def _device_of(learner: AbstractLearner) -> torch.device:
    return next((p.device for p in learner.parameters()), torch.device("cpu"))


def _losses(
    learner: AbstractLearner, source: TaskSource, episodes: int
) -> tuple[str, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The metric, and ``[episodes]`` each: losses on support and query, figures on the query."""
    parts: list[tuple[Tensor, Tensor, NDArray[np.float64]]] = []
    measured = ""
    with evaluating(learner), torch.no_grad():
        for first in range(0, episodes, _AT_ONCE):
            episode = source.episodes(range(first, min(first + _AT_ONCE, episodes)))
            keys = Keys(Key.of(0, "meta-test"), episode.indices.numpy())
            there = episode.to(_device_of(learner))
            state = learner.adapt(there.support, key=keys)
            of_query = learner.predict(state, there.query.unlabelled(), key=keys.fold("predict"))
            of_support = learner.predict(state, there.support.unlabelled(), key=keys.fold("predict"))
            scores = score(of_query.cpu(), episode, source)
            measured = scores.metric
            losses = learner.loss(of_support, there.support), learner.loss(of_query, there.query)
            parts.append((losses[0].double().cpu(), losses[1].double().cpu(), scores.values))
    support, query, figures = zip(*parts, strict=True)
    return measured, torch.cat(support).numpy(), torch.cat(query).numpy(), np.concatenate(figures)
