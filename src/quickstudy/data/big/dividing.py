"""Floor 1: which of a million classes train, validate and test, as ``classfolders.divide`` says it of a few."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.big.index import ROLES
from quickstudy.data.classfolders import cuts

__all__ = ["as_said", "by_names"]

_FEWEST = 6


def by_names(names: Sequence[str]) -> NDArray[np.uint8] | None:
    """The part of each class by a hash of its name, that of ``classfolders.divide``: with numbers in place of texts.

    Args:
        names: of classes, sorted, each once.

    Returns:
        ``[C]``, values of :data:`ROLES`; None where there are fewer than six.
    """
    # Names that differ in small and capital letters alone count once: as the first of them.
    folded = np.fromiter((_number(name.casefold()) for name in names), np.uint64, len(names))
    _, first, group = np.unique(folded, return_index=True, return_inverse=True)
    if len(first) < _FEWEST:
        return None
    high, low = np.fromiter((_numbers(names[n]) for n in first), np.dtype((np.uint64, 2)), len(first)).T
    train, last = cuts(len(first))
    parts = np.empty(len(first), dtype=np.uint8)
    order = np.lexsort((low, high))
    for role, chosen in (("train", order[:train]), ("validation", order[train:last]), ("test", order[last:])):
        parts[chosen] = ROLES[role]
    return parts[group]


def as_said(names: Sequence[str], divided: Mapping[str, Iterable[str]]) -> NDArray[np.uint8]:
    """The parts that classes are said to play.

    Args:
        names: of all classes.
        divided: role -> names of its classes.
    """
    numbers = {name: number for number, name in enumerate(names)}
    roles = np.zeros(len(names), dtype=np.uint8)
    for role in ("train", "validation", "test"):
        roles[[numbers[name] for name in divided.get(role, ())]] |= ROLES[role]
    return roles


def _numbers(name: str) -> tuple[int, int]:
    """The first 16 of the 64 bytes that ``classfolders.digest`` orders by: no two names share them."""
    found = hashlib.blake2b(name.encode()).digest()
    return int.from_bytes(found[:8], "big"), int.from_bytes(found[8:16], "big")


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest(), "big")
