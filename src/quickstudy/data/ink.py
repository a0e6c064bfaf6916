"""Floor 1: Omniglot and glyphs in one data set: ink of people and of fonts, for learners of any drawing."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

from typing_extensions import override

from quickstudy.data.dataset import check_role
from quickstudy.data.glyphs import Glyphs
from quickstudy.data.omniglot import Omniglot
from quickstudy.data.store import ArrayStore, open_or_build
from quickstudy.files import cache_root

__all__ = ["Ink"]

_CODE = 1  # to be raised whenever the same two stores would give another one


class Ink(Glyphs):
    """The classes of :class:`Omniglot` (Vinyals' split) and of :class:`Glyphs`, each in its own role; ink 255 on 0.

    A task draws its classes from both. None is turned: a letter upside down is another letter to few people.

    Args:
        root: the folder that holds ``omniglot/``; by default QUICKSTUDY_DATA or the platform's data folder.
        size: pixels along a side.

    Raises:
        InputError: a size that cannot be drawn.
    """

    name = "ink"

    def __init__(self, root: Path | None = None, *, size: int = 28) -> None:
        super().__init__(size=size)
        self._omniglot, self._glyphs = Omniglot(root, size=size), Glyphs(size=size)

    @cached_property
    @override
    def store(self) -> ArrayStore:
        """All pictures: characters, then glyphs.

        Raises:
            DataError: Omniglot is missing or damaged.
            StorageError: the cache cannot be written.
        """
        parts = {"omniglot": self._omniglot.store, "glyphs": self._glyphs.store}
        key = hashlib.sha256("/".join([str(_CODE), *(part.hash for part in parts.values())]).encode()).hexdigest()

        def build() -> ArrayStore:
            named = {
                f"{name}/{known}": part.of(number)
                for name, part in parts.items()
                for number, known in enumerate(part.classes)
            }
            return ArrayStore.from_classes(named)

        return open_or_build(cache_root() / f"ink-{key[:16]}", build)

    @override
    def classes(self, role: str) -> list[int]:
        check_role(self, role)
        first = len(self._omniglot.store.classes)
        return [*self._omniglot.classes(role), *(first + number for number in self._glyphs.classes(role))]
