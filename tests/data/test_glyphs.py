"""Glyphs: pure in its options, split by family, cached, and as unlike digits as promised."""

import logging
import random
import re
import shutil
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import PIL
import pytest
import torch
from PIL import features

from quickstudy.data import glyphs
from quickstudy.data.dataset import DataSet
from quickstudy.data.glyphs import Glyphs
from quickstudy.data.letters import FONTS, Letter, fonts_folder, letters
from quickstudy.data.store import ArrayStore
from quickstudy.episode import first_leaf
from quickstudy.errors import InputError, UnknownName


@pytest.fixture(scope="module")
def full(cache: Path) -> Glyphs:
    """The data set as users have it."""
    return Glyphs()


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> list[Letter]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quickstudy.data.letters.FONTS", {"DejaVuSansMono.ttf": ""})  # one font is drawn in a moment
        return letters(fonts_folder())[:100]


@pytest.fixture
def few(some: list[Letter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Letter]:
    """100 letters only, and an empty cache: drawn in a moment."""
    monkeypatch.setattr(glyphs, "letters", lambda folder: some)
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path))
    return some


def same(one: ArrayStore, other: ArrayStore) -> bool:
    return one.hash == other.hash and np.array_equal(one.images, other.images)


# --- the real thing -------------------------------------------------------------------------------------------


def test_it_is_a_data_set(full: Glyphs) -> None:
    assert isinstance(full, DataSet)
    assert full.shape == full.store.shape == (1, 28, 28)
    assert full.store.images.shape == (3209 * 20, 28, 28) and full.store.images.dtype == np.uint8
    assert full.store.classes[0] == "U+0041/U+0041 LATIN CAPITAL LETTER A"


def test_the_bytes_are_pinned(full: Glyphs) -> None:
    """The same on every machine; Pillow's rasteriser may differ between versions, so it is pinned with them."""
    versions = (PIL.__version__, features.version("freetype2"))
    if versions != ("13.0.0", "2.14.3"):
        pytest.skip(f"pinned with Pillow 13.0.0 and FreeType 2.14.3, here are {versions}")
    assert full.store.hash[:16] == "b02a22787463fa2a"


def test_no_family_plays_two_roles(full: Glyphs) -> None:
    numbers = {role: full.tasks(role, way=5, shot=1, query=1, seed=0)._classes.tolist() for role in full.splits}
    family = [name.split("/")[0] for name in full.store.classes]
    families = {role: {family[number] for number in numbers[role]} for role in ("train", "validation", "test")}
    assert sorted(numbers["train"] + numbers["validation"] + numbers["test"]) == list(range(3209))
    assert numbers["train+validation"] == sorted(numbers["train"] + numbers["validation"])
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not families[one] & families[other]
    assert [len(numbers[role]) for role in ("train", "validation", "test")] == [2206, 566, 437]


def test_every_picture_shows_something(full: Glyphs) -> None:
    ink = full.store.images.reshape(len(full.store.images), -1).max(1)
    assert (ink < 40).mean() < 0.001 and (ink > 100).mean() > 0.99
    frame = np.concatenate([full.store.images[:, [0, -1]], full.store.images[:, :, [0, -1]].swapaxes(1, 2)], 1)
    assert (frame.max((1, 2)) > 128).mean() < 0.2, "cut off at the frame"


def test_pictures_of_a_class_differ_but_resemble(full: Glyphs) -> None:
    """Nearest neighbour among 200 classes finds the class far above chance, and not always."""
    numbers = np.arange(0, 3200, 16)
    table = full.store.images.reshape(3209, 20, -1)[numbers].astype(np.float32)
    first, second = table[:, 0], table[:, 1]
    assert not (table[:, :-1] == table[:, 1:]).all(2).any()
    distance = (first**2).sum(1) + (second**2).sum(1)[:, None] - 2 * second @ first.T
    right = (distance.argmin(1) == np.arange(200)).mean()
    assert 0.1 < right < 0.9


def test_tasks(full: Glyphs) -> None:
    source = full.tasks("train", way=20, shot=1, query=5, seed=3)
    episode = source.episodes(range(4))
    assert first_leaf(episode.support.x).shape == (4, 20, 28, 28)
    assert source.settings["data"] == "glyphs" and source.settings["rotations"] == "none"
    with pytest.raises(UnknownName, match=r"no split of glyphs called 'tran'. Did you mean 'train'\?"):
        full.tasks("tran", way=5, shot=1, query=1, seed=0)
    with pytest.raises(InputError, match="has only 20 examples"):
        full.tasks("train", way=5, shot=5, query=16, seed=0)


# --- a pure function of its options ------------------------------------------------------------------------------


def test_pure_function_of_its_options(few: list[Letter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = [Glyphs(examples=4).store]
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(glyphs, "_CLASSES_AT_ONCE", 7)
    assert same(stores[0], Glyphs(examples=4).store)
    for other in (Glyphs(examples=4, seed=1), Glyphs(examples=4, strength=0.5), Glyphs(examples=3)):
        assert not any(same(other.store, store) for store in stores)
        stores.append(other.store)


def test_more_examples_begin_with_the_fewer(few: list[Letter]) -> None:
    fewer, more = Glyphs(examples=3).store, Glyphs(examples=5).store
    for number in range(len(few)):
        assert np.array_equal(fewer.of(number), more.of(number)[:3])


def test_a_letter_does_not_depend_on_the_others(few: list[Letter], monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_them = Glyphs(examples=3).store
    monkeypatch.setattr(glyphs, "letters", lambda folder: few[50:60])
    alone = Glyphs(examples=3)._build(fonts_folder())
    assert np.array_equal(alone.images, all_of_them.images[150:180])


def test_global_generators_are_left_alone(few: list[Letter]) -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    Glyphs(examples=2).tasks("train", way=5, shot=1, query=1, seed=0).episodes(range(2))
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_examples_take_the_drawings_in_turn(few: list[Letter], monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = np.stack([few[0].shapes[0], few[1].shapes[0], few[2].shapes[0]])
    monkeypatch.setattr(glyphs, "letters", lambda folder: [few[3], Letter((65,), 65, shapes)])
    drawings = [picture.tobytes() for picture in Glyphs(examples=5, strength=0).store.of(1)]
    assert len(set(drawings[:3])) == 3
    assert drawings[3:] == drawings[:2]


def test_other_sizes(few: list[Letter]) -> None:
    small, large = Glyphs(size=20, examples=2), Glyphs(size=40, examples=2)
    assert small.shape == small.store.shape == (1, 20, 20)
    ink = [data_set.store.images.mean((1, 2)) for data_set in (small, large)]
    assert np.corrcoef(ink)[0, 1] > 0.95, "the same distortions"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 13}, "Cannot draw glyphs of size 13: use a size of 14 to 84 pixels"),
        ({"size": 85}, "Cannot draw glyphs of size 85: use a size of 14 to 84 pixels"),
        ({"examples": 0}, "Cannot draw 0 examples of each glyph: use at least 1"),
        ({"strength": -0.1}, "Cannot distort glyphs with strength -0.1: use 0 (not at all) to 2"),
        ({"strength": float("nan")}, "Cannot distort glyphs with strength nan: use 0 (not at all) to 2"),
    ],
)
def test_impossible_options(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        Glyphs(**options)


# --- the cache ---------------------------------------------------------------------------------------------------


def test_drawn_once(few: list[Letter], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Glyphs(examples=2).store

    def refuse(folder: Path) -> NoReturn:
        raise AssertionError("drawn again")

    monkeypatch.setattr(glyphs, "letters", refuse)
    assert same(drawn, Glyphs(examples=2).store)


@pytest.mark.parametrize("damage", ["cut off", "one bit", "foreign"])
def test_a_damaged_cache_is_drawn_again(
    few: list[Letter], tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    drawn = Glyphs(examples=2).store
    expected = drawn.images.copy()
    (path,) = tmp_path.rglob("images.npy")
    content = bytearray(path.read_bytes())
    content[-500] ^= 1
    path.unlink()  # not written over: ``drawn`` still has the file mapped
    path.write_bytes({"cut off": bytes(content[:-100]), "one bit": bytes(content), "foreign": b"hello"}[damage])
    with caplog.at_level(logging.WARNING):
        again = Glyphs(examples=2).store
    assert np.array_equal(again.images, expected) and again.hash == drawn.hash
    assert "It is made anew" in caplog.text


def test_other_fonts_have_a_cache_of_their_own(
    few: list[Letter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Glyphs(examples=2).store  # noqa: B018
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    for name in FONTS:
        shutil.copy(fonts_folder() / name, fonts)
    with open(fonts / "DejaVuSans.ttf", "ab") as file:
        file.write(b"\0")
    monkeypatch.setattr(glyphs, "fonts_folder", lambda: fonts)
    with pytest.warns(UserWarning, match="may differ"):
        Glyphs(examples=2).store  # noqa: B018
    assert len(list((tmp_path / "glyphs").iterdir())) == 2
