"""Floor 1: where data sets are published, and how to tell that they arrived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from quickstudy.data.alphabets import PARTS

__all__ = ["PUBLISHED", "Published"]


@dataclass(frozen=True)
class Published:
    """One published file.

    Args:
        path: its place below the data set's folder, and below a mirror's address.
        url: where it is published.
        checksum: ``"<algorithm>:<hex digest>"``, an algorithm of hashlib.
        same_content: whether a file with another checksum holds the same data, packed otherwise.
    """

    path: str
    url: str
    checksum: str
    same_content: Callable[[Path], bool] | None = None


def _repacked_omniglot(path: Path) -> bool:
    from quickstudy.data.drawings import has_published_drawings  # Pillow and numpy only where they are needed

    return has_published_drawings(path)


def _omniglot() -> tuple[Published, ...]:
    lake = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
    snell = "https://raw.githubusercontent.com/jakesnell/prototypical-networks/master/data/omniglot/splits/vinyals"
    lists = {
        "train": "984522c194c30fb678ce53304a160a42faf5403ad4f9a67010f32dd3a35738e0",
        "val": "11f99e54faee3e26f53d3231c1cceac5bf7b8730e9be31cb6dab256551dc0c1a",
        "trainval": "5276ae50c755596d0bff7f2284e85625695549a85ee6e36b6491ad1e5d1cc26a",
        "test": "845264cc5c156180828ccf17915668b17ee21424d0170df6e7d81676aa5d1204",
    }
    return (
        *(
            Published(f"{part}.zip", f"{lake}/{part}.zip", f"md5:{about.md5}", _repacked_omniglot)
            for part, about in PARTS.items()
        ),
        *(
            Published(f"splits/vinyals/{name}.txt", f"{snell}/{name}.txt", f"sha256:{digest}")
            for name, digest in lists.items()
        ),
    )


def _movietweetings() -> tuple[Published, ...]:
    dooms = "https://raw.githubusercontent.com/sidooms/MovieTweetings/master"
    files = {
        "ratings.dat": "c0dd868c2632d10002ebc928ddc5345f33adeaa59eca52c2941c26a2c5e36fd6",
        "movies.dat": "e63fb84bc734e3c574f135634a40d3cbafab22b8f94f5fc0b80f80d1d2076efc",
    }
    return tuple(
        Published(f"snapshots/100K/{name}", f"{dooms}/snapshots/100K/{name}", f"sha256:{digest}")
        for name, digest in files.items()
    )


PUBLISHED: dict[str, tuple[Published, ...]] = {"omniglot": _omniglot(), "movietweetings": _movietweetings()}
"""Data set -> its files, below ``<data root>/<data set>``."""
