"""Floor 1: what a walk over files finds, before it is sorted."""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

from quickstudy.data.classfolders import SHOWN
from quickstudy.errors import DataError

__all__ = ["Entry", "Mistakes", "class_name"]


class Entry(NamedTuple):
    """An example.

    Args:
        group: its class.
        key: its name; with its class it is the only one of that name, and what examples of a class are sorted by.
        source: number of the file that holds it.
        offset: where it begins there.
        size: in bytes.
        content: its bytes, where they were read anyway; features as the bytes of float32.
    """

    group: str
    key: str
    source: int
    offset: int
    size: int
    content: bytes | None = None


class Mistakes:
    """The first mistake's sentence, and how the next are called, so that one need not find them one by one."""

    def __init__(self) -> None:
        self._first: DataError | None = None
        self._others: list[str] = []
        self._count = 0

    def add(self, name: str, error: DataError) -> None:
        """One more.

        Args:
            name: what it is about, in a list of several.
            error: the whole sentence.
        """
        self._count += 1
        if self._first is None:
            self._first = error
        elif len(self._others) < SHOWN:
            self._others.append(name)

    def end(self) -> None:
        """All were found.

        Raises:
            DataError: there were any.
        """
        if self._first is None or not self._others:
            if self._first is not None:
                raise self._first
            return
        more = self._count - 1 - len(self._others)
        rest = f" and {more:,} more" if more else ""
        raise DataError(f"{self._first} Neither can be used: {', '.join(self._others)}{rest}.") from self._first


def class_name(text: str) -> str:
    """What a class is called; the same on systems that write accents apart from their letters."""
    return unicodedata.normalize("NFC", text)
