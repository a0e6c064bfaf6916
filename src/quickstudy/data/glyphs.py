"""Floor 1: glyphs, some 3,200 letters of many scripts, drawn on the spot: meta-training data without a download.

Letters come from fonts that ship inside matplotlib (:mod:`quickstudy.data.letters`) and are distorted at random
(:mod:`quickstudy.data.distort`). A class is a set of letters that look alike; what could pass for a digit is left
out, so that :class:`quickstudy.data.digits.Digits` has classes, and a domain, that meta-training never saw.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL
from PIL import features

from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.counts import Count
from quickstudy.data.dataset import check_role
from quickstudy.data.distort import Distortion, fields, pictures
from quickstudy.data.letters import Letter, font_hashes, fonts_folder, letters
from quickstudy.data.store import ArrayStore, Pictures, open_or_build
from quickstudy.errors import InputError
from quickstudy.files import cache_root
from quickstudy.keys import Key

__all__ = ["Glyphs"]

_VERSION = 1  # of the drawing; raised when the same options give other pictures
_SHARES = (("train", 0.7), ("validation", 0.15), ("test", 0.15))
_CLASSES_AT_ONCE = 64  # their distance fields take about 4 MB
_SIZES = (14, 84)  # below, letters cannot be told apart; above, the distance fields show


class Glyphs:
    """Letters from fonts, distorted. Drawn at first use (some 6 seconds) and cached (50 MB).

    A pure function of its options, the fonts and Pillow's rasteriser; the cache and the hash of its task
    sources tell these apart. Accents, styles and forms of a letter belong to the same split as the letter.

    Args:
        size: rows and columns of a picture.
        examples: pictures of each class.
        seed: of the distortions.
        strength: 0 .. 2, how far the pictures of a class may differ: the ranges of
            :class:`quickstudy.data.distort.Distortion` times this.

    Raises:
        InputError: a size, a number of examples or a strength that cannot be drawn.
    """

    name = "glyphs"
    splits = ("train", "validation", "test", "train+validation")

    def __init__(self, *, size: int = 28, examples: int = 20, seed: int = 0, strength: float = 1.0) -> None:
        if not _SIZES[0] <= size <= _SIZES[1]:
            raise InputError(f"Cannot draw glyphs of size {size}: use a size of {_SIZES[0]} to {_SIZES[1]} pixels.")
        if examples < 1:
            raise InputError(f"Cannot draw {examples} examples of each glyph: use at least 1.")
        if not 0 <= strength <= 2:  # written so that NaN is refused
            raise InputError(
                f"Cannot distort glyphs with strength {strength}: use 0 (not at all) to 2 (twice the default)."
            )
        self._size, self._examples, self._seed = size, examples, seed
        self._distortion = Distortion().times(strength)

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, size, size)."""
        return (1, self._size, self._size)

    def tasks(
        self,
        role: str,
        *,
        shot: Count,
        query: Count,
        seed: int,
        way: Count | None = 5,
        dirichlet: float | None = None,
    ) -> ClassTasks:
        """Tasks of one role; see :class:`quickstudy.data.dataset.DataSet`."""
        return ClassTasks(
            self.store,
            self.classes(role),
            data=self.name,
            split=role,
            way=way,
            shot=shot,
            query=query,
            seed=seed,
            dirichlet=dirichlet,
        )

    def classes(self, role: str) -> list[int]:
        """Class numbers of the store that ``role`` draws from.

        Raises:
            UnknownName: there is no such role.
        """
        check_role(self, role)
        return self._roles[role]

    @cached_property
    def store(self) -> ArrayStore:
        """All pictures, drawn or from the cache.

        Raises:
            DataError: matplotlib's fonts are missing.
            StorageError: the disk refused the cache.
        """
        folder = fonts_folder()
        content = {
            "version": _VERSION,
            "size": self._size,
            "examples": self._examples,
            "seed": self._seed,
            "distortion": asdict(self._distortion),
            "fonts": font_hashes(folder),
            "drawn by": [PIL.__version__, features.version("freetype2"), unicodedata.unidata_version],
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        return open_or_build(cache_root() / "glyphs" / digest, lambda: self._build(folder))

    @cached_property
    def _roles(self) -> dict[str, list[int]]:
        """Class numbers of each role; a class's name begins with its family, which decides."""
        roles: dict[str, list[int]] = {role: [] for role, _ in _SHARES}
        for number, name in enumerate(self.store.classes):
            roles[_role(name.split("/")[0])].append(number)
        return roles | {"train+validation": sorted(roles["train"] + roles["validation"])}

    def _build(self, folder: Path) -> ArrayStore:
        drawn = letters(folder)
        classes: dict[str, Pictures] = {}
        for start in range(0, len(drawn), _CLASSES_AT_ONCE):
            some = drawn[start : start + _CLASSES_AT_ONCE]
            classes.update(zip(map(_name, some), self._distorted(some), strict=True))
        return ArrayStore.from_classes(classes)

    def _distorted(self, some: list[Letter]) -> Pictures:
        """Pictures ``[len(some), examples, size, size]``; a class's examples take its drawings in turn."""
        how, n = self._distortion, self._examples
        shapes = fields(np.concatenate([letter.shapes for letter in some]))
        counts = np.array([len(letter.shapes) for letter in some])
        which = (counts.cumsum() - counts)[:, None] + np.arange(n) % counts[:, None]
        # By code point: a letter's pictures do not depend on which other letters there are.
        points = np.array([letter.points[0] for letter in some])
        bits = Key.of(self._seed, self.name).bits(points, n * how.words).reshape(-1, how.words)
        return pictures(shapes, which.reshape(-1), bits, self._size, how).reshape(len(some), n, self._size, -1)


def _name(letter: Letter) -> str:
    """Such as ``U+0065/U+00E9 LATIN SMALL LETTER E WITH ACUTE``: family, code point, name."""
    point = letter.points[0]
    return f"U+{letter.family:04X}/U+{point:04X} {unicodedata.name(chr(point), 'unnamed')}"


def _role(family: str) -> str:
    """The role of a family: its hash, as a number in 0 .. 1, falls into the role's share."""
    place = int.from_bytes(hashlib.blake2b(family.encode(), digest_size=4).digest(), "little") / 2**32
    for role, share in _SHARES:
        if place < share:
            return role
        place -= share
    return _SHARES[-1][0]  # shares add up to 1 but for rounding
