"""Floor 1: MovieTweetings, ratings of films from 0 to 10 that people tweeted; the snapshot of 100,000.

S. Dooms, T. De Pessemier, L. Martens, "MovieTweetings: a movie rating dataset collected from Twitter", CrowdRec at
RecSys 2013.
"""

from __future__ import annotations

from pathlib import Path

from typing_extensions import override

from quickstudy.data.ratings import Ratings
from quickstudy.errors import DataError
from quickstudy.files import data_root

__all__ = ["MovieTweetings"]

_CUT = 1372636800.0  # 1 July 2013, 00:00 UTC; the ratings are of 28 February to 1 September 2013
_FOLDER = Path("movietweetings") / "snapshots" / "100K"


class MovieTweetings(Ratings):
    """100,000 ratings by 16,554 people of 10,506 films, with the films' years and genres; see :class:`Ratings`.

    Args:
        root: the folder that holds ``movietweetings/snapshots/100K``.
        cut: seconds since 1970; by default the first of July 2013, whatever the file holds.
        rehearse: see :class:`Ratings`.
        reserve: see :class:`Ratings`.
        liked: a rating from which a film counts as liked.

    Raises:
        InputError: a number makes no sense.
    """

    name = "movietweetings"

    def __init__(
        self,
        root: Path | None = None,
        *,
        cut: float = _CUT,
        rehearse: float | None = None,
        reserve: int = 10,
        liked: float | None = None,
    ) -> None:
        folder = data_root(root) / _FOLDER
        super().__init__(
            root,
            file=folder / "ratings.dat",
            items=folder / "movies.dat",
            cut=cut,
            rehearse=rehearse,
            reserve=reserve,
            liked=liked,
        )

    @property
    @override
    def file(self) -> Path:
        """Where the ratings are.

        Raises:
            DataError: they are not there.
        """
        path = super().file
        if not path.is_file():
            raise DataError(
                f"Cannot read MovieTweetings: there is no file {path}. Run `quickstudy fetch movietweetings`, or say "
                "where it is: --data-root DIR."
            )
        return path
