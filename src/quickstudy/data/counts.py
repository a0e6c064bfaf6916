"""Floor 1: a number of things in a task, fixed or drawn from a range."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TypeAlias

from quickstudy.errors import InputError

__all__ = ["Bounds", "Count", "as_setting", "bounds"]

Count: TypeAlias = int | Sequence[int]
"""How many: a number, or a range (low, high) from which each is drawn, both ends included."""

Bounds: TypeAlias = tuple[int, int]
"""(low, high), equal when there is nothing to draw."""


def bounds(name: str, count: Count | None, least: int = 1) -> Bounds:
    """The ends of the range that ``count`` means.

    >>> bounds("shot", 5), bounds("way", (5, 20))
    ((5, 5), (5, 20))

    Args:
        name: how a message calls it: way, shot or query.
        count: a number or a range.
        least: the smallest number that makes sense.

    Raises:
        InputError: it is neither, or the range is empty or begins below ``least``.
    """
    ends = (count, count) if isinstance(count, Integral) else tuple(count) if isinstance(count, (list, tuple)) else ()
    whole = len(ends) == 2 and all(isinstance(end, Integral) and not isinstance(end, bool) for end in ends)
    if not whole or not least <= ends[0] <= ends[1]:
        raise InputError(
            f"Cannot draw tasks with {name} = {count!r}: expected a whole number from {least} on, "
            f"or a range [low, high] of such numbers."
        )
    return int(ends[0]), int(ends[1])


def as_setting(ends: Bounds) -> int | list[int]:
    """The bounds as they stand in a recipe: a number, or [low, high]."""
    return ends[0] if ends[0] == ends[1] else list(ends)
