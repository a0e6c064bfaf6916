"""Omniglot as it is published: all of it, nothing shared between training and test, and quick to open."""

import os
import shutil
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quickstudy.data.alphabets import ALPHABETS
from quickstudy.data.dataset import DataSet
from quickstudy.data.drawings import Zip
from quickstudy.data.omniglot import Omniglot
from quickstudy.data.registry import data_sets
from quickstudy.data.store import ArrayStore, Pictures
from quickstudy.episode import first_leaf
from quickstudy.errors import DataError, InputError, UnknownName

FIVE: dict[str, Any] = {"way": 5, "shot": 1, "query": 15, "seed": 0}


def test_all_of_it(omniglot: ArrayStore) -> None:
    assert len(omniglot.classes) == 1623 and len({name.split("/")[0] for name in omniglot.classes}) == 50
    assert (omniglot.sizes == 20).all()
    assert omniglot.images.shape == (32460, 28, 28) and omniglot.images.dtype == np.uint8
    assert list(omniglot.classes) == sorted(omniglot.classes)
    ink = (omniglot.images > 127).mean((1, 2))
    assert 0.001 < ink.min() and ink.max() < 0.25, "dark paper, bright ink (least: a dot of Braille)"


def test_registered(data_root: Path) -> None:
    data_set: DataSet = data_sets.get("omniglot")(data_root)
    assert isinstance(data_set, DataSet)
    assert data_set.name == "omniglot" and data_set.shape == (1, 28, 28)


@pytest.mark.parametrize("split", ["vinyals", "alphabets", "maml", "reptile"])
def test_no_picture_of_the_test_was_trained_on(data_root: Path, omniglot: ArrayStore, split: str) -> None:
    data = Omniglot(data_root, split=split)
    parts = {role: data.classes(role) for role in data.splits if role != "train+validation"}
    assert sum(len(numbers) for numbers in parts.values()) == 1623
    holders: dict[bytes, set[str]] = defaultdict(set)
    for role, numbers in parts.items():
        for number in numbers:
            for picture in omniglot.of(number):
                holders[picture.tobytes()].add(role)
    assert all(len(roles) == 1 for roles in holders.values())


def test_no_picture_occurs_in_two_classes(omniglot: ArrayStore) -> None:
    """Not even turned. (Two people drew the dot of Braille/character01 alike: one picture occurs twice.)"""
    holders: dict[bytes, set[int]] = defaultdict(set)
    for turned in omniglot.turned:
        for row, picture in enumerate(turned):
            holders[picture.tobytes()].add(row // 20)
    assert all(len(numbers) == 1 for numbers in holders.values())
    assert len({picture.tobytes() for picture in omniglot.images}) == len(omniglot.images) - 1


@pytest.mark.parametrize(
    ("split", "role", "expected"),
    [
        ("vinyals", "train", "classes"),
        ("vinyals", "test", "classes"),
        ("alphabets", "test", "classes"),
        ("maml", "train", "per-class"),
        ("maml", "test", "per-class"),
        ("reptile", "train", "classes"),
        ("reptile", "test", "none"),
    ],
)
def test_turned_as_in_the_papers(data_root: Path, omniglot: ArrayStore, split: str, role: str, expected: str) -> None:
    assert Omniglot(data_root, split=split).tasks(role, **FIVE).settings["rotations"] == expected


def test_training_turns_count_for_training_and_validation_together(data_root: Path, omniglot: ArrayStore) -> None:
    data = Omniglot(data_root, split="maml", rotations="train-classes")
    modes = {role: data.tasks(role, **FIVE).settings["rotations"] for role in data.splits}
    assert modes == {"train": "classes", "train+validation": "classes", "validation": "none", "test": "none"}


def test_a_task(data_root: Path, omniglot: ArrayStore) -> None:
    data = Omniglot(data_root)
    tasks = data.tasks("test", **FIVE)
    episode = tasks.episodes(range(3))
    assert first_leaf(episode.support.x).shape == (3, 5, 28, 28)
    assert first_leaf(episode.query.x).shape == (3, 75, 28, 28)
    assert episode.classes is not None
    assert set((episode.classes.numpy() // 4).reshape(-1)) <= set(data.classes("test"))
    for t in range(3):
        for label in range(5):
            number, turn = divmod(int(episode.classes[t, label]), 4)
            own = np.rot90(omniglot.of(number), turn, (1, 2))
            assert (own == first_leaf(episode.support.x)[t, label].numpy()).all((1, 2)).sum() == 1
    assert tasks.settings["split"] == "vinyals/test"


def test_a_role_that_there_is_not(data_root: Path, omniglot: ArrayStore) -> None:
    with pytest.raises(
        UnknownName, match=r"There is no split of omniglot called 'validation'\. .*Known: test, train\."
    ):
        Omniglot(data_root, split="reptile").tasks("validation", **FIVE)
    with pytest.raises(UnknownName, match=r"no split of omniglot called 'tran'\. Did you mean 'train'\?"):
        Omniglot(data_root).tasks("tran", **FIVE)


def test_way_and_shots_beyond_the_data(data_root: Path, omniglot: ArrayStore) -> None:
    data = Omniglot(data_root)
    with pytest.raises(
        InputError, match=r"Cannot draw 1693-way tasks from omniglot/vinyals/test: it has only 1692 classes"
    ):
        data.tasks("test", way=1693, shot=1, query=1, seed=0)
    with pytest.raises(
        InputError, match=r"the class '[\w()-]+/character\d\d' has only 20 examples\. Reduce shot or query"
    ):
        data.tasks("test", way=5, shot=5, query=16, seed=0)
    with pytest.raises(InputError, match=r"Cannot draw tasks with way = None"):
        data.tasks("test", shot=1, query=1, seed=0)


def test_options_that_make_no_sense() -> None:
    with pytest.raises(
        UnknownName, match=r"no split of omniglot called 'lake'\. .*Known: alphabets, maml, reptile, vinyals"
    ):
        Omniglot(split="lake")
    with pytest.raises(UnknownName, match=r"no mode of rotation called 'all'"):
        Omniglot(rotations="all")  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"Cannot make Omniglot with size = 0: expected a whole number from 1 to 105 pixels"
    ):
        Omniglot(size=0)


def test_opens_quickly(data_root: Path, omniglot: ArrayStore) -> None:
    """Both zip files and the cache are hashed whole; the best of three, for the machine is shared."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        assert Omniglot(data_root).store.hash == omniglot.hash
        times.append(time.perf_counter() - start)
    assert min(times) <= 0.2


def test_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, omniglot: ArrayStore) -> None:
    """A cache, made from data elsewhere, does not hide that there is none where one was told to look."""
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path))
    with pytest.raises(
        DataError, match=r"there is no file .*omniglot/images_background\.zip\. Run `quickstudy fetch omni"
    ):
        Omniglot().tasks("test", **FIVE)


def test_half_downloaded_beside_a_sound_cache(data_root: Path, tmp_path: Path, omniglot: ArrayStore) -> None:
    (tmp_path / "omniglot").mkdir()
    for part in ("images_background", "images_evaluation"):
        shutil.copy(data_root / "omniglot" / f"{part}.zip", tmp_path / "omniglot")
    zipped = tmp_path / "omniglot" / "images_background.zip"
    os.truncate(zipped, zipped.stat().st_size // 2)
    with pytest.raises(DataError, match=r"Cannot read .*images_background\.zip: it is half downloaded or damaged"):
        Omniglot(tmp_path, split="maml").tasks("test", **FIVE)


def test_damaged_cache_is_made_anew(
    data_root: Path,
    omniglot: ArrayStore,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (folder,) = cache.glob("omniglot-28px-*")
    decoded = {name: omniglot.of(number).copy() for number, name in enumerate(omniglot.classes)}
    part = {name for name in decoded if ALPHABETS[name.split("/")[0]].part == "images_background"}

    def decode_at_once(source: Zip, size: int) -> dict[str, Pictures]:
        return {name: decoded[name] for name in decoded if (name in part) == (source.part == "images_background")}

    monkeypatch.setattr("quickstudy.data.omniglot.decode", decode_at_once)  # seconds, and tested above
    with open(folder / "images.npy", "r+b") as file:
        file.seek(10_000_000)
        byte = file.read(1)[0]
        file.seek(10_000_000)
        file.write(bytes([byte ^ 1]))
    assert Omniglot(data_root).store.hash == omniglot.hash
    assert "its bytes are not those that were written" in caplog.text
    assert ArrayStore.open(folder).hash == omniglot.hash
