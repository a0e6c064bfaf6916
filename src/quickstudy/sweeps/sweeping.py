"""Floor 6: from a recipe to its best trial: ``quickstudy.sweeps.sweep``.

Trials are chosen by meta-validation alone. Meta-test is looked at once, at the end, for the best of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from quickstudy.errors import InputError, RunError
from quickstudy.evaluate import Result, meta_test
from quickstudy.files import atomic_write_bytes
from quickstudy.progress import Line
from quickstudy.recipes import Recipe, build, load_recipe, recipe_hash, to_toml
from quickstudy.recipes.building import Built, test_tasks
from quickstudy.runs import results_of
from quickstudy.sweeps.crew import Crew
from quickstudy.sweeps.folder import SweepFolder
from quickstudy.sweeps.page import write_page
from quickstudy.sweeps.space import Dimension, check_space, default_space, read_dimension, read_search
from quickstudy.sweeps.study import Prune, Sampler, Study, Trial, need_optuna
from quickstudy.sweeps.told import counts, said_of, space_table
from quickstudy.sweeps.trial import Reached
from quickstudy.testing import evaluate
from quickstudy.train import Interrupted, RunFolder
from quickstudy.train.contexts import sigterm_as_ctrl_c
from quickstudy.training import kebab_keys, pick_device

__all__ = ["Swept", "sweep"]

_TRIALS = 50
_MOST_WORKERS = 4  # by default: trials drawn side by side know nothing of each other


@dataclass(frozen=True, eq=False)
class Swept:
    """A finished sweep.

    Args:
        folder: its files.
        space: what was varied.
        metric: by which trials were chosen, of meta-validation.
        trials: all of them.
        best: the one with the best figure.
        result: its meta-test; None where that was left for later.
        importance: key -> its share of what makes the best trials better than the others.
    """

    folder: SweepFolder
    space: tuple[Dimension, ...]
    metric: str
    trials: Sequence[Trial]
    best: Trial
    result: Result | None
    importance: Mapping[str, float] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        """The run folder of the best trial."""
        return self.folder.trials / self.best.run


@dataclass(frozen=True)
class _Plan:
    """What a sweep's folder keeps of how it is done."""

    recipe: str
    metric: str
    space: list[dict[str, Any]]
    sampler: Sampler
    prune: Prune
    seed: int

    def dimensions(self) -> list[Dimension]:
        return [read_dimension(one["key"], one["range"]) for one in self.space]


def sweep(
    recipe: str | Path | Recipe,
    *,
    trials: int | None = None,
    workers: int | None = None,
    vary: Mapping[str, Any] | None = None,
    search: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | torch.device | None = None,
    sampler: Sampler | None = None,
    prune: Prune | None = None,
    seed: int | None = None,
    test: bool = True,
    progress: bool = False,
) -> Swept:
    """Train a recipe with many values of some of its keys, and test the best trial.

    The trial with the best meta-validation wins; its test is the only look at the test tasks. The first trial is the
    recipe as it is. A sweep that was killed goes on when it is called again, with no trial lost or doubled.

    Args:
        recipe: a name, the path of a TOML file, a recipe, or the folder of a sweep to go on with.
        trials: how many, those that are there already included; 50 by default, and for a sweep that goes on as many as
            it was asked for last.
        workers: processes side by side, each with one trial; by default as many as there are cores, four at most; one
            on a GPU.
        vary: dotted key -> range, such as ``{"learner.inner-lr": "log:0.01:1", "net.norm": ["task", "group"]}``; by
            default what suits the learner.
        search: a TOML file that says the same.
        overrides: as in ``quickstudy.train``, for all trials.
        out: the sweep's folder; ``sweeps/<recipe>`` by default.
        data_root: see ``quickstudy.train``.
        device: see ``quickstudy.train``.
        sampler: ``"tpe"`` (by default) draws where trials were good, ``"random"`` does not look.
        prune: when to stop a trial: worse than the ``"median"`` of the others at that step (by default), by successive
            ``"halving"``, or ``"none"``.
        seed: of the draws; the recipe has its own.
        test: test the best trial. Left out, more trials can be added later.
        progress: show progress on stderr.

    Raises:
        InputError: the recipe, the ranges or the folder cannot be used; or Optuna is not installed.
        RunError: no trial came to a figure.
        Interrupted: Ctrl-C or SIGTERM; running trials were saved.
    """
    need_optuna()
    if (trials is not None and trials < 1) or (workers is not None and workers < 1):
        raise InputError(f"A sweep needs one trial and one worker or more, received {trials} and {workers}.")
    folder = _folder(recipe, out)
    line = Line() if progress else None
    with folder.locked():
        old = folder.exists
        given = _given(vary, search)
        resolved = _recipe(recipe, folder, kebab_keys(overrides), old)
        built = _checked(resolved, data_root)
        where = pick_device(device)
        options = {"sampler": sampler, "prune": prune, "seed": seed, "trials": trials}
        plan = _plan(folder, resolved, built, given, options, old)
        study = Study(
            folder,
            plan.dimensions(),
            plan.metric,
            sampler=plan.sampler,
            prune=plan.prune,
            seed=plan.seed,
            warm_up=resolved.train.steps // 4,
        )
        closed = bool(folder.read(folder.result))
        trials = _how_many(folder, trials, study.begun, closed=closed)
        study.enqueue(_own_values(resolved, plan.dimensions()))
        number = workers or _workers(where)
        _say(line, _announced(folder, study, trials, number))
        if not closed:
            job = {"data_root": None if data_root is None else str(data_root), "device": str(where)}
            _computed(folder, study, min(number, trials), trials, job, line)
        swept = _closed(folder, study, {"data_root": data_root, "device": device}, test=test, line=line)
        write_page(
            folder, resolved, swept.space, swept.metric, swept.trials, swept.best, swept.result, swept.importance
        )
        return swept


# --- before ------------------------------------------------------------------------------------


def _folder(recipe: str | Path | Recipe, out: str | Path | None) -> SweepFolder:
    if not isinstance(recipe, Recipe) and SweepFolder(Path(recipe)).exists:
        if out is not None and Path(out) != Path(recipe):
            raise InputError(f"{recipe} is a sweep to go on with, which has its folder: leave --out out.")
        return SweepFolder(Path(recipe))
    if out is not None:
        path = Path(out)
        killed = {".lock", "base.toml"}  # what a sweep leaves that was killed before it began
        if path.is_file() or (path.is_dir() and {one.name for one in path.iterdir()} - killed):
            if not SweepFolder(path).exists:
                raise InputError(f"{path} is no sweep, and not empty. Name a new folder with --out.")
        return SweepFolder(path)
    name = recipe.name if isinstance(recipe, Recipe) else load_recipe(recipe).name
    return SweepFolder(Path("sweeps") / name)


def _given(vary: Mapping[str, Any] | None, search: str | Path | None) -> list[Dimension] | None:
    """What the user wants varied; None: nothing was said."""
    found = [] if search is None else read_search(Path(search))
    found += [read_dimension(key, given) for key, given in kebab_keys(vary).items()]
    return found or None


def _recipe(recipe: str | Path | Recipe, folder: SweepFolder, overrides: dict[str, Any], old: bool) -> Recipe:
    """The recipe that trials vary; of a sweep that goes on the one that it has."""
    itself = not isinstance(recipe, Recipe) and Path(recipe) == folder.path and old
    if itself and not overrides:
        return load_recipe(folder.base)
    if isinstance(recipe, Recipe):
        if overrides:
            raise InputError("Cannot apply overrides to a Recipe that is resolved already. Give its name with them.")
        now = recipe
    else:
        now = load_recipe(folder.base if itself else recipe, overrides)
    if old:
        before = load_recipe(folder.base)
        if recipe_hash(before) != recipe_hash(now):
            raise InputError(
                f"{folder.path} is a sweep of another recipe: {_differs(before, now)}. Go on with it as it was "
                f"(quickstudy sweep {folder.path}), or begin another with --out FOLDER."
            )
        return before
    return now


def _differs(before: Recipe, now: Recipe) -> str:
    was, is_now = (dict(_leaves(one.settings(exclude={"name": True}))) for one in (before, now))
    for key in sorted({*was, *is_now}):
        if was.get(key) != is_now.get(key):
            return f"{key} was {was.get(key)!r} and is {is_now.get(key)!r}"
    return "its data lies elsewhere"


def _leaves(tables: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tables.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return found


def _checked(recipe: Recipe, data_root: str | Path | None) -> Built:
    """The recipe can be trained, and validated: said before any worker is started."""
    if recipe.train.steps and not recipe.train.validate_every:
        raise InputError(
            f"Cannot sweep {recipe.name}: it never validates (train.validate-every is 0), and trials are chosen by "
            "meta-validation. Add --train.validate-every "
            f"{max(1, recipe.train.steps // 10)}."
        )
    return build(recipe, None if data_root is None else Path(data_root))


def _plan(
    folder: SweepFolder,
    recipe: Recipe,
    built: Built,
    given: list[Dimension] | None,
    options: dict[str, Any],
    old: bool,
) -> _Plan:
    """How the sweep is done; of one that goes on, as it was begun."""
    if old:
        about = folder.read(folder.about)
        plan = _Plan(**{name: about[name] for name in _Plan.__dataclass_fields__})
        asked = {name: value for name, value in options.items() if value is not None and name != "trials"}
        if given is not None:
            asked["space"] = [one.record() for one in given]
        for name, value in asked.items():
            if value != getattr(plan, name):
                raise InputError(
                    f"Cannot go on with {folder.path} and another {name}: it was begun with "
                    f"{_spoken(getattr(plan, name))}. Leave it out, or begin another sweep with --out FOLDER."
                )
        return plan
    space = given or default_space(recipe, whole_step=built.learner.traits.whole_step)
    check_space(space, to_toml(recipe))
    plan = _Plan(
        recipe_hash(recipe),
        _metric(recipe, built),
        [one.record() for one in space],
        cast(Sampler, options["sampler"] or "tpe"),
        cast(Prune, options["prune"] or "median"),
        options["seed"] or 0,
    )
    atomic_write_bytes(folder.base, to_toml(recipe).encode())
    folder.write(folder.about, {**asdict(plan), "trials": options["trials"]})  # last: with it the sweep is there
    return plan


def _how_many(folder: SweepFolder, trials: int | None, begun: int, *, closed: bool) -> int:
    """The trials of the sweep: as many as are asked for, which its folder keeps, else as were asked for last."""
    if closed:
        if trials is not None and trials > begun:
            raise InputError(
                f"The sweep {folder.path} is closed: its best trial was tested. Trials that are added after a look at "
                "meta-test could be chosen by it. Begin another with --out FOLDER; with --no-test it stays open."
            )
        return begun
    about = folder.read(folder.about)
    wanted = int(trials or about.get("trials") or _TRIALS)
    if about.get("trials") != wanted:
        folder.write(folder.about, {**about, "trials": wanted})
    return wanted


def _spoken(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{one['key']}={read_dimension(one['key'], one['range'])}" for one in value)
    return repr(value)


def _metric(recipe: Recipe, built: Built) -> str:
    """What a validation measures: asked of two tasks, with the learner as it was drawn."""
    source = built.validation or test_tasks(recipe, built.data, role="validation")
    return meta_test(built.learner, source, episodes=2).metric


def _own_values(recipe: Recipe, space: Sequence[Dimension]) -> dict[str, Any]:
    """What the recipe itself says of the keys; nothing where that lies outside of a range."""
    document = recipe.model_dump(mode="json", by_alias=True)
    for part in ("learner", "net", "data"):
        if document.get(part):
            options = document[part].pop("options")
            document[part] |= {name.replace("_", "-"): value for name, value in options.items()}
    own = dict(_leaves(document))
    found = {one.key: own.get(one.key) for one in space}
    return found if all(one.holds(found[one.key]) for one in space) else {}


def _workers(device: torch.device) -> int:
    if device.type != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_WORKERS)


def _announced(folder: SweepFolder, study: Study, trials: int, workers: int) -> str:
    there = f", {study.begun} of them begun" if study.begun else ""
    return (
        f"{trials} trials{there}, {workers} at a time, in {folder.path}; chosen by the {study.metric} of "
        f"meta-validation over:\n{space_table(study.space)}"
    )


# --- meanwhile, and after ----------------------------------------------------------------------


def _computed(
    folder: SweepFolder, study: Study, workers: int, trials: int, job: dict[str, Any], line: Line | None
) -> None:
    def told(number: int, reached: Reached) -> None:
        best = study.best()
        _say(line, said_of(number, reached, study.metric, best=best is not None and best.number == number))

    try:
        with sigterm_as_ctrl_c():
            Crew(folder, study, workers, trials, job, told).work()
    except Interrupted:
        ended = sum(trial.outcome is not None for trial in study.trials)
        raise Interrupted(
            f"Stopped with {ended} of {trials} trials done. Go on with: quickstudy sweep {folder.path}"
        ) from None


def _closed(folder: SweepFolder, study: Study, options: dict[str, Any], *, test: bool, line: Line | None) -> Swept:
    trials, best = study.trials, study.best()
    if best is None:
        first = next((trial.why for trial in trials if trial.why), "")
        raise RunError(f"No trial came to a figure: {counts(trials)}. The first: {first}. Take narrower ranges.")
    result = _tested(folder, folder.trials / best.run, options, line) if test else None
    swept = Swept(folder, study.space, study.metric, trials, best, result, study.importance())
    if result is not None and not folder.read(folder.result):
        document = {"trial": best.number, "run": best.run, "values": best.values, "validation": best.value}
        folder.write(folder.result, {**document, "evaluation": f"trials/{best.run}/evaluations/{result.id}.json"})
    return swept


def _tested(folder: SweepFolder, run: Path, options: dict[str, Any], line: Line | None) -> Result:
    """The meta-test of the best trial: the one that is there, if the sweep was killed before it was noted."""
    del folder
    there = [result for result in results_of(RunFolder(run)) if result.split.rpartition("/")[2] == "test"]
    if there:
        return there[0]
    _say(line, f"meta-test of the best trial, {run.name}, once")
    return evaluate(run, role="test", **options)


def _say(line: Line | None, text: str) -> None:
    if line is not None:
        line.keep(text)
