"""Floor 6: which tasks a learner is asked for its robustness figures, which ``evaluate/answered.py`` computes.

All that is compared is asked on the same episodes as the unchanged tasks, so that differences are paired. Tasks of
other sizes are other tasks, and have their own intervals.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quickstudy.data.changed import AbstractChange, ChangedTasks, NoisyQueries, Outsiders, SwappedLabels, TurnedQueries
from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.counts import Count
from quickstudy.data.source import TaskSource
from quickstudy.episode import Episode
from quickstudy.errors import DataError, InputError
from quickstudy.evaluate import Result, meta_test
from quickstudy.evaluate.answered import LEAST, ClassCounts, Rejection, Unchanged, accuracies, mean_of, worst_of
from quickstudy.evaluate.intervals import episode_ci95
from quickstudy.evaluate.robustness import WORST, Figure, Robustness
from quickstudy.evaluate.scores import Floats
from quickstudy.learners.learner import AbstractLearner
from quickstudy.runs import state_of
from quickstudy.train import RunFolder

__all__ = ["EPISODES", "Stressed", "check_classes", "robustness_of", "save_robustness", "stress"]

EPISODES = 300
"""At most so many of each kind of changed tasks."""
SHOTS = (1, 2, 5, 10, 20)
WAYS = (2, 5, 10, 20, 50, 100)
_NOISY_SHOT = 5  # of one example a class nothing can outvote a wrong label
_QUERIES = 5  # a class, of tasks with many ways
_RATES = (0.1, 0.2)
_ANGLES = (15.0, 90.0, 180.0)
_DEVIATIONS = (0.2, 0.4)
_CONCENTRATION = 2.0  # O. Veilleux et al., "Realistic evaluation of transductive few-shot learning", NeurIPS 2021


@dataclass(eq=False)
class Stressed:
    """A learner, and the tasks that it can be asked.

    Args:
        learner: to be asked, in the precision that results are measured in.
        bare: the same one, which may have a network that makes features.
        tasks: makes tasks of other sizes (way, shot, query, dirichlet); without any, the unchanged ones.
        episodes: how many of each kind, but for unchanged ones that were tested already.
        tasks_at_once: as in ``meta_test``.
        progress: told how many kinds of tasks are done, of how many.
        tested: the result of the unchanged tasks, of as many episodes or more, and what was seen meanwhile; else they
            are tested.
    """

    learner: AbstractLearner
    bare: AbstractLearner
    tasks: Callable[..., TaskSource]
    episodes: int
    tasks_at_once: int | None = None
    progress: Callable[[int, int], None] | None = None
    tested: tuple[Result, Unchanged] | None = None
    figures: list[Figure] = field(default_factory=list)
    not_asked: dict[str, str] = field(default_factory=dict)
    kept: dict[Count | None, Floats] = field(default_factory=dict)
    """Shots -> accuracies of the unchanged tasks."""

    def add(self, figure: Figure) -> None:
        """Keep a figure."""
        self.figures.append(figure)

    def test(self, source: TaskSource, episodes: int | None = None, observe: Any = None) -> Result:
        """Meta-test; where it was said how many tasks are computed at once, with as many classes at once."""
        at_once = self.tasks_at_once
        if at_once is not None:
            way, usual = int(source.shape.outputs), int(self.tasks().shape.outputs)
            at_once = max(1, at_once * usual // max(way, usual))
        number = source.at_most(episodes or self.episodes)
        return meta_test(self.learner, source, episodes=number, tasks_at_once=at_once, observe=observe)


def check_classes(source: TaskSource) -> None:
    """Whether robustness figures can be made of such tasks.

    Raises:
        InputError: they have no classes.
    """
    target = source.shape.target
    if target != "classes":
        acting = source.shape.environment is not None
        what = "a policy earns returns in them" if acting else f"their target is {target!r}"
        raise InputError(
            f"Cannot measure robustness on these tasks: its figures are of tasks that tell classes apart, and {what}. "
            "Leave --robustness out."
        )


def stress(asked: Stressed, **about: Any) -> Robustness:
    """Ask everything; what these tasks or this learner cannot be asked is named with the reason.

    Args:
        asked: the learner and its tasks.
        about: learner, recipe_hash, checkpoint and weights_sha256 of :class:`Robustness`.

    Raises:
        InputError: the tasks have no classes, the learner cannot learn even the unchanged ones, or these were tested on
            fewer episodes than are asked for.
    """
    source = asked.tasks()
    check_classes(source)
    clean, seen = asked.tested or _tested(asked, source)
    if clean.episodes < source.at_most(asked.episodes):  # pairs would be of other episodes
        raise InputError(
            f"Cannot go on from a test of {clean.episodes} episodes with {asked.episodes} of each kind of changed "
            "tasks: each is compared with its own unchanged one. Test as many, or ask for fewer."
        )
    started = time.perf_counter()
    asked.figures += seen.figures(clean)
    asked.kept[_size(source, "shot")] = accuracies(clean)
    steps = list(_steps(asked, source, clean.episodes, seen.counts))
    for place, (name, step) in enumerate(steps):
        try:
            step()
        except DataError:
            raise
        except InputError as error:
            asked.not_asked[name] = str(error)
        if asked.progress is not None:
            asked.progress(place + 1, len(steps))
    return Robustness(
        source=clean.source,
        source_hash=clean.source_hash,
        transductive=clean.transductive,
        episodes=clean.episodes,
        seconds=clean.seconds + time.perf_counter() - started,
        figures=tuple(asked.figures),
        not_asked=dict(asked.not_asked),
        **about,
    )


def _tested(asked: Stressed, source: TaskSource) -> tuple[Result, Unchanged]:
    seen = Unchanged()
    return asked.test(source, observe=seen), seen


def _steps(
    asked: Stressed, source: TaskSource, episodes: int, counts: ClassCounts
) -> Iterator[tuple[str, Callable[[], None]]]:
    """What is asked, in the order of the table."""
    yield WORST, partial(_worst, asked, source, episodes, counts)
    yield "unknown rejection", partial(_rejection, asked, source)
    own = _size(source, "shot")
    for shot in dict.fromkeys((own, _NOISY_SHOT)):
        for rate in _RATES:
            name = f"{100 * rate:.0f} % wrong labels" + ("" if shot == own else f", {shot} shots")
            yield name, partial(_changed, asked, "label noise", name, rate, SwappedLabels(rate), shot)
    for angle in _ANGLES:
        name = f"queries turned by {angle:.0f}°"
        yield name, partial(_changed, asked, "shift", name, angle, TurnedQueries(angle), own)
    for deviation in _DEVIATIONS:
        name = f"queries with pixel noise of {deviation:g}"
        yield name, partial(_changed, asked, "shift", name, deviation, NoisyQueries(deviation), own)
    yield "queries by other people", partial(_other_people, asked, source)
    if asked.learner.traits.transductive:
        yield "uneven queries", partial(_uneven, asked, source)
    for shots in SHOTS:
        yield f"{shots}-shot", partial(_shots, asked, source, shots)
    for ways in WAYS:
        yield f"{ways}-way", partial(_ways, asked, source, ways)


# --- the unchanged tasks, and queries beside them -----------------------------------------------


def _worst(asked: Stressed, source: TaskSource, episodes: int, counts: ClassCounts) -> None:
    """Of all classes that occur often enough; where too few do, of tasks of fewer classes."""
    if not counts.found:
        raise InputError("These tasks do not number their classes, so that none can be followed from task to task.")
    often, of = counts.often, episodes
    if len(often) < 2:
        way, of = source.settings.get("way"), source.at_most(asked.episodes)
        if not isinstance(source, ClassTasks) or not isinstance(way, int):
            raise InputError(f"Fewer than two classes occur in {LEAST} episodes or more. Ask for more episodes.")
        turned = 4 if source.settings.get("rotations") == "classes" else 1
        few = of * way // (2 * LEAST * turned)
        if few * turned < max(way, 2):
            least = -(-max(way, 2) // turned) * 2 * LEAST * turned / way
            raise InputError(
                f"A class must occur in {LEAST} episodes or more to be called the worst: {of} episodes are too "
                f"few, {math.ceil(least)} would do."
            )
        among_few = ClassCounts()
        asked.test(source.among(few), observe=among_few)
        often = among_few.often
    if len(often) < 2:
        raise InputError(f"Fewer than two classes occur in {LEAST} episodes or more. Ask for more episodes.")
    asked.add(worst_of(often, of))


def _rejection(asked: Stressed, source: TaskSource) -> None:
    """Queries of other classes beside the own ones: by the largest probability, and by the distance of features."""
    from quickstudy.estimators.doubt import has_features  # scikit-learn, for which no other command waits

    sure, near = Rejection(), Rejection(partial(_nearness, asked.bare))
    # One without weights goes by the examples themselves; of others these would say nothing.
    measured = has_features(asked.bare) or next(asked.bare.parameters(), None) is None

    def observe(outputs: Tensor, episode: Episode) -> None:
        sure(outputs, episode)
        if measured:
            near(outputs, episode)

    asked.test(ChangedTasks(source, Outsiders()), observe=observe)
    if not len(sure.values):
        raise InputError("Cannot ask for queries of other classes: every task has all the classes that there are.")
    asked.add(mean_of("rejection", "unknown classes, by probability", sure.values, "auroc"))
    if not measured:
        raise InputError("By distance: its network makes no features that stay the same from task to task.")
    asked.add(mean_of("rejection", "unknown classes, by distance", near.values, "auroc"))


def _nearness(learner: AbstractLearner, outputs: Tensor, episode: Episode) -> Floats:
    """Minus the distance of each query to the nearest example of the support, ``[T, Nq]``, as estimators measure it."""
    from quickstudy.estimators.doubt import embedded, nearest  # as above

    device = next((parameter.device for parameter in learner.parameters()), torch.device("cpu"))
    found = np.zeros(outputs.shape[:2])
    with torch.no_grad():
        for task in range(episode.n_task):
            support, query = (part.tasks(slice(task, task + 1)).to(device) for part in (episode.support, episode.query))
            known = embedded(learner, support.unlabelled())[support.real[0]].cpu()
            found[task] = -nearest(known, embedded(learner, query.unlabelled()).cpu())
    return found


# --- changed tasks ------------------------------------------------------------------------------


def _changed(asked: Stressed, kind: str, name: str, at: float, change: AbstractChange, shot: Count | None) -> None:
    """The same tasks with something changed, beside the unchanged ones of as many shots."""
    clean = _clean(asked, shot)
    found = asked.test(ChangedTasks(asked.tasks(shot=shot), change))
    asked.add(_paired(kind, name, found, clean, at))


def _other_people(asked: Stressed, source: TaskSource) -> None:
    if not isinstance(source, ClassTasks):
        raise InputError("Cannot tell who made the examples of these tasks: the data does not say it.")
    found = asked.test(source.apart())
    asked.add(_paired("shift", "queries by other people", found, _clean(asked, _size(source, "shot"))))


def _uneven(asked: Stressed, source: TaskSource) -> None:
    """Dirichlet queries beside as many even ones. All may be of one class, so classes must be large enough."""
    query = _size(source, "query")
    most = query if isinstance(query, int) else query[1] if query is not None else 1
    for few in [one for one in dict.fromkeys((most, _QUERIES, 3, 2, 1)) if one <= most]:
        try:
            uneven, even = (asked.tasks(query=few, dirichlet=a) for a in (_CONCENTRATION, 0.0))
        except InputError as error:
            refused = error
            continue
        name = f"uneven queries (Dirichlet 2), {few} a class on average"
        asked.add(_paired("uneven", name, asked.test(uneven), accuracies(asked.test(even)), _CONCENTRATION))
        return
    raise refused


def _clean(asked: Stressed, shot: Count | None) -> Floats:
    """Accuracies of the unchanged tasks of so many shots, tested once."""
    if shot not in asked.kept:
        asked.kept[shot] = accuracies(asked.test(asked.tasks(shot=shot)))
    return asked.kept[shot]


# --- tasks of other sizes -----------------------------------------------------------------------


def _shots(asked: Stressed, source: TaskSource, shot: int) -> None:
    """With as many queries as the classes have left; where they have too few for the last shots, with one shot less."""
    own = _size(source, "query")
    choices: list[tuple[int, Count | None]] = [(shot, own), (shot, _QUERIES), (shot, 1)]
    for shots, query in [*choices, (shot - 1, 1)] if shot == SHOTS[-1] else choices:
        try:
            tasks = asked.tasks(shot=shots, query=query)
        except InputError as error:
            refused = error
            continue
        found = asked.kept[shots] if shots in asked.kept else accuracies(asked.test(tasks))
        if query == own:
            asked.kept[shots] = found
        asked.add(mean_of("shots", f"{shots}-shot", found, at=shots))
        return
    raise refused


def _ways(asked: Stressed, source: TaskSource, way: int) -> None:
    """With fewer episodes of many ways, as each asks for more."""
    query = _size(source, "query")
    if query is not None:
        query = min(query, _QUERIES) if isinstance(query, int) else (min(query[0], _QUERIES), min(query[1], _QUERIES))
    tasks, own = asked.tasks(way=way, query=query), source.shape.outputs
    found = asked.test(tasks, max(2, min(asked.episodes, asked.episodes * 2 * own // way)))
    asked.add(mean_of("ways", f"{way}-way", accuracies(found), at=way))


# --- small things -------------------------------------------------------------------------------


def _size(source: TaskSource, name: str) -> Count | None:
    """A shot or a query number of the unchanged tasks; settings have ranges as lists, for JSON."""
    found: int | list[int] | None = source.settings.get(name)
    return (found[0], found[1]) if isinstance(found, list) else found


def _paired(kind: str, name: str, found: Result, clean: Floats, at: float | None = None) -> Figure:
    values = accuracies(found)
    moved = values - clean[: len(values)]  # the unchanged ones may have been asked for more
    return mean_of(kind, name, values, at=at, difference=(float(moved.mean()), episode_ci95(moved)))


# --- kept with a run ----------------------------------------------------------------------------


def save_robustness(run: RunFolder, found: Robustness) -> Path:
    """Keep figures with their run; those of the same test and weights that were asked for more are not replaced.

    Raises:
        StorageError: the disk refused.
    """
    path = run.robustness / f"{found.id}.json"
    if found.is_whole or not _has_more(path, found):
        found.save(path)
    return path


def _has_more(path: Path, found: Robustness) -> bool:
    try:
        before = Robustness.load(path)
    except DataError:  # there is none, or it is broken
        return False
    return before.is_whole and before.is_of(found.weights_sha256)


def _when(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # it is gone by now, or leads nowhere, which is said when it is read
        return -1


def robustness_of(
    run: RunFolder, beside: Result | None = None, tell: Callable[[str], None] = lambda text: None
) -> Robustness | None:
    """The figures that were saved last, those that were asked for more before others; None where none can be read.

    Those of a checkpoint that was trained on since are passed over.

    Args:
        run: whose.
        beside: only those of the same recipe, checkpoint and tasks as this result, and what a test says of itself only
            of as many episodes: that stands in place of what was measured on fewer.
        tell: told which files were passed over, and why.
    """
    of_the_test: Robustness | None = None
    whole: Robustness | None = None
    for path in sorted(run.robustness.glob("*.json"), key=_when, reverse=True):
        try:
            found = Robustness.load(path)
        except DataError as error:
            tell(f"Passed over: {error}")
            continue
        if not found.is_of(state_of(run.checkpoints / found.checkpoint).get("weights_sha256")):
            tell(f"Passed over: {path} is of the checkpoint {found.checkpoint!r} before it was trained on.")
            continue
        if beside is not None and not found.stands_beside(beside):
            continue
        as_many = beside is None or found.episodes == beside.episodes
        if found.is_whole and as_many:
            return found
        if found.is_whole:
            whole = whole or found
        elif as_many:
            of_the_test = of_the_test or found
    if whole is not None and of_the_test is not None:
        return whole.beside_test(of_the_test)
    return whole or of_the_test
