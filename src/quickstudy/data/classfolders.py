"""Floor 1: a folder of one's own with a subfolder for each class: its files, and which class plays which part."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quickstudy.errors import DataError

__all__ = ["SHOWN", "Wording", "below", "class_files", "digest", "divide", "subfolders", "with_others"]

_SHARES = (0.6, 0.15)  # of the classes: training, validation; the rest tests

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
        more: how to come by more, an imperative.
    """

    files: str
    file: str
    kind: str
    group: str
    groups: str
    suffixes: tuple[str, ...]
    more: str


def class_files(folder: Path, wording: Wording) -> dict[Path, str]:
    """Each file of a folder, and the subfolder that it lies in or below: its class.

    Args:
        folder: holds a subfolder a class.
        wording: what is looked for.

    Raises:
        DataError: there is no such folder, no subfolder, or one without files or with a single one; up to five others
            like it are named, too.
    """
    if not folder.is_dir():
        raise DataError(
            f"Cannot find the {wording.files}: {folder} is no folder. Give one with a subfolder a {wording.group}."
        )
    found: dict[Path, str] = {}
    empty: list[Path] = []
    single: list[Path] = []
    for group in subfolders(folder):
        files = [path for path in below(group) if path.suffix.lower() in wording.suffixes]
        empty += [] if files else [group]
        single += files if len(files) == 1 else []
        found |= dict.fromkeys(files, group.name)
    if empty:
        sentence = (
            f"Cannot use the folder {empty[0]}: it holds no {wording.kind} ({', '.join(wording.suffixes)}). Add "
            f"{wording.files}, or move the folder away."
        )
        raise DataError(with_others(sentence, [str(path) for path in empty[1:]]))
    if single:
        sentence = (
            f"Cannot use the {wording.group} {found[single[0]]!r}: it has a single {wording.file}, {single[0]}, and a "
            f"task needs one to learn from and another to ask for. {wording.more}, or move the folder away."
        )
        raise DataError(with_others(sentence, [repr(found[path]) for path in single[1:]]))
    if not found:
        raise DataError(
            f"Cannot find {wording.groups} in {folder}: it has no subfolders. Make one for each {wording.group}, with "
            f"the {wording.files} of that {wording.group} in it."
        )
    return found


def subfolders(folder: Path) -> list[Path]:
    """Sorted by name; hidden ones, which file systems leave, are passed over."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def below(folder: Path) -> list[Path]:
    """Files in a folder and further below, sorted; hidden ones are passed over."""
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(where) / name for name in sorted(names) if not name.startswith(".")]
    return found


def divide(names: Iterable[str]) -> dict[str, list[str]] | None:
    """Which names train, validate and test: 60, 15 and 25 % of them, two of each at the least, by a hash of the name.

    Returns:
        Role -> names, sorted, ``"train+validation"`` among them; None where there are fewer than six.

    >>> divide("abcdef")["test"]
    ['e', 'f']
    """
    order = sorted(set(names), key=digest)
    if len(order) < 6:
        return None
    train = min(round(_SHARES[0] * len(order)), len(order) - 4)
    last = min(train + max(2, round(_SHARES[1] * len(order))), len(order) - 2)
    parts = {"train": order[:train], "validation": order[train:last], "test": order[last:]}
    parts["train+validation"] = order[:last]
    return {role: sorted(part) for role, part in parts.items()}


def digest(name: str) -> str:
    """What names are ordered by: nobody's choice, and the same everywhere."""
    return hashlib.blake2b(name.encode()).hexdigest()


def with_others(sentence: str, others: Sequence[str]) -> str:
    """The first mistake's sentence, and the names of the next, so that one need not find them one by one."""
    if not others:
        return sentence
    more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
    return f"{sentence} Neither can be used: {', '.join(others[:SHOWN])}{more}."
