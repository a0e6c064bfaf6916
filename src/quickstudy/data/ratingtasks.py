"""Floor 1: tasks made of users: a few ratings of one are given, later ones of the same user are asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from quickstudy.data.counts import Bounds, Count, as_setting, bounds
from quickstudy.data.ratingfile import Floats, RatingTable
from quickstudy.data.ratingpast import Past, item_features
from quickstudy.data.ratingscores import ndcg, recall
from quickstudy.data.source import TaskShape, TaskSource, as_indices
from quickstudy.episode import Episode, Examples, Real
from quickstudy.errors import InputError
from quickstudy.keys import Integers, Key, integers, shuffle

__all__ = ["AskedRatings", "Histories", "RatingTasks"]

_FIRST = 5  # answers that ndcg and recall look at


@dataclass(frozen=True, eq=False)
class Histories:
    """The users of one role.

    Args:
        users: int64 ``[U]``, numbers in the table.
        begin: int64 ``[U]``, the row of the table with a user's first rating.
        asked: int64 ``[U]``, behind which of a user's ratings, counted from the first, queries may begin.
        end: int64 ``[U]``, how many ratings a user has for this role.
        anywhere: supports may begin at any place of a history, as in training; else with the first rating.
        moment: of which the items' statistics are; None: of each task's first query.
    """

    users: Integers
    begin: Integers
    asked: Integers
    end: Integers
    anywhere: bool
    moment: float | None

    def some(self, which: NDArray[np.bool_]) -> Histories:
        """The users of whom ``which`` is true."""
        users, begin, asked, end = (array[which] for array in (self.users, self.begin, self.asked, self.end))
        return Histories(users, begin, asked, end, self.anywhere, self.moment)


@dataclass(frozen=True, eq=False)
class AskedRatings:
    """What the queries of T tasks are about, for figures that need more than the answers; NaN on padding.

    Args:
        rated: float64 ``[T, Nq]``, how many ratings of the item were known.
        since: float64 ``[T, Nq]``, seconds from the moment of the items' statistics to the rating asked for.
    """

    rated: Floats
    since: Floats


class RatingTasks(TaskSource):
    """Each task is a user. Users come in random order, all of them before any comes again.

    ``x`` is a dict: ``item`` int64 ``[T, N]``, the item's number in the past (0: unknown), and ``features`` float32
    ``[T, N, F]``; ``y`` is the normalised rating, float32 ``[T, N, 1]``. Rows stand in the order of time.
    ``Episode.classes`` has the user's number. What is told of items is of one moment a task: that of the first query,
    in a test the cut.

    Args:
        table: all ratings.
        past: what may be known.
        facts: float32 ``[items, F']``, of every item.
        histories: the users of the role.
        data: name of the data set; with ``split`` and ``seed`` it fixes the tasks.
        split: the role.
        shot: support ratings, the first; a range is drawn for each task.
        query: ratings asked for: as many as this; with a range, as many as the user has, from low to high.
        seed: tells sources of the same kind apart.
        liked: a rating from which an item counts as liked.

    Raises:
        InputError: a number makes no sense, or no user has as many ratings.
    """

    def __init__(
        self,
        table: RatingTable,
        past: Past,
        facts: NDArray[np.float32],
        histories: Histories,
        *,
        data: str,
        split: str,
        shot: Count,
        query: Count,
        seed: int,
        liked: float,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.table, self.past, self.liked = table, past, liked
        self._facts, self._data, self._split, self._seed = facts, data, split, seed
        self._shot: Bounds = bounds("shot", shot)
        self._query: Bounds = bounds("query", query)
        self._about = dict(about or {})
        fewest = self._shot[0] if histories.anywhere else np.maximum(histories.asked, self._shot[1])
        enough = histories.end - fewest >= self._query[0]
        if not enough.any():
            raise InputError(
                f"Cannot make tasks of {data}/{split} with shot = {shot!r} and query = {query!r}: of its "
                f"{len(histories.users)} users none has as many ratings (the most is "
                f"{int(histories.end.max(initial=0))}; queries are counted behind the first 'reserve' ratings and, in "
                "a test, after the cut). Reduce shot, query or reserve, or move the cut."
            )
        self.histories = histories.some(enough)
        self._key = Key.of(seed, data, split)

    @property
    def n_user(self) -> int:
        """How many users there are; so many tasks are of different users."""
        return len(self.histories.users)

    @property
    @override
    def shape(self) -> TaskShape:
        """An item's number and features; one real value."""
        example: dict[str, tuple[int, ...]] = {"item": (), "features": (self._facts.shape[1] + 3,)}
        return TaskShape(example=example, target="real", outputs=1)

    @cached_property
    @override
    def hash(self) -> str:
        """Hex sha256 over the past and this role's users: who rated what, when and how, and what is known of items."""
        rows = np.concatenate(
            [np.arange(b, b + e) for b, e in zip(self.histories.begin, self.histories.end, strict=True)]
        )
        names = [self.table.users[user] for user in self.histories.users]
        items = self.table.item[rows]
        numbered = [self.table.items[place] for place in np.flatnonzero(self.past.number)]
        digest = hashlib.sha256(json.dumps([names, [self.table.items[i] for i in items], numbered]).encode())
        for array in (self.table.rating[rows], self.table.time[rows], self.histories.asked, self.histories.end):
            digest.update(np.ascontiguousarray(array).tobytes())
        for array in (self.past.user, self.past.item, self.past.value, self.past.time, self._facts[items]):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    @override
    def settings(self) -> dict[str, Any]:
        """What makes these tasks."""
        sizes = {"shot": as_setting(self._shot), "query": as_setting(self._query), "seed": self._seed}
        return {"data": self._data, "split": self._split, **sizes, **self._about, "users": self.n_user}

    @override
    def episodes(self, indices: range | Integers) -> Episode:
        """The tasks with these numbers; see the class."""
        tasks = as_indices(indices)
        drawn = self._drawn(tasks)
        return Episode(
            support=self._examples(drawn.support, drawn.moment),
            query=self._examples(drawn.query, drawn.moment),
            index=torch.from_numpy(tasks.copy()),
            classes=torch.from_numpy(self.histories.users[drawn.who][:, None].copy()),
        )

    def asked(self, indices: range | Integers) -> AskedRatings:
        """What the queries of these tasks are about."""
        drawn = self._drawn(as_indices(indices))
        rows, there = drawn.query
        number, moment = self.past.number[self.table.item[rows]], drawn.moment[:, None]
        rated, since = self.past.until(number, moment)[0], self.table.time[rows] - moment
        return AskedRatings(np.where(there, rated, np.nan), np.where(there, since, np.nan))

    def _drawn(self, tasks: Integers) -> _Drawn:
        turn, place = np.divmod(tasks, self.n_user)
        who = np.array([self._order(int(t))[p] for t, p in zip(turn, place, strict=True)])
        begin, asked, end = (array[who] for array in (self.histories.begin, self.histories.asked, self.histories.end))
        words = self._key.bits(tasks, 2)
        # As many as a range asks for, but never so many that too few are left to be asked.
        most = np.minimum(self._shot[1], end - self._query[0]) if self.histories.anywhere else self._shot[1]
        shot = self._shot[0] + integers(words[:, 0], most - self._shot[0] + 1)
        start = np.zeros_like(shot)
        if self.histories.anywhere:
            start = integers(words[:, 1], end - shot - self._query[0] + 1)
            asked = start + shot
        first = np.maximum(asked, self._shot[1]) if not self.histories.anywhere else asked
        fixed = self.histories.moment
        moment = self.table.time[begin + first] if fixed is None else np.full(len(tasks), fixed)
        count = np.minimum(end - first, self._query[1])
        return _Drawn(who, _rows(begin + start, shot), _rows(begin + first, count), moment)

    @override
    def figures(self, outputs: Tensor, episode: Episode) -> dict[str, NDArray[np.float64]]:
        """Errors in the ratings' own units, and how a user's items are ranked; NaN where a user has too few of them.

        ``mae-unseen`` is the mean absolute error on items that no training user had rated before the cut.
        """
        query = episode.query
        assert query.y is not None and isinstance(query.x, dict)
        truth, said = (
            values[..., 0].double().numpy() * self.past.std + self.past.mean for values in (query.y, outputs)
        )
        there, unseen = query.real.numpy(), (query.x["item"] == 0).numpy()
        names = ("mae", "rmse", f"ndcg@{_FIRST}", f"recall@{_FIRST}", "mse", "mae-unseen")
        rows = [self._of_user(truth[t][there[t]], said[t][there[t]], unseen[t][there[t]]) for t in range(len(truth))]
        columns = np.array(rows, dtype=np.float64).round(4).T  # files of results hold one of each a user
        return dict(zip(names, columns, strict=True))

    @property
    def _rounding(self) -> float:
        """How far a rating may be off after it was normalised in float32 and back."""
        return 1e-5 * (self.past.std + abs(self.past.mean))

    def _of_user(self, truth: Floats, said: Floats, unseen: NDArray[np.bool_]) -> tuple[float, ...]:
        error = np.where(np.isfinite(said), np.abs(said - truth), np.inf)
        ranked = np.where(np.isfinite(said), said, -np.inf)
        mse = float(np.square(error).mean())
        return (
            float(error.mean()),
            mse**0.5,
            ndcg(truth - min(0.0, self.past.lowest), ranked, _FIRST),
            recall(truth >= self.liked - self._rounding, ranked, _FIRST),
            mse,
            float(error[unseen].mean()) if unseen.any() else float("nan"),
        )

    def _examples(self, which: _Rows, moment: Floats) -> Examples:
        rows, mask = which
        value = (self.table.rating[rows] - self.past.mean) / self.past.std
        # A training user's own ratings are part of the past.
        own = (value, self.table.time[rows]) if self.histories.anywhere else None
        number, features = item_features(self.past, self.table.item[rows], self._facts, moment[:, None], own)
        number, value = np.where(mask, number, 0), np.where(mask, value, 0.0)
        features = np.where(mask[..., None], features, np.float32(0))
        return Examples(
            x={"item": torch.from_numpy(number), "features": torch.from_numpy(features)},
            y=torch.from_numpy(value.astype(np.float32)[..., None]),
            target=Real(1),
            mask=None if mask.all() else torch.from_numpy(mask),
        )

    def _order(self, turn: int) -> Integers:
        """Which user stands where in a round through all of them."""
        return _shuffled(self._key.fold("order"), turn, self.n_user)


_Rows: TypeAlias = tuple[Integers, NDArray[np.bool_]]


def _rows(first: Integers, count: Integers) -> _Rows:
    """Rows ``first`` to ``first + count`` of the table, ``[T]`` both, as ``[T, N]``, and which of them are there."""
    position = np.arange(int(count.max()))
    mask = position < count[:, None]
    return np.where(mask, first[:, None] + position, first[:, None]), mask


@dataclass(frozen=True, eq=False)
class _Drawn:
    """T tasks: the place of each user among the role's, the rows of the table, and the moment of the statistics."""

    who: Integers
    support: _Rows
    query: _Rows
    moment: Floats


@lru_cache(maxsize=64)  # a call asks for the same round once a task
def _shuffled(key: Key, turn: int, n: int) -> Integers:
    order: Integers = shuffle(key.bits(np.array([turn]), n), np.array([n]))[0]
    return order
