"""MedNIST: kinds left out, and files that cannot be used; on a few pictures made here."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quickstudy.data.mednist import CLASSES, MedNIST
from quickstudy.errors import DataError, InputError, UnknownName
from tests.conftest import needed


def pictures(kind: int, n: int = 6) -> list[bytes]:
    found = []
    for number in range(n):
        file = io.BytesIO()
        Image.fromarray(np.full((64, 64), 40 * kind + number, dtype=np.uint8)).save(file, "PNG")
        found.append(file.getvalue())
    return found


def made(root: Path, kinds: tuple[str, ...] = CLASSES) -> Path:
    folder = root / "mednist-subset"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "m.zip", "w") as archive:
        for number, kind in enumerate(kinds):
            for place, data in enumerate(pictures(number)):
                archive.writestr(f"MedNIST/{kind}/{place:06}.png", data)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path / "cache"))


def test_kinds_are_left_out(tmp_path: Path) -> None:
    made(tmp_path)
    data = MedNIST(tmp_path, held_out=("CXR", "Hand"), size=16)
    names = data.store.classes
    assert [names[n] for n in data.classes("test")] == ["CXR", "Hand"]
    assert not set(data.classes("train")) & set(data.classes("test")) and len(data.classes("train")) == 4
    episode = data.tasks("test", way=2, shot=1, query=2, seed=0).episodes(range(2))
    assert episode.support.x.shape == (2, 2, 16, 16)  # type: ignore[union-attr]


def test_folders_are_as_good_as_a_zip(tmp_path: Path) -> None:
    for number, kind in enumerate(CLASSES):
        (tmp_path / "mednist-subset" / kind).mkdir(parents=True)
        for place, data in enumerate(pictures(number)):
            (tmp_path / "mednist-subset" / kind / f"{place:06}.png").write_bytes(data)
    (tmp_path / "other").mkdir()
    made(tmp_path / "other")
    assert MedNIST(tmp_path).store.hash == MedNIST(tmp_path / "other").store.hash


def test_copies_are_left_out(tmp_path: Path) -> None:
    """Else one would be in the support of a task and another in its query."""
    folder = made(tmp_path)
    before = MedNIST(tmp_path).store
    with zipfile.ZipFile(folder / "m.zip", "a") as archive:
        archive.writestr("MedNIST/CXR/000099.png", pictures(CLASSES.index("CXR"))[2])
    after = MedNIST(tmp_path).store
    assert after.hash == before.hash and after.sizes.sum() == 36


def test_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"no kind of MedNIST called 'Hnad'\. Did you mean 'Hand'"):
        MedNIST(held_out=("Hnad", "CXR"))
    with pytest.raises(InputError, match=r"expected two to four of its six kinds"):
        MedNIST(held_out=("CXR",))
    with pytest.raises(InputError, match=r"size = 65: expected a whole number from 1 to 64"):
        MedNIST(size=65)
    with pytest.raises(DataError, match=r"there is no picture <kind>/<name>\.jpeg of AbdomenCT"):
        MedNIST(tmp_path).tasks("train", way=2, shot=1, query=1, seed=0)
    folder = made(tmp_path, CLASSES[:5])
    with pytest.raises(DataError, match=r"there is no picture <kind>/<name>\.jpeg of HeadCT"):
        MedNIST(tmp_path).tasks("train", way=2, shot=1, query=1, seed=0)
    made(tmp_path)
    with zipfile.ZipFile(folder / "m.zip", "a") as archive:
        archive.writestr("MedNIST/CXR/broken.jpeg", b"no picture")
    with pytest.raises(DataError, match=r"Cannot read the picture .*m\.zip: MedNIST/CXR/broken\.jpeg"):
        MedNIST(tmp_path).tasks("train", way=2, shot=1, query=1, seed=0)
    (folder / "m.zip").write_bytes(b"PK no zip")
    with pytest.raises(DataError, match=r"Cannot read .*m\.zip: it is half downloaded or damaged .*Copy it again"):
        MedNIST(tmp_path).tasks("train", way=2, shot=1, query=1, seed=0)


def test_the_published_subset(data_root: Path) -> None:
    needed(data_root / "mednist-subset")
    data = MedNIST(data_root, size=8)
    assert data.store.sizes.tolist() == [497, 500, 500, 500, 500, 493], "ten copies are left out"
