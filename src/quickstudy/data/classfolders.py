"""Floor 1: a folder of one's own with a subfolder for each class: its files, and which class plays which part."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from quickstudy.data.speechfiles import fingerprint
from quickstudy.data.store import Pictures
from quickstudy.errors import DataError

__all__ = [
    "SHOWN",
    "ClassFolders",
    "Wording",
    "and_more",
    "below",
    "cuts",
    "digest",
    "divide",
    "read_each",
    "subfolders",
    "with_others",
]

_SHARES = (0.6, 0.15)  # of the classes: training, validation; the rest tests

_PART = re.compile(r"(train|training|val|valid|validation|dev|development|test|testing)([ _-]?(set|data|images))?")
_ROLES = {"tra": "train", "val": "validation", "dev": "validation", "tes": "test"}
"""What folders of parts are called in the data sets that are about, and the roles by their first letters."""

_LEFT = (".", "__MACOSX")
"""Beginnings of names that systems and archives leave, and nobody gave."""

SHOWN = 5
"""How many further files an error names beside the first."""


@dataclass(frozen=True)
class Wording:
    """How errors speak of a field's files.

    Args:
        files: such as ``"recordings"``.
        file: one of them.
        kind: such as ``"sound file"``.
        group: what a subfolder holds, such as ``"word"``.
        groups: several of them.
        suffixes: of the files, in small letters.
        more: how to come by another file, an imperative.
        grow: how to come by another group, likewise.
    """

    files: str
    file: str
    kind: str
    group: str
    groups: str
    suffixes: tuple[str, ...]
    more: str
    grow: str


class ClassFolders:
    """A folder with a subfolder for each class, or one for each part of the data, with the classes in it.

    Args:
        folder: of the user's own.
        wording: what is looked for.
        split: ``"test"``: all classes test; ``"names"``: a hash of their names divides the classes, whatever the
            folders are called; anything else: as folders called ``train``, ``val`` and ``test`` say, where there are
            such, and the names where there are none.

    Each property raises:
        DataError: there is no such folder, no subfolder, one without files or with a single one, or parts that cannot
            be told apart or share a class; up to five others like it are named, too.
    """

    def __init__(self, folder: Path, wording: Wording, split: str) -> None:
        self.folder, self._wording, self.split = folder, wording, split

    @cached_property
    def files(self) -> dict[Path, str]:
        """Each file, and the class whose folder it lies in or below."""
        words = self._wording
        if not self.folder.is_dir():
            raise DataError(
                f"Cannot find the {words.files}: {self.folder} is no folder. Give one with a subfolder a {words.group}."
            )
        self.refuse_shared()
        found: dict[Path, str] = {}
        empty: list[Path] = []
        for path in self._groups:
            files = [file for file in below(path) if file.suffix.lower() in words.suffixes]
            empty += [] if files else [path]
            found |= dict.fromkeys(files, _name(path))
        if empty:
            sentence = (
                f"Cannot use the folder {empty[0]}: it holds no {words.kind} ({', '.join(words.suffixes)}). Add "
                f"{words.files}, or move the folder away."
            )
            raise DataError(with_others(sentence, [str(path) for path in empty[1:]]))
        counts = Counter(found.values())
        single = [file for file, group in found.items() if counts[group] == 1]
        if single:
            sentence = (
                f"Cannot use the {words.group} {found[single[0]]!r}: it has a single {words.file}, {single[0]}, and a "
                f"task needs one to learn from and another to ask for. {words.more}, or move the folder away."
            )
            raise DataError(with_others(sentence, [repr(found[path]) for path in single[1:]]))
        if not found:
            raise DataError(
                f"Cannot find {words.groups} in {self.folder}: it has no subfolders. Make one for each {words.group}, "
                f"with the {words.files} of that {words.group} in it."
            )
        return found

    @property
    def passed_over(self) -> list[Path]:
        """Files that are not of the kinds that are read, or lie beside the folders of classes."""
        parents = [self.folder, *self.parts.values()]
        beside = [file for parent in parents for file in sorted(parent.iterdir()) if file.is_file()]
        inside = [file for path in self._groups for file in below(path) if file not in self.files]
        return [file for file in beside if not file.name.startswith(".")] + inside

    @cached_property
    def roles(self) -> dict[str, list[str]]:
        """Role -> its classes, sorted."""
        return self.roles_of(sorted(set(self.files.values())))

    def roles_of(self, names: list[str]) -> dict[str, list[str]]:
        """The same for classes of these names, sorted, whose files nobody has listed."""
        if self.split == "test":
            return {"test": names}
        if self.parts:
            return self._as_laid_out()
        parts = divide(names)
        if parts is None:
            raise DataError(
                f"Cannot divide the {self._wording.groups} of {self.folder} into training, validation and test: it has "
                f"{len(names)} ({', '.join(names)}), and each part needs two. {self._wording.grow}, or test a learner "
                "that was trained on other data on all of them, with split = 'test'."
            )
        return parts

    def inside(self, file: Path) -> tuple[str, ...]:
        """Where a file lies: its class's folder, those below, its name."""
        parent = next(parent for parent in self.parts.values() or [self.folder] if file.is_relative_to(parent))
        return file.relative_to(parent).parts

    def fingerprint(self) -> str:
        """Changes whenever a file or what is taken for a class does."""
        return fingerprint(list(self.files), self.folder) + "".join(sorted(path.name for path in self.parts.values()))

    @cached_property
    def parts(self) -> dict[str, Path]:
        """Role -> the folder that holds its classes; none where classes lie side by side."""
        if self.split == "names" or not self.folder.is_dir():
            return {}
        folders = subfolders(self.folder)
        named = [path for path in folders if _role(path.name)]
        nested = [path for path in named if subfolders(path)]
        whole = len(named) == len(folders) > 1  # nothing but parts
        if not (nested or whole) or len(named) < min(2, len(folders)):
            return {}  # pictures of trains
        words, parts = self._wording, {_role(path.name): path for path in named}
        wanted = () if self.split == "test" else ("train", "test")
        wrong = [f"{path.name}/ has no folder for each {words.group}" for path in named if path not in nested]
        wrong += [f"{role}/ is missing" for role in wanted if role not in parts]
        wrong += [f"{path.name}/ is the second of its kind" for path in named if path not in parts.values()]
        wrong += [f"{path.name}/ is none" for path in folders if path not in named]
        if wrong:
            raise DataError(
                f"Cannot tell what the folders of {self.folder} are: {', '.join(path.name for path in named)} hold "
                f"{'folders' if nested else words.files}, as parts of the data do, but {wrong[0]}. Lay out train/, "
                f"test/ and perhaps val/ with {words.groups} in them, and nothing beside them; or all {words.groups} "
                f"side by side; or, if these are names of {words.groups}, say split = 'names'."
            )
        return {role: path for role, path in parts.items() if role is not None}

    @property
    def _groups(self) -> list[Path]:
        """The folder of each class."""
        return [path for parent in self.parents for path in subfolders(parent)]

    @property
    def parents(self) -> list[Path]:
        """Folders whose subfolders are classes."""
        return list(self.parts.values()) or [self.folder]

    def refuse_shared(self) -> None:
        """Refuse a class that lies in two parts.

        Raises:
            DataError: there is one.
        """
        if self.split == "test":
            return
        first: dict[str, tuple[str, str]] = {}
        twice: list[tuple[str, str, str, str]] = []
        for role, parent in self.parts.items():
            for name in map(_name, subfolders(parent)):
                known, where = first.setdefault(name.casefold(), (name, role))
                if where != role:
                    twice.append((name, role, known, where))
        if twice:
            (name, role, known, where), words = twice[0], self._wording
            called = "" if known == name else f", as {known!r}"
            sentence = (
                f"Cannot use the {words.group} {name!r} of {self.folder}: it lies both among {where}{called} and "
                f"{role}, and a learner is tested on {words.groups} that it has never seen. Put each {words.group} "
                f"into one of them, or all {words.groups} side by side into one folder, to be divided by their names."
            )
            raise DataError(with_others(sentence, [repr(name) for name, *_ in twice[1:]]))

    def _as_laid_out(self) -> dict[str, list[str]]:
        """The folders' own parts; where there is none to validate on, a fifth of the training classes."""
        parts = {role: sorted(set(map(_name, subfolders(path)))) for role, path in self.parts.items()}
        if "validation" not in parts:
            chosen = divide(parts["train"])
            if chosen is None:
                raise DataError(
                    f"Cannot set {self._wording.groups} of {self.parts['train']} apart for validation: it has "
                    f"{len(parts['train'])} ({', '.join(parts['train'])}), and six are needed. {self._wording.grow}, "
                    "or a folder val/."
                )
            parts["validation"] = chosen["validation"]
            parts["train"] = sorted(set(parts["train"]) - set(chosen["validation"]))
        return parts | {"train+validation": sorted(parts["train"] + parts["validation"])}


def _role(name: str) -> str | None:
    """The role of what lies in a folder of this name; None where it says nothing."""
    found = _PART.fullmatch(name.lower())
    return None if found is None else _ROLES[found[1][:3]]


def _name(path: Path) -> str:
    """What a class is called; the same on systems that write accents apart from their letters."""
    return unicodedata.normalize("NFC", path.name)


def subfolders(folder: Path) -> list[Path]:
    """Sorted by name; what systems and archives leave is passed over."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(_LEFT))


def below(folder: Path) -> list[Path]:
    """Files in a folder and further below, sorted; links are followed, hidden ones are passed over."""
    found, known = [], set(map(os.path.realpath, folder.absolute().parents))  # of a link to one of those all is ours
    for where, folders, names in os.walk(folder, followlinks=True):
        known.add(os.path.realpath(where))
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(_LEFT)
            and os.path.realpath(os.path.join(where, name)) not in known  # a ring of links
        )
        found += [Path(where) / name for name in sorted(names) if not name.startswith(".")]
    return found


def read_each(
    files: Iterable[tuple[str, str, Callable[[], bytes]]], decode: Callable[[bytes, str], Pictures]
) -> dict[str, list[Pictures]]:
    """What files hold.

    Args:
        files: of each its class, how errors call it, and what gives its bytes.
        decode: of bytes and that name makes a row of a store.

    Returns:
        Class -> its rows, in the order of the files.

    Raises:
        DataError: some cannot be read; says what is wrong with the first, and names up to five others.
    """
    found: dict[str, list[Pictures]] = {}
    broken: list[tuple[str, DataError]] = []
    for group, name, read in files:
        try:
            content = read()
        except OSError as error:
            broken.append((name, DataError(f"Cannot read {name}: {error.strerror or error}.")))
            continue
        try:
            found.setdefault(group, []).append(decode(content, name))
        except DataError as error:
            broken.append((name, error))
    if broken:
        raise DataError(with_others(str(broken[0][1]), [name for name, _ in broken[1:]]))
    return found


def divide(names: Iterable[str]) -> dict[str, list[str]] | None:
    """Which names train, validate and test: 60, 15 and 25 % of them, two of each at the least, by a hash of the name.

    Names that differ in small and capital letters alone count once, and play the same part.

    Returns:
        Role -> names, sorted, ``"train+validation"`` among them; None where there are fewer than six.

    >>> divide("abcdef")["test"]
    ['e', 'f']
    """
    alike: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        alike.setdefault(name.casefold(), []).append(name)
    order = sorted(alike.values(), key=lambda group: digest(group[0]))
    if len(order) < 6:
        return None
    train, last = cuts(len(order))
    parts = {"train": order[:train], "validation": order[train:last], "test": order[last:]}
    parts["train+validation"] = order[:last]
    return {role: sorted(name for group in part for name in group) for role, part in parts.items()}


def cuts(count: int) -> tuple[int, int]:
    """Of so many classes in order, which is the first to validate, and which the first to test."""
    train = min(round(_SHARES[0] * count), count - 4)
    return train, min(train + max(2, round(_SHARES[1] * count)), count - 2)


def digest(name: str) -> str:
    """What names are ordered by: nobody's choice, and the same everywhere."""
    return hashlib.blake2b(name.encode()).hexdigest()


def and_more(paths: Sequence[Path]) -> str:
    """The first, and how many there are beside it."""
    return str(paths[0]) + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def with_others(sentence: str, others: Sequence[str]) -> str:
    """The first mistake's sentence, and the names of the next, so that one need not find them one by one."""
    if not others:
        return sentence
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    return f"{sentence} Neither can be used: {', '.join(others[:SHOWN])}{more}."
