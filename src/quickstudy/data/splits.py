"""Floor 1: which characters of Omniglot serve for meta-training, meta-validation and meta-testing.

    vinyals     1,028 / 172 / 423 characters: the lists of Vinyals et al. (2016), as Snell et al. (2017) published them
    alphabets   by alphabet, as Lake et al. (2015) published the data: background (five of its alphabets set apart for
                validation) and evaluation
    maml        1,100 / 100 / 423, the sizes of Finn et al. (2017)
    reptile     1,200 / 423, the sizes of Nichol et al. (2018)

The last two shuffled the characters with a generator whose state was not recorded, so *which* characters they tested
on cannot be recovered. Here the order is that of a hash of the names, the same for both: what one trains on, the other
never tests on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from quickstudy.data.alphabets import ALPHABETS
from quickstudy.errors import DataError, UnknownName

__all__ = ["SPLITS", "Split", "note", "roles", "split_names"]

Split: TypeAlias = dict[str, list[str]]
"""Role -> names of characters, sorted."""

SPLITS = ("vinyals", "alphabets", "maml", "reptile")

_VINYALS = {"train": ("train.txt", 1028), "validation": ("val.txt", 172), "test": ("test.txt", 423)}
_HASHED = {
    "maml": {"train": 1100, "validation": 100, "test": 423},
    "reptile": {"train": 1200, "test": 423},
}
_VALIDATION_ALPHABETS = 5


def roles(split: str) -> tuple[str, ...]:
    """The roles that a split has.

    Raises:
        UnknownName: no such split.
    """
    if split not in SPLITS:
        raise UnknownName.among("split of omniglot", split, SPLITS)
    return ("train", "test") if split == "reptile" else ("train", "validation", "test", "train+validation")


def note(split: str) -> str:
    """What a reader of a figure must know of the split; empty for a published one."""
    if split in _HASHED:
        sizes = " / ".join(f"{size:,}" for size in _HASHED[split].values())
        return (
            f"The split {split!r} has the sizes of the paper ({sizes} characters), "
            "not its characters: the authors' shuffle was not recorded, so a fixed order by hash stands in for it."
        )
    if split == "alphabets":
        return (
            f"Of the background alphabets, {', '.join(sorted(_validation_alphabets()))} serve for validation; "
            "the publication sets none apart."
        )
    return ""


def split_names(split: str, folder: Path) -> Split:
    """The characters of each role.

    Args:
        split: one of :data:`SPLITS`.
        folder: the folder ``omniglot`` of the data root, read for ``"vinyals"`` only.

    Raises:
        UnknownName: no such split.
        DataError: a list is missing or not the published one.
    """
    known = roles(split)
    if split == "vinyals":
        found = {role: _vinyals(folder / "splits" / "vinyals" / file, n) for role, (file, n) in _VINYALS.items()}
    elif split == "alphabets":
        found = _by_alphabet()
    else:
        found = _by_hash(_HASHED[split])
    if "train+validation" in known:
        found["train+validation"] = sorted(found["train"] + found["validation"])
    return found


def _characters(alphabets: Sequence[str]) -> list[str]:
    return sorted(f"{a}/character{n:02}" for a in alphabets for n in range(1, ALPHABETS[a].characters + 1))


def _vinyals(path: Path, expected: int) -> list[str]:
    """Characters of a list whose lines are ``<Alphabet>/characterNN/rotRRR``, four rotations a character."""
    try:
        lines = path.read_text(encoding="utf-8").split()
    except FileNotFoundError as error:
        raise DataError(
            f"Cannot find the Vinyals split of Omniglot: there is no file {path}. Run `quickstudy fetch omniglot`, or "
            "choose another split."
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read {path}: {error}.") from error
    names = {line.rpartition("/")[0] for line in lines}
    wanted = {f"{name}/rot{turn:03}" for name in names for turn in (0, 90, 180, 270)}
    if len(names) != expected or set(lines) != wanted or not names <= set(_characters(list(ALPHABETS))):
        raise DataError(
            f"Cannot use {path}: it lists {len(names)} characters in {len(lines)} lines, not the published {expected} "
            f"in {4 * expected}. Delete it and run `quickstudy fetch omniglot`."
        )
    return sorted(names)


def _by_hash(sizes: dict[str, int]) -> Split:
    order = sorted(_characters(list(ALPHABETS)), key=_hashed)
    test = sizes["test"]
    found, start = {"test": sorted(order[:test])}, test  # the test first, so that it is the same for both sizes
    for role in ("train", "validation"):
        if role in sizes:
            found[role] = sorted(order[start : start + sizes[role]])
            start += sizes[role]
    return found


def _by_alphabet() -> Split:
    apart = _validation_alphabets()
    background = [name for name, alphabet in ALPHABETS.items() if alphabet.part == "images_background"]
    return {
        "train": _characters([name for name in background if name not in apart]),
        "validation": _characters(apart),
        "test": _characters([name for name in ALPHABETS if name not in background]),
    }


def _validation_alphabets() -> list[str]:
    background = [name for name, alphabet in ALPHABETS.items() if alphabet.part == "images_background"]
    return sorted(background, key=_hashed)[:_VALIDATION_ALPHABETS]


def _hashed(name: str) -> str:
    return hashlib.sha256(f"quickstudy omniglot {name}".encode()).hexdigest()
