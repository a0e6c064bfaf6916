"""Wherever examples lie, the tasks are those of the same examples in memory, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch

from quickstudy.data.big.datasets import Parquet, Shards
from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.pictures import Images
from quickstudy.errors import InputError
from tests.data.big.made import RAGGED, SIZE, SMALL, alike, files_of, in_memory, parquet_of, same, shards_of

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def shards(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shards_of(pictures, tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def parquet(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return parquet_of(pictures, tmp_path_factory.mktemp("parquet"))


def remote(folder: Path) -> str:
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe(f"/{folder.name}/{path.name}", path.read_bytes())
    return f"memory://{folder.name}"


Made = Callable[[Path, Path, Path], Any]

PLACES: dict[str, Made] = {
    "folder, by index": lambda pictures, shards, parquet: Images(pictures, size=SIZE, keep="index"),
    "folder, as pixels": lambda pictures, shards, parquet: Images(pictures, size=SIZE, keep="pixels"),
    "shards": lambda pictures, shards, parquet: Shards(str(shards), size=SIZE),
    "shards, copied": lambda pictures, shards, parquet: Shards(str(shards), size=SIZE, keep="files"),
    "shards, as pixels": lambda pictures, shards, parquet: Shards(str(shards), size=SIZE, keep="pixels"),
    "shards of a pattern": lambda pictures, shards, parquet: Shards(f"{shards}/part-{{000..002}}.tar", size=SIZE),
    "shards elsewhere": lambda pictures, shards, parquet: Shards(remote(shards), size=SIZE),
    "shards elsewhere, by name": lambda pictures, shards, parquet: Shards(f"file://{shards}/part-*.tar", size=SIZE),
    "Parquet": lambda pictures, shards, parquet: Parquet(str(parquet), size=SIZE),
    "Parquet, as pixels": lambda pictures, shards, parquet: Parquet(str(parquet), size=SIZE, keep="pixels"),
    "Parquet elsewhere": lambda pictures, shards, parquet: Parquet(remote(parquet), size=SIZE),
}


@pytest.mark.parametrize("place", PLACES)
def test_tasks_are_those_of_the_same_pictures_in_memory(
    place: str, pictures: Path, shards: Path, parquet: Path
) -> None:
    data = PLACES[place](pictures, shards, parquet)
    assert data.divided == Images(pictures, size=SIZE).divided
    for role, sizes in (("train", SMALL), ("test", SMALL), ("train", RAGGED)):
        tasks = data.tasks(role, **sizes)
        expected = in_memory(pictures, tasks, **sizes)
        assert alike(tasks.episodes(range(6)), expected.episodes(range(6)))
        assert alike(tasks.episodes(range(2, 3)), expected.episodes(range(2, 3))), "of one task alone, too"
        assert tasks.shape == expected.shape and tasks.settings == expected.settings
    one, other = tasks.batches(7), expected.batches(7)
    assert all(same(one.batch(step), other.batch(step)) for step in range(8)), "also past the end of a pass"


@pytest.mark.parametrize("label", ["cls", "txt", "json"])
def test_labels_beside_pictures(label: str, pictures: Path, tmp_path: Path) -> None:
    shards_of(pictures, tmp_path, label=label)
    said = {"cls": "auto", "txt": "txt", "json": "json.species"}[label]
    data = Shards(str(tmp_path), size=SIZE, label=said)
    assert data.divided == Images(pictures, size=SIZE).divided
    assert data.store.sizes.tolist() == [4] * 9


def test_the_hash_is_of_the_content_and_not_of_its_packing(pictures: Path, shards: Path, tmp_path: Path) -> None:
    def content(data: Any) -> str:
        return str(data.store.index.hash)

    otherwise = shards_of(pictures, tmp_path / "otherwise", count=2)
    known = content(Shards(str(shards), size=SIZE))
    assert (
        known == content(Shards(str(otherwise), size=32)) == content(Shards(str(otherwise), size=SIZE, keep="pixels"))
    )
    assert Shards(str(shards), size=SIZE).store.hash != Shards(str(shards), size=32).store.hash, "other rows"
    changed = shards_of(pictures, tmp_path / "changed")
    whole = (changed / "part-000.tar").read_bytes()
    picture = files_of(pictures)[0].read_bytes()
    at = whole.index(picture) + len(picture) - 20  # in the last chunk
    (changed / "part-000.tar").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    assert content(Shards(str(changed), size=SIZE)) != known


def test_features_of_parquet_files(pictures: Path, parquet: Path) -> None:
    data = Parquet(str(parquet), features=("place",))
    assert data.shape == (2,)
    tasks = data.tasks("train", **SMALL)
    assert type(tasks) is ClassTasks and tasks.shape.example == (2,)
    support = tasks.episodes(range(3)).support.x
    assert isinstance(support, torch.Tensor) and support.shape == (3, 2, 2) and support.dtype == torch.float32
    rows = data.store.look_up()(np.arange(36))
    assert sorted(rows[:, 0].tolist()) == sorted([*range(18)] * 2) and set(rows[:, 1].tolist()) == {1.0}


def test_names_of_numbered_labels(tmp_path: Path) -> None:
    """As Hugging Face's datasets write them."""
    import json

    import pyarrow
    import pyarrow.parquet

    names = [f"bird {n}" for n in range(6)]
    about = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    table = pyarrow.table({"label": [n % 6 for n in range(12)], "x": [float(n) for n in range(12)]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    data = Parquet(str(tmp_path), features=("x",))
    assert list(data.store.classes) == names
    assert data.store.look_up()(np.array([2, 3])).tolist() == [[1.0], [7.0]], "of bird 1"


def test_copies_are_used_once_where_all_pictures_are_decoded(pictures: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(pictures, tmp_path / "more")
    shutil.copy(tmp_path / "more" / "kind 3" / "1.png", tmp_path / "more" / "kind 3" / "0b.png")
    stored, pixels, index = (Images(tmp_path / "more", size=SIZE, keep=keep) for keep in ("store", "pixels", "index"))
    one, other = stored.tasks("train", **SMALL), pixels.tasks("train", **SMALL)
    assert alike(one.episodes(range(20)), other.episodes(range(20)))
    assert sum(index.tasks("train", **SMALL).store.sizes) == 37, "nobody has looked"
    for number in range(9):
        assert sorted(stored.store.digests(number)) == sorted(other.store.digests(number))


def test_what_was_trained_on_is_known_where_all_pictures_were_decoded(pictures: Path, shards: Path) -> None:
    origin = Shards(str(shards), size=SIZE, keep="pixels").tasks("train", **SMALL).origin
    expected = Images(pictures, size=SIZE).tasks("train", **SMALL).origin
    assert origin is not None and expected is not None and origin.names == expected.names
    assert {n: sorted(d) for n, d in origin.examples.items()} == {n: sorted(d) for n, d in expected.examples.items()}
    unread = Shards(str(shards), size=SIZE).tasks("train", **SMALL).origin
    assert unread is not None and not unread.examples


def test_small_classes_are_left_out(pictures: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(pictures, tmp_path / "few")
    for number in (2, 3):
        (tmp_path / "few" / "kind 5" / f"{number}.png").unlink()
    shards_of(tmp_path / "few", tmp_path / "shards")
    data = Shards(str(tmp_path / "shards"), size=SIZE, least=3)
    assert list(data.store.classes) == [f"kind {n}" for n in range(9) if n != 5]
    assert data.store.sizes.tolist() == [4] * 8
    expected = in_memory(pictures, data.tasks("train", **SMALL), **SMALL)
    names = [expected.store.classes[int(n)] for n in expected._classes]
    drawn = data.tasks("train", **SMALL)
    ours, theirs = drawn.episodes(range(4)), expected.episodes(range(4))
    assert names == [drawn.store.classes[int(n)] for n in drawn._classes] and same(ours.query, theirs.query)


def test_turned_pictures_are_refused(shards: Path) -> None:
    with pytest.raises(InputError, match="Cannot turn pictures that are read when they are drawn"):
        Shards(str(shards), size=SIZE).store.look_up(turned=True)


def test_a_large_folder_is_indexed_by_itself(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Images(pictures, size=SIZE)
    assert small._indexed is None
    monkeypatch.setattr("quickstudy.data.pictures._MOST", 30 * 3 * SIZE**2)
    large = Images(pictures, size=SIZE)
    assert large._indexed is not None and large.divided == small.divided
