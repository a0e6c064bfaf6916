"""Compositions of episodes: bounds, moments, and bit for bit those of the official procedure for the same seed."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy.data.metadataset.sampling import Composition, NumpyDraws, Pool, Rules, Sampler, pool_of
from quickstudy.data.metadataset.specs import COUNTS, LISTS, Group, published
from quickstudy.errors import InputError
from quickstudy.keys import Key
from tests.conftest import needed
from tests.data.metadataset import oracle

SPLITS = [
    (name, split)
    for name, counts in COUNTS.items()
    for split, count in zip(("train", "validation", "test"), counts, strict=True)
    if count
]
KEY = Key.of(0, "test")


@pytest.fixture(scope="session")
def lists(data_root: Path) -> Path:
    needed(data_root / LISTS)
    return data_root


def drawn(sampler: Sampler, count: int) -> list[Composition]:
    return [sampler.number(KEY, index) for index in range(count)]


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_those_of_the_official_procedure(lists: Path, name: str, split: str) -> None:
    path = lists / LISTS / "dataset_specs" / f"{name}_dataset_spec.json"
    sampler = Sampler(pool_of(published(name, lists), split))
    for seed in (0, 1234):
        draws = NumpyDraws(np.random.RandomState(seed))
        ours = [list(sampler.compose(draws).triples()) for _ in range(60)]
        assert ours == oracle.episodes(path, split, seed, 60)


def test_the_first_episodes_of_a_seed(lists: Path) -> None:
    """So that both cannot drift together: what NumPy's frozen generator gives for seed 0."""
    draws = NumpyDraws(np.random.RandomState(0))
    sampler = Sampler(pool_of(published("dtd", lists), "test"))
    assert sampler.compose(draws).triples() == FIRST


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_bounds(lists: Path, name: str, split: str) -> None:
    pool = pool_of(published(name, lists), split)
    sampler = Sampler(pool)
    for one in drawn(sampler, 150):
        check(sampler, one)
        if pool.groups:
            assert any(set(one.classes) <= set(range(g.first, g.first + g.size)) for g in pool.groups)
        if pool.spans:
            assert any(set(one.classes.tolist()) <= set(span) for span in pool.spans if len(span) <= 392)


def check(sampler: Sampler, one: Composition) -> None:
    pool, rules = sampler.pool, sampler.rules
    sizes = pool.sizes[one.classes]
    assert len(set(one.classes.tolist())) == len(one.classes)
    assert 0 <= one.classes.min() and one.classes.max() < len(pool.sizes)
    assert rules.ways[0] <= len(one.classes) <= sampler.most <= rules.ways[1]
    assert one.shots.min() >= 1 and (one.shots + one.query <= sizes).all()
    assert one.query == min(rules.query, int((sizes // 2).min()))
    left = sizes - one.query
    assert one.shots.sum() <= min(rules.support, np.minimum(rules.contribution, left).sum())


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(2, 400), min_size=5, max_size=80),
    low=st.integers(2, 5),
    more=st.integers(0, 60),
    support=st.integers(65, 600),
    contribution=st.integers(1, 120),
    seed=st.integers(0, 2**31),
)
def test_bounds_of_any_pool(sizes: list[int], low: int, more: int, support: int, contribution: int, seed: int) -> None:
    rules = Rules(ways=(low, low + more), support=support, contribution=contribution)
    sampler = Sampler(Pool("a", np.array(sizes)), rules)
    for one in drawn(sampler, 5):
        check(sampler, one)
    check(sampler, sampler.compose(NumpyDraws(np.random.RandomState(seed))))


def test_an_episode_hangs_on_its_number_alone(lists: Path) -> None:
    sampler = Sampler(pool_of(published("fungi", lists), "train"))
    forth = [sampler.number(KEY, n).triples() for n in range(6)]
    assert forth == [sampler.number(KEY, n).triples() for n in reversed(range(6))][::-1]
    assert len(set(forth)) == 6
    assert sampler.number(Key.of(1, "test"), 0).triples() != forth[0]


def within(values: Any, expected: Any) -> None:
    """The mean is within four standard errors: fixed draws, so that it holds for good or not at all."""
    values = np.asarray(values, dtype=np.float64)
    assert abs(values.mean() - expected) < 4 * values.std(ddof=1) / math.sqrt(len(values)), (values.mean(), expected)


def test_moments_of_ways_and_classes() -> None:
    sampler = Sampler(Pool("a", np.full(100, 60)))
    found = drawn(sampler, 3000)
    ways = np.array([len(one.classes) for one in found])
    within(ways, 27.5)
    within((ways - 27.5) ** 2, (46**2 - 1) / 12)
    assert ways.min() == 5 and ways.max() == 50
    counts = np.bincount(np.concatenate([one.classes for one in found]), minlength=100)
    share = ways.sum() / 100
    assert (np.abs(counts - share) < 5 * math.sqrt(share)).all()
    within([one.classes[0] for one in found], 49.5)  # each label is any class


def test_moments_of_shots() -> None:
    """Without caps the support has way x ceil(100 beta) examples, and rounding down loses less than one a class."""
    sampler = Sampler(Pool("a", np.full(60, 1000)), Rules(support=10**6))
    found = drawn(sampler, 3000)
    each = np.array([one.shots.sum() / len(one.classes) for one in found])
    mean, error = each.mean(), each.std() / math.sqrt(len(each))
    assert 50.5 - 1 - 4 * error < mean < 50.5 + 4 * error
    # The ratio of two weights is exp of a difference of two uniforms: its logarithm has variance 2 (log 4)^2 / 12.
    large = [one for one in found if one.shots.sum() > 60 * len(one.classes)]
    ratios = np.array([math.log(one.shots[0] / one.shots[1]) for one in large])
    within(ratios, 0.0)
    spread = 2 * math.log(4) ** 2 / 12
    assert abs((ratios**2).mean() - spread) < 4 * (ratios**2).std() / math.sqrt(len(ratios)) + 0.01


def test_moments_of_a_bilevel_data_set(lists: Path) -> None:
    """First an alphabet, whatever its size, then the way."""
    pool = pool_of(published("omniglot", lists), "test")
    found = drawn(Sampler(pool), 2500)
    assert len(pool.groups) == 20
    ends = np.array([group.first + group.size for group in pool.groups])
    which = np.array([np.searchsorted(ends, one.classes[0], side="right") for one in found])
    counts = np.bincount(which, minlength=20)
    assert (np.abs(counts - 125) < 5 * math.sqrt(125)).all()
    within([len(one.classes) for one in found], np.mean([(5 + group.size) / 2 for group in pool.groups]))


def test_moments_of_a_graph(lists: Path) -> None:
    pool = pool_of(published("ilsvrc_2012", lists), "train")
    eligible = [span for span in pool.spans if 5 <= len(span) <= 392]
    assert len(eligible) == 113
    found = drawn(Sampler(pool), 2000)
    within([len(one.classes) for one in found], np.mean([min(50, len(span)) for span in eligible]))
    assert {n for span in eligible for n in span} == set(range(712))  # each class can be reached


def test_fixed_sizes() -> None:
    pool = Pool("a", np.full(30, 20))
    one = Sampler(pool, Rules(ways=(5, 5), shots=1, queries=15)).number(KEY, 3)
    assert len(one.classes) == 5 and one.shots.tolist() == [1] * 5 and one.query == 15
    assert Sampler(pool, Rules(shots=12)).number(KEY, 3).query == 8
    assert Sampler(pool, Rules(queries=12)).number(KEY, 3).query == 12


def test_small_classes_can_be_left_out() -> None:
    sizes = np.array([3] * 10 + [30] * 10)
    sampler = Sampler(Pool("a", sizes, spans=((*range(12),), (*range(4, 20),))), Rules(least=10))
    found = drawn(sampler, 30)
    assert all(one.classes.min() >= 10 for one in found)
    assert {len(one.classes) for one in found} == {10}  # the first node has two classes left


def test_a_share_of_episodes_may_ignore_the_groups() -> None:
    pool = Pool("a", np.full(40, 20), tuple(Group(str(n), 5 * n, 5) for n in range(8)))
    ways = [len(one.classes) for one in drawn(Sampler(pool, Rules(ignored=0.5)), 400)]
    within([way == 5 for way in ways], 0.5 + 0.5 / 36)
    assert {len(one.classes) for one in drawn(Sampler(pool, Rules(hierarchy=False, ways=(7, 7))), 5)} == {7}


@pytest.mark.parametrize(
    ("pool", "rules", "sentence"),
    [
        ({"sizes": [20] * 4}, {}, "at least 5 classes from a: it has only 4. Use fewer, or another data set"),
        ({"sizes": [20] * 4 + [2]}, {"least": 5}, "it has only 4 with 5 examples or more"),
        ({"sizes": [20] * 5 + [1]}, {}, "2 different examples of a class from a: its class number 5 has only 1"),
        ({"sizes": [20] * 5}, {"shots": 6, "queries": 15}, "21 different examples .* class number 0 has only 20"),
        ({"sizes": [20] * 9, "groups": (Group("A", 0, 5), Group("B", 5, 4))}, {}, "its group B has only 4"),
        (
            {"sizes": [20] * 9, "groups": (Group("A", 0, 9),)},
            {"ways": (5, 5)},
            "5-way episodes from a along its hierarchy",
        ),
        ({"sizes": [20] * 9, "groups": (Group("A", 0, 9),)}, {"least": 3}, "its groups are drawn whole"),
        ({"sizes": [20] * 9, "spans": ((0, 1, 2),)}, {}, "no node of its graph has 5 to 392 of them"),
    ],
)
def test_what_cannot_be_drawn(pool: dict[str, Any], rules: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Sampler(Pool("a", **(pool | {"sizes": np.array(pool["sizes"])})), Rules(**rules))


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ({"ways": (1, 5)}, "episodes of 1 to 5 classes: expected at least 2"),
        ({"ways": (9, 5)}, "episodes of 9 to 5 classes"),
        ({"support": 30}, "up to 50 classes with 30 support examples: each class needs one"),
        ({"query": 0}, "without support or query examples"),
        ({"ignored": 1.5}, "groups in 1.5 of the episodes: expected a share from 0 to 1"),
    ],
)
def test_rules_that_make_no_sense(rules: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Rules(**rules)


def test_a_split_without_classes(lists: Path) -> None:
    with pytest.raises(
        InputError, match=r"from traffic_sign/train: it has no class there\. traffic_sign is for test alone"
    ):
        pool_of(published("traffic_sign", lists), "train")


FIRST = ((6, 43, 10), (2, 80, 10), (1, 89, 10), (4, 40, 10), (3, 70, 10))
