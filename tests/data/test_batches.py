"""Plain labelled batches: every example once a pass, numbered as in episodes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy.data import batches
from quickstudy.data.batches import permuted
from quickstudy.data.sinusoid import Sinusoid
from quickstudy.episode import Classes, Examples, first_leaf
from quickstudy.errors import InputError
from quickstudy.keys import Key
from tests.data.test_classtasks import SIZES, SPLIT, STORE, read, source

N = sum(SIZES[number] for number in SPLIT)


def rows(batches: list[Examples]) -> list[tuple[int, int, int, int]]:
    """(label, class, example, quarter turns) of each row, in order."""
    found = []
    for batch in batches:
        assert batch.y is not None
        number, example, turn = read(first_leaf(batch.x)[0])
        found += list(zip(batch.y[0].tolist(), number.tolist(), example.tolist(), turn.tolist(), strict=True))
    return found


@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 2 * N), rotations=st.sampled_from(["none", "classes", "per-class", "per-task"]))
def test_every_example_once_a_pass(size: int, rotations: str) -> None:
    """Whatever the size of a batch, each run of n examples from a multiple of n on holds each example once."""
    n = N * (4 if rotations == "classes" else 1)
    batches = source(rotations=rotations).batches(size)
    seen = rows([batches.batch(step) for step in range(-(-2 * n // size))])
    for start in (0, n):
        if rotations in ("per-class", "per-task"):
            once = {(c, k) for _, c, k, _ in seen[start : start + n]}
            expected = {(c, k) for c in SPLIT for k in range(SIZES[c])}
            assert {turn for *_, turn in seen} == {0, 1, 2, 3}
            assert all(label == c for label, c, *_ in seen)
        else:
            turns = range(4) if rotations == "classes" else [0]
            once = {(c, k, turn) for _, c, k, turn in seen[start : start + n]}  # type: ignore[misc]
            expected = {(c, k, turn) for c in SPLIT for k in range(SIZES[c]) for turn in turns}  # type: ignore[misc]
            assert all(label == (4 * c + turn if rotations == "classes" else c) for label, c, _, turn in seen)
        assert once == expected
    assert seen[:n] != seen[n : 2 * n], "a pass is like the one before"


@pytest.mark.parametrize("rotations", ["none", "classes", "per-class"])
def test_class_numbers_are_those_of_episodes(rotations: str) -> None:
    """A picture that occurs in both has one number in both, by its bytes."""
    tasks = source(rotations=rotations)
    batches = tasks.batches(N)
    episode = tasks.episodes(range(60))
    assert episode.classes is not None
    numbers: dict[bytes, int] = {}
    for step in range(8):
        batch = batches.batch(step)
        assert batch.y is not None
        for picture, label in zip(first_leaf(batch.x)[0], batch.y[0].tolist(), strict=True):
            assert numbers.setdefault(picture.numpy().tobytes(), label) == label
    met = 0
    for part in (episode.support, episode.query):
        assert part.y is not None
        for t in range(60):
            for picture, label in zip(first_leaf(part.x)[t], part.y[t].tolist(), strict=True):
                known = numbers.get(picture.numpy().tobytes())
                met += known is not None
                assert known in (None, int(episode.classes[t, label]))
    assert met > 1000
    assert batches.shape.classes == tasks.shape.classes == batches.shape.outputs
    assert batches.shape.example == tasks.shape.example


def test_a_batch_depends_on_its_number_alone() -> None:
    batches = source(rotations="per-task").batches(70)
    together = {step: batches.batch(step) for step in range(12)}
    for step in (11, 3, 3, 0, 7):
        for again in (batches.batch(step), source(rotations="per-task").batches(70).batch(step)):
            assert torch.equal(first_leaf(again.x), first_leaf(together[step].x))
            assert again.y is not None and together[step].y is not None
            assert torch.equal(again.y, together[step].y)  # type: ignore[arg-type]
    other = source(seed=1).batches(70).batch(0)
    assert not torch.equal(first_leaf(other.x), first_leaf(source().batches(70).batch(0).x))


def test_what_a_batch_is() -> None:
    batches = source().batches(6)
    batch = batches.batch(0)
    assert first_leaf(batch.x).shape == (1, 6, 2, 2) and first_leaf(batch.x).dtype == torch.uint8
    assert isinstance(batch.target, Classes) and batch.target.way.tolist() == [len(STORE.classes)]
    assert batches.hash == source().hash
    assert batches.settings == {"data": "toy", "split": "train", "rotations": "none", "seed": 0, "batch": 6}
    batch.check()


def test_way_and_shot_play_no_part() -> None:
    one, other = source().batches(9).batch(2), source(way=2, shot=1, query=1).batches(9).batch(2)
    assert torch.equal(first_leaf(one.x), first_leaf(other.x))


def test_global_generators_are_left_alone() -> None:
    before = torch.random.get_rng_state(), str(np.random.get_state())
    source().batches(5).batch(0)
    assert torch.equal(before[0], torch.random.get_rng_state()) and before[1] == str(np.random.get_state())


def test_what_cannot_be_made() -> None:
    with pytest.raises(InputError, match=r"Cannot make batches of 0 examples: expected a whole number of at least 1"):
        source().batches(0)
    sines = Sinusoid().tasks("train", shot=5, seed=0)
    with pytest.raises(InputError, match=r"Cannot make plain labelled batches of these tasks \(FunctionTasks\): they"):
        sines.batches(5)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 3000), seed=st.integers(0, 99))
def test_an_order_that_nobody_writes_down(n: int, seed: int) -> None:
    order = permuted(Key.of(seed), np.arange(n), n)
    assert sorted(order.tolist()) == list(range(n))
    some = np.arange(n)[:: max(1, n // 7)]
    assert (permuted(Key.of(seed), some, n) == order[some]).all(), "of a place alone, too"


def test_that_order_is_random() -> None:
    """Each place goes anywhere: 200 orders of 50, by their counts; and neighbours do not stay together."""
    orders = np.stack([permuted(Key.of(seed), np.arange(50), 50) for seed in range(400)])
    counts = np.stack([np.bincount(orders[:, place], minlength=50) for place in range(50)])
    statistic = ((counts - 8) ** 2 / 8).sum() * 49 / 50
    assert abs(statistic - 49**2) < 5 * (2 * 49**2) ** 0.5
    long = permuted(Key.of(1), np.arange(100_000), 100_000)
    assert (
        abs(np.corrcoef(long[:-1], long[1:])[0, 1]) < 0.02 and abs(np.corrcoef(long, np.arange(100_000))[0, 1]) < 0.02
    )


@pytest.mark.parametrize("rotations", ["none", "classes", "per-class"])
def test_passes_over_more_examples_than_a_list_should_hold(rotations: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "LISTED", 10)
    n = N * (4 if rotations == "classes" else 1)
    drawn = source(rotations=rotations).batches(7)
    seen = rows([drawn.batch(step) for step in range(-(-2 * n // 7))])
    passes = [seen[:n], seen[n : 2 * n]]
    for found in passes:
        assert len({(c, k) if rotations == "per-class" else (c, k, turn) for _, c, k, turn in found}) == n
    assert passes[0] != passes[1] and not drawn._passes, "and no list is kept"
    assert rows([drawn.batch(3)]) == seen[21:28]
