"""Examples and Episode: what fits together, what is refused and in which words, and what they can become."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quickstudy.episode import Classes, Episode, EpisodeError, Examples, MultiLabel, Real, as_inputs, first_leaf
from tests.table import ragged, tasks


def examples(**changes: Any) -> Examples:
    fields: dict[str, Any] = {
        "x": torch.zeros(2, 3, 4),
        "y": torch.zeros(2, 3, dtype=torch.int64),
        "target": Classes(torch.tensor([2, 2])),
    }
    return Examples(**(fields | changes))


REFUSED = [
    ({"x": torch.zeros(3)}, r"Examples\.x: expected axes \[T, N, \.\.\.\], found shape \[3\]"),
    ({"x": {}}, r"Examples\.x: expected a tensor or a dict of tensors, found an empty dict"),
    (
        {"x": {"a": torch.zeros(2, 3), "b": torch.zeros(2, 4)}},
        r"Examples\.x\['b'\]: expected \[T, N\] = \[2, 3\] as in the first field, found shape \[2, 4\]",
    ),
    ({"y": torch.zeros(2, 3)}, r"Examples\.y: expected int64 \[2, 3\] \(class numbers\), found torch.float32 \[2, 3\]"),
    ({"y": torch.zeros(2, 4).long()}, r"Examples\.y: expected int64 \[2, 3\] .* found torch.int64 \[2, 4\]"),
    ({"target": Classes(torch.tensor([2]))}, r"Examples\.target\.way: expected int64 \[2\], found torch.int64 \[1\]"),
    ({"target": Real(1)}, r"Examples\.y: expected floating \[2, 3, 1\] \(real values\), found torch.int64 \[2, 3\]"),
    ({"target": MultiLabel(torch.tensor([2, 2]))}, r"Examples\.y: expected \[2, 3, max way\] \(0 or 1 a class\)"),
    ({"mask": torch.ones(2, 3)}, r"Examples\.mask: expected bool \[2, 3\], found torch.float32 \[2, 3\]"),
    ({"mask": torch.ones(2, 2).bool()}, r"Examples\.mask: expected bool \[2, 3\], found torch.bool \[2, 2\]"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EpisodeError, match=message):
        examples(**changes)


BAD_VALUES = [
    (
        {"y": torch.tensor([[0, 1, 0], [1, 2, 0]])},
        r"support\.y: expected class numbers 0 \.\. 1 \(or -1 for unlabelled\) in task 1, found 2 in row 1",
    ),
    (
        {"x": torch.zeros(2, 3, 4).index_fill(1, torch.tensor([2]), float("inf"))},
        r"support\.x: expected finite numbers, found NaN or infinity in task 0, row 2",
    ),
    (
        {"mask": torch.tensor([[True, True, True], [False, False, False]])},
        r"support: expected at least one example a task, found none in task 1",
    ),
    (
        {"y": torch.full((2, 3, 1), float("nan")), "target": Real(1)},
        r"support\.y: expected finite numbers, found NaN or infinity in task 0, row 0",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD_VALUES)
def test_bad_values_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EpisodeError, match=message):
        examples(**changes).check("support")


def test_values_of_padding_are_not_looked_at() -> None:
    ragged(float("nan")).check()


def test_support_and_query_must_agree() -> None:
    episode = tasks()
    with pytest.raises(EpisodeError, match=r"Episode\.query: expected 3 tasks as in the support, found 2"):
        Episode(episode.support, episode.query.tasks(slice(0, 2)))
    with pytest.raises(EpisodeError, match=r"Episode\.query\.target: expected Classes as in the support, found Real"):
        Episode(episode.support, tasks("real").query)
    with pytest.raises(EpisodeError, match=r"Episode\.classes: expected 3 tasks on the first axis"):
        replace(episode, classes=torch.zeros(2, 3).long())
    with pytest.raises(EpisodeError, match=r"tasks_at_once: expected a whole number of at least 1, found 0"):
        list(episode.chunks(0))


def test_a_custom_way_is_asked_of_classes_only() -> None:
    assert examples().max_way == 2
    with pytest.raises(EpisodeError, match=r"expected Classes or MultiLabel to ask for a way, found Real"):
        tasks("real").support.max_way  # noqa: B018


def test_unlabelled_rows_and_padding_are_told_apart() -> None:
    part = examples(y=torch.tensor([[0, -1, 1], [0, 1, 1]]), mask=torch.tensor([[True, True, False], [True] * 3]))
    assert part.labelled.tolist() == [[True, False, False], [True, True, True]]
    assert not part.unlabelled().labelled.any() and part.unlabelled().real.sum() == 5


@pytest.mark.parametrize("at_once", [None, 1, 2, 5])
def test_chunks_keep_tasks_and_their_order(at_once: int | None) -> None:
    episode = tasks()
    parts = list(episode.chunks(at_once))
    assert torch.cat([part.indices for part in parts]).tolist() == [0, 1, 2]
    assert torch.equal(torch.cat([first_leaf(p.query.x) for p in parts]), first_leaf(episode.query.x))
    assert all(part.n_task <= (at_once or 3) for part in parts)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=4), st.booleans())
def test_stacking_and_taking_apart_again(sizes: list[tuple[int, int]], as_dict: bool) -> None:
    """Ragged sets, stacked and padded, give back each set."""
    sets = []
    for number, (n, way) in enumerate(sizes):
        x = torch.full((1, n, 2), float(number))
        y = (torch.arange(n) % way)[None]
        sets.append(Examples({"a": x, "b": -x} if as_dict else x, y, Classes(torch.tensor([way]))))
    together = Examples.stack(sets)
    assert together.n_task == len(sizes) and together.real.sum(1).tolist() == [n for n, _ in sizes]
    for number, one in enumerate(sets):
        again = together.task(number)
        assert again.mask is None and isinstance(again.target, Classes) and isinstance(one.target, Classes)
        assert torch.equal(again.target.way, one.target.way)
        assert again.y is not None and one.y is not None and torch.equal(again.y, one.y)
        pairs = (
            zip(again.x.values(), one.x.values(), strict=True)
            if isinstance(again.x, dict) and isinstance(one.x, dict)
            else [(again.x, one.x)]
        )
        assert all(isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b) for a, b in pairs)


def test_stack_refuses_a_mixture() -> None:
    with pytest.raises(EpisodeError, match=r"Examples\.stack: expected sets with one kind of target"):
        Examples.stack([tasks().support, tasks("real").support])


def test_following_sets_bring_rows_masks_and_classes() -> None:
    first, second = ragged().support, tasks().support
    both = first.followed_by(second)
    assert both.n_example == 18 and both.mask is not None and both.mask.sum() == first.real.sum() + 27
    assert isinstance(both.target, Classes) and both.target.way.tolist() == [3, 3, 3]
    with pytest.raises(EpisodeError, match=r"Examples\.followed_by: expected two sets of the same kind"):
        first.followed_by(second.unlabelled())


def test_single_tasks_repeated_and_taken_apart() -> None:
    one = tasks().support.task(1)
    assert first_leaf(one.repeated(4).x).shape == (4, 9, 4)
    apart = one.apart()
    assert first_leaf(apart.x).shape == (9, 1, 4) and apart.y is not None and one.y is not None
    assert torch.equal(apart.y[:, 0], one.y[0]) and isinstance(apart.target, Classes)
    assert apart.target.way.tolist() == [3] * 9


def test_rows_of_each_task() -> None:
    part = ragged().support
    taken = part.take(torch.tensor([[0, 0], [4, 3], [8, 1]]))
    assert torch.equal(first_leaf(taken.x)[1], first_leaf(part.x)[1, [4, 3]])
    assert taken.mask is not None and taken.mask.all()


@pytest.mark.parametrize(
    ("leaf", "shape"),
    [
        (torch.full((1, 2, 5, 5), 255, dtype=torch.uint8), (1, 2, 1, 5, 5)),
        (torch.full((1, 2, 3, 5, 5), 255, dtype=torch.uint8), (1, 2, 3, 5, 5)),
    ],
)
def test_pictures_become_floats_with_channels(leaf: Tensor, shape: tuple[int, ...]) -> None:
    out = as_inputs(leaf, torch.float64)
    assert isinstance(out, Tensor) and out.shape == shape and out.dtype == torch.float64 and (out == 1).all()


def test_token_ids_stay_whole_numbers() -> None:
    out = as_inputs({"ids": torch.ones(1, 2, 3).long(), "x": torch.ones(1, 2).double()}, torch.float32)
    assert isinstance(out, dict) and out["ids"].dtype == torch.int64 and out["x"].dtype == torch.float32


def test_no_tasks_at_all() -> None:
    none = Examples(
        torch.zeros(0, 3, 4), torch.zeros(0, 3, dtype=torch.int64), Classes(torch.zeros(0, dtype=torch.int64))
    )
    with pytest.raises(EpisodeError, match=r"support: expected at least one task, found none \(T = 0\)"):
        none.check("support")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((2, 3, 4))}, r"Examples\.x: expected a tensor \[T, N, \.\.\.\], found ndarray"),
        ({"y": [0, 1]}, r"Examples\.y: expected a tensor, found list"),
        ({"target": "classes"}, r"Examples\.target: expected Classes\(way\), .* found 'classes'"),
        ({"target": Classes(5)}, r"target\.way: expected a tensor with the number of classes .* found 5"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_tensor(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EpisodeError, match=message):
        examples(**changes)
