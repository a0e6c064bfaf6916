"""Caltech-101 as tasks: the fixed split, what is left out, and what the original of full size would give."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from quickstudy.data.caltech import Caltech101
from quickstudy.data.dataset import DataSet
from quickstudy.data.omniglot import Omniglot
from quickstudy.data.picturetasks import PictureTasks
from quickstudy.data.registry import data_sets
from quickstudy.episode import first_leaf
from quickstudy.errors import DataError, InputError
from tests.conftest import needed
from tests.data.picturesmade import drawn

SIZES: dict[str, Any] = {"way": 5, "shot": 3, "query": 4, "seed": 0}
ROLES = ("train", "validation", "test")


@pytest.fixture(scope="module")
def caltech(data_root: Path, cache: Path) -> Caltech101:
    needed(data_root / "caltech101-84")
    return Caltech101(data_root, size=28)


def test_all_of_it(caltech: Caltech101) -> None:
    assert isinstance(caltech, DataSet) and caltech.shape == (3, 28, 28)
    assert caltech.store.images.shape == (2970, 3, 28, 28)
    assert len(caltech.store.classes) == 99 and (caltech.store.sizes == 30).all()
    assert len({row.tobytes() for row in caltech.store.images}) == 2970, "no picture occurs twice"


def test_the_split_is_fixed_and_divides_all() -> None:
    parts = {role: set(Caltech101().divided[role]) for role in ROLES}
    assert [len(parts[role]) for role in ROLES] == [64, 15, 20]
    assert len(parts["train"] | parts["validation"] | parts["test"]) == 99
    assert not {"Faces", "Faces_easy", "BACKGROUND_Google"} & (parts["train"] | parts["validation"] | parts["test"])
    for twins in (("cougar_body", "cougar_face"), ("crocodile", "crocodile_head"), ("lotus", "water_lilly")):
        assert sum(set(twins) <= part for part in parts.values()) == 1, "what shows the same lies on one side"
    assert sorted(parts["test"])[:3] == ["airplanes", "anchor", "barrel"], "figures were measured on these"


def test_roles_draw_from_their_kinds_alone(caltech: Caltech101) -> None:
    for role in ROLES:
        source = caltech.tasks(role, **SIZES)
        episode = source.episodes(range(60))
        assert episode.classes is not None
        names = {caltech.store.classes[int(number)] for number in episode.classes.flatten()}
        assert names <= set(caltech.divided[role]) and len(names) >= 14
    hashes = {caltech.tasks(role, **SIZES).hash for role in caltech.splits}
    assert len(hashes) == 4, "the split is part of the hash"


def test_training_alone_is_augmented(caltech: Caltech101) -> None:
    assert [caltech.tasks(role, **SIZES).settings["augmented"] for role in ROLES] == [True, False, False]
    stored = {row.tobytes() for row in caltech.store.images}
    test = first_leaf(caltech.tasks("test", **SIZES).episodes(range(3)).query.x).flatten(0, 1).numpy()
    assert all(row.tobytes() in stored for row in test)


def test_of_full_size_and_unpacked(tmp_path: Path, cache: Path, data_root: Path) -> None:
    inner = tmp_path / "caltech101-84" / "101_ObjectCategories"
    for number, name in enumerate([*Caltech101().divided["train+validation"], *Caltech101().divided["test"], "Faces"]):
        (inner / name).mkdir(parents=True)
        for take in range(2):
            drawn(number, take, size=(70, 50)).save(inner / name / f"image_{take:04}.jpg")
    data = data_sets.get("caltech101")(tmp_path, size=20)
    assert len(data.pictures) == 198 and "Faces" not in data.store.classes
    assert data.tasks("test", way=5, shot=1, query=1, seed=0).episodes(range(1)).query.n_task == 1
    (inner / "anchor" / "image_0000.jpg").unlink()
    (inner / "anchor" / "image_0001.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of its 99 kinds have no picture, such as 'anchor'\. Copy the data again"):
        _ = Caltech101(tmp_path).pictures


def test_no_data_and_damaged_data(tmp_path: Path, cache: Path, data_root: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot find Caltech-101: .*`quickstudy fetch caltech101` brings it; or say"):
        Caltech101(tmp_path).tasks("test", **SIZES)
    folder = tmp_path / "caltech101-84"
    folder.mkdir()
    path = folder / "101_ObjectCategories_84.zip"
    path.write_bytes(b"PK, but not really")
    with pytest.raises(DataError, match=r"84\.zip: it is half downloaded or damaged .*Copy it again"):
        Caltech101(tmp_path).tasks("test", **SIZES)
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted({name for part in Caltech101().divided.values() for name in part}):
            archive.writestr(f"101_ObjectCategories/{name}/image_0001.jpg", b"" if name == "ant" else b"x")
    with pytest.raises(DataError, match=r"(accordion|Leopards)/image_0001\.jpg: it is no picture .* and 93 more\."):
        Caltech101(tmp_path).tasks("test", **SIZES)


def test_characters_as_colour_pictures(data_root: Path, omniglot: Any) -> None:
    """For a learner that was trained on colour."""
    plain = Omniglot(data_root, rotations="classes").tasks("test", **SIZES)
    colour = Omniglot(data_root, rotations="classes", channels=3).tasks("test", **SIZES)
    assert isinstance(colour, PictureTasks) and colour.shape.example == (3, 28, 28) and colour.hash != plain.hash
    one, three = (first_leaf(source.episodes(range(3)).support.x) for source in (plain, colour))
    assert torch.equal(three, one[:, :, None].expand(-1, -1, 3, -1, -1)), "the same tasks"
    assert colour.settings["channels"] == 3 and "/character" in colour.names_of(colour.episodes(range(1)))[0]
    assert first_leaf(colour.batches(4).batch(0).x).shape == (1, 4, 3, 28, 28)
    with pytest.raises(InputError, match=r"Cannot give pictures of 1 channels 2: grey ones \(1\) can be given 3"):
        PictureTasks(omniglot, range(9), data="x", split="test", channels=2, **SIZES)


def test_the_split_lies_in_a_file() -> None:
    from importlib.resources import files

    kept = json.loads(files("quickstudy.data").joinpath("caltech101.json").read_text("utf-8"))
    assert {role: kept[role] for role in ROLES} == {role: Caltech101().divided[role] for role in ROLES}
