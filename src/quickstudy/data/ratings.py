"""Floor 1: tasks made of users: a few ratings of one are given, later ones of the same user are asked for.

    file -> ratings, sorted by user and time -> a cut in time -> the past, and each role's users -> tasks

    training      training users, ratings before the cut: a user's K ratings in a row, then the ones after them
    validation    validation users, ratings before the cut: the first K, then the later ones
    test          test users: the first K ratings, whenever they were made; queries after the cut

Nothing from behind the cut is known to anything but the query that is asked and the support before it. What is told of
items is as others had rated them before the first query, in a test before the cut.

A *rehearsal* (``rehearse``) is a test before the test: training ends at a time before the cut, and validation users are
asked between the two, so that settings are chosen on what a test is like.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.data.counts import Count
from quickstudy.data.dataset import check_role
from quickstudy.data.ratingfile import Duplicates, ItemFacts, RatingTable, read_items, read_ratings
from quickstudy.data.ratingpast import Past, fact_table, item_features, make_past
from quickstudy.data.ratingtasks import Histories, RatingTasks
from quickstudy.episode import Examples, Real
from quickstudy.errors import DataError, InputError, UnknownName

__all__ = ["Ratings"]


class Ratings:
    """Any file of ratings: ``user, item, rating, timestamp``, separated by commas, tabs or ``::``.

    Users are split by a hash of their names: 60 % are trained on, 10 % validated on and 30 % tested on. Ratings before
    the cut make the past; see the module.

    Args:
        root: the folder of data sets; unused where ``file`` is a path that exists.
        file: the file, as a path, or as one below the folder of data sets.
        items: what is known of the items, ``item, title, genres`` with the year behind the title or in a column
            ``year``; None: nothing.
        cut: seconds since 1970; None: the time before which 70 % of the ratings were made. Say it where later data
            must not even move the cut.
        rehearse: seconds since 1970, before the cut: training ends there already, and validation is as a test is, of
            what was rated between it and the cut; None: no rehearsal.
        reserve: in validation and test, queries begin behind a user's first ``reserve`` ratings, so that they are the
            same whether 1 or 10 of these are given. With more given, behind those.
        liked: a rating from which an item counts as liked, for recall; None: the median of the past.
        duplicates: what becomes of a user's second rating of an item: ``"refuse"``, or the ``"first"`` or ``"last"`` in
            time is kept.

    Raises:
        UnknownName: no such treatment of duplicates.
        InputError: a number makes no sense.
    """

    name = "ratings"
    splits = ("train", "validation", "test")

    def __init__(
        self,
        root: Path | None = None,
        *,
        file: Path | None = None,
        items: Path | None = None,
        cut: float | None = None,
        rehearse: float | None = None,
        reserve: int = 10,
        liked: float | None = None,
        duplicates: Duplicates = "refuse",
    ) -> None:
        if reserve < 0:
            raise InputError(f"reserve counts ratings: expected 0 or more, received {reserve}.")
        if duplicates not in get_args(Duplicates):
            raise UnknownName.among("treatment of duplicates", duplicates, get_args(Duplicates))
        for name, time in (("cut", cut), ("rehearsal's begin", rehearse)):
            if time is not None and not np.isfinite(time):
                raise InputError(f"The {name} is a time in seconds since 1970, received {time}.")
        self._root, self._file, self._items, self._duplicates = root, file, items, duplicates
        self._cut, self._rehearse, self.reserve, self._liked = cut, rehearse, reserve, liked

    @property
    def file(self) -> Path:
        """Where the ratings are.

        Raises:
            InputError: nobody said.
        """
        if self._file is None:
            raise InputError(
                "The data set 'ratings' needs your file: --data.file ratings.csv, with rows of user, item, rating and "
                "timestamp."
            )
        return self._found(self._file)

    @property
    def items_file(self) -> Path | None:
        """Where the items are described, if anywhere."""
        return None if self._items is None else self._found(self._items)

    def _found(self, path: Path) -> Path:
        beside = path if self._root is None else self._root / path
        return path if path.exists() or not beside.exists() else beside

    @cached_property
    def table(self) -> RatingTable:
        """All ratings.

        Raises:
            DataError: the file cannot be used; names file and row.
        """
        return read_ratings(self.file, self._duplicates)

    @cached_property
    def facts(self) -> dict[str, ItemFacts]:
        """What is known of the items."""
        return {} if self.items_file is None else read_items(self.items_file)

    @cached_property
    def cut(self) -> float:
        """Seconds since 1970: training ends before, test queries begin."""
        if self._cut is not None:
            return float(self._cut)
        return float(np.sort(self.table.time)[int(0.7 * len(self.table.time))])

    @cached_property
    def trained_until(self) -> float:
        """Seconds since 1970: the cut, or where a rehearsal begins.

        Raises:
            InputError: the rehearsal does not begin before the cut.
        """
        if self._rehearse is None:
            return self.cut
        if self._rehearse >= self.cut:
            raise InputError(
                f"A rehearsal begins before the cut, {self.cut:.0f}, received rehearse = {self._rehearse:.0f}."
            )
        return float(self._rehearse)

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """The role of each user, by a hash of the name alone, so that it is the same in every file."""
        return tuple(_role(user) for user in self.table.users)

    @cached_property
    def past(self) -> Past:
        """What may be known.

        Raises:
            DataError: no training user rated anything before the cut.
        """
        training = np.array([role == "train" for role in self.roles])
        rows = np.flatnonzero(training[self.table.user] & (self.table.time < self.trained_until))
        if not len(rows):
            raise DataError(
                f"Cannot train on {self.table.source}: no rating of a training user was made before the cut, "
                f"{self.trained_until:.0f}. Move the cut, or give more users."
            )
        return make_past(self.table, rows, self.facts)

    @cached_property
    def fact_table(self) -> NDArray[np.float32]:
        """float32 ``[items, F]``: year and genres; genres of rated items alone have a column."""
        return fact_table(self.table, self.facts, self.past.genres)

    @property
    def liked(self) -> float:
        """A rating from which an item counts as liked."""
        return self.past.middle if self._liked is None else self._liked

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an item's features; its number stands beside them."""
        return (self.fact_table.shape[1] + 3,)

    def histories(self, role: str) -> Histories:
        """The users of a role, by name, with the ratings that they have for it."""
        mine = np.flatnonzero(np.array([one == role for one in self.roles]))
        begin = np.searchsorted(self.table.user, mine)
        after = np.searchsorted(self.table.user, mine, side="right")
        known, cut = (
            np.array([np.searchsorted(self.table.time[b:a], time) for b, a in zip(begin, after, strict=True)], np.int64)
            for time in (self.trained_until, self.cut)
        )
        if role == "test":
            return Histories(mine, begin, np.maximum(cut, self.reserve), after - begin, False, self.trained_until)
        if role == "validation" and self._rehearse is not None:
            return Histories(mine, begin, np.maximum(known, self.reserve), cut, False, self.trained_until)
        asked = np.full(len(mine), 0 if role == "train" else self.reserve)
        return Histories(mine, begin, asked, known, role == "train", None)

    def tasks(self, role: str, *, shot: Count, query: Count, seed: int, way: Count | None = None) -> RatingTasks:
        """Tasks of one role; see :meth:`quickstudy.data.dataset.DataSet.tasks`.

        Args:
            role: one of :attr:`splits`.
            shot: support ratings.
            query: ratings asked for; with a range, as many as a user has, within it.
            seed: tells sources of the same kind apart.
            way: None; a user has no classes.

        Raises:
            UnknownName: no such role.
            InputError: a number makes no sense, or no user has as many ratings.
            DataError: the file cannot be used; names file and row.
        """
        check_role(self, role)
        if way is not None:
            raise InputError(f"Cannot draw {way!r}-way tasks from {self.name}: a user has no classes. Leave way out.")
        return RatingTasks(
            self.table,
            self.past,
            self.fact_table,
            self.histories(role),
            data=self.name,
            split=role,
            shot=shot,
            query=query,
            seed=seed,
            liked=self.liked,
            about={"cut": self.cut, "rehearse": self._rehearse, "reserve": self.reserve, "liked": self.liked},
        )

    def examples(self, items: Sequence[str], ratings: Sequence[float] | None = None) -> Examples:
        """Items as a learner takes them: with ratings a user's support, without what is asked of that user.

        The user need not be in the file. What is told of items is of the cut. An answer times ``past.std``, plus
        ``past.mean``, is a rating.

        Args:
            items: as the file calls them.
            ratings: what the user said of each, in the file's own units.

        Returns:
            One task, ``[1, N, ...]``.

        Raises:
            InputError: no item, one that the file does not have, or not as many finite ratings.
            DataError: the file cannot be used; names file and row.
        """
        place = {name: number for number, name in enumerate(self.table.items)}
        missing = next((name for name in items if name not in place), None)
        if not len(items) or missing is not None:
            what = "no item" if missing is None else f"{missing!r}, which {self.table.source} has no rating of"
            raise InputError(f"Cannot make examples of {what}. Name items as the file calls them.")
        if ratings is not None and (len(ratings) != len(items) or not np.isfinite(ratings).all()):
            raise InputError(
                f"Cannot make a support of {len(items)} items and the ratings {list(ratings)}: expected one finite "
                "rating of each item."
            )
        rows = np.array([[place[name] for name in items]])
        number, features = item_features(self.past, rows, self.fact_table, np.array(self.trained_until))
        value = None if ratings is None else (np.array(ratings, dtype=np.float64) - self.past.mean) / self.past.std
        return Examples(
            x={"item": torch.from_numpy(number), "features": torch.from_numpy(features)},
            y=None if value is None else torch.from_numpy(value.astype(np.float32))[None, :, None],
            target=Real(1),
        )


def _role(user: str) -> str:
    """train, validation or test, of 60, 10 and 30 % of the users."""
    share = int.from_bytes(hashlib.sha256(f"user:{user}".encode()).digest()[:8], "big") / 2**64
    return "train" if share < 0.6 else "validation" if share < 0.7 else "test"
