"""Floor 1: all that may be known before a cut in time: normalisation, item statistics, the numbering of items.

It is made of the training users' ratings before the cut and of nothing else, so that no later rating, and no rating of
a user who is tested, moves any of it. What is told of an item is of a moment, too, which for a test is the cut: items
that are new in a training task are then such as are new in a test, and not those that hardly anybody ever rates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.ratingfile import Floats, ItemFacts, RatingTable
from quickstudy.keys import Integers

__all__ = ["Past", "fact_table", "item_features", "make_past"]

_PRIOR = 5.0  # ratings by which an item's mean is drawn to the mean of all


@dataclass(frozen=True, eq=False)
class Past:
    """What training users said before the cut; ratings are normalised: (rating - mean) / std.

    Args:
        mean: of their ratings.
        std: likewise.
        lowest: likewise.
        middle: their median.
        number: int64 ``[items of the table]``: 1 for the item rated most often, and so on; 0 for those that nobody
            rated.
        count: float64 ``[M + 1]``, ratings of each numbered item; that of 0 is 0.
        total: float64 ``[M + 1]``, sums of its normalised ratings.
        user: int64 ``[R]``, who rated, numbered from 0.
        item: int64 ``[R]``, the item's number.
        value: float64 ``[R]``, the normalised rating.
        time: float64 ``[R]``, when.
        genres: those of the rated items, sorted.
    """

    mean: float
    std: float
    lowest: float
    middle: float
    number: Integers
    count: Floats
    total: Floats
    user: Integers
    item: Integers
    value: Floats
    time: Floats
    genres: tuple[str, ...]

    @property
    def n_item(self) -> int:
        """M, items that were rated."""
        return len(self.count) - 1

    @property
    def n_user(self) -> int:
        """Users who rated."""
        return int(self.user.max()) + 1

    @cached_property
    def _ledger(self) -> tuple[Floats, Integers, Floats]:
        """All times, rising; (item, time's place among them) of each rating as one number, rising; sums of ratings."""
        times = np.sort(self.time)
        order = np.lexsort((self.time, self.item))
        places = self.item * (len(times) + 1) + np.searchsorted(times, self.time)
        return times, places[order], np.concatenate([[0.0], np.cumsum(self.value[order])])

    def until(self, number: Integers, moment: Floats) -> tuple[Floats, Floats]:
        """How many ratings numbered items had before a moment, and their sum.

        Args:
            number: int64 ``[...]``.
            moment: float64, broadcast against it.
        """
        times, places, sums = self._ledger
        first = number * (len(times) + 1)
        begin, end = np.searchsorted(places, first), np.searchsorted(places, first + np.searchsorted(times, moment))
        return (end - begin).astype(np.float64), sums[end] - sums[begin]


def make_past(table: RatingTable, rows: Integers, facts: Mapping[str, ItemFacts]) -> Past:
    """The past that these rows are.

    Args:
        table: all ratings.
        rows: those of training users before the cut, at least one.
        facts: of items, by name.
    """
    rating, item = table.rating[rows], table.item[rows]
    mean, std = float(rating.mean()), float(rating.std())
    std = std if std > 0 else 1.0  # ratings that are all alike need no scale
    value = (rating - mean) / std
    raw = np.bincount(item, minlength=len(table.items))
    # The most rated first; of as many ratings, by name.
    ranked = np.lexsort((np.arange(len(raw)), -raw))[: int((raw > 0).sum())]
    number = np.zeros(len(raw), dtype=np.int64)
    number[ranked] = np.arange(1, len(ranked) + 1)
    mine = number[item]
    known = [facts[table.items[place]] for place in ranked if table.items[place] in facts]
    return Past(
        mean,
        std,
        float(rating.min()),
        float(np.median(rating)),
        number,
        np.bincount(mine, minlength=len(ranked) + 1).astype(np.float64),
        np.bincount(mine, value, minlength=len(ranked) + 1).astype(np.float64),
        np.unique(table.user[rows], return_inverse=True)[1].astype(np.int64),
        mine,
        value,
        table.time[rows],
        tuple(sorted({genre for fact in known for genre in fact.genres})),
    )


def item_features(
    past: Past, items: Integers, facts: NDArray[np.float32], moment: Floats, own: tuple[Floats, Floats] | None = None
) -> tuple[Integers, NDArray[np.float32]]:
    """What a network is told of items.

    Args:
        past: see there.
        items: int64 ``[...]``, numbers of the table.
        facts: float32 ``[items of the table, F]``, of every item; see :func:`fact_table`.
        moment: broadcast against ``items``; what was rated before it is known.
        own: the normalised ratings ``[...]`` that the user whose task it is gave these items, and when, where they are
            part of the past: they are taken out, so that a training task does not hold its own answers, and an item
            that nobody else rated is as unknown as a new one is in a test.

    Returns:
        The items' numbers in ``past`` (0: unknown), and float32 ``[..., F + 3]``: the mean of the past ratings, drawn
        to that of all by five ratings' weight, the logarithm of their number, and whether there is one.
    """
    number = past.number[items]
    count, total = past.until(number, moment)
    if own is not None:
        value, time = own
        count, total = count - (time < moment), total - np.where(time < moment, value, 0.0)
    number, total = np.where(count > 0, number, 0), np.where(count > 0, total, 0.0)
    rated = np.stack([total / (count + _PRIOR), np.log1p(count) / 4, count > 0], -1)
    return number, np.concatenate([facts[items], rated], -1).astype(np.float32)


def fact_table(table: RatingTable, facts: Mapping[str, ItemFacts], genres: tuple[str, ...]) -> NDArray[np.float32]:
    """Year, whether it is known, and a column for each genre, float32 ``[items, 2 + genres]``."""
    found = np.zeros((len(table.items), 2 + len(genres)), dtype=np.float32)
    place = {genre: 2 + number for number, genre in enumerate(genres)}
    for row, name in enumerate(table.items):
        fact = facts.get(name)
        if fact is None:
            continue
        if fact.year is not None:
            found[row, :2] = (fact.year - 2000) / 20, 1
        for genre in fact.genres:
            if genre in place:
                found[row, place[genre]] = 1
    return found
