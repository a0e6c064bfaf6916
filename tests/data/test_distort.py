"""Distance fields, distortions and enlargement, each against another way to compute them."""

import hashlib
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.interpolate import BSpline
from scipy.ndimage import distance_transform_edt

from quickstudy.data.distort import FINE, FRAME, REACH, Distortion, _spline, enlarge, fields, pictures
from quickstudy.keys import Key

Array: TypeAlias = NDArray[Any]

SIDE = FINE * FRAME
STILL = Distortion(
    rotation=0, scale=(1, 1), aspect=0, shear=0, shift=0, stroke=(0, 0), edge=(1, 1), bend=0, pitch=(1.0,)
)
"""No distortion at all; each test replaces one range."""


def bar(width: float, height: float) -> Array:
    """Field ``[1, 84, 84]`` of a rectangle in the middle; width and height in pixels."""
    mask = np.zeros((1, SIDE, SIDE), dtype=bool)
    w, h = (round(FINE * length / 2) for length in (width, height))
    mask[0, SIDE // 2 - h : SIDE // 2 + h, SIDE // 2 - w : SIDE // 2 + w] = True
    return fields(mask)


def drawn(shape: Array, how: Distortion, n: int = 200, size: int = FRAME) -> Array:
    """Ink 0 .. 1 of n examples."""
    bits = Key.of(7, "test").bits(np.arange(n), how.words)
    ink: Array = pictures(shape, np.zeros(n, dtype=np.int64), bits, size, how) / 255
    return ink


def moments(ink: Array) -> tuple[Array, Array, Array]:
    """Centre (x, y) in pixels from the middle, and the angle of the long axis against upright, in radians."""
    axis = np.arange(ink.shape[1]) + 0.5 - ink.shape[1] / 2
    total = ink.sum((1, 2))
    x, y = (ink.sum(1) @ axis) / total, (ink.sum(2) @ axis) / total
    dx, dy = axis - x[:, None], axis - y[:, None]
    xx = (ink.sum(1) * dx**2).sum(1)
    yy = (ink.sum(2) * dy**2).sum(1)
    xy = np.einsum("nyx,ny,nx->n", ink, dy, dx)
    return x, y, 0.5 * np.arctan2(2 * xy, yy - xx)


def test_fields_are_euclidean_distances() -> None:
    masks = np.stack(
        [np.random.default_rng(k).random((20, 20)) < density for k, density in enumerate((0.02, 0.3, 0.98))]
    )
    found = fields(masks)
    for mask, field in zip(masks, found, strict=True):
        exact = np.where(mask, distance_transform_edt(mask) - 0.5, 0.5 - distance_transform_edt(~mask)) / FINE
        np.testing.assert_allclose(field, np.clip(exact, -REACH, REACH), atol=1e-6)


def test_undistorted_is_the_shape_itself() -> None:
    ink = drawn(bar(6, 18), STILL, n=2)
    expected = np.zeros((FRAME, FRAME))
    expected[5:23, 11:17] = 1
    np.testing.assert_allclose(ink, np.broadcast_to(expected, ink.shape), atol=0.01)


def test_size_only_refines_the_grid() -> None:
    small, large = (
        drawn(bar(6, 18), Distortion(pitch=(1.0,)), n=20),
        drawn(bar(6, 18), Distortion(pitch=(1.0,)), n=20, size=84),
    )
    np.testing.assert_allclose(large.reshape(20, 28, 3, 28, 3).mean((2, 4)), small, atol=0.35)
    assert np.abs(large.reshape(20, 28, 3, 28, 3).mean((2, 4)) - small).mean() < 0.01


def test_rotation_reaches_its_bound_and_no_more() -> None:
    ink = drawn(bar(4, 18), replace(STILL, rotation=0.4))
    _, _, angle = moments(ink)
    np.testing.assert_allclose(ink.sum((1, 2)), 72, rtol=0.03)
    assert 0.36 < angle.max() < 0.41 and -0.41 < angle.min() < -0.36


def test_shear_slants_without_tilting_the_rows() -> None:
    ink = drawn(bar(6, 18), replace(STILL, shear=0.5))
    axis = np.arange(FRAME) + 0.5
    centre = (ink[:, 7:21] @ axis) / ink[:, 7:21].sum(2)  # [n, rows]
    slope = np.polyfit(axis[7:21], centre.T, 1)[0]
    assert 0.45 < slope.max() < 0.51 and -0.51 < slope.min() < -0.45
    assert (ink[:, :4] < 0.01).all()  # no taller than before


def test_scale_and_aspect() -> None:
    area = drawn(bar(6, 10), replace(STILL, scale=(0.8, 1.3))).sum((1, 2)) / 60
    assert 0.62 < area.min() < 0.7 and 1.6 < area.max() < 1.71
    ink = drawn(bar(8, 8), replace(STILL, aspect=0.44))
    width = ink[:, 13:15].sum(2).mean(1)
    assert 8 * np.sqrt(0.56) - 0.2 < width.min() < 6.3 and 9.3 < width.max() < 8 * np.sqrt(1.44) + 0.2
    np.testing.assert_allclose(ink.sum((1, 2)), 64, rtol=0.06)  # stretched and squeezed by equal parts


def test_shift_reaches_its_bound_and_no_more() -> None:
    x, y, _ = moments(drawn(bar(6, 12), replace(STILL, shift=3)))
    for centre in (x, y):
        assert 2.8 < centre.max() < 3.05 and -3.05 < centre.min() < -2.8


def test_stroke_moves_every_edge() -> None:
    width = drawn(bar(6, 20), replace(STILL, stroke=(-1, 2)))[:, 14].sum(1)
    assert 4 <= round(width.min(), 1) < 4.2 and 9.8 < round(width.max(), 1) <= 10


def test_edge_blurs_without_moving_the_outline() -> None:
    ink = drawn(bar(8, 20), replace(STILL, edge=(1, 4)))
    np.testing.assert_allclose(ink[:, 14].sum(1), 8, atol=0.15)
    grey = ((ink[:, 14] > 0.02) & (ink[:, 14] < 0.98)).sum(1)
    assert grey.min() == 0 and grey.max() >= 6


def test_bend_displaces_smoothly() -> None:
    ink = drawn(bar(3, 20), replace(STILL, bend=3))
    axis = np.arange(FRAME) + 0.5
    centre = (ink[:, 6:22] @ axis) / ink[:, 6:22].sum(2)
    assert np.abs(centre - 14).max() > 1 and np.abs(centre - 14).max() < 3  # displaced, by no more than the knots
    assert np.abs(np.diff(centre, n=2, axis=1)).max() < 0.3  # and without a kink


def test_knots_pulled_alike_move_everything_alike() -> None:
    np.testing.assert_allclose(_spline(28).sum(0), 1, atol=1e-6)
    np.testing.assert_allclose(_spline(28), BSpline.basis_element([-3, -2, -1, 0, 1])(_span(28)), atol=1e-6)


def _span(cells: int) -> Array:
    """Where each of the four splines of the span 0 .. 1, moved to the one of knots -3 .. 1, is read."""
    return (np.arange(cells) + 0.5) / cells - np.arange(4)[:, None]


def test_coarse_cells_are_blocks_enlarged() -> None:
    fine, coarse = (
        drawn(bar(6, 14), replace(STILL, pitch=(1.0,)), n=1)[0],
        drawn(bar(6, 14), replace(STILL, pitch=(2.0,)), n=1)[0],
    )
    blocks = enlarge(fine.reshape(1, 14, 2, 14, 2).mean((2, 4)).astype(np.float32), FRAME)[0] / 255
    assert np.abs(coarse - blocks).mean() < 0.006 < np.abs(fine - blocks).mean()


def test_strength_scales_every_range() -> None:
    assert Distortion().times(0) == replace(STILL, pitch=(1.0, 1.0, 1.0))
    assert Distortion().times(1) == Distortion()
    assert Distortion(edge=(1, 2)).times(2).edge == (1, 3)
    assert Distortion(bend=2).times(0.5).bend == 1


def test_an_example_depends_on_its_own_words_alone() -> None:
    shapes, how = np.concatenate([bar(3, 18), bar(8, 8)]), Distortion()
    which, bits = np.arange(150) % 2, Key.of(1).bits(np.arange(150), how.words)
    together = pictures(shapes, which, bits, FRAME, how)
    for row in (0, 77, 149):
        np.testing.assert_array_equal(pictures(shapes, which[[row]], bits[[row]], FRAME, how)[0], together[row])
    assert len(np.unique(together.reshape(150, -1), axis=0)) == 150


def test_bytes_are_the_same_on_every_machine() -> None:
    # Computed once; also with NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR X86_V3", which leaves SSE 4.2.
    found = pictures(bar(3, 18), np.zeros(64, dtype=np.int64), Key.of(2).bits(np.arange(64), 41), FRAME, Distortion())
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == "8ffe7ee39fb7f1b3"


@pytest.mark.parametrize("size", [8, 13, 28])
def test_enlarge_is_bicubic_as_in_pillow(size: int) -> None:
    ink = np.zeros((3, 8, 8), dtype=np.float32)
    ink[:, 2:6, 2:6] = np.random.default_rng(0).random((3, 4, 4))
    for one, found in zip(ink, enlarge(ink, size), strict=True):
        pillow = np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(found / 255, np.clip(pillow, 0, 1), atol=0.51 / 255)


def test_enlarge_sees_the_middle() -> None:
    ink = np.zeros((1, 12, 12), dtype=np.float32)
    ink[0, 2:10, 2:10] = np.random.default_rng(0).random((8, 8))
    np.testing.assert_array_equal(enlarge(ink, 28, seen=11.2), enlarge(ink, 30)[:, 1:29, 1:29])
