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


def _lake_runs(path: Path) -> bool:
    from quickstudy.data.lakeruns import has_published_runs

    return has_published_runs(path)


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
        Published(
            "all_runs.zip",
            f"{lake}/one-shot-classification/all_runs.zip",
            "sha256:437c1eeab0af8484112e1b4cc0f3d541ec727f7c47b9b202da738af9dfd6c325",
            _lake_runs,
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


def _meta_dataset() -> tuple[Published, ...]:
    official = "https://raw.githubusercontent.com/google-research/meta-dataset/main/meta_dataset/dataset_conversion"
    specs = {
        "aircraft": "4b46e007333471ae26e325d79a7b3ed67d8e99a39253df7f42c7d459b2a07e4e",
        "cu_birds": "fcb1e4b4ce2b12e06270ff1fd16bd957f2e545929a5887643f18790aaa77cb2b",
        "dtd": "f20c025fda86e62e751c56000be1a3f701a79a489bcce5687f949ce207242df0",
        "fungi": "c9ebccf29d03e4b8814a77e41c2d609647d7418652c748321c2c4d9d2118ccfd",
        "ilsvrc_2012": "b505af07a7fc838e2ec04a3bcc180b020dce9a2a64b397dd45809fb9f081feef",
        "mscoco": "f9edf1e32a7b0929e66306567616b4e46ff66ddb4c645517d32e40ff921ce9d3",
        "omniglot": "4d0b30c5765839ddbbc9122b93b98317a5e153f42262ea6b5a0770aa6a85c71e",
        "quickdraw": "9c9bf893b986f0c7e20a0653ba4d098db4d7d384fd374b6a31eae133e82a0cec",
        "traffic_sign": "437c95650b48d3476a927855e0b50546893d6e226d03acae96b5d7195f380cde",
        "vgg_flower": "c1a4507b31e31bee34c8738a453ec45db6b71e3b681de89375efc3c63eb058e3",
    }
    lists = {
        "splits/aircraft_splits.json": "cf646d22e213a25ff52da4b4f33ca0145a9c09232ac1ee73fbe14aa3c68eb7e6",
        "splits/cu_birds_splits.json": "9151f6ffc5ad09b3648cc2c39bee43961297f569741c5ddebb2a2e56b385f8a7",
        "splits/dtd_splits.json": "c5d97a9ad93ab773e184385dee0404d09195345a49933e702c532cfa228b620f",
        "splits/fungi_splits.json": "7a7f56c3b91440448f46386acd534c8f1391f1a34682834f58a24b6e52cdd4ab",
        "splits/mscoco_splits.json": "f71c9cd248d3fb1eaf92215a769635c2fdd5a3c7cbf6216422a12fd726fd3687",
        "splits/quickdraw_splits.json": "b3c3a874b051d7cd8231d46371073fb580060075c42ce1b9891a6b532c89eeec",
        "splits/traffic_sign_splits.json": "7f22addcba48c5cc227b7d9e6361220c84a1b3234d14bc3e6fdb524a3068e711",
        "splits/vgg_flower_splits.json": "174a8ab32173ab6c02897012f82e2142c5674d061c77f4ce2de9e2f8c9c6948e",
        "ImageNet_CUBirds_duplicates.txt": "4cb029e33acd1bfc227cd84144ce5b5bd5e085b1c980836fa1c2f1e3e9e4555f",
        "ImageNet_Caltech101_duplicates.txt": "9349135e1155fa767e14151744a3cceb345027e7e49caeb8684ad998ba7c6216",
        "ImageNet_Caltech256_duplicates.txt": "24b9fd68069fb1009fc69b5bbfcd40caab9b287acf0a96fad4683b0c4b638cb4",
        "TrafficSign_labels.txt": "ce9a26632695bb023c4f0f5b7bf57056a5a0e479e2bf194b7d6dfc0909dc96e1",
        "VggFlower_labels.txt": "75d2b0912d8ecf21ac3f044f036eba59077ced2aeb722b591c66014acc07c556",
    }
    files = {f"dataset_specs/{name}_dataset_spec.json": digest for name, digest in specs.items()} | lists
    return tuple(Published(name, f"{official}/{name}", f"sha256:{digest}") for name, digest in files.items())


PUBLISHED: dict[str, tuple[Published, ...]] = {
    "omniglot": _omniglot(),
    "movietweetings": _movietweetings(),
    "caltech101": _caltech101(),
    "mednist": _mednist(),
    "spoken-digits": _spoken_digits(),
    "arabic-commands": _arabic_commands(),
    "meta-dataset": _meta_dataset(),  # the published lists alone
}
"""Data set -> its files, below its folder."""

FOLDERS = {
    "caltech101": "caltech101-84",
    "mednist": "mednist-subset",
    "spoken-digits": "free-spoken-digit",
    "arabic-commands": "arabic-speech-commands",
    "meta-dataset": "splits/meta-dataset",
}
"""Data set -> its folder below the data root, where that is not called as the data set is."""
