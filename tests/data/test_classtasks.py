"""Tasks from classes, checked on pictures that tell which class, example and turn they are."""

import hashlib
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare

from quickstudy import native
from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.store import ArrayStore
from quickstudy.episode import Classes, Examples, first_leaf
from quickstudy.errors import InputError, UnknownName

SIZES = [5 + number % 8 for number in range(40)]  # examples a class: 5 to 12
SPLIT = [number for number in range(40) if number % 3]  # 26 of them


def picture(number: int, example: int) -> NDArray[np.uint8]:
    """[[255, class], [example, 0]]: the corner that is 255 tells the turn, the next ones the rest."""
    return np.array([[255, number], [example, 0]], dtype=np.uint8)


STORE = ArrayStore.from_classes(
    {f"class {c}": np.stack([picture(c, k) for k in range(size)]) for c, size in enumerate(SIZES)}
)


def source(classes: Sequence[int] = SPLIT, seed: int = 0, **changes: Any) -> ClassTasks:
    options: dict[str, Any] = {"data": "toy", "split": "train", "way": 5, "shot": 2, "query": 3}
    return ClassTasks(STORE, classes, seed=seed, **(options | changes))


def read(x: torch.Tensor) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Class, example and quarter turns of pictures ``[..., 2, 2]``."""
    turns = np.stack([np.rot90(x.numpy(), -quarter, (-2, -1)) for quarter in range(4)])
    upright = (turns[..., 0, 0] == 255).argmax(0)
    turned = np.take_along_axis(turns, upright[None, ..., None, None], 0)[0]
    return turned[..., 0, 1], turned[..., 1, 0], upright


def same_task(one: Examples, other: Examples) -> bool:
    assert one.y is not None and other.y is not None
    return torch.equal(first_leaf(one.x), first_leaf(other.x)) and torch.equal(one.y, other.y)


CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "few of many": {"shot": 1, "query": 1},  # drawn one by one, where the others shuffle the class
    "one class": {"way": 1},
    "all classes": {"way": 26},
    "turned classes": {"rotations": "classes", "way": 30},
    "per class": {"rotations": "per-class"},
    "per task": {"rotations": "per-task"},
    "ragged way": {"way": (2, 7)},
    "ragged shot": {"shot": (1, 3), "query": 2},
    "ragged query": {"query": (1, 3)},
    "ragged": {"way": (2, 9), "shot": (1, 3), "query": [1, 2], "rotations": "classes"},
}
each_configuration = pytest.mark.parametrize("changes", CONFIGURATIONS.values(), ids=CONFIGURATIONS)


@each_configuration
def test_a_task_depends_on_its_number_alone(changes: dict[str, Any]) -> None:
    tasks = source(**changes)
    together = tasks.episodes(range(12))
    orders = [np.random.default_rng(0).permutation(12), np.array([3]), np.array([11, 3, 3]), np.arange(12)[::-1]]
    for order in orders:
        some = tasks.episodes(order)
        assert some.index is not None and some.index.tolist() == list(order)
        for place, task in enumerate(order):
            assert same_task(some.support.task(place), together.support.task(int(task)))
            assert same_task(some.query.task(place), together.query.task(int(task)))
            assert some.classes is not None and together.classes is not None
            mine, theirs = some.classes[place], together.classes[int(task)]
            assert mine[mine >= 0].tolist() == theirs[theirs >= 0].tolist()


@each_configuration
def test_what_a_task_is_made_of(changes: dict[str, Any]) -> None:
    """Labels match pictures, support and query share no example, classes are those of the split."""
    episode = source(**changes).episodes(range(30))
    episode.support.check("support")
    episode.query.check("query")
    assert episode.classes is not None
    for t in range(30):
        support, query = episode.support.task(t), episode.query.task(t)
        assert isinstance(support.target, Classes) and isinstance(query.target, Classes)
        way = int(support.target.way[0])
        assert query.target.way[0] == way
        classes = episode.classes[t, :way].numpy()
        assert (episode.classes[t, way:] == -1).all()
        assert len(set(classes)) == way
        turned = changes.get("rotations") == "classes"
        assert set(classes // 4 if turned else classes) <= set(SPLIT)
        seen: set[tuple[int, int]] = set()
        for part in (support, query):
            assert part.y is not None
            y = part.y[0].numpy()
            assert (np.diff(y) >= 0).all() and set(y) == set(range(way)), (
                "rows stand class by class, each class is there"
            )
            number, example, turn = read(first_leaf(part.x)[0])
            assert np.array_equal(4 * number + turn if turned else number, classes[y])
            rows = set(zip(y.tolist(), example.tolist(), strict=True))
            assert len(rows) == len(y), "no example twice"
            assert not rows & seen, "no example on both sides"
            seen |= rows


@given(
    way=st.tuples(st.integers(1, 9), st.integers(0, 5)),
    shot=st.tuples(st.integers(1, 3), st.integers(0, 1)),
    query=st.integers(1, 1),
    seed=st.integers(0, 2**40),
    first=st.integers(0, 2**45),
)
@settings(max_examples=60, deadline=None)
def test_ragged_sizes(way: tuple[int, int], shot: tuple[int, int], query: int, seed: int, first: int) -> None:
    ways, shots = (way[0], way[0] + way[1]), (shot[0], shot[0] + shot[1])
    episode = source(seed=seed, way=ways, shot=shots, query=query).episodes(range(first, first + 5))
    assert isinstance(episode.support.target, Classes)
    counts = []
    for t, n in enumerate(episode.support.target.way.tolist()):
        assert ways[0] <= n <= ways[1]
        support, queries = episode.support.task(t), episode.query.task(t)
        assert support.y is not None and queries.y is not None
        count = support.y[0].bincount(minlength=n)
        assert len(count) == n and count.min() >= shots[0] and count.max() <= shots[1]
        assert queries.y[0].bincount(minlength=n).tolist() == [query] * n
        counts.append(len(support.y[0]))
    assert episode.support.n_example == max(counts), "padded to the longest and no further"
    assert (episode.support.mask is None) == (len(set(counts)) == 1)
    assert not first_leaf(episode.support.x)[~episode.support.real].any()


@each_configuration
def test_shape_and_dtypes(changes: dict[str, Any]) -> None:
    tasks = source(**changes)
    episode = tasks.episodes(range(50))
    for part in (episode.support, episode.query):
        x = first_leaf(part.x)
        assert x.dtype == torch.uint8 and x.shape[2:] == (2, 2) and x.is_contiguous()
        assert part.y is not None and part.y.dtype == torch.int64
    assert tasks.shape.example == (1, 2, 2)
    assert tasks.shape.outputs == max(np.atleast_1d(changes.get("way", 5)))
    assert episode.classes is not None and tasks.shape.classes is not None
    assert episode.classes.dtype == torch.int64 and episode.classes.max() < tasks.shape.classes


def test_colour_pictures() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4), dtype=np.uint8)
    store = ArrayStore.from_classes({"a": images[:10], "b": images[10:]})
    tasks = ClassTasks(store, [0, 1], data="toy", split="train", way=2, shot=3, query=4, seed=0, rotations="per-task")
    assert first_leaf(tasks.episodes(range(7)).support.x).shape == (7, 6, 3, 4, 4)
    assert tasks.shape.example == (3, 4, 4)


# --- chances: fixed seeds, and a threshold that a right sampler misses once in 100,000 times --------


def is_uniform(values: NDArray[Any], n: int) -> bool:
    counts = np.bincount(values.reshape(-1), minlength=n)
    return len(counts) == n and bool(chisquare(counts).pvalue > 1e-5)


def test_classes_are_uniform() -> None:
    classes = source().episodes(range(5000)).classes
    assert classes is not None
    place = {number: at for at, number in enumerate(SPLIT)}
    drawn = np.vectorize(place.__getitem__)(classes.numpy())
    for label in range(5):
        assert is_uniform(drawn[:, label], 26)
    pairs = drawn[:, 1] - (drawn[:, 1] > drawn[:, 0])
    assert is_uniform(drawn[:, 0] * 25 + pairs, 26 * 25), "so is which class stands beside which"


@pytest.mark.parametrize(("shot", "query"), [(2, 3), (1, 1)], ids=["shuffled", "drawn one by one"])
def test_examples_are_uniform(shot: int, query: int) -> None:
    episode = source(shot=shot, query=query).episodes(range(30000))
    number, support, _ = read(first_leaf(episode.support.x)[:, :shot])  # those of label 0
    _, queries, _ = read(first_leaf(episode.query.x)[:, :query])
    for size in range(5, 13):
        those = np.array(SIZES)[number[:, 0]] == size
        drawn = np.concatenate([support, queries], 1)[those]
        for place in range(shot + query):
            assert is_uniform(drawn[:, place], size)
        pairs = drawn[:, -1] - (drawn[:, -1] > drawn[:, 0])
        assert is_uniform(drawn[:, 0].astype(int) * (size - 1) + pairs, size * (size - 1)), "pairs too"


def test_sizes_are_uniform() -> None:
    episode = source(way=(3, 6), shot=(1, 3), query=(1, 2)).episodes(range(4000))
    assert isinstance(episode.support.target, Classes)
    way = episode.support.target.way.numpy()
    assert is_uniform(way - 3, 4)
    assert is_uniform(episode.query.real.sum(1).numpy() // way - 1, 2)
    assert episode.support.y is not None
    shots = [
        np.bincount(y[real])[:3]
        for y, real in zip(episode.support.y.numpy(), episode.support.real.numpy(), strict=True)
    ]
    table = np.array(shots) - 1
    assert is_uniform(table[:, 0] * 9 + table[:, 1] * 3 + table[:, 2], 27), "each class's shots apart"


def test_each_class_of_a_task_is_turned() -> None:
    episode = source(rotations="per-class", way=2, shot=1, query=3).episodes(range(4000))
    _, _, support = read(first_leaf(episode.support.x))
    _, _, query = read(first_leaf(episode.query.x))
    assert np.array_equal(query, support.repeat(3, 1)), "support and query of a class alike"
    assert is_uniform(support[:, 0] * 4 + support[:, 1], 16)


def test_all_classes_of_a_task_are_turned_alike() -> None:
    episode = source(rotations="per-task", way=2, shot=1, query=3).episodes(range(4000))
    _, _, support = read(first_leaf(episode.support.x))
    _, _, query = read(first_leaf(episode.query.x))
    assert (support == support[:, :1]).all() and (query == support[:, :1]).all()
    assert is_uniform(support[:, 0], 4)


def test_turned_classes_are_further_classes() -> None:
    classes = source(rotations="classes").episodes(range(5000)).classes
    assert classes is not None
    place = {4 * number + turn: 4 * at + turn for at, number in enumerate(SPLIT) for turn in range(4)}
    assert is_uniform(np.vectorize(place.__getitem__)(classes.numpy()), 4 * 26)
    assert any(len(set(row // 4)) < 5 for row in classes.numpy()), "two turns of one character can meet in a task"


def test_no_turns_without_being_asked() -> None:
    _, _, turn = read(first_leaf(source().episodes(range(50)).support.x))
    assert (turn == 0).all()


# --- sameness ----------------------------------------------------------------------------------------


def test_tasks_are_these_on_every_machine() -> None:
    """Recorded once; whoever changes it changes every meta-test set, and says so in the changelog."""
    digest = hashlib.sha256()
    for changes in CONFIGURATIONS.values():
        episode = source(**changes).episodes(np.array([0, 1, 2**33]))
        for part in (episode.support, episode.query):
            assert part.y is not None
            digest.update(first_leaf(part.x).numpy().tobytes() + part.y.numpy().astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "65004c0255a584fd"


def digest_of(tasks: ClassTasks) -> str:
    """Of everything that an episode of many tasks says."""
    episode = tasks.episodes(np.concatenate([np.arange(40), [2**33, 2**33 + 1, 7]]))
    digest = hashlib.sha256()
    for part in (episode.support, episode.query):
        assert isinstance(part.target, Classes)
        for tensor in (first_leaf(part.x), part.y, part.mask, part.target.way, episode.index, episode.classes):
            said = b"none" if tensor is None else repr((tensor.dtype, tuple(tensor.shape))).encode()
            digest.update(said + (b"" if tensor is None else tensor.numpy().tobytes()))
    return digest.hexdigest()[:16]


# Recorded before tasks were drawn in C, and without the shortcuts for sizes that are not random.
RECORDED = {
    "plain": "d18a7f3457a1347a",
    "few of many": "7c20206be66ace8e",
    "one class": "1c52a0eacc5e7c23",
    "all classes": "da6ce9ab4283c112",
    "turned classes": "80285849d8550438",
    "per class": "88bee158ecdbcffb",
    "per task": "203e79cd6c25f8fd",
    "ragged way": "7118964edd48ddc3",
    "ragged shot": "ec86754bae2c8dad",
    "ragged query": "0726802e57fb11ab",
    "ragged": "ceb7b81fb2f59de9",
    "dirichlet": "5d625212634f631d",
    "ragged dirichlet": "063fe9c3873862f7",
    "ragged per class": "421acdf9e7913838",
}


@pytest.mark.parametrize("which", native.KERNELS)
def test_episodes_are_these_whoever_draws_them(which: native.Kernels) -> None:
    dirichlet: dict[str, Any] = {"way": (2, 3), "shot": 1, "query": 1, "dirichlet": 0.5}
    every: dict[str, dict[str, Any]] = {
        **CONFIGURATIONS,
        "dirichlet": dirichlet | {"way": 3, "dirichlet": 2.0},
        "ragged dirichlet": dirichlet,
        "ragged per class": {"way": (2, 5), "shot": (1, 2), "rotations": "per-class"},
    }
    with native.kernels(which):
        assert {name: digest_of(source(**changes)) for name, changes in every.items()} == RECORDED


def test_other_seed_split_or_data_other_tasks() -> None:
    sources = [source(), source(seed=1), source(split="test"), source(data="other")]
    pictures = {first_leaf(tasks.episodes(range(3)).query.x).numpy().tobytes() for tasks in sources}
    assert len(pictures) == 4


def test_hash_is_of_content_and_not_of_settings() -> None:
    assert source(seed=1, way=3).hash == source().hash
    assert len({source().hash, source(SPLIT[:-1]).hash, source(rotations="classes").hash}) == 3
    changed = ArrayStore.from_classes({f"class {c}": STORE.of(c) ^ np.uint8(1) for c in range(40)})
    options: dict[str, Any] = {"data": "toy", "split": "train", "way": 5, "shot": 2, "query": 3, "seed": 0}
    assert ClassTasks(changed, SPLIT, **options).hash != source().hash


def test_settings() -> None:
    expected = {"data": "toy", "split": "train", "rotations": "none", "way": [2, 5], "shot": 2, "query": 3, "seed": 7}
    assert source(way=(2, 5), seed=7).settings == expected


def test_global_generators_are_left_alone() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    source(rotations="per-class").episodes(range(20))
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # type: ignore[index]


# --- what cannot be ----------------------------------------------------------------------------------


def test_way_larger_than_the_classes() -> None:
    with pytest.raises(
        InputError, match=r"Cannot draw 27-way tasks from toy/train: it has only 26 classes\. Use a way"
    ):
        source(way=27)
    with pytest.raises(InputError, match=r"Cannot draw 105-way tasks from toy/train: it has only 104 classes"):
        source(way=(5, 105), rotations="classes")


def test_shot_and_query_larger_than_a_class() -> None:
    sentence = (
        r"Cannot draw 3 support and 3 query examples a class from toy/train: the class 'class 8' has only 5 examples\. "
        r"Reduce shot or query so that together they are at most 5\."
    )
    with pytest.raises(InputError, match=sentence):
        source(shot=(1, 3), query=3)
    source([1, 2, 3, 5], way=2, shot=3, query=3)  # each of these has six or more


@pytest.mark.parametrize("count", [0, -1, 2.0, "5", True, None, (3, 2), (0, 2), (1, 2, 3), (), [1, 2.5]])
@pytest.mark.parametrize("name", ["way", "shot", "query"])
def test_numbers_that_make_no_sense(name: str, count: Any) -> None:
    with pytest.raises(
        InputError, match=rf"Cannot draw tasks with {name} = .*: expected a whole number from 1 on, or a"
    ):
        source(**{name: count})


def test_unknown_mode_of_rotation() -> None:
    with pytest.raises(UnknownName, match=r"no mode of rotation called 'per-clas'\. Did you mean 'per-class'\?"):
        source(rotations="per-clas")


@pytest.mark.parametrize("wrong", [range(0), [-1], [[0]]])
def test_task_numbers_that_make_no_sense(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"Task numbers: expected a non-empty list of numbers from 0 on"):
        source().episodes(wrong)
