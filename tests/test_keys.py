"""Randomness: known answers, purity, uniformity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy import native
from quickstudy.keys import Bits, Key, Keys, choose, integers, philox4x32, shuffle, uniform

WORDS = [
    # The known-answer tests of the authors' Random123 (kat_vectors, philox4x32-10).
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), WORDS)
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]) -> None:
    c0, c1, c2, c3 = (np.array([c], dtype=np.uint64) for c in counter)
    assert tuple(int(word[0]) for word in philox4x32((c0, c1, c2, c3), key)) == expected


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**40), st.integers(1, 40), st.integers(0, 5))
def test_bits_are_a_function_of_their_coordinates(task: int, n: int, stream: int) -> None:
    """Alone or in a batch, a short or a long request: the same words."""
    key = Key.of(3, "x")
    alone = key.bits(np.array([task]), n, stream)
    batch = key.bits(np.array([task + 1, task, 0]), n + 7, stream)
    assert alone.shape == (1, n) and (alone[0] == batch[1, :n]).all()


def test_streams_tasks_and_keys_differ() -> None:
    tasks = np.arange(100)
    key = Key.of(0)
    drawn = [key.bits(tasks, 4), key.bits(tasks, 4, 1), Key.of(1).bits(tasks, 4), key.fold("a").bits(tasks, 4)]
    words = np.concatenate([part.ravel() for part in drawn])
    assert len(np.unique(words)) == len(words)


def test_folding_tells_types_and_boundaries_apart() -> None:
    parts: list[tuple[int | str, ...]] = [(1,), ("1",), ("ab", "c"), ("a", "bc"), (1, 2), (12,), ()]
    keys = {Key.of(*some).value for some in parts}
    assert len(keys) == 7 and Key.of(1).fold(2) != Key.of(1, 2) and Key.of(1, 2) == Key.of(1, 2)


def chi_square(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> float:
    expected = counts.sum() / counts.size
    return float(((counts - expected) ** 2 / expected).sum())


def test_integers_and_uniform_are_uniform() -> None:
    bits = Key.of(0).bits(np.arange(1000), 70)
    assert chi_square(np.bincount(integers(bits, 7).ravel(), minlength=7)) < 22.5  # 6 degrees, p = 0.001
    values = uniform(bits)
    assert 0 <= values.min() and values.max() < 1 and abs(values.mean() - 0.5) < 0.005
    assert integers(np.array([2**64 - 1], dtype=np.uint64), 2**32)[0] == 2**32 - 1


@pytest.mark.parametrize("draw", ["choose", "shuffle"])
def test_every_ordered_choice_is_equally_likely(draw: str) -> None:
    bits = Key.of(1).bits(np.arange(48_000), 6)
    drawn = choose(bits, 4, 3) if draw == "choose" else shuffle(bits[:, :4], np.full(48_000, 4))[:, :3]
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 24 and chi_square(counts) < 49.7  # 23 degrees, p = 0.001


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 30)).map(lambda p: (p[0], min(p))), min_size=1, max_size=6)
)
def test_ragged_rows_do_not_depend_on_each_other(sizes: list[tuple[int, int]]) -> None:
    n, k = (np.array(column) for column in zip(*sizes, strict=True))
    bits: Bits = Key.of(2).bits(np.arange(len(sizes)), 60)
    drawn = choose(bits, n, k)
    for row, (size, take) in enumerate(sizes):
        mine = drawn[row, :take]
        assert len(set(mine.tolist())) == take and (mine < size).all() and (mine >= 0).all()
        assert (drawn[row, take:] == -1).all()
        assert (choose(bits[row : row + 1], size, take)[0] == mine).all()


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Cannot choose 3 distinct of 2"):
        choose(Key.of(0).bits(np.arange(1), 6), 2, 3)


def test_keys_of_tasks() -> None:
    keys = Keys(Key.of(0), np.array([4, 9]))
    assert len(keys) == 2 and len(Keys.default(3)) == 3
    assert (keys.bits(5)[1] == keys.key.bits(np.array([9]), 5)[0]).all()
    assert keys.each()[1] == Keys(Key.of(0), np.array([9])).each()[0] != keys.each()[0]
    assert (keys.fold("x").bits(2) != keys.bits(2)).all()


# --- in C as in NumPy --------------------------------------------------------------------------------


def alike(draw: Callable[[], np.ndarray[tuple[int, ...], np.dtype[Any]]]) -> None:
    """NumPy's answer, and the same one in C (which ``"c"`` insists on)."""
    with native.kernels("torch"):
        expected = draw()
    with native.kernels("c"):
        found = draw()
    assert found.dtype == expected.dtype and found.shape == expected.shape and (found == expected).all()


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**64 - 1),
    st.lists(st.integers(0, 2**63 - 1), max_size=5),
    st.integers(0, 100),
    st.integers(0, 2**32 - 1),
)
def test_words_in_c(key: int, tasks: list[int], n: int, stream: int) -> None:
    alike(lambda: Key(key).bits(np.array(tasks, dtype=np.int64), n, stream))
    alike(lambda: Key(key).bits(np.array([*tasks, 1], dtype=np.int64)[::2], n, stream))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 140), st.lists(st.integers(0, 140), min_size=1, max_size=5), st.integers(0, 4), st.booleans())
def test_orders_in_c(width: int, sizes: list[int], differing: int, largest: bool) -> None:
    """Also of words that are equal, or all ones, as those of the absent are; and of too many for C."""
    words = Key.of(5).bits(np.arange(len(sizes)), width)
    if differing:
        words = words % np.uint64(differing)
    if largest:
        words = ~words
    n = np.minimum(sizes, width)
    alike(lambda: shuffle(words, n))
    wider = np.repeat(words, 2, axis=1)
    alike(lambda: shuffle(wider[:, ::2], n))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 2**32), st.integers(0, 140)).map(lambda p: (p[0], min(p))), min_size=1),
    st.integers(0, 40),
)
def test_choices_in_c(sizes: list[tuple[int, int]], close: int) -> None:
    n, k = (np.array(column) for column in zip(*sizes, strict=True))
    n = np.where(close > 0, np.minimum(n, k + close), n)  # few to choose from: numbers that are taken already
    bits = Key.of(2).bits(np.arange(len(sizes)), 281)
    alike(lambda: choose(bits, n, k))
    alike(lambda: choose(bits[:, 1:], int(n.min()), int(k.min())))


def test_too_few_words_are_not_read_beyond() -> None:
    alike(lambda: choose(Key.of(0).bits(np.arange(2), 5), 9, 3))


@pytest.mark.parametrize("which", native.KERNELS)
def test_no_fewer_than_none_and_no_more_than_all(which: native.Kernels) -> None:
    with native.kernels(which):
        drawn = shuffle(Key.of(0).bits(np.arange(3), 4), np.array([-2, 4, 9]))
    assert drawn[0].tolist() == [0, 1, 2, 3] and (np.sort(drawn, 1) == np.arange(4)).all()
