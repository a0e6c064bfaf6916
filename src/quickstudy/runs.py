"""Floor 6: what a run folder holds, read back: its recipe, its learner, how far it came."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from quickstudy.data.dataset import DataSet
from quickstudy.data.source import TaskShape
from quickstudy.errors import CheckpointError, DataError, InputError, QuickstudyError
from quickstudy.evaluate import Result
from quickstudy.files import atomic_write_bytes
from quickstudy.learners.learner import AbstractLearner
from quickstudy.recipes import Recipe, load_recipe
from quickstudy.recipes.building import build_learner
from quickstudy.train import RunFolder, load_checkpoint, load_weights
from quickstudy.train.checkpoint import has_checkpoint

__all__ = [
    "RunSummary",
    "Which",
    "as_trained",
    "check_numbering",
    "check_shape",
    "check_unseen",
    "identity",
    "is_run",
    "learner_of",
    "list_runs",
    "newest_run_of",
    "note_classes",
    "recipe_of",
    "results_of",
    "summary",
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


def identity(recipe: Recipe, shape: TaskShape) -> dict[str, Any]:
    """What a checkpoint says of the run that it belongs to, as JSON: the recipe's settings and the tasks' shape.

    With the shape the learner can be built again where the data is not.
    """
    settings = recipe.settings(exclude=_FREE)
    settings["episodes"].pop("test")
    settings["data"]["options"].pop("path", None)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    # What only some tasks have is left out of others, as in runs that are older than these.
    about = {name: value for name, value in asdict(shape).items() if name not in _OF_SOME or value is not None}
    return {"recipe": digest, "shape": json.loads(json.dumps(about))}


def which_checkpoint(run: RunFolder) -> Which:
    """The best one where the phase that was trained last was validated, else the last."""
    if not has_checkpoint(run.checkpoints / "best"):
        return "last"
    best, last = (_state(run.checkpoints / which) for which in ("best", "last"))
    # A phase that began after the best one was measured, and was not measured yet.
    outdated = "best" in last and last["best"] is None and best.get("step", 0) <= last.get("step", -1)
    return "last" if outdated else "best"


def _state(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself; nothing where it is broken, which is told when it is loaded."""
    try:
        state = json.loads((folder / "state.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


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
    learner = build_learner(recipe, _shape(checkpoint.state, folder))
    load_weights(learner, checkpoint, folder)
    return learner.eval()


def check_shape(run: RunFolder, shape: TaskShape, which: Which) -> None:
    """Whether tasks can be put to the network of a run at all.

    Args:
        run: the folder.
        shape: of the tasks.
        which: the checkpoint.

    Raises:
        InputError: their examples have another shape than those it was trained on.
    """
    folder = run.checkpoints / which
    trained = _shape(_state(folder), folder)
    if (_read(trained), trained.target) != (_read(shape), shape.target):
        texts = isinstance(shape.example, dict) and "input_ids" in shape.example
        options = "--data.length" if texts else "--data.size and --data.channels"
        raise InputError(
            f"Cannot test {run.path} on these tasks: it was trained on {trained.target} of examples of shape "
            f"{_said(trained)}, and theirs is {_said(shape)} ({shape.target}). Give the data the options that make "
            f"them alike, such as {options}, or train on such data."
        )


def _read(shape: TaskShape) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
    """What a network reads of an example: not the letters of a text, which are as many as the longest has."""
    if isinstance(shape.example, dict):
        return {name: size for name, size in shape.example.items() if name != "text"}
    return shape.example


def _said(shape: TaskShape) -> str:
    if isinstance(shape.example, dict):
        return ", ".join(f"{name} {list(size)}" for name, size in shape.example.items())
    return str(list(shape.example))


def note_classes(run: RunFolder, data: DataSet) -> None:
    """Keep what a test must know of the data that was trained on.

    In ``split.json`` which classes of one's own data train, validate and test; in ``environment.json`` how texts were
    numbered; in ``table.json`` how a table was scaled.

    Args:
        run: the folder.
        data: what it is trained on; nothing is written where its split is fixed elsewhere.

    Raises:
        StorageError: the disk refused.
    """
    divided = getattr(data, "divided", None)
    if divided is not None:
        atomic_write_bytes(run.split, json.dumps(dict(divided), indent=1, ensure_ascii=False).encode() + b"\n")
    numbered = getattr(data, "numbering", None)
    if numbered is not None:
        run.note(numbering=numbered)
    measured = getattr(data, "measured", None)
    if measured is not None:
        atomic_write_bytes(run.table, json.dumps(measured, indent=1, ensure_ascii=False).encode() + b"\n")


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
    try:
        found: DataSet = by_run(measured, run.divided or {})
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"Cannot read {run.table}, by which the run's table becomes features: {error!r}. Train anew."
        ) from error
    return found


def check_numbering(run: RunFolder, data: DataSet) -> None:
    """Whether the words of texts to be tested have the numbers that they had in training.

    A vocabulary is counted in training texts: that of another file numbers the same words otherwise, and the network
    would read them as other words without a sign of it.

    Args:
        run: the folder; of one that does not say how its texts were numbered nothing is known.
        data: to be tested on.

    Raises:
        InputError: their numbers are others.
    """
    mine, kept = getattr(data, "numbering", None), run.about.get("numbering")
    if mine is not None and kept is not None and mine != kept:
        raise InputError(
            f"Cannot test {run.path} on these texts: their words have other numbers than those it was trained with. A "
            "vocabulary is counted in training texts, so keep these as they were and name what is tested beside them: "
            "--data.test FILE; where a pretrained tokenizer was trained with, give it here, too: --data.tokenizer."
        )


def check_unseen(run: RunFolder, recipe: Recipe, data: DataSet, role: str | None) -> None:
    """Whether the classes to be tested on are new to the learner, by what :func:`note_classes` kept.

    A folder of one's own may have got more classes since, and its split is then another one. Labels of texts are taken
    for the same classes in another file, too. Classes that the run was validated on chose its checkpoint: they may be
    validated on again, but are no test.

    Args:
        run: the folder.
        recipe: as it is tested.
        data: likewise.
        role: to be tested on; None: the recipe's.

    Raises:
        InputError: it was trained on some of them, or is tested on some that it was validated on.
    """
    mine, kept = getattr(data, "divided", None), run.divided
    trained = recipe_of(run)
    if mine is None or kept is None or not _same_data(trained, recipe):
        return
    tested = role or recipe.evaluate.role
    uses: dict[str, str] = {"trained": trained.train.role}
    if tested != "validation" and trained.train.validate_every:
        uses["validated"] = "validation"
    for used, part in uses.items():
        seen = sorted(set(kept.get(part, ())) & set(mine.get(tested, ())))
        if not seen:
            continue
        more = f" and {len(seen) - 5} more" if len(seen) > 5 else ""
        raise InputError(
            f"Cannot test {run.path} on {', '.join(map(repr, seen[:5]))}{more}: it was {used} on them "
            f"({run.split.name}). The data was divided otherwise then, with fewer classes or another "
            "split, or is another file with such labels; train anew, or leave them out."
        )


def _same_data(one: Recipe, other: Recipe) -> bool:
    """Whether classes of one name are the same: the data lies in the same place, however it is divided."""
    if one.data.name == other.data.name == "texts":  # whichever file: it may be a copy, or hold more
        return True
    places = [(r.data.name, r.data.options.get("folder"), r.data.options.get("file")) for r in (one, other)]
    return places[0] == places[1]


def _shape(state: Mapping[str, Any], folder: Path) -> TaskShape:
    try:
        found = dict(state["identity"]["shape"])
        example = found.pop("example")
        as_tuples = (
            {name: tuple(size) for name, size in example.items()} if isinstance(example, dict) else tuple(example)
        )
        return TaskShape(example=as_tuples, **found)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"Cannot load the checkpoint {folder}: its state.json does not say what the tasks were like. "
            "Use a checkpoint that `quickstudy train` wrote."
        ) from error


def newest_run_of(recipe: Recipe, runs: Path) -> RunFolder | None:
    """The run of this recipe that was begun last; runs that cannot be read are passed over."""
    found = [path for path in runs.glob(f"{recipe.name}-s{recipe.seed}-*") if is_run(path)]
    for path in sorted(found, key=_number, reverse=True):
        try:
            same = _comparable(recipe_of(RunFolder(path))) == _comparable(recipe)
        except QuickstudyError:
            continue
        if same:
            return RunFolder(path)
    return None


def _number(path: Path) -> int:
    digits = path.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def _comparable(recipe: Recipe) -> dict[str, Any]:
    return recipe.settings(exclude=_FREE)


@dataclass(frozen=True)
class RunSummary:
    """A run in a list.

    Args:
        path: its folder.
        step: steps done; None without a checkpoint.
        steps: steps to do.
        best: the best validation figure, if it was validated.
        evaluations: how many results it holds.
    """

    path: Path
    step: int | None
    steps: int | None
    best: float | None
    evaluations: int


def summary(path: Path) -> RunSummary:
    """How far a run came; reads no weights."""
    # Nothing where nothing is saved yet, or where it is broken: `show` and `evaluate` say what is wrong.
    step, steps, best = map(_state(path / "checkpoints" / "last").get, ("step", "steps", "best"))
    return RunSummary(path, step, steps, best, len(list((path / "evaluations").glob("*.json"))))


def list_runs(runs: Path) -> list[RunSummary]:
    """All runs in a folder, by name."""
    return [summary(path) for path in sorted(runs.glob("*")) if is_run(path)]


def results_of(run: RunFolder) -> list[Result]:
    """The results that a run holds, oldest first; files that are no results are passed over."""
    paths = sorted(run.evaluations.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name))
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
