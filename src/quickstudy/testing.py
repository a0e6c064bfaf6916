"""Floor 6: from a run to its results, and to its learner: ``quickstudy.evaluate`` and ``quickstudy.load``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quickstudy.data.counts import Count
from quickstudy.data.source import Origin, TaskSource
from quickstudy.episode import Episode
from quickstudy.errors import InputError, StorageError
from quickstudy.evaluate import Result, Section, meta_test
from quickstudy.evaluate.answered import Unchanged
from quickstudy.evaluate.calibration import Collector, calibration_section
from quickstudy.evaluate.metatest import check_tasks
from quickstudy.evaluate.robustness import robustness_section
from quickstudy.evaluate.wording import count as count_of
from quickstudy.evaluate.wording import figure, metric_name
from quickstudy.files import check_writable
from quickstudy.learners.learner import AbstractLearner
from quickstudy.notes import bounding_memory
from quickstudy.progress import EvaluationProgress, Line
from quickstudy.rankcount import Ranks, ranks_to_test, threads_of_a_rank
from quickstudy.recipes import Recipe, recipe_hash
from quickstudy.recipes.building import TEST_SEED, build_data, test_tasks
from quickstudy.reporting import of_control, write_run_report
from quickstudy.running import device_of
from quickstudy.runs import (
    Which,
    as_trained,
    learner_of,
    leave_out_known,
    open_run,
    place_of,
    recipe_of,
    save_result,
    state_of,
    which_checkpoint,
)
from quickstudy.saved import SavedLearner, is_saved
from quickstudy.stressing import EPISODES, Stressed, check_classes, save_robustness, stress
from quickstudy.train import RunFolder
from quickstudy.train.precision import Precision, in_precision, remark
from quickstudy.train.ranks import AbstractRanks, alike
from quickstudy.train.ranks_group import seat
from quickstudy.train.ranks_messages import Job
from quickstudy.train.ranks_worker import Starter
from quickstudy.training import Run, kebab_keys, pick_device, say

__all__ = ["evaluate", "load"]


def evaluate(
    run: str | Path | Run,
    *,
    way: Count | None = None,
    shot: Count | None = None,
    query: Count | None = None,
    dirichlet: float | None = None,
    episodes: int | None = None,
    role: str | None = None,
    seed: int = TEST_SEED,
    checkpoint: Which | None = None,
    overrides: Mapping[str, Any] | None = None,
    precision: Precision | None = None,
    data_root: str | Path | None = None,
    device: str | torch.device | None = None,
    tasks_at_once: int | None = None,
    progress: bool | Callable[[int, int], None] = False,
    report: bool = True,
    ranks: Ranks | None = None,
    robustness: bool = False,
) -> Result:
    """Meta-test a run, save the result in its folder, and write its report anew.

    Args:
        run: what :func:`train` returned, or the path of a run's folder.
        way: classes a task; this and what follows is as the recipe says by default.
        shot: support examples a class.
        query: query examples a class.
        dirichlet: concentration of the classes' shares of the way x query queries, such as 2; 0: as many of each class.
        episodes: how many tasks; by default as the recipe says, or all where there are fewer.
        role: ``"test"`` or ``"validation"``.
        seed: of the tasks; runs tested with the same one saw the same tasks.
        checkpoint: ``"best"`` or ``"last"``; by default the best, where the run was validated.
        overrides: options of the learner's adaptation, such as ``{"learner.test-inner-steps": 10}``; and of the data,
            such as ``{"data.name": "caltech101"}``, to be tested on other data than it was trained on. Those of the
            run's data set stay as they are unless ``data.name`` names another.
        precision: how the learner computes, ``"float32"``, ``"tf32"``, ``"bf16"`` or ``"fp16"``; not what it was
            trained in, but as the recipe's [evaluate] says, ``"float32"`` where that says nothing. In float64 where its
            weights are.
        data_root: see :func:`train`.
        device: see :func:`train`.
        tasks_at_once: how many tasks are computed together; bounds the memory. By default as many as have room.
        progress: show progress on stderr; or who is told how many episodes are done, of how many.
        report: write ``report.html``.
        ranks: processes that divide the episodes, one by default; ``"auto"``: as many as pay. The result is the same.
        robustness: measure the figures of docs/robustness.md, too, what is changed on the first 300 of the episodes;
            they are saved in ``evaluations/robustness/`` and shown in the report.

    Raises:
        InputError: there is no such run, its learner cannot learn these tasks, or robustness is asked for where tasks
            have no classes.
        CheckpointError: its checkpoint is missing, broken, or of another learner.
        StorageError: the disk refused; where that was after the test, it says what was measured.
    """
    if seat(os.environ) is not None:
        raise InputError(
            "A test is started once, and divides its episodes itself (ranks): do not start it by torchrun or srun with "
            "several processes."
        )
    folder = run.folder if isinstance(run, Run) else open_run(Path(run))
    advice = "Nothing was measured. Copy the run to a folder of your own and test that."
    for place in (folder.evaluations, folder.robustness):
        check_writable(place, "save a result", advice)
    of_test = {} if precision is None else {"evaluate.precision": precision}
    recipe = recipe_of(folder, _may_change(kebab_keys(overrides)) | of_test)
    which = checkpoint or which_checkpoint(folder)
    weights = state_of(folder.checkpoints / which).get("weights_sha256")
    device_of_learner = pick_device(device)
    learner = learner_of(folder, recipe, which).to(device_of_learner)
    found = build_data(recipe, None if data_root is None else Path(data_root))
    data = as_trained(folder, leave_out_known(folder, found))
    if learner.seen is not None:  # names first: texts of a file that has none to train on cannot become numbers
        split = role or recipe.evaluate.role
        names = getattr(data, "divided", {}).get(split, ())
        learner.seen.check_names(Origin(place_of(recipe), tuple(names)), split)
    source = test_tasks(recipe, data, role=role, way=way, shot=shot, query=query, dirichlet=dirichlet, seed=seed)
    check_tasks(learner, source)
    if robustness:
        check_classes(source)
    number = source.at_most(recipe.evaluate.episodes) if episodes is None else episodes
    count = ranks_to_test(ranks, learner, source, number, device_of_learner)
    say(remark(recipe.evaluate.precision, device_of_learner), Line() if progress is True else None)
    shown = EvaluationProgress() if progress is True else progress or None
    observed = _Observed.of(source, report)
    if count.number == 1:
        told = bounding_memory(shown)
        tested = in_precision(learner, recipe.evaluate.precision)
        result = meta_test(
            tested, source, episodes=number, tasks_at_once=tasks_at_once, progress=told, observe=observed
        )
    else:
        sizes = {"role": role, "way": way, "shot": shot, "query": query, "dirichlet": dirichlet, "seed": seed}
        given = (folder, recipe, which, data_root, sizes, number, tasks_at_once, shown is not None, report)
        kind = device_of_learner.type
        job = Job(_test_on_rank, (kind, *given), kind, threads_of_a_rank(count.number))
        from quickstudy.train.ranks_launch import run_ranks  # torch's launch takes a second to import

        # Their logs lie in a temporary folder: that of the run belongs to its training, which may be going on.
        result, observed = run_ranks(job, count.number, episodes=shown)
    result = replace(result, learner=recipe.learner.name, recipe_hash=recipe_hash(recipe), checkpoint=which)
    with _said_at_least(result, "is not saved"):
        save_result(folder, result)
    with _said_at_least(result, f"is saved in {folder.evaluations / f'{result.id}.json'}"):
        if observed is not None:
            save_robustness(folder, observed.seen.alone(result, weights))  # all there is, should what follows fail
    stressed: tuple[Section, ...] = ()
    if robustness:
        sizes = {"role": role, "way": way, "shot": shot, "query": query, "dirichlet": dirichlet, "seed": seed}
        assert observed is not None  # of tasks with classes, as was checked
        asked = Stressed(
            in_precision(learner, recipe.evaluate.precision),
            learner,
            lambda **other: test_tasks(recipe, data, **{**sizes, **other}),
            min(number, EPISODES),
            tasks_at_once,
            EvaluationProgress(what="kinds of tasks") if progress is True else None,
            tested=(result, observed.seen),
        )
        with _said_at_least(result, f"is saved in {folder.evaluations / f'{result.id}.json'}"):
            stressed = (_robustness(folder, asked, result, weights),)
    if report:
        said = None if observed is None else observed.said
        sections = () if said is None else (calibration_section({recipe.learner.name: said.answers}),)
        with _said_at_least(result, f"is saved in {folder.evaluations / f'{result.id}.json'}"):
            sections = (*sections, *stressed, *of_control(learner, source, result))
            write_run_report(folder, recipe, learner, source, sections)
    return result


@dataclass(frozen=True, eq=False)
class _Observed:
    """What is kept of the answers of a test.

    Args:
        seen: figures of robustness that each test gives.
        said: all of it, for the report.
    """

    seen: Unchanged
    said: Collector | None

    @staticmethod
    def of(source: TaskSource, report: bool) -> _Observed | None:
        """To begin with; None where tasks have no classes."""
        seen = Unchanged.of(source)
        return None if seen is None else _Observed(seen, Collector() if report else None)

    @staticmethod
    def joined(several: Sequence[_Observed]) -> _Observed:
        """Of the processes of a divided test, in their order."""
        said = [one.said for one in several if one.said is not None]
        return _Observed(Unchanged.joined(one.seen for one in several), Collector.joined(said) if said else None)

    def __call__(self, outputs: Tensor, episode: Episode) -> None:
        self.seen(outputs, episode)
        if self.said is not None:
            self.said(outputs, episode)


def _robustness(folder: RunFolder, asked: Stressed, result: Result, weights: str | None) -> Section:
    """Measure and keep the figures of robustness; the part of the page that shows them."""
    about = {name: getattr(result, name) for name in ("learner", "recipe_hash", "checkpoint")}
    figures = stress(asked, **about, weights_sha256=weights)
    save_robustness(folder, figures)
    return robustness_section({result.learner: figures})


@contextmanager
def _said_at_least(result: Result, where: str) -> Iterator[None]:
    """A disk that refuses takes no result away from who waited for it."""
    try:
        yield
    except StorageError as error:
        said = f"{metric_name(result.metric)} {figure(result)} over {count_of(result.episodes)} episodes"
        raise StorageError(f"{error} The result, {said}, {where}.") from error


def _test_on_rank(
    ranks: AbstractRanks,
    starter: Starter,
    device: str,
    folder: RunFolder,
    recipe: Recipe,
    which: Which,
    data_root: str | Path | None,
    sizes: dict[str, Any],
    episodes: int,
    tasks_at_once: int | None,
    tell: bool,
    report: bool,
) -> tuple[Result, _Observed | None]:
    with alike(ranks):
        learner = learner_of(folder, recipe, which).to(device_of(ranks, device))
        found = build_data(recipe, None if data_root is None else Path(data_root))
        data = as_trained(folder, leave_out_known(folder, found))
        source = test_tasks(recipe, data, **sizes)
    progress = partial(starter.tell, "episodes") if tell and ranks.rank == 0 else None
    told = bounding_memory(progress)
    tested = in_precision(learner, recipe.evaluate.precision)
    mine = _Observed.of(source, report)
    result = meta_test(
        tested, source, episodes=episodes, tasks_at_once=tasks_at_once, progress=told, division=ranks, observe=mine
    )
    return result, None if mine is None else _Observed.joined(ranks.exchange(mine))


def load(run: str | Path, *, checkpoint: Which | None = None) -> AbstractLearner:
    """The learner of a run, or a saved one, in eval mode on the CPU; the data it was trained on need not be there.

    Args:
        run: the path of a run's folder, or of a saved learner (:class:`quickstudy.SavedLearner`).
        checkpoint: of a run: ``"best"`` or ``"last"``; by default the best, where the run was validated.

    Raises:
        InputError: there is neither at that path.
        CheckpointError: its checkpoint, or a file of it, is missing or broken.
    """
    if is_saved(Path(run)):
        return SavedLearner.load(run).learner
    folder = open_run(Path(run))
    return learner_of(folder, recipe_of(folder), checkpoint)


def _may_change(overrides: dict[str, Any]) -> dict[str, Any]:
    for key in overrides:
        if not key.startswith(("learner.", "data.")) or key == "learner.name":
            raise InputError(
                f"Cannot evaluate with another {key}: only options of the learner's adaptation, and the data "
                "(data.name and its options), can change after training. Train another run with it."
            )
    return overrides
