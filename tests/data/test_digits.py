"""scikit-learn's digits: the real thing, enlarged, for meta-testing only."""

import hashlib
import re

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from quickstudy.data.dataset import DataSet
from quickstudy.data.digits import Digits
from quickstudy.episode import first_leaf
from quickstudy.errors import DataError, InputError, UnknownName


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits()


def test_it_is_a_data_set(digits: Digits) -> None:
    assert isinstance(digits, DataSet)
    assert digits.splits == ("test",)
    assert digits.shape == digits.store.shape == (1, 28, 28)


def test_all_digits_are_there_under_their_labels(digits: Digits) -> None:
    raw = load_digits()
    assert digits.store.classes == tuple("0123456789")
    assert len(digits.store.images) == 1797
    # At size 56 a cell is 5 pixels wide, so that its middle is a pixel, and the bicubic curve passes through it.
    large = Digits(size=56).store
    for label in range(10):
        cells = raw.images[raw.target == label]
        np.testing.assert_array_equal(large.of(label)[:, 10:46:5, 10:46:5], np.floor(cells * 255 / 16 + 0.5))
        assert len(digits.store.of(label)) == len(cells)


def test_a_digit_stands_where_a_glyph_stands(digits: Digits) -> None:
    """The longer side of its box is 20 of 28 pixels, in the middle."""
    dark: NDArray[np.bool_] = digits.store.images >= 128
    tall = np.asarray(dark.any(2))
    first, last = tall.argmax(1), 27 - tall[:, ::-1].argmax(1)
    height = last - first + 1
    assert np.quantile(height, 0.01) >= 17 and np.quantile(height, 0.99) <= 20
    assert abs((first + last).mean() / 2 - 13.5) < 0.1
    assert digits.store.images[:, [0, 1, 26, 27]].max() < 8 and digits.store.images[:, :, [0, 1, 26, 27]].max() < 8


@pytest.mark.parametrize("size", [14, 20, 84])
def test_other_sizes_show_the_same(digits: Digits, size: int) -> None:
    found = Digits(size=size).store.images
    assert found.shape == (1797, size, size)
    ink = digits.store.images.mean((1, 2))
    np.testing.assert_allclose(found.mean((1, 2)), ink, rtol=0.1)


def test_the_bytes_are_pinned(digits: Digits) -> None:
    raw = load_digits().images.astype(np.uint8)
    assert hashlib.sha256(raw.tobytes()).hexdigest()[:16] == "8f26b2bd9d135c25", "scikit-learn ships other digits"
    assert digits.store.hash[:16] == "02566d2946da859f"


def test_tasks(digits: Digits) -> None:
    episode = digits.tasks("test", way=5, shot=1, query=15, seed=0).episodes(range(8))
    assert first_leaf(episode.support.x).shape == (8, 5, 28, 28)
    assert first_leaf(episode.query.x).shape == (8, 75, 28, 28)
    with pytest.raises(InputError, match=r"Cannot draw 11-way tasks from digits/test: it has only 10 classes\."):
        digits.tasks("test", way=11, shot=1, query=1, seed=0)


@pytest.mark.parametrize("role", ["train", "validation", "train+validation"])
def test_there_is_nothing_to_train_on(digits: Digits, role: str) -> None:
    sentence = f"digits has no '{role}' split: it is only for meta-testing. Use 'test', and another data set"
    with pytest.raises(DataError, match=re.escape(sentence)):
        digits.tasks(role, way=5, shot=1, query=1, seed=0)


def test_unknown_role_and_impossible_size(digits: Digits) -> None:
    with pytest.raises(UnknownName, match=r"no split of digits called 'tset'. Did you mean 'test'\?"):
        digits.tasks("tset", way=5, shot=1, query=1, seed=0)
    with pytest.raises(InputError, match="Cannot draw digits of size 13: use a size of at least 14 pixels"):
        Digits(size=13)
