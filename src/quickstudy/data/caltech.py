"""Floor 1: Caltech-101, pictures of objects of 101 kinds, of which 99 are used here, divided into three parts.

L. Fei-Fei, R. Fergus, P. Perona, "Learning generative visual models from few training examples", CVPR Workshop on
Generative-Model Based Vision, 2004.
"""

from __future__ import annotations

import json
from functools import cached_property, partial
from importlib.resources import files
from pathlib import Path
from typing import Literal

from quickstudy.data.picturefiles import SUFFIXES
from quickstudy.data.picturesets import AbstractPictures, PictureFile
from quickstudy.data.speechfiles import Files, published
from quickstudy.errors import DataError
from quickstudy.files import data_root

__all__ = ["Caltech101"]

_ARCHIVES = ("101_ObjectCategories_84.zip", "caltech-101.zip")


class Caltech101(AbstractPictures):
    """Photographs and drawings of objects: 64 kinds to train on, 15 to validate on, 20 to test on.

    No split of Caltech-101 for few-shot learning was published. The one used here stands in ``caltech101.json`` beside
    this file: kinds in the order of a hash of their names, but kinds that show nearly the same (cougar_body and
    cougar_face) always in the same part. ``BACKGROUND_Google`` shows anything and ``Faces`` and ``Faces_easy`` the same
    photographs twice: they are left out.

    Args:
        root: the folder that holds ``caltech101-84/``, with ``101_ObjectCategories_84.zip``, the published
            ``caltech-101.zip`` of full size, or the unpacked ``101_ObjectCategories/`` of either.
        size: pixels along a side; of each picture the largest square in its middle is brought to that.
        channels: 3, or 1 for grey pictures.
        augment: change pictures at random in training.

    Raises:
        InputError: a size that makes no sense.
    """

    name = "caltech101"
    splits = ("train", "validation", "test", "train+validation")

    def __init__(
        self, root: Path | None = None, *, size: int = 84, channels: Literal[1, 3] = 3, augment: bool = True
    ) -> None:
        super().__init__(size=size, channels=channels, augment=augment, flip=True)
        self._root = root

    @cached_property
    def divided(self) -> dict[str, list[str]]:
        """Role -> its kinds of objects."""
        parts: dict[str, list[str]] = json.loads(
            files("quickstudy.data").joinpath("caltech101.json").read_text("utf-8")
        )
        return parts | {"train+validation": sorted(parts["train"] + parts["validation"])}

    @cached_property
    def _files(self) -> Files:
        folder = data_root(self._root) / "caltech101-84"
        return published(self.name, folder, _ARCHIVES, "101_ObjectCategories", "Caltech-101")

    def _fingerprint(self) -> str:
        return self._files.fingerprint

    def _find(self) -> list[PictureFile]:
        wanted = {kind for kinds in self.divided.values() for kind in kinds}
        found = []
        for name in self._files.names:
            parts = name.split("/")
            if len(parts) == 3 and parts[1] in wanted and name.lower().endswith(SUFFIXES):
                found.append(PictureFile(parts[1], name, partial(self._files.reader, name)))
        if missing := sorted(wanted - {picture.group for picture in found}):
            raise DataError(
                f"Cannot use Caltech-101: {len(missing)} of its {len(wanted)} kinds have no picture, such as "
                f"{missing[0]!r}. Copy the data again."
            )
        return found
