"""Floor 1: where data sets are published, and how to tell that they arrived."""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from quickstudy.data.alphabets import PARTS

__all__ = ["FOLDERS", "PUBLISHED", "Published"]


@dataclass(frozen=True)
class Published:
    """One published file.

    Args:
        path: its place below the data set's folder, and below a mirror's address.
        url: where it is published.
        checksum: ``"<algorithm>:<hex digest>"``, an algorithm of hashlib; None where each download is packed anew.
        same_content: whether a file with another checksum, or with none, holds the same data, packed otherwise.
    """

    path: str
    url: str
    checksum: str | None
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


def _holds(names: str, digest: str) -> Callable[[Path], bool]:
    """Whether a zip file holds certain files, in whatever folder.

    Args:
        names: a pattern, of their last two parts.
        digest: hex sha256 over a line ``<last two parts> <hex sha256 of the bytes>`` for each, in order.
    """

    def check(path: Path) -> bool:
        lines = []
        try:
            with zipfile.ZipFile(path) as archive:
                for whole in archive.namelist():
                    name = "/".join(whole.split("/")[-2:])
                    if re.fullmatch(names, name):
                        lines.append(f"{name} {hashlib.sha256(archive.read(whole)).hexdigest()}\n")
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError):
            return False
        return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest() == digest

    return check


def _caltech101() -> tuple[Published, ...]:
    records = "https://data.caltech.edu/records/mzrjq-6wc02/files"
    return (Published("caltech-101.zip", f"{records}/caltech-101.zip", "md5:3138e1922a9193bfa496528edbbc45d0"),)


def _mednist() -> tuple[Published, ...]:
    monai = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1"
    return (Published("MedNIST.tar.gz", f"{monai}/MedNIST.tar.gz", "md5:0bc7306e7427e00ad1c5526a6677552d"),)


def _spoken_digits() -> tuple[Published, ...]:
    archive = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive"
    commit = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
    same = _holds(r"recordings/\d_[a-z]+_\d+\.wav", "baa3a6dcf4da47fb3075bec71a8cefb512022cb9ae030a79a31b315f37bc67af")
    return (Published("recordings.zip", f"{archive}/{commit}.zip", None, same),)


def _arabic_commands() -> tuple[Published, ...]:
    archive = "https://github.com/abdulkaderghandoura/arabic-speech-commands-dataset/archive"
    same = _holds(
        r"[a-z ]+/\d{8}_NO_01\.wav", "5311ff9e5341f7bf7fefbf1d95da5a5b12f78d4bac3b7ad6ce3ca1889df4e525"
    )  # the takes that are used by default
    return (Published("dataset.zip", f"{archive}/HEAD.zip", None, same),)


PUBLISHED: dict[str, tuple[Published, ...]] = {
    "omniglot": _omniglot(),
    "movietweetings": _movietweetings(),
    "caltech101": _caltech101(),
    "mednist": _mednist(),
    "spoken-digits": _spoken_digits(),
    "arabic-commands": _arabic_commands(),
}
"""Data set -> its files, below its folder."""

FOLDERS = {
    "caltech101": "caltech101-84",
    "mednist": "mednist-subset",
    "spoken-digits": "free-spoken-digit",
    "arabic-commands": "arabic-speech-commands",
}
"""Data set -> its folder below the data root, where that is not called as the data set is."""
