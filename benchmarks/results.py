"""Every field's comparison: meta-trained, plainly pretrained, and the field's baselines on the same tasks.

    make results                        every field
    make results D="speech finance"     some
    python benchmarks/results.py speech --data-root DIR
    python benchmarks/results.py speech --robustness

Trains what has no finished run yet in `runs/`, going on with what was stopped, tests everything, prints the table, and
writes `results/FIELD/*.json` (a result with its provenance, one a cell) and `FIELD.html` beside the run. `python
docs/make_results.py` makes the page. `--robustness` asks every row of tasks with classes for the figures of
docs/robustness.md, too, on the first of the same episodes; what its data cannot be asked is named with the reason, in
the file and on the page. Without it, such figures that a file has of the same result are kept.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

import quickstudy
from quickstudy import keep_large_blocks
from quickstudy.data.source import TaskSource
from quickstudy.domains.study import Column, Found, Rival, Study, studies, study
from quickstudy.errors import DataError, QuickstudyError, UnknownName
from quickstudy.evaluate import Comparison, Entry, Result, compare, meta_test, render_table, write_report
from quickstudy.evaluate.answered import Unchanged
from quickstudy.evaluate.kept import load_kept, save_kept
from quickstudy.evaluate.possible import DIGITS
from quickstudy.evaluate.robustness import Robustness
from quickstudy.leaderboard.entry import read_entry
from quickstudy.leaderboard.trained import of_training
from quickstudy.learners.learner import AbstractLearner
from quickstudy.recipes import load_recipe, recipe_hash
from quickstudy.recipes.building import build_data, test_tasks
from quickstudy.recipes.load import digest_of_file
from quickstudy.recipes.schema import Recipe
from quickstudy.reproduce.record import commit
from quickstudy.reproduce.runs import Session, done_of, run_of
from quickstudy.runs import learner_of, which_checkpoint
from quickstudy.stressing import EPISODES, Stressed, stress
from quickstudy.train import RunFolder
from quickstudy.train.runfolder import describe_environment

ROOT = Path(__file__).resolve().parents[1]
_CHANGED = "changed tasks, and those of other sizes"
_Tasks: TypeAlias = Callable[..., TaskSource]  # sizes -> tasks; without any, as the study says


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fields", nargs="*", metavar="FIELD", help=f"of {', '.join(studies.names())}; all by default")
    parser.add_argument("--data-root", type=Path, default=None)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument(
        "--episodes", type=int, default=None, help="of each kind of tasks, as the study says by default"
    )
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="ROW", help="rows to measure; others stay as they were measured before"
    )
    parser.add_argument(
        "--robustness",
        type=int,
        nargs="?",
        const=EPISODES,
        default=0,
        metavar="EPISODES",
        help=f"measure the figures of docs/robustness.md, too, on so many of the episodes, {EPISODES} by default",
    )
    parser.add_argument("--override", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), help="of recipes")
    given = parser.parse_args()
    if given.robustness < 0:
        parser.error(f"Cannot measure robustness on {given.robustness} episodes: expected 1 or more, such as 100.")
    torch.set_num_threads(1)
    keep_large_blocks()
    try:
        for name in given.fields or studies.names():
            found = study(name)
            if given.episodes is not None:
                found = replace(found, episodes=given.episodes)
            found = replace(found, overrides={**found.overrides, **dict(given.override)})
            print(f"\n{name}\n")
            table = run(found, given.runs, given.results, given.data_root, given.only, robustness=given.robustness)
            print(render_table(table), flush=True)
            if found.published:
                print("\nPublished, not measured here:", *found.published, sep="\n  ", flush=True)
    except QuickstudyError as error:
        sys.exit(f"error: {error}")


@dataclass(frozen=True)
class _Trained:
    """A run that is finished."""

    folder: RunFolder
    recipe: Recipe

    @property
    def learner(self) -> AbstractLearner:
        return learner_of(self.folder, self.recipe, which_checkpoint(self.folder))

    @property
    def about(self) -> dict[str, Any]:
        return of_training(self.folder, which_checkpoint(self.folder))


class _Runner:
    """Trains and tests everything of a study.

    Args:
        study: what is compared.
        runs: folder of runs; what is trained there by the same recipe is taken.
        data_root: folder of data sets.
        stressed: on how many episodes all figures of robustness are asked for; 0: they are not.
    """

    def __init__(self, study: Study, runs: Path, data_root: Path | None, *, stressed: int = 0) -> None:
        self.study, self.runs, self.data_root, self.stressed = study, runs, data_root, stressed
        self.recipe = load_recipe(study.recipe, study.overrides)
        self.tasks = self._tasks()
        self.sources = {column: tasks() for column, tasks in self.tasks.items()}
        self.provenance: dict[str, dict[str, Any]] = {}
        self.robustness: dict[tuple[str, str], Robustness] = {}  # of a row and a column
        self.rivals: dict[str, AbstractLearner] = {}

    def rows(self) -> dict[str, Callable[[], Entry]]:
        """What measures each row: the learner, the same network plainly pretrained, the baselines, other learners."""
        study, found = self.study, dict[str, Callable[[], Entry]]()
        found[self.recipe.learner.name] = partial(self._of_run, study.recipe, self.recipe.learner.name)
        if study.plain is not None:
            name = f"{load_recipe(study.plain, study.overrides).learner.name}, pretrained"
            found[name] = partial(self._of_run, study.plain, name, baseline=True)
        found |= {rival.name: partial(self._of_rival, rival) for rival in study.rivals}
        for recipe in study.also:
            name = load_recipe(recipe, study.overrides).learner.name
            found[name] = partial(self._of_run, recipe, name)
        return found

    def _of_rival(self, rival: Rival) -> Entry:
        self.rivals[rival.name] = learner = rival.build(next(iter(self.sources.values())).shape, self._training())
        episodes = min(self.study.episodes, rival.episodes or self.study.episodes)
        tasks = self._tasks(rival.data) if rival.data else self.tasks
        return self._tested(rival.name, learner, episodes, tasks, baseline=True, unasked=rival.unasked)

    def _of_run(self, recipe: str, name: str, *, baseline: bool = False) -> Entry:
        trained = self.trained(recipe)
        self.provenance[name] = {**trained.about, "recipe_said": digest_of_file(recipe)}
        digest = recipe_hash(trained.recipe)
        return self._tested(name, trained.learner, self.study.episodes, self.tasks, baseline=baseline, digest=digest)

    def _tested(
        self,
        name: str,
        learner: AbstractLearner,
        episodes: int,
        columns: Mapping[str, _Tasks],
        *,
        baseline: bool,
        digest: str = "",
        unasked: str = "",
    ) -> Entry:
        results: dict[str, Result] = {}
        if self.stressed and not any(source.shape.target == "classes" for source in self.sources.values()):
            say(f"{name}: robustness is not asked for, as its figures are of tasks that tell classes apart")
        for column, tasks in columns.items():
            source = tasks()
            seen = Unchanged.of(source)
            found = meta_test(learner, source, episodes=episodes, observe=seen)
            results[column] = result = replace(found, learner=name, recipe_hash=digest)
            say(f"{name}, {column}: {result}")
            if seen is None:
                continue
            if self.stressed and unasked:
                self.robustness[name, column] = replace(seen.alone(result), not_asked={_CHANGED: unasked})
            elif self.stressed:
                asked = Stressed(learner, learner, tasks, min(result.episodes, self.stressed), tested=(result, seen))
                about = {"learner": name, "recipe_hash": digest, "checkpoint": result.checkpoint}
                self.robustness[name, column] = robust = stress(asked, **about)
                say(f"{name}, {column}: {len(robust.figures)} figures of robustness in {robust.seconds:.0f} s")
            else:
                self.robustness[name, column] = seen.alone(result)
        return Entry(name, results, baseline)

    def trained(self, name: str) -> _Trained:
        """A finished run of the recipe as it is now; one that was stopped is gone on with, and else one is trained."""
        recipe = load_recipe(name, self.study.overrides)
        old = run_of(recipe, self.runs, say)
        if old is not None and done_of(old).finished:
            say(f"{name}: trained before, in {old.path}")
            return _Trained(old, recipe)
        given: dict[str, Any] = {"runs": self.runs, "data_root": self.data_root, "progress": True}
        session = Session(old)
        if old is not None:
            found = quickstudy.train(old.path, resume=True, **given)
        else:
            found = quickstudy.train(recipe, ranks="auto", **given)
        session.add_to(found.folder)
        return _Trained(found.folder, found.recipe)

    def _tasks(self, data: Mapping[str, Any] | None = None) -> dict[str, _Tasks]:
        """Column -> what makes its tasks."""
        return {column.name: self._tasks_of(column, data or {}) for column in self.study.columns}

    def _tasks_of(self, column: Column, data: Mapping[str, Any]) -> _Tasks:
        recipe, of_test = self.recipe, {**column.data, **data}
        if of_test:
            recipe = load_recipe(self.study.recipe, {**self.study.overrides, **of_test})
        built = build_data(recipe, self.data_root)
        return lambda **sizes: test_tasks(recipe, built, **{**column.tasks, **sizes})

    def _training(self) -> TaskSource:
        """What was trained on, for baselines that are fitted to it."""
        recipe = self.recipe
        size = recipe.episodes.train
        data = build_data(recipe, self.data_root)
        return data.tasks(recipe.train.role, way=size.way, shot=size.shot, query=size.query, seed=recipe.seed)


def run(
    study: Study,
    runs: Path,
    results: Path,
    data_root: Path | None,
    only: Sequence[str] = (),
    *,
    robustness: int = 0,
) -> Comparison:
    """Train and test everything of a study, and write down each row as soon as it is measured.

    Args:
        study: what is compared.
        runs: folder of runs.
        results: folder of results.
        data_root: folder of data sets.
        only: rows to measure; of others, what was measured before is taken. No report is written then.
        robustness: on how many episodes all figures of robustness are asked for; 0: they are not.
    """
    runner = _Runner(study, runs, data_root, stressed=robustness)
    rows = runner.rows()
    for name in only:
        if name not in rows:
            raise UnknownName.among(f"row of {study.name}", name, rows)
    entries = []
    for place, (name, measure) in enumerate(rows.items()):
        paths = {column: results / study.name / f"{_slug(name)}--{_slug(column)}.json" for column in runner.sources}
        if only and name not in only:
            entries += _measured_before(name, paths)
            continue
        entry = measure()
        entries.append(entry)
        _write(entry, place, paths, runner)
    table = compare(entries)
    if not only:
        _report(study, runner, entries, table)
    return table


def _measured_before(name: str, paths: dict[str, Path]) -> list[Entry]:
    found, baseline = dict[str, Result](), False
    for column, path in paths.items():
        if path.is_file():
            found[column], about = load_kept(path)
            baseline = about["baseline"]
    return [Entry(name, found, baseline)] if found else []


def _versions() -> dict[str, Any]:
    # Whose kernel of which build it ran on is nobody's business; the run's folder has it.
    return {k: v for k, v in describe_environment().items() if k != "platform"}


def _write(entry: Entry, place: int, paths: dict[str, Path], runner: _Runner) -> None:
    study = runner.study.name
    about = {"study": study, "command": f"python benchmarks/results.py {study}", "row": entry.name}
    about |= {"baseline": entry.baseline, "versions": _versions(), "commit": commit()}
    about |= runner.provenance.get(entry.name, {})
    for order, (column, result) in enumerate(entry.results.items()):
        robust = runner.robustness.get((entry.name, column))
        more: dict[str, Any] = {} if robust is None else {"robustness": json.loads(robust.to_json())}
        if robust is not None and robust.is_whole:
            more["command"] = f"{about['command']} --robustness {runner.stressed}"
        elif robust is not None:
            more |= _kept_robustness(paths[column], result, robust)
        save_kept(paths[column], result, about | more | {"column": column, "order": [place, order]})


def _kept_robustness(path: Path, result: Result, alone: Robustness) -> dict[str, Any]:
    """What a file says more of the robustness of the same result, and by which command; nothing where it does not."""
    try:
        old = read_entry(path)
    except DataError:  # there is none, or it is of another version
        return {}
    robust, before, now = old.about.robustness, old.result.per_episode, result.per_episode
    same = len(before) == len(now) and np.allclose(before, now, rtol=DIGITS, atol=DIGITS)
    if robust is None or not same or not robust.stands_beside(result) or not robust.says_more_than(alone):
        return {}
    return {"robustness": json.loads(robust.to_json()), "command": old.about.command}


def _report(study: Study, runner: _Runner, entries: list[Entry], table: Comparison) -> None:
    main = runner.trained(study.recipe)
    page = main.folder.path / f"{study.name}.html"
    write_report(
        page,
        title=f"quickstudy: {study.name}",
        lead=f"The recipe {study.recipe}, {'the same network plainly pretrained, ' * (study.plain is not None)}and the "
        "field's baselines, on the same tasks.",
        table=table,
        sections=study.sections(
            Found(
                main.learner,
                runner.sources,
                runner.rivals,
                {one.name: one.results for one in entries},
                runner.data_root,
            )
        ),
        settings=main.recipe.model_dump(mode="json", by_alias=True, exclude_none=True),
        versions=_versions(),
        notes=[*study.notes, *(f"Published, not measured here: {one}." for one in study.published)],
    )
    say(f"report: {page}")


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9+]+", "-", words.lower()).strip("-")


def say(words: str) -> None:
    """On stderr, with the time."""
    print(f"[{time.strftime('%H:%M:%S')}] {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
