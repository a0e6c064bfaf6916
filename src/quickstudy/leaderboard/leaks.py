"""Floor 6: whether what a learner is tested on was trained or selected on, by name and by content.

The run says which roles it used; the data set says which classes these are, and digests of their examples. What a run
of one's own data kept (``split.json``, ``examples.json``) is held against the tasks by ``quickstudy.data.seen`` as
well, when its learner is tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.dataset import DataSet
from quickstudy.data.source import TaskSource
from quickstudy.errors import InputError
from quickstudy.recipes import Recipe
from quickstudy.recipes.schema import TaskSize

__all__ = ["check_leaks", "contents", "used_by"]

Contents: TypeAlias = Mapping[str, NDArray[np.uint64]]
_SHOWN = 5


def contents(source: TaskSource) -> Contents | None:
    """Name of each class or group of a source -> digests of its examples ``[n]``, none where they are not looked at.

    Returns:
        Classes as they lie in the store, before pictures are turned; None where nobody can say.
    """
    none = np.zeros(0, dtype=np.uint64)
    if isinstance(source, ClassTasks):
        store = source.store
        return {store.classes[n]: store.digests(n) if store.known else none for n in source.numbers.tolist()}
    origin = source.origin
    return None if origin is None else {name: origin.examples.get(name, none) for name in origin.names}


def used_by(recipe: Recipe, data: DataSet) -> dict[str, TaskSource]:
    """What a run was trained on, and selected on, by how: ``"trained"``, ``"validated"``.

    Args:
        recipe: of the run.
        data: its own data set.
    """
    size = recipe.episodes.train
    found = {"trained": _tasks(data, recipe.train.role, size, recipe.seed)}
    if recipe.train.validate_every:
        size = recipe.episodes.validation or recipe.episodes.test
        found["validated"] = _tasks(data, "validation", size, recipe.seed)
    return found


def _tasks(data: DataSet, role: str, size: TaskSize, seed: int) -> TaskSource:
    return data.tasks(role, way=size.way, shot=size.shot, query=size.query, seed=seed)


def check_leaks(name: str, used: Mapping[str, TaskSource], test: TaskSource) -> int:
    """Refuse a test on classes or examples that were used.

    Args:
        name: of the file that is to be added.
        used: from :func:`used_by`.
        test: tasks that it was tested on.

    Returns:
        How many examples were looked at; 0 where only names tell, or nobody can say.

    Raises:
        InputError: a class or an example is in both; names some, and the file.
    """
    tested = contents(test)
    if tested is None:
        return 0
    looked_at = sum(map(len, tested.values()))
    for how, source in used.items():
        known = contents(source)
        if known is None:
            continue
        both = sorted(set(tested) & set(known))
        if both and _one_place(source, test):
            raise InputError(
                f"{name} cannot be added: {_some(both)} of its test tasks are classes that the run was {how} on. "
                "Divide the data so that no class is in two splits, and train anew."
            )
        _check_examples(name, how, known, tested)
    return looked_at


def _one_place(a: TaskSource, b: TaskSource) -> bool:
    """Whether the same name is the same class in both."""
    places = [None if one.origin is None else one.origin.place for one in (a, b)]
    return places[0] == places[1] and a.settings.get("data") == b.settings.get("data")


def _check_examples(name: str, how: str, known: Contents, tested: Contents) -> None:
    every = np.concatenate([*known.values(), np.zeros(0, dtype=np.uint64)])
    among = {one: int(np.isin(mine, every).sum()) for one, mine in tested.items()}
    seen = sorted(one for one, number in among.items() if number)
    if seen:
        raise InputError(
            f"{name} cannot be added: the run was {how} on {among[seen[0]]} of the {len(tested[seen[0]])} examples of "
            f"{seen[0]!r}{f' and on some of {len(seen) - 1} other classes' if len(seen) > 1 else ''}, under whichever "
            "name. Leave these out of one split, and train anew."
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
