"""Changes of pictures: what each does, that it is exact, and that it depends on nothing else."""

import numpy as np

from quickstudy.data.pictureaugment import PictureChanges
from quickstudy.keys import Key, uniform

NONE = {"least": 1.0, "stretch": 1.0, "flip": False, "brightness": 0.0, "contrast": 0.0, "colour": 0.0}


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(40, 200, shape).astype(np.uint8)


def test_nothing_changes_nothing() -> None:
    for shape in ((2, 5, 3, 20, 20), (2, 5, 17, 17), (1, 3, 3, 12, 30)):
        x = pictures(*shape)
        found = PictureChanges(**NONE).apply(x, Key.of(0), np.arange(shape[0]))  # type: ignore[arg-type]
        assert np.array_equal(found, x) and found is not x


def test_half_are_mirrored() -> None:
    x = pictures(1, 200, 3, 12, 12)
    found = PictureChanges(**{**NONE, "flip": True}).apply(x, Key.of(0), np.array([7]))  # type: ignore[arg-type]
    mirrored = [np.array_equal(a, b[..., ::-1]) for a, b in zip(found[0], x[0], strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(found[0], x[0], strict=True)]
    assert 70 < sum(mirrored) < 130 and sum(mirrored) + sum(same) == 200


def test_a_part_is_cut_out() -> None:
    """Of a ramp a part, still a ramp, at many places and of many sizes."""
    ramp = np.broadcast_to(np.arange(0, 250, 5, dtype=np.uint8), (1, 100, 50, 50))
    found = PictureChanges(**{**NONE, "least": 0.25}).apply(ramp, Key.of(0), np.array([1]))[0]  # type: ignore[arg-type]
    rows = found.astype(int)
    assert (np.diff(rows, axis=2) >= 0).all() and (rows == rows[:, :1]).all()
    span = (rows[:, 0, -1] - rows[:, 0, 0]) / 245
    assert 0.49 < span.min() < 0.6 and 0.9 < span.max() <= 1
    assert rows[:, 0, 0].max() > 60 and rows[:, 0, 0].min() < 10


def test_light_and_colour() -> None:
    x = np.full((1, 300, 3, 16, 16), 100, dtype=np.uint8)
    x[:, :, 0] = 130
    bright = PictureChanges(**{**NONE, "brightness": 0.5}).apply(x, Key.of(0), np.array([1]))  # type: ignore[arg-type]
    gain = bright[0, :, 1, 0, 0] / 100
    assert 0.5 <= gain.min() < 0.56 and 1.44 < gain.max() <= 1.5
    pale = PictureChanges(**{**NONE, "colour": 0.9}).apply(x, Key.of(0), np.array([1]))[0, :, :, 0, 0]  # type: ignore[arg-type]
    away = pale[:, 0].astype(int) - pale[:, 1]
    assert away.min() < 6 and away.max() > 52 and (np.abs(pale.mean(1) - 110) <= 1).all()


def test_a_row_depends_on_itself_its_task_and_its_place_alone() -> None:
    changes, key, x = PictureChanges(), Key.of(3), pictures(3, 6, 3, 21, 21)
    together = changes.apply(x, key, np.array([4, 9, 2]))
    assert np.array_equal(changes.apply(x[1:2], key, np.array([9]))[0], together[1])
    assert np.array_equal(changes.apply(x[:, :4], key, np.array([4, 9, 2])), together[:, :4])
    other = x.copy()
    other[:, 1:] = 0
    assert np.array_equal(changes.apply(other, key, np.array([4, 9, 2]))[:, 0], together[:, 0])
    assert not np.array_equal(changes.apply(x, key, np.array([5, 9, 2]))[0], together[0])
    assert not np.array_equal(changes.apply(x, Key.of(4), np.array([4, 9, 2])), together)


def test_it_is_exact() -> None:
    """Whatever order a product sums in: the same numbers as in whole ones."""
    changes = PictureChanges(brightness=0, contrast=0, colour=0)
    x = pictures(1, 3, 16, 16)
    found = changes.apply(x, Key.of(0), np.array([5]))[0]

    drawn = uniform(Key.of(0).bits(np.array([5]), 24).reshape(3, 8))
    kept = changes._cut(x.reshape(3, 1, 16, 16), drawn)
    assert np.array_equal(kept * 4096, np.round(kept * 4096)), "parts of 64 times parts of 64"
    assert np.abs(kept[:, 0] - found.astype(int)).max() <= 0.5
