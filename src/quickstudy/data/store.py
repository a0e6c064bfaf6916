"""Floor 1: pictures of many classes in one uint8 array, kept in a folder and memory-mapped.

    <folder>/images.npy    uint8 [n, H, W] or [n, C, H, W], the classes one after the other
    <folder>/store.json    class names, examples a class, and the sha256 of all this

Opening reads every byte once and compares the hash (25 MB, Omniglot, in some 20 ms): a cache that was cut
off, altered or put there by something else is found before it can spoil a result.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.gather import gather
from quickstudy.data.rowstore import LookUp
from quickstudy.errors import DataError, InputError
from quickstudy.files import atomic_write, atomic_write_bytes
from quickstudy.keys import Integers

__all__ = ["ArrayStore", "Pictures", "open_or_build"]

Pictures: TypeAlias = NDArray[np.uint8]

_FORMAT = {"format": "quickstudy array store", "version": 1}
_CHUNK = 1 << 22  # bytes written at a time, so that a full disk is met by a plain write
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ArrayStore:
    """Pictures sorted by class.

    Args:
        images: uint8 ``[n, H, W]`` or ``[n, C, H, W]``, contiguous; may be a read-only memory map.
        classes: C names.
        starts: int64 ``[C + 1]``; the examples of class c are the rows ``starts[c]`` to ``starts[c + 1]``.
        hash: hex sha256 over class names, examples a class, shape and bytes.
    """

    images: Pictures
    classes: tuple[str, ...]
    starts: Integers
    hash: str

    @staticmethod
    def from_classes(classes: Mapping[str, Pictures]) -> ArrayStore:
        """A store in memory.

        Args:
            classes: name -> uint8 ``[k, H, W]`` or ``[k, C, H, W]``, in the order in which classes are numbered.

        Raises:
            DataError: no classes, an empty one, or pictures of several shapes or another dtype.
        """
        if not classes:
            raise DataError("Cannot make a store without classes: none were given.")
        shape = next(iter(classes.values())).shape[1:]
        for name, pictures in classes.items():
            alike = pictures.dtype == np.uint8 and pictures.shape[1:] == shape and len(shape) in (2, 3)
            if not alike or not len(pictures):
                raise DataError(
                    f"Cannot store the class {name!r}: expected uint8 pictures {['k', *shape]} with k > 0 as in the "
                    f"first class, found {pictures.dtype} {list(pictures.shape)}."
                )
        images = np.ascontiguousarray(np.concatenate(list(classes.values())))
        counts = [len(pictures) for pictures in classes.values()]
        return ArrayStore(images, tuple(classes), _starts(counts), _digest(images, list(classes), counts))

    @property
    def sizes(self) -> Integers:
        """int64 ``[C]``, examples a class."""
        return np.diff(self.starts)

    @property
    def example(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self.images.shape[1:]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one picture as a network receives it."""
        height, width = self.images.shape[-2:]
        return (self.images.shape[1] if self.images.ndim == 4 else 1, height, width)

    @cached_property
    def turned(self) -> Pictures:
        """The pictures turned counter-clockwise by 0, 90, 180 and 270 degrees: uint8 ``[4, n, ...]`` in memory.

        Made once: turning 28 x 28 bytes takes longer than to fetch them turned.

        Raises:
            InputError: the pictures are not square.
        """
        height, width = self.images.shape[-2:]
        if height != width:
            raise InputError(f"Cannot rotate pictures of {height} x {width} pixels by 90 degrees: they are not square.")
        turned = np.empty((4, *self.images.shape), dtype=np.uint8)
        for quarter in range(4):
            turned[quarter] = np.rot90(self.images, quarter, axes=(-2, -1))
        return turned

    @property
    def ahead(self) -> int:
        """Nothing is read ahead."""
        return 0

    @property
    def known(self) -> bool:
        """Each picture can be looked at."""
        return True

    def look_up(self, turned: bool = False) -> LookUp:
        """What gives pictures by their numbers; see :class:`quickstudy.data.rowstore.RowStore`."""
        pictures, shape = self.turned if turned else self.images, self.example
        table = pictures.reshape(-1, math.prod(shape))
        return lambda rows: gather(table, rows).reshape(-1, *shape)

    def of(self, number: int) -> Pictures:
        """The pictures of class ``number``, a view."""
        return self.images[self.starts[number] : self.starts[number + 1]]

    def digests(self, number: int) -> NDArray[np.uint64]:
        """A digest of each picture of class ``number``, ``[k]``; none of those of one value, which are alike anyway."""
        found = [
            int.from_bytes(hashlib.blake2b(picture.tobytes(), digest_size=8).digest(), "big")
            for picture in self.of(number)
            if picture.min() != picture.max()
        ]
        return np.array(found, dtype=np.uint64)

    def numbers(self, names: Iterable[str]) -> list[int]:
        """Class numbers of these names.

        Raises:
            DataError: there is no class of one of the names.
        """
        where = {name: number for number, name in enumerate(self.classes)}
        wanted = list(names)
        missing = [name for name in wanted if name not in where]
        if missing:
            raise DataError(
                f"Cannot find the class {missing[0]!r} among the {len(where)} classes of the data "
                f"({len(missing)} of {len(wanted)} names are unknown)."
            )
        return [where[name] for name in wanted]

    def save(self, folder: Path) -> None:
        """Write the store; each file is replaced whole, and the JSON, which vouches for the rest, comes last.

        Raises:
            StorageError: the disk refused.
        """
        atomic_write(folder / "images.npy", self._write_images)
        about = {
            **_FORMAT,
            "hash": self.hash,
            "shape": list(self.images.shape),
            "classes": list(self.classes),
            "counts": self.sizes.tolist(),
        }
        atomic_write_bytes(folder / "store.json", json.dumps(about).encode())

    def _write_images(self, file: BinaryIO) -> None:
        # Not np.save: it goes past file.write, and reports a full disk without its errno.
        file.write(_npy_header(self.images.shape))
        flat = np.ascontiguousarray(self.images).data.cast("B")
        for start in range(0, len(flat), _CHUNK):
            file.write(flat[start : start + _CHUNK])

    @staticmethod
    def open(folder: Path) -> ArrayStore:
        """Memory-map a saved store and check every byte of it.

        Raises:
            DataError: it is missing, cut off, altered, or not a store.
        """
        about = _read_about(folder / "store.json")
        path, shape = folder / "images.npy", tuple(about["shape"])
        header = _npy_header(shape)
        expected = len(header) + math.prod(shape)
        try:
            with open(path, "rb") as file:
                begins = file.read(len(header))
            size = path.stat().st_size
            if begins != header or size != expected:
                raise _damaged(path, f"{expected} bytes of {list(shape)} pictures were written, {size} bytes are there")
            images = np.asarray(np.memmap(path, dtype=np.uint8, mode="r", offset=len(header), shape=shape))
        except OSError as error:
            raise _damaged(path, error.strerror or str(error)) from error
        if _digest(images, about["classes"], about["counts"]) != about["hash"]:
            raise _damaged(path, "its bytes are not those that were written")
        return ArrayStore(images, tuple(about["classes"]), _starts(about["counts"]), about["hash"])


def open_or_build(folder: Path, build: Callable[[], ArrayStore]) -> ArrayStore:
    """The store kept in ``folder``; where there is none, or a damaged one, it is built and saved.

    Args:
        folder: a cache folder whose name tells everything that the store depends on.
        build: makes the store.

    Raises:
        StorageError: the disk refused.
    """
    if (folder / "store.json").exists():
        try:
            return ArrayStore.open(folder)
        except DataError as error:
            _log.warning("%s It is made anew.", error)
    build().save(folder)
    return ArrayStore.open(folder)


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"Cannot use the cache {path}: {why}. Delete the folder {path.parent}.")


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_bytes())
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise _damaged(path, "it is not JSON") from error
    if not isinstance(about, dict) or any(about.get(key) != value for key, value in _FORMAT.items()):
        raise _damaged(path, f"it was not written as {_FORMAT['format']}, version {_FORMAT['version']}")
    shape, classes, counts = (about.get(key) for key in ("shape", "classes", "counts"))
    consistent = (
        isinstance(shape, list)
        and isinstance(classes, list)
        and isinstance(counts, list)
        and all(isinstance(number, int) and number > 0 for number in [*shape, *counts])
        and len(shape) in (3, 4)
        and len(classes) == len(counts)
        and sum(counts) == shape[0]
    )
    if not consistent:
        raise _damaged(path, "its class names, counts and shape do not fit together")
    return about


def _starts(counts: list[int]) -> Integers:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _digest(images: Pictures, classes: list[str], counts: list[int]) -> str:
    digest = hashlib.sha256(json.dumps([classes, counts, list(images.shape)]).encode())
    digest.update(images.data.cast("B"))
    return digest.hexdigest()


def _npy_header(shape: tuple[int, ...]) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return header.getvalue()
