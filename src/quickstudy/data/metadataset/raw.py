"""Floor 1: what the ten data sets' own layouts are read into: for each class its pictures, in the official order.

A picture is encoded as the official conversion does it: a JPEG file in RGB stays byte for byte; whatever has another
format, another mode, is cropped or inverted, becomes JPEG by Pillow, with its usual quality.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from quickstudy.data.picturefiles import SUFFIXES, as_stored
from quickstudy.errors import DataError

__all__ = [
    "Box",
    "Picture",
    "Pictures",
    "RawArray",
    "RawFile",
    "class_files",
    "encoded",
    "json_of",
    "lines_of",
    "refuse",
]

Box: TypeAlias = tuple[int, int, int, int]
"""Left, upper, right, lower, as Pillow crops."""


class Picture(Protocol):
    """A picture of a raw data set."""

    @property
    def name(self) -> str:
        """How errors call it."""

    def jpeg(self) -> bytes:
        """As it stands in a record.

        Raises:
            DataError: it is missing or cannot be read.
        """


Pictures: TypeAlias = Sequence[Picture]


@dataclass(frozen=True)
class RawFile:
    """A picture in a file.

    Args:
        name: of the file.
        read: gives its bytes.
        box: what is cut out, from the picture's width and height; None: nothing is.
        inverted: black becomes white.
    """

    name: str
    read: Callable[[], bytes]
    box: Callable[[int, int], Box] | None = None
    inverted: bool = False

    @staticmethod
    def at(path: Path, box: Callable[[int, int], Box] | None = None, *, inverted: bool = False) -> RawFile:
        """A file on the disk."""
        return RawFile(str(path), lambda: bytes_of(path), box, inverted)

    def jpeg(self) -> bytes:
        """As it stands in a record; see :class:`Picture`."""
        content = self.read()
        picture = as_stored(content, self.name)
        if picture.format == "JPEG" and picture.mode == "RGB" and self.box is None and not self.inverted:
            return content
        picture = picture.convert("RGB")
        if self.box is not None:
            left, upper, right, lower = self.box(*picture.size)
            if right <= left or lower <= upper:
                raise DataError(
                    f"Cannot cut {self.name}: its box from ({left}, {upper}) to ({right}, {lower}) is empty. Mend the "
                    "list of boxes."
                )
            picture = picture.crop((left, upper, right, lower))
        return encoded(ImageOps.invert(picture) if self.inverted else picture)


@dataclass(frozen=True, eq=False)
class RawArray(Sequence[Picture]):
    """Square grey pictures in the rows of an array, which is open only while one goes through it.

    Args:
        file: that holds them.
        size: how many there are.
        rows: opens the array, uint8 or bool ``[n, side * side]``.
    """

    file: str
    size: int
    rows: Callable[[], NDArray[Any]]

    def __len__(self) -> int:
        """How many."""
        return self.size

    def __getitem__(self, number: Any) -> Any:
        """One of them."""
        return _Row(f"row {number} of {self.file}", self.rows()[number])

    def __iter__(self) -> Iterator[Picture]:
        """One after the other."""
        for number, row in enumerate(self.rows()):
            yield _Row(f"row {number} of {self.file}", row)


@dataclass(frozen=True, eq=False)
class _Row:
    name: str
    values: NDArray[Any]

    def jpeg(self) -> bytes:
        side = round(len(self.values) ** 0.5)
        grey = np.asarray(self.values, dtype=np.uint8) * np.uint8(255 if self.values.dtype == np.bool_ else 1)
        return encoded(Image.fromarray(grey.reshape(side, side)).convert("RGB"))


def encoded(picture: Image.Image) -> bytes:
    """As JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG")
    return buffer.getvalue()


def bytes_of(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        DataError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Copy the file there.") from error


def lines_of(path: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        DataError: it is missing, or no text.
    """
    try:
        return [line.rstrip("\r") for line in bytes_of(path).decode().split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"Cannot read {path}: it is no text ({error.reason}). Copy the file again.") from error


def json_of(path: Path, fields: Iterable[str]) -> dict[str, Any]:
    """A JSON file with these fields.

    Raises:
        DataError: it is missing, or not that.
    """
    content = bytes_of(path)
    try:
        found = json.loads(content)
    except ValueError as error:
        raise DataError(f"Cannot read {path}: it is not JSON ({error}). Copy the file again.") from error
    for field in fields:
        if not isinstance(found, dict) or not isinstance(found.get(field), list):
            raise DataError(f"Cannot use {path}: it has no list {field!r}. Copy the file again.")
    return dict(found)


def refuse(found: Iterable[str], wanted: Iterable[str], where: Path, kind: str) -> None:
    """Refuse names that lack, or that are too many.

    Raises:
        DataError: there are any.
    """
    has, needs = set(found), set(wanted)
    if missing := sorted(needs - has):
        raise DataError(
            f"Cannot convert {where}: it lacks {len(missing)} of {len(needs)} {kind}, such as {missing[0]!r}. Unpack "
            "the published files again."
        )
    if surplus := sorted(has - needs):
        raise DataError(
            f"Cannot convert {where}: it holds {surplus[0]!r}, which is none of the {len(needs)} published {kind}. "
            "Move it away."
        )


def class_files(folder: Path, left_out: frozenset[str] = frozenset()) -> list[Path]:
    """The files of a class's folder, sorted by their names.

    Raises:
        DataError: the folder cannot be read, or holds a file that is no picture by its name.
    """
    try:
        with os.scandir(folder) as items:
            names = sorted(item.name for item in items if item.name not in left_out and not item.is_dir())
    except OSError as error:
        raise DataError(
            f"Cannot read {folder}: {error.strerror or error}. Unpack the published files there, or say where they are."
        ) from error
    for name in names:
        if os.path.splitext(name)[1].lower() not in (*SUFFIXES, ".ppm"):
            raise DataError(f"Cannot convert {folder / name}: it is no picture of the class. Move it away.")
    return [folder / name for name in names]
