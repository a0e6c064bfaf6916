"""Floor 6: whether what a learner is tested on was trained or selected on, by name and by content.

The run says which roles it used; the data set says which classes these are, and digests of their examples. What a run
of one's own data kept (``split.json``, ``examples.json``) is held against the tasks by ``quickstudy.data.seen`` as
well, when its learner is tested.
"""

from __future__ import annotations

from collections.abc import Mapping

from quickstudy.data.dataset import DataSet
from quickstudy.data.leaks import are_turned, held
from quickstudy.data.source import TaskSource
from quickstudy.errors import InputError
from quickstudy.recipes import Recipe
from quickstudy.recipes.schema import TaskSize

__all__ = ["check_leaks", "used_by"]

_SHOWN = 5


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
    turned = are_turned(test, *used.values())
    tested = held(test, turned, thorough=False)
    for how, source in used.items():
        known = held(source, turned, thorough=False)
        both = sorted(tested.names & known.names)
        if both and _one_place(source, test):
            raise InputError(
                f"{name} cannot be added: {_some(both)} of its test tasks are classes that the run was {how} on. "
                "Divide the data so that no class is in two splits, and train anew."
            )
        same = sorted((tested.examples[one], known.examples[one]) for one in tested.examples.keys() & known.examples)
        if same:
            raise InputError(
                f"{name} cannot be added: the run was {how} on {len(same)} of the {len(tested.examples)} examples of "
                f"its test tasks{', perhaps turned' if turned else ''}: {same[0][0]} is {same[0][1]} there. "
                "Leave these out of one split, and train anew."
            )
    return len(tested.examples)


def _one_place(a: TaskSource, b: TaskSource) -> bool:
    """Whether the same name is the same class in both."""
    places = [None if one.origin is None else one.origin.place for one in (a, b)]
    return places[0] == places[1] and a.settings.get("data") == b.settings.get("data")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
