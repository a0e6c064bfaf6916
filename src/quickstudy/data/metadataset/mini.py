"""Floor 1: the data set ``mini-meta-dataset``: Meta-Dataset's sampler on seven data sets that are at hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from quickstudy.data.alphabets import ALPHABETS
from quickstudy.data.audio import from_bytes
from quickstudy.data.counts import Count
from quickstudy.data.dataset import check_role
from quickstudy.data.metadataset.dataset import check_each_once, rules_of
from quickstudy.data.metadataset.episodes import Member, MetaDatasetTasks
from quickstudy.data.metadataset.sampling import Pool, Rules, Sampler
from quickstudy.data.metadataset.specs import Group
from quickstudy.data.metadataset.spectrograms import pictured
from quickstudy.data.store import ArrayStore, open_or_build
from quickstudy.errors import DataError, InputError, UnknownName
from quickstudy.files import cache_root

__all__ = ["MINI", "MiniMetaDataset"]

_CODE = 1  # to be raised whenever the same recordings would give other pictures
_SIZES = (14, 64)
_VALIDATION = (  # Meta-Dataset's five alphabets: the smallest of those that are not for tests
    "Alphabet_of_the_Magi",
    "Blackfoot_(Canadian_Aboriginal_Syllabics)",
    "Inuktitut_(Canadian_Aboriginal_Syllabics)",
    "Ojibwe_(Canadian_Aboriginal_Syllabics)",
    "Tagalog",
)


@dataclass(frozen=True, eq=False)
class _Part:
    """A data set, and the classes of each role.

    Args:
        store: grey pictures.
        roles: role -> numbers of the store's classes.
        grouped: whether the parts of their names before ``/`` are groups that tasks are drawn from.
    """

    store: ArrayStore
    roles: Mapping[str, list[int]]
    grouped: bool = False


def _omniglot(root: Path | None, size: int) -> _Part:
    from quickstudy.data.omniglot import Omniglot

    store = Omniglot(root, size=size).store
    roles: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for number, name in enumerate(store.classes):
        alphabet = name.split("/")[0]
        test = ALPHABETS[alphabet].part == "images_evaluation"
        roles["test" if test else "validation" if alphabet in _VALIDATION else "train"].append(number)
    return _Part(store, roles, grouped=True)


def _caltech101(root: Path | None, size: int) -> _Part:
    from quickstudy.data.caltech import Caltech101

    data = Caltech101(root, size=size, channels=1, augment=False)
    return _Part(data.store, {role: data.store.numbers(names) for role, names in data.divided.items()})


def _glyphs(root: Path | None, size: int) -> _Part:
    from quickstudy.data.glyphs import Glyphs

    del root
    data = Glyphs(size=size)
    return _Part(data.store, {role: data.classes(role) for role in data.splits})


def _arabic(root: Path | None, size: int) -> _Part:
    from quickstudy.data.arabic import ArabicCommands

    data = ArabicCommands(root, augment=False)
    store = _heard(data.store, data.name, data.rate, size)
    return _Part(store, {role: store.numbers(data.words(role)) for role in data.splits})


def _spoken_digits(root: Path | None, size: int) -> _Part:
    from quickstudy.data.spokendigits import SpokenDigits

    data = SpokenDigits(root, augment=False)
    return _all_test(_heard(data.store, data.name, data.rate, size))


def _mednist(root: Path | None, size: int) -> _Part:
    from quickstudy.data.mednist import MedNIST

    return _all_test(MedNIST(root, size=size).store)


def _digits(root: Path | None, size: int) -> _Part:
    from quickstudy.data.digits import Digits

    del root
    return _all_test(Digits(size=size).store)


def _all_test(store: ArrayStore) -> _Part:
    return _Part(store, {"train": [], "validation": [], "test": list(range(len(store.classes)))})


def _heard(waves: ArrayStore, name: str, rate: int, size: int) -> ArrayStore:
    """Recordings as pictures, made once."""
    digest = hashlib.sha256(json.dumps([_CODE, waves.hash, rate, size]).encode()).hexdigest()[:16]

    def build() -> ArrayStore:
        classes = ((word, from_bytes(np.asarray(waves.of(number)))) for number, word in enumerate(waves.classes))
        return ArrayStore.from_classes({word: pictured(sounds, rate, size) for word, sounds in classes})

    return open_or_build(cache_root() / "spectrograms" / f"{name}-{digest}", build)


MINI: dict[str, Callable[[Path | None, int], _Part]] = {
    "omniglot": _omniglot,
    "glyphs": _glyphs,
    "caltech101": _caltech101,
    "arabic-commands": _arabic,
    "mednist": _mednist,
    "digits": _digits,
    "spoken-digits": _spoken_digits,
}
"""Data set -> (data root, size) -> its pictures. The last three are for tests alone."""

_TRAINED = ("omniglot", "glyphs", "caltech101", "arabic-commands")


class MiniMetaDataset:
    """Tasks of one of seven data sets each, composed by the rules of Meta-Dataset, as grey pictures of one size.

    Characters (Omniglot, by alphabet; glyphs; scikit-learn's digits), objects (Caltech-101), medical pictures
    (MedNIST), and spoken words as spectrograms (Arabic commands, English digits). Figures on it are its own: nothing
    was published.

    Args:
        root: the data root; by default QUICKSTUDY_DATA or the platform's data folder.
        datasets: what is trained and validated on, each equally likely.
        test: which data set is tested on.
        size: pixels along a side.
        hierarchy: whether Omniglot's tasks are of one alphabet.

    Raises:
        UnknownName: no such data set.
        InputError: an option makes no sense.
    """

    name = "mini-meta-dataset"
    splits = ("train", "validation", "test")

    def __init__(
        self,
        root: Path | None = None,
        *,
        datasets: tuple[str, ...] = _TRAINED,
        test: str = "omniglot",
        size: int = 28,
        hierarchy: bool = True,
    ) -> None:
        for name in (*datasets, test):
            if name not in MINI:
                raise UnknownName.among("data set of mini-meta-dataset", name, MINI)
        if unfit := [name for name in datasets if name not in _TRAINED]:
            raise InputError(
                f"Cannot train on {unfit[0]}: its classes are all for tests. Use some of {', '.join(_TRAINED)}."
            )
        check_each_once(datasets)
        if not _SIZES[0] <= size <= _SIZES[1]:
            raise InputError(f"Cannot make pictures of size {size}: use {_SIZES[0]} to {_SIZES[1]} pixels.")
        self.trained, self.tested = tuple(datasets), test
        self.size, self.hierarchy, self._root = size, hierarchy, root
        self._parts: dict[str, _Part] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, size, size)."""
        return (1, self.size, self.size)

    @cached_property
    def divided(self) -> dict[str, list[str]]:
        """Role -> the classes that it draws from, each with its data set; kept with each run."""
        found: dict[str, list[str]] = {}
        for role in self.splits:
            for name in (self.tested,) if role == "test" else self.trained:
                part = self._part(name)
                found[role] = found.get(role, []) + [f"{name}/{part.store.classes[n]}" for n in part.roles[role]]
        return found

    def _part(self, name: str) -> _Part:
        if name not in self._parts:
            self._parts[name] = MINI[name](self._root, self.size)
        return self._parts[name]

    def tasks(
        self,
        role: str,
        *,
        shot: Count = (1, 100),
        query: Count = (1, 10),
        seed: int,
        way: Count | None = None,
    ) -> MetaDatasetTasks:
        """Tasks of one role; sizes as of :func:`quickstudy.data.metadataset.dataset.rules_of`.

        Raises:
            UnknownName: it has no such role.
            InputError: a size makes no sense, or a data set has too few classes.
            DataError: a data set's files are missing or damaged.
        """
        check_role(self, role)
        rules = rules_of(way, shot, query, hierarchy=self.hierarchy)
        names = (self.tested,) if role == "test" else self.trained
        members = [self._member(name, role, rules) for name in names]
        return MetaDatasetTasks(members, data=self.name, split=role, seed=seed, about=rules.settings)

    def _member(self, name: str, role: str, rules: Rules) -> Member:
        part = self._part(name)
        numbers = np.array(part.roles[role], dtype=np.int64)
        if not len(numbers):
            raise DataError(f"Cannot draw tasks from {name}/{role}: it has no class there. Use another data set.")
        sizes = part.store.sizes[numbers]
        groups = _groups([part.store.classes[n] for n in numbers]) if part.grouped else ()
        return Member(name, Sampler(Pool(f"{name}/{role}", sizes, groups), rules), part.store, numbers)


def _groups(names: list[str]) -> tuple[Group, ...]:
    """Classes that follow one another and whose names begin alike."""
    found: list[Group] = []
    for number, name in enumerate(names):
        group = name.split("/")[0]
        if found and found[-1].name == group:
            found[-1] = Group(group, found[-1].first, found[-1].size + 1)
        else:
            found.append(Group(group, number, 1))
    return tuple(found)
