"""Floor 6: what a run folder holds, read back: its recipe, its learner, how far it came."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.dataset import DataSet
from quickstudy.data.registry import data_sets
from quickstudy.data.seen import Seen, Used
from quickstudy.data.source import Place, TaskShape, TaskSource, place
from quickstudy.errors import CheckpointError, DataError, InputError, QuickstudyError
from quickstudy.evaluate import Result
from quickstudy.files import atomic_write_bytes, storage_error
from quickstudy.learners.learner import AbstractLearner
from quickstudy.recipes import Recipe, load_recipe
from quickstudy.recipes.building import build_learner
from quickstudy.train import RunFolder, load_checkpoint, load_weights
from quickstudy.train.changes import flat, in_history
from quickstudy.train.checkpoint import has_checkpoint

__all__ = [
    "Which",
    "as_trained",
    "binding",
    "changes_of",
    "digest_of",
    "identity",
    "is_run",
    "laid_out_for",
    "learner_of",
    "leave_out_known",
    "named_settings",
    "newest_run_of",
    "note_classes",
    "place_of",
    "recipe_of",
    "results_of",
    "save_result",
    "seen_by",
    "shape_from",
    "shape_of",
    "state_of",
    "which_checkpoint",
]

Which: TypeAlias = Literal["best", "last"]

# What may differ between a run and its continuation: it does not change what the steps that are done have done.
_FREE: dict[str, Any] = {"train": {"steps"}, "evaluate": True, "name": True}


def is_run(path: Path) -> bool:
    """Whether a folder is a run."""
    return (path / "recipe.toml").is_file()


def recipe_of(run: RunFolder, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe that a run was trained by."""
    return load_recipe(run.recipe, overrides)


_OF_SOME = ("vocabulary", "environment")


def binding(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says that has to stay as it is while a run goes on: all but what only tests read, and places."""
    settings = recipe.settings(exclude=_FREE)
    settings["episodes"].pop("test")
    settings["data"]["options"].pop("path", None)
    return settings


def laid_out_for(recipe: Recipe) -> str | None:
    """What of a recipe hangs on how many steps there are to be, in words, if anything."""
    schedule, average = recipe.train.schedule.name, recipe.train.average
    if schedule not in ("constant", "step"):
        return f"the {schedule} schedule"
    return "the start of the swa average" if average is not None and average.name == "swa" and average.start else None


def named_settings(recipe: Recipe) -> dict[str, Any]:
    """What is :func:`binding`, key by key; the steps among it where the steps done hang on them."""
    steps = {} if laid_out_for(recipe) is None else {"train.steps": recipe.train.steps}
    return flat(binding(recipe)) | steps


def digest_of(recipe: Recipe) -> str:
    """Of what is :func:`binding`."""
    return hashlib.sha256(json.dumps(binding(recipe), sort_keys=True).encode()).hexdigest()


def identity(recipe: Recipe, shape: TaskShape) -> dict[str, Any]:
    """What a checkpoint says of the run that it belongs to, as JSON: the recipe's settings and the tasks' shape.

    With the shape the learner can be built again where the data is not.
    """
    # What only some tasks have is left out of others, as in runs that are older than these.
    about = {name: value for name, value in asdict(shape).items() if name not in _OF_SOME or value is not None}
    return {"recipe": digest_of(recipe), "shape": json.loads(json.dumps(about))}


def which_checkpoint(run: RunFolder) -> Which:
    """The best one where the phase that was trained last was validated, else the last."""
    if not has_checkpoint(run.checkpoints / "best"):
        return "last"
    best, last = (state_of(run.checkpoints / which) for which in ("best", "last"))
    # A phase that began after the best one was measured, and was not measured yet.
    outdated = "best" in last and last["best"] is None and best.get("step", 0) <= last.get("step", -1)
    return "last" if outdated else "best"


def state_of(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself; nothing where it is broken, which is told when it is loaded."""
    return _json(folder / "state.json")


def _json(path: Path) -> dict[str, Any]:
    """The table in a file; an empty one where there is none that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def learner_of(run: RunFolder, recipe: Recipe, which: Which | None = None) -> AbstractLearner:
    """The learner of a run, in eval mode on the CPU.

    Args:
        run: the folder.
        recipe: the run's own, perhaps with other options of the learner's adaptation.
        which: the checkpoint; by default :func:`which_checkpoint`.

    Raises:
        CheckpointError: there is none, it is broken, or it belongs to another learner.
    """
    folder = run.checkpoints / (which or which_checkpoint(run))
    checkpoint = load_checkpoint(folder)
    shape = _shape(checkpoint.state, folder)
    learner = build_learner(recipe, shape)
    load_weights(learner, checkpoint, folder)
    learner.seen = seen_by(run, shape)
    return learner.eval()


def note_classes(run: RunFolder, data: DataSet, sources: Mapping[str, TaskSource]) -> None:
    """Keep with a run what it is trained on, for :func:`seen_by` and :func:`as_trained`.

    ``split.json`` says which classes of one's own data train, validate and test, ``examples.json`` has digests of the
    examples, ``environment.json`` how texts were numbered, ``texts.json`` which train and validate, ``table.json`` how
    a table was scaled.

    Args:
        run: the folder.
        data: what it is trained on; no split is written where that is fixed elsewhere.
        sources: role -> the tasks that it is trained and validated on.

    Raises:
        StorageError: the disk refused.
    """
    divided = getattr(data, "divided", None)
    if divided is not None:
        atomic_write_bytes(run.split, json.dumps(dict(divided), indent=1, ensure_ascii=False).encode() + b"\n")
    examples: dict[str, str] = {}
    for role, source in sources.items():
        if source.origin is not None and source.origin.examples:
            found = np.concatenate([*source.origin.examples.values()])
            examples[role] = base64.b64encode(found.astype("<u8").tobytes()).decode()
    if examples:
        atomic_write_bytes(run.examples, json.dumps(examples).encode() + b"\n")
    numbered = getattr(data, "numbering", None)
    if numbered is not None:
        run.note(numbering=numbered)
    measured = getattr(data, "measured", None)
    if measured is not None:
        atomic_write_bytes(run.table, json.dumps(measured, indent=1, ensure_ascii=False).encode() + b"\n")
    known = getattr(data, "known", None)
    if known is not None:
        atomic_write_bytes(run.texts, json.dumps(known).encode() + b"\n")


def leave_out_known(run: RunFolder, data: DataSet) -> DataSet:
    """The data, of texts without those that the run was trained on, under whichever label; they count as left out.

    Args:
        run: the folder; of one that does not say which texts it was trained on nothing is known.
        data: to be tested on.
    """
    leave_out = getattr(data, "leave_out", None)
    if leave_out is not None:
        leave_out(run.known_texts)
    return data


def as_trained(run: RunFolder, data: DataSet) -> DataSet:
    """The data as the run reads it: a table by the means, deviations and words that :func:`note_classes` kept.

    Measured anew, a table that has grown would have other features, and the same weights would say other things of the
    same rows.

    Args:
        run: the folder; of one that kept nothing the data stays as it is.
        data: any data set; those that are no table stay as they are.

    Raises:
        DataError: what was kept cannot be read.
    """
    by_run = getattr(data, "as_trained", None)
    measured = None if by_run is None else run.measured
    if by_run is None or measured is None:
        return data
    divided = run.divided or {}
    try:
        found: DataSet = by_run(measured, divided)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"Cannot read {run.table}, by which the run's table becomes features: {error!r}. Train anew."
        ) from error
    return found


def _digests(run: RunFolder, role: str) -> NDArray[np.uint64]:
    """Of the examples that a run was trained or validated on, ``[n]``; none where it kept none."""
    if not run.examples.is_file():
        return np.zeros(0, dtype=np.uint64)
    try:
        kept = json.loads(run.examples.read_bytes())
        return np.frombuffer(base64.b64decode(kept.get(role, ""), validate=True), "<u8")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"Cannot read {run.examples}, which says what the run was trained on: {error}. Copy the run again; without "
            "that file it is tested unchecked."
        ) from error


def place_of(recipe: Recipe) -> Place:
    """What names of a recipe's classes count in; see :class:`quickstudy.data.source.Origin`."""
    options, name = recipe.data.options, recipe.data.name
    name = getattr(data_sets.get(name), "named_in", name)  # a data set may have the classes of another one
    return place(
        name, None if name == "texts" else options.get("folder") or options.get("file") or options.get("files")
    )


def seen_by(run: RunFolder, shape: TaskShape) -> Seen:
    """What a run was trained on, by what :func:`note_classes` kept.

    Args:
        run: the folder; of one that does not say what it used nothing is known.
        shape: of its tasks.
    """
    recipe = recipe_of(run)
    roles = {"trained": recipe.train.role} | ({"validated": "validation"} if recipe.train.validate_every else {})
    names = run.divided or {}
    used = {how: Used(frozenset(names.get(role, ())), _digests(run, role)) for how, role in roles.items()}
    return Seen(str(run.path), shape, place_of(recipe), used, run.about.get("numbering"))


def shape_of(run: RunFolder, which: Which) -> TaskShape:
    """The shape of the tasks that a run was trained on.

    Raises:
        CheckpointError: the checkpoint does not say it.
    """
    folder = run.checkpoints / which
    return _shape(state_of(folder), folder)


def shape_from(about: Mapping[str, Any]) -> TaskShape:
    """A shape read back from JSON.

    Raises:
        KeyError: it lacks a field.
        TypeError: it has one that no shape has.
    """
    found = dict(about)
    example = found.pop("example")
    sizes = {name: tuple(size) for name, size in example.items()} if isinstance(example, dict) else tuple(example)
    return TaskShape(example=sizes, **found)


def _shape(state: Mapping[str, Any], folder: Path) -> TaskShape:
    try:
        return shape_from(state["identity"]["shape"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"Cannot load the checkpoint {folder}: its state.json does not say what the tasks were like. "
            "Use a checkpoint that `quickstudy train` wrote."
        ) from error


def newest_run_of(recipe: Recipe, runs: Path, *, same: bool = True) -> RunFolder | None:
    """The run of this recipe that was begun last; runs that cannot be read are passed over.

    Args:
        recipe: whose.
        runs: the folder of runs.
        same: only one with these settings; else any of this recipe's name and seed.
    """
    found = [path for path in runs.glob(f"{recipe.name}-s{recipe.seed}-*") if is_run(path)]
    for path in sorted(found, key=_number, reverse=True):
        try:
            as_asked = binding(recipe_of(RunFolder(path))) == binding(recipe)
        except QuickstudyError:
            continue
        if as_asked or not same:
            return RunFolder(path)
    return None


def _number(path: Path) -> int:
    digits = path.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def changes_of(run: RunFolder) -> list[tuple[int, str]]:
    """What was changed while the run was trained: after which step, and what, in words; oldest first."""
    found = state_of(run.checkpoints / "last").get("changes", [])
    return [(int(one["step"]), in_history(one["changed"])) for one in found]


_ORDER = ".order"  # no result: `evaluations/*.json` passes it over


def save_result(run: RunFolder, result: Result) -> None:
    """Keep a result with its run, as the newest one.

    Raises:
        StorageError: the disk refused.
    """
    result.save(run.evaluations / f"{result.id}.json")
    order = run.evaluations / _ORDER
    try:
        with order.open("a", encoding="utf-8") as file:  # a line at the end, as two tests may be over at once
            file.write(f"\n{result.id}\n")
    except OSError as error:
        raise storage_error(order, error) from error


def _order(run: RunFolder) -> list[str]:
    """Results as they were saved; of one that was saved twice the last place counts."""
    try:
        return (run.evaluations / _ORDER).read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return []


def results_of(run: RunFolder) -> list[Result]:
    """The results that a run holds, oldest first; files that are no results are passed over.

    The order is the one that they were saved in, whatever clocks said then; those of older versions, which kept none,
    come first, by their files' times.
    """
    order = {name: place for place, name in enumerate(_order(run))}

    def when(path: Path) -> tuple[int, int, str]:
        place = order.get(path.stem)
        return (-1, path.stat().st_mtime_ns, path.name) if place is None else (place, 0, "")

    paths = sorted(run.evaluations.glob("*.json"), key=when)
    results = []
    for path in paths:
        try:
            results.append(Result.load(path))
        except DataError:
            continue
    return results


def open_run(path: Path) -> RunFolder:
    """The run at ``path``.

    Raises:
        InputError: there is none.
    """
    if not path.exists():
        raise InputError(f"There is no run {path}. `quickstudy list runs` names those that there are.")
    return RunFolder.open(path)
