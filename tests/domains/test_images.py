"""Baselines of images, the study, and its part of the report."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy.data.pictures import Images
from quickstudy.domains.images.classical import ColourHistogram, Hog
from quickstudy.domains.images.grid import grids
from quickstudy.domains.study import Found, study
from quickstudy.errors import InputError
from quickstudy.evaluate import meta_test
from quickstudy.learners.knn import KNN
from quickstudy.learners.protonet import ProtoNet
from quickstudy.recipes import load_recipe
from tests.data.picturesmade import folder_of_pictures


def hog_in_numpy(picture: np.ndarray, cells: int, directions: int) -> np.ndarray:
    """Pixel by pixel, as in the paper's words."""
    _, height, width = picture.shape
    padded = np.pad(picture, ((0, 0), (1, 1), (1, 1)), mode="edge")
    sums = np.zeros((directions, cells, cells))
    side = height // cells
    for i, j in np.ndindex(height, width):
        gradients = []
        for channel in padded:
            dx, dy = channel[i + 1, j + 2] - channel[i + 1, j], channel[i + 2, j + 1] - channel[i, j + 1]
            gradients.append((np.hypot(dx, dy), np.arctan2(dy, dx)))
        length, angle = max(gradients)
        place = (angle % np.pi) / np.pi * directions - 0.5
        first = int(np.floor(place))
        sums[first % directions, i // side, j // side] += length * (1 - (place - first))
        sums[(first + 1) % directions, i // side, j // side] += length * (place - first)
    sums /= side * side
    blocks = []
    for i, j in np.ndindex(cells - 1, cells - 1):
        block = sums[:, i : i + 2, j : j + 2].reshape(-1)
        block = np.minimum(block / np.sqrt((block**2).sum() + 1e-6), 0.2)
        blocks.append(block / np.sqrt((block**2).sum() + 1e-6))
    return np.concatenate(blocks)


def test_hog_against_the_paper() -> None:
    picture = np.random.default_rng(0).random((3, 12, 12))
    net = Hog((3, 12, 12), cells=3)
    found = net(torch.from_numpy(picture)[None])
    assert found.shape == (1, net.out_features)
    assert np.allclose(found[0].numpy(), hog_in_numpy(picture, 3, 9), atol=1e-9)


def test_hog_does_not_mind_the_light() -> None:
    x = torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = Hog((3, 20, 20), cells=4)
    assert torch.allclose(net(0.2 * x + 0.3), net(x), atol=1e-2)
    assert torch.isfinite(net(torch.zeros(1, 3, 20, 20))).all()


def test_colours() -> None:
    x = torch.zeros(1, 3, 4, 4)
    x[0, 0, :2], x[0, 2, 2:] = 1.0, 1.0  # half red, half blue
    found = ColourHistogram((3, 4, 4))(x)[0]
    assert found.square().sum() == pytest.approx(1.0)
    assert {int(n) for n in found.nonzero()} == {3 * 16, 3}


def test_baselines_and_the_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path / "cache"))
    folder_of_pictures(tmp_path / "p", [f"kind {n}" for n in range(6)], takes=5)
    source = Images(tmp_path / "p", split="test", size=24).tasks("test", way=4, shot=1, query=3, seed=0)
    shape = source.shape.example
    for learner in (KNN(ColourHistogram(shape)), ProtoNet(Hog(shape)).eval(), KNN()):
        assert meta_test(learner, source, episodes=5).mean > 0.5
    found = Found(KNN(ColourHistogram(shape)), {"made, 4-way 1-shot": source, "made, 4-way 5-shot": source}, {})
    (section,) = grids(found)
    assert len(section.pictures) == len(section.rows) == 4 and section.pictures[0][0].startswith(b"\x89PNG")
    assert section.pictures[0][1].startswith("kind ") and section.rows[0][1].endswith("of 3")


def test_the_grid_frames_what_was_right_and_what_was_wrong() -> None:
    import io

    from PIL import Image

    from quickstudy.domains.images.grid import RIGHT, WRONG, framed_png

    picture = np.full((84, 84, 3), 7, dtype=np.uint8)
    made = np.asarray(Image.open(io.BytesIO(framed_png([(picture, RIGHT), (picture, WRONG)]))))
    assert made[0, 0].tolist() == list(RIGHT) and made[0, 100].tolist() == list(WRONG)
    assert made[50, 50].tolist() == [7, 7, 7] and made.shape == (92, 192, 3)


def test_the_study() -> None:
    found = study("images")
    assert [rival.name for rival in found.rivals] == [
        "pixels + k-NN",
        "colours + k-NN",
        "HOG + nearest centroid",
        "HOG + logistic regression",
    ]
    assert found.plain is not None
    recipe, plain = load_recipe(found.recipe), load_recipe(found.plain)
    assert recipe.net == plain.net and recipe.data == plain.data, "the same network, the same data"
    for column in found.columns:
        recipe = load_recipe(found.recipe, dict(column.data))
        size, channels = recipe.data.options["size"], recipe.data.options.get("channels")
        assert (size, channels) == (42, 3), "what the network was built for"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Hog((8000,)), r"These features are made of pictures .* shape \(8000,\)\. Use them with pictures"),
        (lambda: Hog({"x": (3,)}), r"These features are made of pictures"),
        (lambda: Hog((3, 9, 9), cells=5), r"Cannot divide pictures of 9 x 9 pixels into 5 x 5 cells"),
    ],
)
def test_what_cannot_be_built(make: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()
