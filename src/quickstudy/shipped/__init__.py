"""Floor 6: learners that come with the package, trained by its own recipes: one folder each, as ``save`` writes them.

drawings    letters and characters: ink on paper; drawings-maml: the same learned by gradient steps, to watch them
pictures    colour pictures of things
sounds      spoken words
rows        rows of numbers with a class each; rows-real, with a number each
"""

from __future__ import annotations

import functools
from pathlib import Path

from quickstudy.errors import UnknownName
from quickstudy.saved import SavedLearner, is_saved

__all__ = ["shipped", "shipped_names"]

_HERE = Path(__file__).parent


def shipped_names() -> list[str]:
    """What there is."""
    return sorted(path.name for path in _HERE.iterdir() if is_saved(path))


@functools.cache
def shipped(name: str) -> SavedLearner:
    """One of them; its learner is shared, so that whoever trains it copies it first.

    Raises:
        UnknownName: there is none of that name.
    """
    if name not in shipped_names():
        raise UnknownName.among("shipped learner", name, shipped_names())
    return SavedLearner.load(_HERE / name)
