"""What outputs are worth, against the learners' own metric and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from quickstudy.episode import Classes, Episode, Examples, MultiLabel, Real, Target
from quickstudy.errors import InputError
from quickstudy.evaluate.scores import score
from quickstudy.learners.learner import task_metric

NAN, INF = float("nan"), float("inf")


def an_episode(y: Tensor | None, target: Target, mask: Tensor | None = None) -> Episode:
    """Query labels ``y`` and a support that scoring must not care for."""
    tasks, rows = (len(y), y.shape[1]) if y is not None else (1, 2)
    query = Examples(torch.zeros(tasks, rows, 1), y, target, mask)
    support = Examples(torch.zeros(tasks, 1, 1), None, target)
    numbers = torch.arange(7, 7 + tasks)
    return Episode(support, query, numbers)


def test_classes_agree_with_task_metric_on_ragged_tasks() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(50, 9, 4, generator=generator)
    y = torch.randint(-1, 4, (50, 9), generator=generator)
    mask = torch.rand(50, 9, generator=generator) < 0.7
    y[:, 0], mask[:, 0] = 1, True  # every task has something to score
    episode = an_episode(y, Classes(torch.full((50,), 4)), mask)
    name, expected = task_metric(outputs, episode.query)
    got = score(outputs, episode)
    assert got.metric == name
    np.testing.assert_allclose(got.values, expected.numpy(), atol=1e-7)
    assert 0.1 < got.values.mean() < 0.4 and not got.unusable.any()


def test_real_values_and_multi_labels_agree_with_task_metric() -> None:
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(20, 6, 3, generator=generator)
    mask = torch.rand(20, 6, generator=generator) < 0.7
    mask[:, 0] = True
    many = an_episode((torch.rand(20, 6, 3, generator=generator) < 0.5).long(), MultiLabel(torch.tensor([2, 3] * 10)))
    np.testing.assert_allclose(score(outputs, many).values, task_metric(outputs, many.query)[1].numpy(), atol=1e-7)
    real = an_episode(torch.randn(20, 6, 3, generator=generator), Real(3), mask)
    np.testing.assert_allclose(score(outputs, real).values, task_metric(outputs, real.query)[1].numpy(), rtol=1e-5)


def test_accuracy_is_an_exact_fraction() -> None:
    episode = an_episode(torch.tensor([[0, 0, 0, 1, 1]]), Classes(torch.tensor([2])))
    assert score(torch.tensor([[[1.0, 0.0]] * 5]), episode).values.tolist() == [0.6]  # not float32's 0.60000002


@pytest.mark.parametrize(
    ("logits", "worth", "unusable"),
    [
        ([2.0, 1.0], 1.0, False),
        ([NAN, NAN], 0.0, True),  # argmax of these is 0, the label
        ([NAN, 1.0], 0.0, True),
        ([1.0, NAN], 0.0, True),
        ([INF, 1.0], 0.0, True),
        ([-INF, -INF], 0.0, True),
        ([1.0, -INF], 1.0, False),  # "never" is a legitimate answer for a class
    ],
)
def test_a_row_that_is_no_number_is_wrong(logits: list[float], worth: float, unusable: bool) -> None:
    episode = an_episode(torch.tensor([[0]]), Classes(torch.tensor([2])))
    got = score(torch.tensor([[logits]]), episode)
    assert (got.values.tolist(), got.unusable.tolist()) == ([worth], [unusable])


def test_nan_in_rows_that_do_not_count_is_nobodys_business() -> None:
    y, mask = torch.tensor([[0, -1, 0]]), torch.tensor([[True, True, False]])
    outputs = torch.tensor([[[1.0, 0.0], [NAN, NAN], [NAN, NAN]]])
    got = score(outputs, an_episode(y, Classes(torch.tensor([2])), mask))
    assert (got.values.tolist(), got.unusable.tolist()) == ([1.0], [False])
    real = score(outputs, an_episode(torch.zeros(1, 3, 2), Real(2), torch.tensor([[True, False, False]])))
    assert (real.values.tolist(), real.unusable.tolist()) == ([0.5], [False])


def test_errors_that_are_no_numbers_are_infinite() -> None:
    outputs = torch.tensor([[[1.0], [2.0]], [[NAN], [2.0]], [[INF], [2.0]]])
    got = score(outputs, an_episode(torch.zeros(3, 2, 1), Real(1)))
    assert got.values.tolist() == [2.5, INF, INF]
    assert got.unusable.tolist() == [False, True, True]


def test_multi_label_nan_is_wrong_even_where_no_is_the_truth() -> None:
    episode = an_episode(torch.tensor([[[0, 0]]]), MultiLabel(torch.tensor([2])))
    got = score(torch.tensor([[[NAN, -1.0]]]), episode)
    assert (got.values.tolist(), got.unusable.tolist()) == ([0.5], [True])


def test_nothing_to_score_is_refused() -> None:
    way = Classes(torch.tensor([2, 2]))
    bare = an_episode(torch.tensor([[0, 1], [-1, -1]]), way)
    with pytest.raises(InputError, match=r"Cannot score task 8: none of its query rows carries a label"):
        score(torch.zeros(2, 2, 2), bare)
    with pytest.raises(InputError, match=r"Cannot score task 7: none of its query rows carries a label"):
        score(torch.zeros(1, 2, 2), an_episode(None, Classes(torch.tensor([2]))))


@pytest.mark.parametrize("shape", [(1, 3, 2), (2, 2, 2), (1, 2)])
def test_outputs_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"outputs cannot be scored: expected shape \[1, 2, way or D\], found"):
        score(torch.zeros(shape), an_episode(torch.tensor([[0, 1]]), Classes(torch.tensor([2]))))
