"""Floor 1: picture files -> square pictures of 8 bits, of one size and one number of channels.

Pillow reads them: PNG, JPEG, GIF (its first picture), BMP, WebP and TIFF (its first page); grey, palette, colour, with
transparency (laid on white), of 1, 8 or 16 bits. A camera's note of which side is up (EXIF) is followed.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from quickstudy.errors import DataError

__all__ = ["SUFFIXES", "as_stored", "decode", "fitted", "read", "settled"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".gif", ".bmp", ".webp", ".tif", ".tiff")
"""Files that are read as pictures, in small letters."""

_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
_MOST = 65_000_000  # pixels, as the largest usual cameras have them; asked before any is decoded: more fill the memory
_PNG = b"\x89PNG\r\n\x1a\n"
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
"""What Pillow's readers raise of bytes that are not what their format says."""


def read(content: bytes, name: str, size: int, channels: int) -> NDArray[np.uint8]:
    """One picture: the largest square in its middle, shrunk or enlarged with Pillow's Lanczos filter.

    Args:
        content: the file's bytes.
        name: how errors call it.
        size: pixels along a side of the result.
        channels: 1 (grey) or 3 (red, green, blue).

    Returns:
        uint8 ``[3, size, size]``, or ``[size, size]`` where it is grey.

    Raises:
        DataError: it is empty, cut off, no picture, of more than 65 million pixels, or its numbers are no brightness.
    """
    return fitted(decode(content, name), size, channels)


def fitted(picture: Image.Image, size: int, channels: int) -> NDArray[np.uint8]:
    """The largest square in the middle of a picture of 8 bits, as :func:`read` gives it."""
    picture = picture.convert("L" if channels == 1 else "RGB")
    pixels = np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS), dtype=np.uint8)
    return pixels if channels == 1 else np.ascontiguousarray(np.moveaxis(pixels, 2, 0))


def decode(content: bytes, name: str) -> Image.Image:
    """The picture in a file, upright, of 8 bits, without transparency; see :func:`read`."""
    return settled(_loaded(content, name), name)


def as_stored(content: bytes, name: str) -> Image.Image:
    """The picture in a file as it lies there, not turned, in its own mode; a PPM, too; see :func:`read`."""
    return _loaded(content, name, upright=False)


def _loaded(content: bytes, name: str, upright: bool = True) -> Image.Image:
    if not content:
        raise DataError(f"Cannot read {name}: the file is empty (0 bytes). Copy it again or remove it.")
    _refuse_cut_png(content, name)
    return _open(content, name, upright, _FORMATS if upright else (*_FORMATS, "PPM"))


def settled(picture: Image.Image, name: str) -> Image.Image:
    """A picture upright, of 8 bits and without transparency, as :func:`decode` gives that of a file.

    Raises:
        DataError: its numbers are no brightness.
    """
    return _on_white(_eight_bits(ImageOps.exif_transpose(picture), name))


def _refuse_cut_png(content: bytes, name: str) -> None:
    """A PNG whose end is missing: Pillow hands it out where the end is not needed for the pixels."""
    if not content.startswith(_PNG):
        return
    place = len(_PNG)
    while place + 8 <= len(content):
        size, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        place += 12 + size  # its length, its kind, the content, a checksum
        if kind == b"IEND" and place <= len(content):
            return
    raise DataError(
        f"Cannot read {name}: it is cut off or damaged (a PNG file without its end). Copy it again or remove it."
    )


def _open(content: bytes, name: str, upright: bool, formats: tuple[str, ...]) -> Image.Image:
    """The picture as it lies in the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd EXIF data, which does not matter; of size, which is asked below
            Image.init()  # asked for formats, it does not load their readers
            picture = Image.open(io.BytesIO(content), formats=formats)
            if picture.width * picture.height > _MOST:
                raise _too_large(name, f"{picture.width} x {picture.height}")
            picture.load()
            # Here, where whatever odd EXIF data raises is caught.
            return ImageOps.exif_transpose(picture) if upright else picture
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name, "far too many") from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"Cannot read {name}: it is no picture that can be read here. Expected the contents of "
            f"{', '.join(SUFFIXES)}. Export it again or remove it."
        ) from error
    except _DAMAGED as error:
        raise DataError(
            f"Cannot read {name}: it is cut off or damaged ({str(error).rstrip('.')}). Copy it again or remove it."
        ) from error


def _too_large(name: str, pixels: str) -> DataError:
    return DataError(
        f"Cannot use {name}: it has {pixels} pixels; expected at most {_MOST // 1_000_000} million. Shrink it first."
    )


def _eight_bits(picture: Image.Image, name: str) -> Image.Image:
    """Pictures of 16 bits and of floats, which Pillow would cut off at 255."""
    if picture.mode == "F":
        values = np.asarray(picture, dtype=np.float64)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise DataError(
                f"Cannot use {name}: its pixels are floats from {values.min():g} to {values.max():g}; expected 0 to 1. "
                "Export it with 8 or 16 bits."
            )
        return Image.fromarray((values * 255).round().astype(np.uint8))
    if picture.mode.startswith("I"):  # 16 bits, in numbers of 16 or 32
        numbers = np.asarray(picture).astype(np.int64)
        if numbers.min() < 0 or numbers.max() > 65535:
            raise DataError(
                f"Cannot use {name}: its pixels are numbers from {numbers.min()} to {numbers.max()}; expected 16 bits, "
                "0 to 65535. Export it with 8 or 16 bits."
            )
        return Image.fromarray(((numbers + 128) // 257).astype(np.uint8))
    return picture


def _on_white(picture: Image.Image) -> Image.Image:
    """Without transparency: paper is white, and what no one sees may have any colour."""
    if "A" not in picture.mode and "a" not in picture.mode and "transparency" not in picture.info:
        return picture
    front = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", front.size, "white"), front)
