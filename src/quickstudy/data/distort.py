"""Floor 1: shapes to pictures, each a little different: rotated, sheared, bent, bolder, blurred, coarser.

A shape is held as its *signed distance field*: how far each point lies inside (+) or outside (-) the ink. It
is smooth, so it can be read anywhere by linear interpolation, and both pen and lens become one formula:

    ink = ramp((distance + stroke) / edge)      stroke: pen width; edge: width of the grey border, the blur

Where the field is read says the rest: an affine map, plus a smooth random displacement (Simard, Steinkraus,
Platt, "Best practices for convolutional neural networks applied to visual document analysis", ICDAR 2003).

Lengths are in pixels of a picture of 28 x 28 (``FRAME``), whatever size is drawn. Only ``+ - * /``, square
roots and comparisons are used, one array operation at a time, and no sum whose order NumPy may choose: IEEE 754
fixes the result of each, so the bytes do not depend on machine, threads or chunking. That is why angles are
drawn through tan(angle / 2) and why there is no matrix product here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.keys import Bits, integers, uniform

__all__ = ["FINE", "FRAME", "REACH", "Distortion", "enlarge", "fields", "pictures"]

Bytes: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.float32]

FRAME = 28
"""Pixels along a picture, as all lengths here count them."""
FINE = 3
"""Points of a distance field along one pixel."""
REACH = 4
"""Distances are cut off at this many pixels; further away, only "far" matters."""
_KNOTS = 4  # of the displacement along each axis
_WORDS = 9 + 2 * _KNOTS * _KNOTS  # random words an example
_CHUNK = 64  # examples at once: a working set of about 1 MB, which stays in a core's cache


@dataclass(frozen=True)
class Distortion:
    """How far examples of one shape may differ; each quantity is drawn uniformly and independently.

    The defaults were chosen by a prototypical network's accuracy on validation letters in fonts that it was not
    trained on, bent in another way and scanned in 8 x 8 cells; never on digits. Milder ranges lost 1 to 4 points
    there; stronger ones and other cells did not differ from these by more than the noise.

    Args:
        rotation: largest angle, radians, either way.
        scale: smallest and largest size.
        aspect: 0.2 stretches one axis by up to 1.2 against the other, either way.
        shear: largest slant (horizontal shift per unit of height), either way.
        shift: largest translation along each axis, pixels.
        stroke: least and most by which each edge moves outwards, pixels.
        edge: least and most width of the grey border, pixels; 1 is sharp.
        bend: largest displacement of a knot, pixels.
        pitch: widths of a scanner's cells, pixels; each is as likely as the others. What is scanned in coarser
            cells than the picture's is enlarged by :func:`enlarge`.
    """

    rotation: float = 0.3
    scale: tuple[float, float] = (0.8, 1.1)
    aspect: float = 0.3
    shear: float = 0.3
    shift: float = 2.0
    stroke: tuple[float, float] = (-0.2, 1.2)
    edge: tuple[float, float] = (1.0, 3.5)
    bend: float = 2.0
    pitch: tuple[float, ...] = (1.0, 2.0, 2.5)

    @property
    def words(self) -> int:
        """Random 64-bit words that an example consumes."""
        return _WORDS

    def times(self, strength: float) -> Distortion:
        """All ranges narrowed (below 1) or widened (above 1) about no distortion, which is strength 0."""

        def about_one(low: float, high: float) -> tuple[float, float]:
            return 1 + strength * (low - 1), 1 + strength * (high - 1)

        return Distortion(
            rotation=strength * self.rotation,
            scale=about_one(*self.scale),
            aspect=strength * self.aspect,
            shear=strength * self.shear,
            shift=strength * self.shift,
            stroke=(strength * self.stroke[0], strength * self.stroke[1]),
            edge=about_one(*self.edge),
            bend=strength * self.bend,
            pitch=tuple(1 + strength * (width - 1) for width in self.pitch),
        )


def fields(masks: NDArray[np.bool_]) -> Floats:
    """Signed distance to the outline, in pixels of the finished picture, positive inside.

    Args:
        masks: ``[n, side, side]``, True where ink is, ``FINE`` points a pixel.

    Returns:
        float32 ``[n, side, side]``, within -REACH .. REACH.
    """
    inside, outside = _squared_distance(~masks), _squared_distance(masks)
    # A point's nearest neighbour of the other kind lies half a point beyond the outline.
    roots = (np.sqrt(np.arange((FINE * REACH + 1) ** 2 + 1)) - 0.5) / FINE
    roots = np.minimum(roots, REACH).astype(np.float32)
    signed: Floats = np.where(masks, roots[inside], -roots[outside])
    return signed


def _squared_distance(to: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Squared distance, in points, to the nearest True, cut off at (FINE * REACH + 1)**2."""
    reach, side = FINE * REACH, to.shape[1]
    far = (reach + 1) ** 2
    squares = np.where(to, 0, far).astype(np.int16)
    for axis in (1, 2):  # the minimum over a square is a minimum over columns of one over rows
        lines, squares = squares, squares.copy()
        source, target = np.moveaxis(lines, axis, 0), np.moveaxis(squares, axis, 0)
        for step in range(1, min(reach, side - 1) + 1):
            cost = np.int16(step * step)
            np.minimum(target[step:], source[:-step] + cost, out=target[step:])
            np.minimum(target[:-step], source[step:] + cost, out=target[:-step])
    return squares


def pictures(shapes: Floats, which: NDArray[np.int64], bits: Bits, size: int, how: Distortion) -> Bytes:
    """Draw distorted examples.

    Args:
        shapes: distance fields ``[n_shape, side, side]`` (see :func:`fields`), centred.
        which: ``[n]``, the shape of each example.
        bits: random words ``[n, how.words]``, all that an example depends on besides its shape.
        size: rows and columns of a picture.
        how: ranges of the distortions.

    Returns:
        uint8 ``[n, size, size]``, ink 255 on 0.
    """
    found = np.empty((len(which), size, size), dtype=np.uint8)
    pitch = integers(bits[:, 8], len(how.pitch))
    for number, width in enumerate(how.pitch):
        cells = min(size, round(FRAME / width))
        rows = np.flatnonzero(pitch == number)
        for start in range(0, len(rows), _CHUNK):
            some = rows[start : start + _CHUNK]
            ink = _draw(shapes, which[some], uniform(bits[some]).astype(np.float32), cells, how)
            found[some] = enlarge(ink, size)
    return found


def _between(low: float, high: float, u: Floats) -> Floats:
    """``u`` in 0 .. 1 taken to low .. high, with axes for rows and columns behind it."""
    value: Floats = np.float32(low) + np.float32(high - low) * u
    return value[:, None, None]


def _draw(shapes: Floats, which: NDArray[np.int64], u: Floats, cells: int, how: Distortion) -> Floats:
    """Ink 0 .. 1, ``[n, cells, cells]``, over the area of the whole picture."""
    half = how.rotation / 2
    tangent = _between(-half, half, u[:, 0])  # of half the angle, so that no sine is needed
    cos, sin = (1 - tangent * tangent) / (1 + tangent * tangent), 2 * tangent / (1 + tangent * tangent)
    zoom = _between(*how.scale, u[:, 1])
    stretch = 1 + _between(-how.aspect, how.aspect, u[:, 2])
    shear = _between(-how.shear, how.shear, u[:, 3])
    cell = np.float32(FRAME / cells)
    axis = (np.arange(cells, dtype=np.float32) + np.float32(0.5)) * cell - np.float32(FRAME / 2)
    bend_x, bend_y = (_displacement(u[:, 9 + k :: 2], how.bend, cells) for k in (0, 1))
    x = axis[None, None, :] + _between(-how.shift, how.shift, u[:, 4]) + bend_x
    y = axis[None, :, None] + _between(-how.shift, how.shift, u[:, 5]) + bend_y
    root = np.sqrt(np.maximum(stretch, np.float32(0.1)))  # stretched and squeezed by equal parts
    source_x, source_y = (cos * x + sin * y) / (zoom * root), (cos * y - sin * x) / zoom * root
    distance = _read(shapes, which, source_x + shear * source_y, source_y) * zoom
    # A cell averages over its own width, so a coarse grid cannot have an edge sharper than a cell.
    edge = np.maximum(_between(*how.edge, u[:, 7]), cell)
    ramp: Floats = np.clip((distance + _between(*how.stroke, u[:, 6])) / edge + np.float32(0.5), 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _displacement(u: Floats, bend: float, cells: int) -> Floats:
    """A smooth random function over the picture: a cubic B-spline through nothing, pulled by its knots.

    Args:
        u: ``[n, knots * knots]`` in 0 .. 1.
        bend: largest coefficient, pixels.
        cells: rows and columns to read it at.

    Returns:
        ``[n, cells, cells]``.
    """
    knots = _between(-bend, bend, u).reshape(len(u), _KNOTS, _KNOTS)
    weights = _spline(cells)
    along = np.zeros((len(u), _KNOTS, cells), dtype=np.float32)
    both = np.zeros((len(u), cells, cells), dtype=np.float32)
    for column in range(_KNOTS):
        along += knots[:, :, column, None] * weights[column]
    for row in range(_KNOTS):
        both += along[:, row, None, :] * weights[row][:, None]
    return both


def _spline(cells: int) -> Floats:
    """Weights ``[4, cells]`` of the four cubic B-splines of one span, read at the middles of ``cells`` cells."""
    t = (np.arange(cells) + 0.5) / cells
    s = 1 - t
    weights = np.stack(
        [s * s * s, 3 * t * t * t - 6 * t * t + 4, 3 * s * s * s - 6 * s * s + 4, t * t * t],
    )
    return (weights / 6).astype(np.float32)


def _read(shapes: Floats, which: NDArray[np.int64], x: Floats, y: Floats) -> Floats:
    """The fields at points (x, y), in pixels from the centre, linearly interpolated; "far" beyond the border."""
    side = shapes.shape[1]
    across = np.clip(x * FINE + np.float32((side - 1) / 2), 0, side - 1)
    down = np.clip(y * FINE + np.float32((side - 1) / 2), 0, side - 1)
    left, top = np.minimum(across.astype(np.int32), side - 2), np.minimum(down.astype(np.int32), side - 2)
    fx, fy = across - left, down - top
    flat, corner = shapes.reshape(-1), top * side + left + which[:, None, None] * (side * side)
    upper = flat[corner] + fx * (flat[corner + 1] - flat[corner])
    lower = flat[corner + side] + fx * (flat[corner + side + 1] - flat[corner + side])
    read: Floats = upper + fy * (lower - upper)
    return read


def enlarge(images: Floats, size: int, seen: float | None = None) -> Bytes:
    """Bicubic enlargement (Catmull-Rom, as ``BICUBIC`` in Pillow) of square pictures with an empty border.

    Args:
        images: ``[n, cells, cells]``, ink 0 .. 1.
        size: rows and columns wanted, at least ``cells``.
        seen: how many cells, counted about the centre, fill the picture; all by default.

    Returns:
        uint8 ``[n, size, size]``.
    """
    cells = images.shape[1]
    seen = cells if seen is None else seen
    at = (np.arange(size) + 0.5) * (seen / size) + (cells - seen) / 2 - 0.5
    first = np.floor(at).astype(np.int64) - 1
    t = (at - np.floor(at)).astype(np.float32)
    weights = (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    )
    for axis in (1, 2) if cells != size or seen != cells else ():
        taps = [
            images.take(np.clip(first + tap, 0, cells - 1), axis=axis) * (weight[:, None] if axis == 1 else weight)
            for tap, weight in enumerate(weights)
        ]
        images = taps[0] + taps[1] + taps[2] + taps[3]
    return (np.clip(images, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
