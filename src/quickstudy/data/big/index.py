"""Floor 1: an index of examples, memory-mapped: opening it reads none of it but a page or two.

index.json               what it is, how long its files are, the content's hash
starts                   int64 [C + 1], where the examples of each class begin
classes, classes.ends    names, one after the other, and where each ends
roles                    uint8 [C], 1 trains, 2 validates, 4 tests
places                   int64 [n, 3], of each example the file that holds it, where it begins, and its size
keys, keys.ends          names of examples
content                  copies of the examples, where these are kept
digests                  uint64 [n], of pixels, where these are known
watched                  folders and the times of their last changes
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from quickstudy.errors import DataError
from quickstudy.keys import Integers

__all__ = ["FORMAT", "ROLES", "Index", "Names"]

FORMAT = {"format": "quickstudy index", "version": 1}

ROLES = {"train": 1, "validation": 2, "test": 4, "train+validation": 3}
"""Role -> the bits of ``roles``."""


class Names(Sequence[str]):
    """Texts that lie one after the other on disk; made when they are asked for.

    Args:
        text: uint8, all of them.
        ends: int64 ``[n]``, where each ends.
    """

    def __init__(self, text: NDArray[np.uint8], ends: Integers) -> None:
        self._text, self._ends = text, ends

    @override
    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    @override
    def __getitem__(self, number: int | slice) -> str | list[str]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        at = range(len(self))[number]  # negative numbers count from the end, and others are refused
        start = int(self._ends[at - 1]) if at else 0
        return os.fsdecode(self._text[start : int(self._ends[at])].tobytes())


@dataclass(frozen=True, eq=False)
class Index:
    """What is known of examples without reading them.

    Args:
        folder: of the index.
        about: ``index.json``.
        starts: int64 ``[C + 1]``.
        classes: C names, sorted.
        roles: uint8 ``[C]``.
        places: int64 ``[n, 3]``.
        keys: n names.
        content: uint8, the copies; None where the files themselves are read.
        digests: uint64 ``[n]``, 0 of pictures of one value; None where nobody has looked.
    """

    folder: Path
    about: dict[str, Any]
    starts: Integers
    classes: Names
    roles: NDArray[np.uint8]
    places: Integers
    keys: Names
    content: NDArray[np.uint8] | None = field(default=None)
    digests: NDArray[np.uint64] | None = field(default=None)

    @property
    def hash(self) -> str:
        """Of the content."""
        return str(self.about["hash"])

    def numbers(self, role: str) -> Integers:
        """Numbers of the classes that a role draws from."""
        return np.flatnonzero(self.roles & ROLES[role])

    def divided(self) -> dict[str, list[str]]:
        """Role -> names of its classes."""
        found = {role: [self.classes[int(n)] for n in self.numbers(role)] for role in ROLES}
        return {role: names for role, names in found.items() if names and (role in ("train", "test") or found["train"])}

    def watched(self) -> Iterator[tuple[str, int]]:
        """Folders that were walked through, and the times of their last changes, in nanoseconds."""
        path = self.folder / "watched"
        if path.exists():
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                for line in file:
                    name, time = json.loads(line)
                    yield name, time

    @staticmethod
    def open(folder: Path) -> Index:
        """Memory-map an index.

        Raises:
            DataError: it is missing, cut off, or not an index.
        """
        about = _about(folder)
        texts = {name: _mapped(folder, about, name, np.uint8) for name in ("classes", "keys")}
        ends = {name: _mapped(folder, about, f"{name}.ends", np.int64) for name in texts}
        optional = {
            name: _mapped(folder, about, name, kind) if name in about["files"] else None
            for name, kind in (("content", np.uint8), ("digests", np.uint64))
        }
        return Index(
            folder,
            about,
            _mapped(folder, about, "starts", np.int64),
            Names(texts["classes"], ends["classes"]),
            _mapped(folder, about, "roles", np.uint8),
            _mapped(folder, about, "places", np.int64).reshape(-1, 3),
            Names(texts["keys"], ends["keys"]),
            **optional,
        )


def _about(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    try:
        about = json.loads(path.read_bytes())
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise _damaged(path, "it is not JSON") from error
    if not isinstance(about, dict) or any(about.get(key) != value for key, value in FORMAT.items()):
        raise _damaged(path, f"it was not written as {FORMAT['format']}, version {FORMAT['version']}")
    if not isinstance(about.get("files"), dict) or not isinstance(about.get("hash"), str):
        raise _damaged(path, "it does not say how long its files are")
    return about


def _mapped(folder: Path, about: dict[str, Any], name: str, kind: Any) -> Any:
    path, expected = folder / name, about["files"].get(name)
    try:
        size = path.stat().st_size
        if size != expected:
            raise _damaged(path, f"{expected} bytes were written, {size} are there")
        # Of nothing no map can be made: a file of one empty name.
        return np.asarray(np.memmap(path, dtype=kind, mode="r")) if size else np.zeros(0, kind)
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"Cannot use the index {path}: {why}. Delete the folder {path.parent}.")
