"""Floor 1: the letters in the fonts that ship inside matplotlib, as shapes.

    fonts -> letters (Unicode says which) -> drawings, all fitted into one box -> classes of look-alikes

Which letters look alike decides what a class is, so it is decided exactly: thumbnails of small whole numbers,
whose products a float32 sums without rounding, in whatever order a matrix product takes them.
"""

from __future__ import annotations

import hashlib
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from quickstudy.data.distort import FINE, REACH
from quickstudy.errors import DataError

__all__ = ["FONTS", "Letter", "font_hashes", "fonts_folder", "letters"]

Grey: TypeAlias = NDArray[np.uint8]
Pairs: TypeAlias = NDArray[np.int64]

# The files of matplotlib 3.11.2, unchanged there for years; sha256. Not LastResort (boxes), cm* (code points
# that lie, old-style digits) and STIXNonUni (private code points).
FONTS = {
    "DejaVuSans.ttf": "3fdf69cabf06049ea70a00b5919340e2ce1e6d02b0cc3c4b44fb6801bd1e0d22",
    "DejaVuSerif.ttf": "107244956e9962b9e96faccdc551825e0ae0898ae13737133e1b921a2fd35ffa",
    "DejaVuSansMono.ttf": "602ec86b8948cfcd956482fe64f94c36c867770149ef2f791d4613f443bcecb3",
    "STIXGeneral.ttf": "167378031e2dddc6216d67819c9260e9a06ffc4c478e4e23cb98a6fd44b183c2",
}
BOX = 20
"""A letter's longer side in pixels of a picture of 28, as in MNIST."""

_EM = 128  # size at which fonts are drawn, pixels; more than BOX * FINE, so that most letters are shrunk
_SIDE = FINE * (BOX + 2 * REACH)
_THUMB, _THUMB_BOX = 28, 20
_SAME = 0.999  # cosine from which two letters are one class
_DIGIT_LIKE = 0.9  # correlation from which a letter could pass for a digit
# Letters of Zhuang that are digits in disguise: U+01A7, U+01A8 (2), U+01BC, U+01BD (5), U+0184, U+0185 (6).
_DIGIT_NAMES = ("TONE TWO", "TONE FIVE", "TONE SIX")
_ROWS = 512  # thumbnails compared with all others at once: 16 MB of products


@dataclass(frozen=True, eq=False)
class Letter:
    """A class: letters that look alike, such as Latin, Greek and Cyrillic A.

    Args:
        points: their code points, ascending.
        family: one number for a letter and its other styles, accents and forms (A, Á, bold A, Greek Ά), so that
            these can be kept on one side of a split.
        shapes: bool ``[k, 84, 84]``, the different drawings of them in the fonts, ``FINE`` points a pixel.
    """

    points: tuple[int, ...]
    family: int
    shapes: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Drawings:
    """n letters or digits of several fonts."""

    points: NDArray[np.int64]  # [n]
    shapes: NDArray[np.bool_]  # [n, 84, 84]
    fitted: NDArray[np.float32]  # [n, 784], thumbnails that keep the proportions
    stretched: NDArray[np.float32]  # [n, 784], thumbnails that fill the box


def fonts_folder() -> Path:
    """Where matplotlib keeps its fonts."""
    import matplotlib  # here, because it takes a quarter of a second that a cached data set need not wait for

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def font_hashes(folder: Path) -> tuple[str, ...]:
    """The sha256 of each font in ``FONTS``; warns of those that are not as pinned.

    Raises:
        DataError: a font is missing.
    """
    found = []
    for name, pinned in FONTS.items():
        try:
            found.append(hashlib.sha256((folder / name).read_bytes()).hexdigest())
        except OSError as error:
            raise DataError(
                f"Cannot draw letters: matplotlib's font {folder / name} cannot be read ({error.strerror or error}). "
                "Install matplotlib again."
            ) from error
        if found[-1] != pinned:
            warnings.warn(
                f"The font {name} of the installed matplotlib is not the one that glyphs is made of (its sha256 begins "
                f"with {found[-1][:8]} instead of {pinned[:8]}). Everything works, but the letters may differ, and so "
                "may every figure that depends on them.",
                stacklevel=2,
            )
    return tuple(found)


def letters(folder: Path) -> list[Letter]:
    """All classes of letters, by their smallest code point.

    Left out are letters with a numeric value and classes of which any drawing correlates by 0.9 or more with
    the drawing of a digit in any of the fonts.

    Args:
        folder: where the fonts are.
    """
    drawn, digits = _draw(folder, _is_letter), _draw(folder, "0123456789".__contains__)
    digit_like, alike = _like_digits(drawn, digits), _alike(drawn.fitted)
    classes = {}
    for rows in _classes(drawn.points, alike):
        classes[tuple(np.unique(drawn.points[rows]).tolist())] = rows
    first = {point: points[0] for points in classes for point in points}
    return [
        Letter(points, _family(points[0], first), drawn.shapes[_different(rows, alike)])
        for points, rows in sorted(classes.items())
        if not digit_like[rows].any()
    ]


def _is_letter(character: str) -> bool:
    kind, name = unicodedata.category(character), unicodedata.name(character, "")
    is_digit = unicodedata.numeric(character, None) is not None or name.endswith(_DIGIT_NAMES)
    return kind.startswith("L") and kind != "Lm" and not is_digit


def _family(point: int, first: dict[int, int]) -> int:
    """The plain letter that Unicode decomposes ``point`` to, as the first of its look-alikes."""
    plain = ord(unicodedata.normalize("NFKD", chr(point))[0])
    return first.get(plain, plain)


def _draw(folder: Path, wanted: Callable[[str], bool]) -> _Drawings:
    """The wanted characters of every font, those without ink left out."""
    from matplotlib.ft2font import FT2Font

    points: list[int] = []
    bitmaps: list[Image.Image] = []
    page = Image.new("L", (4 * _EM, 3 * _EM))  # room for wide ligatures and stacked accents
    for name in FONTS:
        # Layout.BASIC: no shaping, which Pillow has only where the machine has libraqm.
        font = ImageFont.truetype(str(folder / name), _EM, layout_engine=ImageFont.Layout.BASIC)
        for point in sorted(filter(lambda point: wanted(chr(point)), FT2Font(str(folder / name)).get_charmap())):
            page.paste(0, (0, 0, *page.size))
            ImageDraw.Draw(page).text((_EM, _EM // 2), chr(point), fill=255, font=font)
            box = page.getbbox()
            if box is not None:
                points.append(point)
                bitmaps.append(page.crop(box))
    return _Drawings(
        np.array(points),
        np.stack([_fit(bitmap, BOX * FINE, _SIDE) >= 128 for bitmap in bitmaps]),
        _thumbnails([_fit(bitmap, _THUMB_BOX, _THUMB) for bitmap in bitmaps]),
        _thumbnails([_fit(bitmap, _THUMB_BOX, _THUMB, stretch=True) for bitmap in bitmaps]),
    )


def _fit(bitmap: Image.Image, box: int, side: int, stretch: bool = False) -> Grey:
    """The bitmap in the middle of ``[side, side]``, its longer side (stretched: both sides) ``box`` long."""
    longer = max(bitmap.size)
    rounded = (max(1, (2 * length * box + longer) // (2 * longer)) for length in bitmap.size)
    width, height = (box, box) if stretch else rounded
    left, top = (side - width) // 2, (side - height) // 2
    fitted = np.zeros((side, side), dtype=np.uint8)
    resized = bitmap.resize((width, height), Image.Resampling.BILINEAR)
    fitted[top : top + height, left : left + width] = np.asarray(resized)
    return fitted


def _thumbnails(pictures: Sequence[Grey]) -> NDArray[np.float32]:
    """Slightly blurred pictures as rows of whole numbers 0 .. 71: products of two rows stay below 2**24."""
    blurred = np.stack(pictures).astype(np.int32)
    for axis in (1, 2):  # every picture has an empty border, so that rolling round the edge adds nothing
        blurred = blurred + np.roll(blurred, 1, axis) + np.roll(blurred, -1, axis)
    return (blurred >> 5).astype(np.float32).reshape(len(blurred), -1)


def _like_digits(drawn: _Drawings, digits: _Drawings) -> NDArray[np.bool_]:
    """``[n]``: the drawing correlates with a digit's, in its own proportions or in the digit's."""
    found = np.zeros(len(drawn.points), dtype=np.bool_)
    for thumbs, others in ((drawn.fitted, digits.fitted), (drawn.stretched, digits.stretched)):
        count = thumbs.shape[1]
        covariance = count * (thumbs @ others.T).astype(np.float64) - np.outer(_sums(thumbs), _sums(others))
        spread, other = (count * _sums(t * t) - _sums(t) * _sums(t) for t in (thumbs, others))
        like = covariance * covariance >= _DIGIT_LIKE * _DIGIT_LIKE * np.outer(spread, other)
        found |= (like & (covariance > 0)).any(1)
    return found


def _sums(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = rows.sum(1, dtype=np.float64)
    return sums


def _alike(thumbs: NDArray[np.float32]) -> Pairs:
    """Pairs of rows, the smaller first, whose cosine is ``_SAME`` or more: ``[m, 2]``, sorted."""
    squares, found = _sums(thumbs * thumbs), []
    for start in range(0, len(thumbs), _ROWS):
        products = (thumbs[start : start + _ROWS] @ thumbs[start:].T).astype(np.float64)
        least = _SAME * _SAME * np.outer(squares[start : start + _ROWS], squares[start:])
        pairs = np.argwhere(products * products >= least) + start
        found.append(pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(found)


def _classes(points: NDArray[np.int64], alike: Pairs) -> list[NDArray[np.int64]]:
    """Rows of each class: those of one code point, and whatever looks alike, directly or through others."""
    values, node = np.unique(points, return_inverse=True)
    label = np.arange(len(values))
    one, other = node[alike[:, 0]], node[alike[:, 1]]
    while True:  # every class takes its smallest label, which spreads from pair to pair
        before = label.copy()
        np.minimum.at(label, one, before[other])
        np.minimum.at(label, other, before[one])
        if (label == before).all():
            break
    order = label[node].argsort(kind="stable")
    return np.split(order, np.flatnonzero(np.diff(label[node][order])) + 1)


def _different(rows: NDArray[np.int64], alike: Pairs) -> list[int]:
    """Those of ``rows``, ascending, that are not alike to one kept before."""
    kept: list[int] = []
    doubles: set[int] = set()
    for row in rows.tolist():
        if row not in doubles:
            kept.append(row)
            first, last = np.searchsorted(alike[:, 0], [row, row + 1])
            doubles.update(alike[first:last, 1].tolist())
    return kept
