"""Floor 6: tasks as people have them, pairs of arrays or a table with a column of tasks, told apart and checked."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import type_of_target
from torch import Tensor

from quickstudy.errors import DataError, InputError
from quickstudy.estimators.inputs import kind_of

__all__ = ["Given", "Meaning", "codes_of", "gather", "kind_in", "meaning_of"]

Meaning = Literal["classes", "real"]


@dataclass(frozen=True, eq=False)
class Given:
    """A task as it was handed over.

    Args:
        name: what it is called; its number where nobody said.
        X: its examples.
        y: their labels.
    """

    name: str
    X: Any
    y: NDArray[Any]


def gather(tasks: Any, task: str | None = None, target: str | None = None) -> tuple[list[Given], tuple[str, ...]]:
    """The tasks, and what the columns of a table are called.

    Args:
        tasks: an iterable of pairs (X, y), or of dicts with the keys X and y, and name; a dict name -> pair; or a
            DataFrame.
        task: of a DataFrame, the column that says which task a row belongs to.
        target: likewise, the column of what is to be said.

    Raises:
        InputError: it is none of these, or there is no task.
        DataError: a task has no examples, or not as many labels, or a column is missing or no numbers.
    """
    if hasattr(tasks, "iloc"):
        return _of_frame(tasks, task, target)
    if task is not None or target is not None:
        raise InputError(
            f"task= and target= name columns of a DataFrame, received tasks of type {type(tasks).__name__}. Leave them "
            "out, or give a DataFrame."
        )
    if isinstance(tasks, np.ndarray | Tensor | str | bytes | Path) or not isinstance(tasks, Iterable):
        raise InputError(
            f"Expected tasks as a list of pairs (X, y), or a DataFrame, received {type(tasks).__name__}. Give "
            "[(X, y), (X, y), ...], a pair of arrays for each task."
        )
    named = tasks.items() if isinstance(tasks, Mapping) else enumerate(tasks)
    found = [_one(name, given) for name, given in named]
    if not found:
        raise InputError("There are no tasks to learn from. Give at least one; better dozens.")
    _check_names([one.name for one in found])
    return found, ()


def _one(name: Any, given: Any) -> Given:
    if isinstance(given, Mapping):
        keys = {str(key).lower(): value for key, value in given.items()}
        if not {"x", "y"} <= keys.keys():
            raise InputError(
                f"Task {name}: expected the keys X and y, received {', '.join(map(str, given)) or 'none'}."
            )
        name, X, y = keys.get("name", name), keys["x"], keys["y"]
    elif isinstance(given, tuple | list) and len(given) == 2:
        X, y = given
    else:
        raise InputError(
            f"Task {name}: expected a pair (X, y) or a dict with the keys X and y, received {type(given).__name__}"
            f"{f' of {len(given)}' if isinstance(given, tuple | list) else ''}."
        )
    labels = _labels(y)
    if not hasattr(X, "__len__"):
        X = list(X)
    if len(X) != len(labels):
        raise DataError(f"Task {name} has {len(X)} examples and {len(labels)} labels. Give each example its label.")
    if len(X) == 0:
        raise DataError(f"Task {name} has no examples. Leave it out, or give some.")
    return Given(str(name), X, labels)


def _labels(y: Any) -> NDArray[Any]:
    """As an array, ``[n]`` of whatever labels, or ``[n, D]`` of numbers."""
    if isinstance(y, Tensor):
        return np.asarray(y.detach().cpu())
    if hasattr(y, "iloc") or isinstance(y, np.ndarray):
        return np.asarray(y)
    listed = list(y)
    kinds = {str if isinstance(label, str) else type(label) for label in listed}
    if kinds <= {int, float, bool, list, np.float64, np.int64, np.float32} or kinds == {str}:
        return np.asarray(listed)
    kept = np.empty(len(listed), dtype=object)  # tuples, and numbers beside text: numpy would make other things of them
    kept[:] = listed
    return kept


def _check_names(names: list[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise InputError(f"Two tasks are called {twice!r}. Give each a name of its own, or put them together.")


def _of_frame(frame: Any, task: str | None, target: str | None) -> tuple[list[Given], tuple[str, ...]]:
    columns = list(map(str, frame.columns)) if frame.ndim == 2 else []
    for role, column in (("task", task), ("target", target)):
        if column is None:
            raise InputError(f"Say which column of the table is the {role}: meta_fit(frame, task=..., target=...).")
        if column not in columns:
            near = difflib.get_close_matches(column, columns, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"The table has no column {column!r}.{hint} It has {', '.join(columns)}.")
    if task == target:
        raise InputError(f"task and target are both the column {task!r}. Name two columns.")
    features = _features(frame, {task, target})
    for column in (task, target):
        if frame[column].isna().any():
            raise DataError(f"The column {column!r} has {int(frame[column].isna().sum())} rows without a value.")
    groups = [
        Given(str(name), rows[features].to_numpy(np.float64), np.asarray(rows[target]))
        for name, rows in frame.groupby(task, sort=True, observed=True)
    ]
    if not groups:
        raise InputError("There are no tasks to learn from: the table has no rows.")
    return groups, tuple(map(str, features))


def _features(frame: Any, others: set[str | None]) -> list[Any]:
    found = [column for column in frame.columns if str(column) not in others]
    if not found:
        raise InputError("The table has no columns beside those of the task and of the target. Add some.")
    for column in found:
        if frame[column].dtype.kind not in "biuf":
            raise DataError(
                f"The column {str(column)!r} holds no numbers ({frame[column].dtype}). Make numbers of it (one column "
                "a category, for example), or leave it out."
            )
    return found


def meaning_of(given: list[Given], asked: str) -> Meaning:
    """Whether labels are classes or numbers: of floating numbers that are not all whole they are numbers.

    Raises:
        InputError: ``asked`` is neither, or numbers were asked for and labels are none.
    """
    if asked not in ("auto", "classes", "real"):
        raise InputError(f"target must be 'auto', 'classes' or 'real', received {asked!r}.")
    kinds = {_type_of(one.y) for one in given}
    found: Meaning = "real" if any(kind.startswith("continuous") for kind in kinds) else "classes"
    if asked == "real" and any(one.y.dtype.kind not in "biuf" for one in given):
        raise InputError("target='real' needs labels that are numbers, received others. Take target='classes'.")
    if asked == "classes" and any(one.y.ndim > 1 for one in given):
        raise InputError("target='classes' needs one label an example, received several numbers. Take target='real'.")
    return found if asked == "auto" else ("real" if asked == "real" else "classes")


def _type_of(y: NDArray[Any]) -> str:
    if y.ndim > 1:
        return "continuous-multioutput"
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        return "continuous"  # which is refused later, by the name of its task
    return "classes" if y.dtype.kind not in "biuf" else str(type_of_target(y))


def codes_of(one: Given) -> NDArray[np.int64]:
    """The number of each example's class in its own task, ``[n]``.

    Raises:
        DataError: a label cannot be told apart.
    """
    try:
        numbers = {label: number for number, label in enumerate(dict.fromkeys(one.y.tolist()))}
    except TypeError as error:
        raise DataError(f"Task {one.name}: labels must be something that can be told apart: {error}.") from error
    return np.array([numbers[label] for label in one.y.tolist()], dtype=np.int64)


def kind_in(given: list[Given], rate: int | None) -> str:
    """``"rows"``, ``"pictures"``, ``"sounds"`` or ``"arrays"``, the same for all tasks.

    Raises:
        InputError: they are of several kinds, or texts.
    """
    kinds = {one.name: _kind(one.X, rate) for one in given}
    first = next(iter(kinds))
    other = next((name for name, kind in kinds.items() if kind != kinds[first]), None)
    if other is not None:
        raise InputError(
            f"Tasks are of several kinds: task {first} is made of {kinds[first]}, task {other} of {kinds[other]}. Give "
            "tasks of one kind."
        )
    if kinds[first] == "texts":
        raise InputError(
            "MetaLearner cannot be trained on texts, of which a vocabulary or a tokenizer has to be chosen first. "
            "Write them to a CSV and run quickstudy train, as docs/domains/language.md shows."
        )
    return kinds[first]


def _kind(X: Any, rate: int | None) -> str:
    kind = kind_of(X, rate)
    if kind != "pictures" or not isinstance(X, np.ndarray | Tensor):
        return kind
    shape = tuple(X.shape[1:])
    looks = len(shape) == 2 or shape[2] in (1, 3, 4)
    return "pictures" if looks and min(shape[:2]) >= 8 and float(X.min()) >= 0 else "arrays"
