"""Floor 1: Omniglot, 1,623 handwritten characters of 50 alphabets, drawn by 20 people each.

B. Lake, R. Salakhutdinov, J. Tenenbaum, "Human-level concept learning through probabilistic program induction",
Science 350 (2015).
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from quickstudy.data.alphabets import PARTS
from quickstudy.data.classtasks import ClassTasks, Rotations
from quickstudy.data.counts import Count
from quickstudy.data.dataset import check_role
from quickstudy.data.drawings import decode, read_zip
from quickstudy.data.picturetasks import PictureTasks
from quickstudy.data.source import place
from quickstudy.data.splits import Split, note, roles, split_names
from quickstudy.data.store import ArrayStore, open_or_build
from quickstudy.errors import InputError, UnknownName
from quickstudy.files import cache_root, data_root

__all__ = ["Omniglot", "OmniglotRotations"]

OmniglotRotations: TypeAlias = Rotations | Literal["train-classes"]

_MODES: tuple[str, ...] = (*get_args(Rotations), "train-classes")
# As published: Vinyals et al. and the alphabets' users make new classes of turned characters everywhere, MAML turns
# each class of a task, Reptile makes new classes for training only.
_USUAL: dict[str, OmniglotRotations] = {
    "vinyals": "classes",
    "alphabets": "classes",
    "maml": "per-class",
    "reptile": "train-classes",
}
_CODE = 1  # to be raised whenever the same zip files would give other pictures


class Omniglot:
    """Omniglot as uint8 pictures, ink 255 on 0.

    The published zip files are decoded once into the cache folder (some seconds); what they hold is checked drawing by
    drawing, so that a repacked copy is as good as the original and a damaged one is found.

    Args:
        root: the folder that holds ``omniglot/``; by default QUICKSTUDY_DATA or the platform's data folder.
        split: ``"vinyals"``, ``"alphabets"``, ``"maml"`` or ``"reptile"``; see :mod:`quickstudy.data.splits`. The last
            two have the papers' sizes but not their characters, which cannot be recovered (:attr:`note`).
        rotations: a mode of :class:`ClassTasks`, or ``"train-classes"``: turned characters are further classes in
            training, and there are none in validation and test. By default what the split's paper did.
        size: pixels along a side; drawings are shrunk from 105 with Pillow's Lanczos filter.
        channels: 1, the default; 3, all alike, for a network that was trained on colour pictures.

    Raises:
        UnknownName: no such split or mode.
        InputError: a size that makes no sense.
    """

    name = "omniglot"

    def __init__(
        self,
        root: Path | None = None,
        *,
        split: str = "vinyals",
        rotations: OmniglotRotations | None = None,
        size: int = 28,
        channels: Literal[1, 3] | None = None,
    ) -> None:
        self.splits = roles(split)
        if rotations is not None and rotations not in _MODES:
            raise UnknownName.among("mode of rotation", rotations, _MODES)
        if not isinstance(size, int) or not 1 <= size <= 105:
            raise InputError(
                f"Cannot make Omniglot with size = {size!r}: expected a whole number from 1 to 105 pixels."
            )
        self.split, self.size, self.channels = split, size, channels or 1
        self.rotations: OmniglotRotations = rotations or _USUAL[split]
        self._root = root

    @property
    def note(self) -> str:
        """What a reader of a figure must know of the split; empty for a published one."""
        return note(self.split)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, size, size)."""
        return (self.channels, self.size, self.size)

    @property
    def folder(self) -> Path:
        """Where the published files are looked for."""
        return data_root(self._root) / "omniglot"

    @cached_property
    def store(self) -> ArrayStore:
        """All 1,623 characters, sorted by name, memory-mapped.

        Raises:
            DataError: files are missing, damaged or not the published ones.
            StorageError: the cache cannot be written.
        """
        zips = [read_zip(self.folder, part) for part in PARTS]
        # The cache is named by what it was made from: another copy of the data never meets it by mistake.
        key = hashlib.sha256("/".join([str(_CODE), *(source.digest for source in zips)]).encode()).hexdigest()

        def build() -> ArrayStore:
            classes = {name: pictures for source in zips for name, pictures in decode(source, self.size).items()}
            return ArrayStore.from_classes(dict(sorted(classes.items())))

        return open_or_build(cache_root() / f"omniglot-{self.size}px-{key[:16]}", build)

    @cached_property
    def divided(self) -> Split:
        """Role -> names of its characters.

        Raises:
            DataError: the list of the split is missing or not the published one.
        """
        return split_names(self.split, self.folder)

    def classes(self, role: str) -> list[int]:
        """Class numbers of the store that ``role`` draws from.

        Raises:
            UnknownName: the split has no such role.
            DataError: the list of the split is missing or not the published one.
        """
        check_role(self, role)
        return self.store.numbers(self.divided[role])

    def tasks(
        self,
        role: str,
        *,
        shot: Count,
        query: Count,
        seed: int,
        way: Count | None = None,
        dirichlet: float | None = None,
    ) -> ClassTasks:
        """Tasks of one role; see :meth:`quickstudy.data.dataset.DataSet.tasks`."""
        sizes: dict[str, Any] = {"way": way, "shot": shot, "query": query, "seed": seed, "dirichlet": dirichlet}
        about: dict[str, Any] = {"data": self.name, "split": f"{self.split}/{role}", "rotations": self._rotations(role)}
        about |= {"place": place(self.name), "makers": True}  # drawing k of an alphabet's characters is of person k
        if self.channels == 1:
            return ClassTasks(self.store, self.classes(role), **about, **sizes)
        return PictureTasks(self.store, self.classes(role), **about, **sizes, channels=self.channels)

    def _rotations(self, role: str) -> Rotations:
        if self.rotations != "train-classes":
            return self.rotations
        return "classes" if role.startswith("train") else "none"
