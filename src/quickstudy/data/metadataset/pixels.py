"""Floor 1: the picture in a record -> the square that a network sees.

As the official reader does it: the whole picture is stretched to a square by linear interpolation between the four
nearest pixels, corners on corners (``align_corners=True``), without smoothing first. Two things differ: the result is
rounded to 8 bits, by at most half of one 255th, so that a task takes a quarter of the memory; and a network is given
0 .. 1, as everywhere in quickstudy, where the official one is given -1 .. 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.metadataset.examples import picture_and_label
from quickstudy.data.metadataset.records import content_of
from quickstudy.data.picturefiles import as_stored

__all__ = ["of_record", "stretched"]


def of_record(record: bytes, name: str, size: int) -> NDArray[np.uint8]:
    """The picture in a record of an Example.

    Args:
        record: its bytes, frame and all.
        name: how errors call it.
        size: pixels along a side.

    Returns:
        uint8 ``[3, size, size]``.

    Raises:
        DataError: a checksum is wrong, there is no Example with a picture, or the picture cannot be read.
    """
    content, _ = picture_and_label(content_of(record, name), name)
    pixels = np.asarray(as_stored(content, f"the picture of {name}").convert("RGB"))
    found = np.rint(stretched(pixels, size)).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(found, 2, 0))


def stretched(pixels: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """A picture of any shape as a square.

    Args:
        pixels: ``[H, W, C]``.
        size: pixels along a side of the result.

    Returns:
        float32 ``[size, size, C]``, 0 .. 255.

    >>> stretched(np.array([[[0], [100]]], dtype=np.uint8), 3)[1, :, 0]
    array([  0.,  50., 100.], dtype=float32)
    """
    (top, below, down), (left, right, across) = (_between(length, size) for length in pixels.shape[:2])
    across = across.repeat(pixels.shape[2])
    rows = np.unique(np.concatenate([top, below]))  # of a large picture only those between which is interpolated
    wanted = pixels[rows]
    before = wanted.take(left, axis=1).reshape(len(rows), -1).astype(np.float32)
    after = wanted.take(right, axis=1).reshape(len(rows), -1).astype(np.float32)
    narrow = before + (after - before) * across
    upper, lower = narrow[np.searchsorted(rows, top)], narrow[np.searchsorted(rows, below)]
    found: NDArray[np.float32] = upper + (lower - upper) * down[:, None]
    return found.reshape(size, size, -1)


def _between(length: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each of ``size`` places along ``length`` pixels: the pixel before, the one after, and how far between."""
    step = np.float32((length - 1) / (size - 1)) if size > 1 else np.float32(0)
    place = np.arange(size, dtype=np.float32) * step
    before = np.floor(place).astype(np.int64)
    return before, np.minimum(before + 1, length - 1), place - before.astype(np.float32)
