"""Floor 6: a result becomes a row once its checkpoint was tested again.

What is held against the run, in this order: that its recipe is the one that it was trained by; that the result is of
that recipe and of the checkpoint that it states; that data and tasks are the same, by their digests; that no class and
no example of the test was trained or selected on; and that figures of some episodes come out again (``again.py``).
Which ones follows from the result itself, so that nobody chooses them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from quickstudy.data.dataset import DataSet
from quickstudy.data.source import TaskSource
from quickstudy.errors import DataError, InputError
from quickstudy.evaluate import Result
from quickstudy.evaluate.kept import load_kept, save_kept
from quickstudy.evaluate.metatest import check_tasks
from quickstudy.evaluate.possible import DIGITS
from quickstudy.leaderboard.again import tested_again
from quickstudy.leaderboard.entry import Checked, Entry, Provenance, read_entry, read_result
from quickstudy.leaderboard.leaks import check_leaks, used_by
from quickstudy.leaderboard.published import claimed, data_of
from quickstudy.leaderboard.trained import of_training
from quickstudy.recipes import Recipe, recipe_hash
from quickstudy.recipes.building import build_data, test_tasks
from quickstudy.reproduce.runs import is_edited
from quickstudy.runs import (
    Which,
    as_trained,
    is_run,
    learner_of,
    leave_out_known,
    open_run,
    recipe_of,
    seen_by,
    shape_of,
    state_of,
)
from quickstudy.stressing import robustness_of
from quickstudy.train import RunFolder
from quickstudy.train.checkpoint import has_checkpoint
from quickstudy.train.precision import in_precision
from quickstudy.training import kebab_keys, pick_device

__all__ = ["FOLDER", "Added", "add"]

FOLDER = "leaderboard"
"""Of rows that were added, in the folder of results."""


@dataclass(frozen=True)
class Added:
    """What came of it.

    Args:
        path: of the row's file.
        new: False: the same row was there before, and its result is unchanged.
        robustness_added: to a row that was there before, which had none or said less.
        checked: what was tested again by this call.
    """

    path: Path
    new: bool
    checked: Checked
    robustness_added: bool = False


def add(
    file: str | Path,
    run: str | Path | None = None,
    *,
    results: str | Path = "results",
    sample: int = 20,
    by: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    data_root: str | Path | None = None,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Added:
    """Add a result to a leaderboard's folder, if its checkpoint gives these figures again.

    Args:
        file: what ``quickstudy.evaluate`` or ``quickstudy reproduce`` wrote.
        run: the folder of the run that it is of; by default the one that the file lies in.
        results: folder of results.
        sample: how many episodes are tested again; all, where there are not so many.
        by: who adds it.
        overrides: what the test changed of the recipe, as in ``quickstudy.evaluate``.
        data_root: see ``quickstudy.train``.
        device: see ``quickstudy.train``.
        progress: told how many episodes are done, of how many.

    Raises:
        InputError: the file, the run or the data is another than it should be, or figures do not come out again; one
            sentence that names the file and what to do.
        CheckpointError: the checkpoint is missing or broken.
        StorageError: the disk refused.
    """
    path = Path(file)
    if sample < 1:
        raise InputError(f"Cannot test {sample} episodes again: expected 1 or more, such as 20.")
    if by is not None and not by.isprintable():
        raise InputError(f"Cannot add a row by {by!r}: a name has no characters that cannot be printed.")
    result, said = read_result(path)
    folder = _run_of(path, run)
    changed = kebab_keys(overrides)
    _check_recipe(path, folder, result, said or {}, changed)
    which = _check_checkpoint(path, folder, result, said or {})
    recipe = recipe_of(folder, changed)
    data = as_trained(
        folder, leave_out_known(folder, build_data(recipe, None if data_root is None else Path(data_root)))
    )
    source = _tasks(path, recipe, data, result)
    check_leaks(str(path), _used(path, folder, recipe, which, data, source, data_root), source)
    learner = learner_of(folder, recipe, which).to(pick_device(device))
    try:
        check_tasks(learner, source)
    except InputError as error:
        raise InputError(f"{path} cannot be added. {error}") from error
    tested = in_precision(learner, recipe.evaluate.precision)
    checked = tested_again(path, tested, source, result, sample, progress)
    row = _row(folder, recipe, result, said or {}, which, changed, by) | {"checked": checked.model_dump(mode="json")}
    return _keep(Path(results) / FOLDER / f"{_slug(row['row'])}-{result.id}.json", path, result, row, checked)


# --- the run -------------------------------------------------------------------------------------


def _run_of(path: Path, run: str | Path | None) -> RunFolder:
    if run is not None:
        return open_run(Path(run))
    around = path.resolve().parents[1] if len(path.resolve().parents) > 1 else path
    if path.resolve().parent.name == "evaluations" and is_run(around):
        return open_run(around)
    raise InputError(
        f"{path} cannot be added: no run is at hand whose checkpoint could be tested again. Name its folder: --run DIR."
    )


def _check_recipe(
    path: Path, folder: RunFolder, result: Result, said: Mapping[str, Any], changed: Mapping[str, Any]
) -> None:
    trained = recipe_of(folder)
    for which in ("last", "best"):
        state = state_of(folder.checkpoints / which)
        if state and is_edited(state, trained):
            raise InputError(
                f"{path} cannot be added: {folder.recipe} was edited after its training (its checkpoint {which!r} is "
                "of another one). Put the recipe back as it was, or train anew."
            )
    learner = trained.learner.name
    if result.learner != learner:
        raise InputError(
            f"{path} cannot be added: its learner is {result.learner!r}, and {folder.recipe} trained {learner!r}. "
            "Evaluate the run again, and add what that writes."
        )
    if result.learner_seed:  # whoever tries many could pick the best
        raise InputError(
            f"{path} cannot be added: its learner_seed is {result.learner_seed}, and `quickstudy evaluate` tests all "
            "learners with 0. Evaluate the run again, and add what that writes."
        )
    found = recipe_hash(recipe_of(folder, changed))
    if found != result.recipe_hash:
        tested = f" with {', '.join(changed)}" if changed else ""
        raise InputError(
            f"{path} cannot be added: it was measured by the recipe {_short(result.recipe_hash)}, and {folder.recipe} "
            f"is {_short(found)}{tested}. Name the run that it is of; if the test changed options of it, give these "
            "here, too (such as --learner.test-inner-steps 10)."
        )
    stated = said.get("recipe_hash")
    if stated and stated != recipe_hash(trained):
        raise InputError(
            f"{path} cannot be added: provenance.recipe_hash says that the recipe {_short(str(stated))} was trained, "
            f"and {folder.recipe} is {_short(recipe_hash(trained))}. Name the run that it is of."
        )


def _short(digest: str) -> str:
    return digest[:12] or "of which it does not say the hash"


def _check_checkpoint(path: Path, folder: RunFolder, result: Result, said: Mapping[str, Any]) -> Which:
    which = result.checkpoint
    if which not in ("best", "last"):
        raise InputError(
            f"{path} cannot be added: checkpoint is {which!r}, and a row says which one was tested, 'best' or 'last'. "
            "Evaluate the run again."
        )
    place = folder.checkpoints / which
    if not has_checkpoint(place):
        raise InputError(
            f"{path} cannot be added: it is of the checkpoint {which!r}, and there is no {place}. Copy the run again."
        )
    stated, there = said.get("weights_sha256"), state_of(place).get("weights_sha256")
    if stated and stated != there:
        raise InputError(
            f"{path} cannot be added: it states a checkpoint with the SHA-256 {str(stated)[:12]} (weights_sha256), and "
            f"that of {place} is {str(there)[:12]}. The run was trained on since, or is another one; evaluate it again."
        )
    return "best" if which == "best" else "last"


def _tasks(path: Path, recipe: Recipe, data: DataSet, result: Result) -> TaskSource:
    sizes: dict[str, Any] = {"way": result.way, "shot": result.shot, "query": result.query, "seed": result.seed}
    dirichlet = result.source.get("dirichlet", 0)
    source = test_tasks(recipe, data, role=result.split.rpartition("/")[2], dirichlet=dirichlet, **sizes)
    settings = json.loads(json.dumps(source.settings))
    for name in sorted({*settings, *result.source}):
        if settings.get(name) != result.source.get(name):
            raise InputError(
                f"{path} cannot be added: its tasks have {name} {_said(result.source.get(name))}, and those of the run "
                f"have {_said(settings.get(name))}. Give what the test changed of the data here, too (such as "
                "--data.name), or name the run that it is of."
            )
    if source.hash != result.source_hash:
        raise InputError(
            f"{path} cannot be added: it was measured on data of other content (source_hash {result.source_hash[:12]}) "
            f"than lies here ({source.hash[:12]}). Get the same data (quickstudy fetch, --data-root), or evaluate anew."
        )
    return source


def _said(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:57]}..."


def _used(
    path: Path,
    folder: RunFolder,
    recipe: Recipe,
    which: Which,
    data: DataSet,
    test: TaskSource,
    data_root: str | Path | None,
) -> dict[str, TaskSource]:
    """What was trained on, which is not what is tested on where the test is on other data."""
    trained = recipe_of(folder)
    if data_of(trained) == data_of(recipe):
        return used_by(trained, data)
    try:
        own = build_data(trained, None if data_root is None else Path(data_root))
        return used_by(trained, as_trained(folder, own))
    except DataError as error:  # it is not at hand
        if _kept_enough(folder, which, test):
            return {}
        raise InputError(
            f"{path} cannot be added: nobody can tell whether the run was trained on what it is tested on, as the data "
            f"that it was trained on is not at hand, and the run keeps nothing to compare. {error}"
        ) from error


def _kept_enough(folder: RunFolder, which: Which, test: TaskSource) -> bool:
    """Whether a run kept what can be held against these tasks, as is done when its learner is tested."""
    seen, origin = seen_by(folder, shape_of(folder, which)), test.origin
    named = origin is not None and origin.place == seen.place
    return any(len(used.examples) or (named and used.names) for used in seen.used.values())


# --- the row ---------------------------------------------------------------------------------------

_STATED = ("study", "command", "commit", "device", "by")  # what only the file can say


def _row(
    folder: RunFolder,
    recipe: Recipe,
    result: Result,
    said: Mapping[str, Any],
    which: Which,
    changed: Mapping[str, Any],
    by: str | None,
) -> dict[str, Any]:
    """The provenance, by what the run itself kept."""
    trained = recipe_of(folder)
    row: dict[str, Any] = {name: said[name] for name in _STATED if said.get(name) is not None}
    row |= claimed(str(said.get("claim")), trained, result)
    row |= {
        "row": result.learner,
        **of_training(folder, which),
        "settings": trained.model_dump(mode="json", by_alias=True, exclude_none=True),
        "test_seconds": round(result.seconds, 3),
        "data": data_of(recipe),
        "overrides": dict(changed),
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    robust = robustness_of(folder, result, lambda said: warnings.warn(said, stacklevel=2))
    if robust is not None:
        row["robustness"] = json.loads(robust.to_json())
    return row | ({} if by is None else {"by": by})


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "+-._" else "-" for letter in name.lower())


def _keep(path: Path, file: Path, result: Result, row: dict[str, Any], checked: Checked) -> Added:
    found = Provenance.model_validate(row).robustness  # what is written can be read
    if path.exists():
        old = read_entry(path)
        other = _others(old, result, row)
        if other:
            raise InputError(
                f"{file} cannot be added: {path} is of the same recipe, checkpoint and tasks, and has other "
                f"{', '.join(other)}. No row is ever replaced; move that file away if it is wrong."
            )
        more = found is not None and found.says_more_than(old.about.robustness)
        if more:
            kept, about = load_kept(path)
            save_kept(path, kept, about | {"robustness": row["robustness"]})
        return Added(path, False, checked, more)
    save_kept(path, result, row)
    return Added(path, True, checked)


_RUNS = ("row", "recipe", "recipe_hash", "series", "seed", "step", "steps", "train_seconds", "weights_sha256")
"""What a row says of its run, and the run itself says."""


def _others(old: Entry, result: Result, row: Mapping[str, Any]) -> list[str]:
    """What a row that is there says otherwise; nothing where it is the same."""
    figures = zip(old.result.per_episode, result.per_episode, strict=False)
    same = old.result.episodes == result.episodes and all(
        a == b or abs(a - b) <= DIGITS * max(1.0, abs(b)) for a, b in figures
    )
    return ([] if same else ["figures"]) + [
        f"{name} ({getattr(old.about, name)!r})" for name in _RUNS if getattr(old.about, name) != row[name]
    ]
