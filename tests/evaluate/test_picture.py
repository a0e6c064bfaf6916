"""A real episode as pictures."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy.errors import InputError
from quickstudy.evaluate import EpisodePicture, meta_test, picture_episode
from quickstudy.evaluate.picture import png
from tests.evaluate.fakes import Factor, Lines, NearestMean, Points


def decoded(address: str) -> np.ndarray[Any, Any]:
    head, _, body = address.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


def test_png_keeps_every_pixel() -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    np.testing.assert_array_equal(decoded(png(grey)), grey)
    np.testing.assert_array_equal(decoded(png(grey[None])), grey)
    np.testing.assert_array_equal(decoded(png(grey, ink=True)), 255 - grey)
    colour = np.arange(144, dtype=np.uint8).reshape(3, 6, 8)
    np.testing.assert_array_equal(decoded(png(colour)), np.moveaxis(colour, 0, 2))
    np.testing.assert_array_equal(decoded(png(np.array([[0.0, 0.5], [1.0, 7.0]]))), [[0, 128], [255, 255]])


@pytest.mark.parametrize("shape", [(4,), (2, 4, 4), (1, 2, 3, 4)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"Cannot draw an example of shape .*expected \[H, W\] or \[C, H, W\]"):
        png(np.zeros(shape, dtype=np.uint8))


def test_the_picture_shows_the_predictions_that_are_scored() -> None:
    source = Points()
    result = meta_test(NearestMean(), source, episodes=6)
    learner = NearestMean()
    for index in range(6):
        picture = picture_episode(learner, source, index=index)
        right = (picture.predicted == picture.query_y).mean()
        assert right == pytest.approx(result.per_episode[index])
        x = torch.as_tensor(source.episodes(range(index, index + 1)).query.x)[0]
        np.testing.assert_array_equal(picture.query, x.numpy())
    assert not learner.saw_training and all(module.training for module in learner.modules())


def test_an_answer_that_is_none_is_shown_as_none() -> None:
    picture = picture_episode(NearestMean(broken=(0,)), Points())
    assert picture.predicted[0] == -1 and picture.name(-1) == "no answer"


def test_classes_have_letters_or_the_names_given() -> None:
    picture = picture_episode(NearestMean(), Points(), names=["alpha", "beta", "gamma", "delta", "eps"])
    assert picture.name(1) == "beta"
    assert picture_episode(NearestMean(), Points()).name(1) == "B"
    assert picture_episode(NearestMean(), Points(n_class=40, way=30)).name(27) == "27"


def test_tasks_without_classes_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected tasks of classes, found target 'real'"):
        picture_episode(Factor({}), Lines())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"support_y": np.array([0])}, r"EpisodePicture\.support_y: expected 2 as in support, found 1"),
        ({"predicted": np.array([0, 1])}, r"EpisodePicture\.predicted: expected 3 as in query, found 2"),
        ({"names": ["only"]}, r"EpisodePicture\.names: expected 2 names, found 1"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    parts: dict[str, Any] = {
        "support": np.zeros((2, 4, 4), np.uint8),
        "support_y": np.array([0, 1]),
        "query": np.zeros((3, 4, 4), np.uint8),
        "query_y": np.array([0, 1, 1]),
        "predicted": np.array([0, 1, 0]),
    }
    assert EpisodePicture(**parts).way == 2
    with pytest.raises(InputError, match=message):
        EpisodePicture(**(parts | change))
