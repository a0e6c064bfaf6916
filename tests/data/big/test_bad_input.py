"""What cannot be used is one sentence that names it."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quickstudy.data.big.datasets import Parquet, Shards
from quickstudy.data.pictures import Images
from quickstudy.errors import DataError, InputError
from tests.data.big.made import SIZE, SMALL, files_of, parquet_of, shards_of, tar

pytest.importorskip("pyarrow")


@pytest.fixture
def shards(pictures: Path, tmp_path: Path) -> Path:
    return shards_of(pictures, tmp_path / "shards")


def rewritten(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def test_a_shard_that_is_cut_off(shards: Path) -> None:
    first = shards / "part-000.tar"
    whole = first.read_bytes()
    end = whole.rstrip(b"\0").__len__() + 700  # some zeros, and no end
    for cut in (len(whole) // 2, len(whole) // 2 // 512 * 512, 700, end // 512 * 512 - 512):
        first.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"Cannot read the shard .*part-000\.tar: it is cut off"):
            _ = Shards(str(shards), size=SIZE).store


def test_shards_that_are_none(shards: Path, pictures: Path) -> None:
    second = shards / "part-001.tar"
    whole = second.read_bytes()
    second.write_bytes(b"x" * 10240)
    with pytest.raises(DataError, match=r"Cannot read the shard .*part-001\.tar: it is cut off or damaged"):
        _ = Shards(str(shards), size=SIZE).store
    second.write_bytes(b"")
    with pytest.raises(DataError, match=r"part-001\.tar: the file is empty"):
        _ = Shards(str(shards), size=SIZE).store
    second.write_bytes(gzip.compress(whole))
    with pytest.raises(InputError, match=r"part-001\.tar at any place, which tasks need: it is compressed"):
        _ = Shards(str(shards), size=SIZE).store
    second.write_bytes(whole + whole)
    with pytest.raises(DataError, match=r"bytes follow its end, as where archives were written one after the other"):
        _ = Shards(str(shards), size=SIZE).store
    tar(second, [("readme.txt", b"nothing")])
    with pytest.raises(DataError, match=r"part-001\.tar: it holds no picture"):
        _ = Shards(str(shards), size=SIZE).store


def test_a_member_that_is_no_picture(shards: Path) -> None:
    tar(shards / "part-003.tar", [("kind 1/a.png", b"no picture"), ("kind 1/b.png", b""), ("kind 2/c.png", b"\x89PNG")])
    with pytest.raises(
        DataError, match=r"(?s)kind 1/a\.png in .*part-003\.tar: it is no picture.*kind 1/b\.png.*c\.png"
    ):
        _ = Shards(str(shards), size=SIZE, keep="pixels").store
    data = Shards(str(shards), size=SIZE)  # by index it is named when it is drawn
    row = next(n for n, key in enumerate(data.store.index.keys) if key == "kind 1/a.png")
    with pytest.raises(DataError, match=r"Cannot read kind 1/a\.png in .*part-003\.tar: it is no picture"):
        data.store.look_up()(data.store.starts[:1] + row)


def test_labels_that_are_missing(pictures: Path, tmp_path: Path) -> None:
    picture = files_of(pictures)[0].read_bytes()
    tar(tmp_path / "a.tar", [("1.png", picture), ("1.cls", b" \n")])
    with pytest.raises(DataError, match=r"Cannot use 1 in .*a\.tar: it has no label \(expected 1\.cls beside it"):
        _ = Shards(str(tmp_path), size=SIZE).store
    tar(tmp_path / "a.tar", [("1.png", picture), ("1.json", b'{"kind": null}')])
    with pytest.raises(DataError, match=r"it has no label \(expected 'kind' in 1\.json\)"):
        _ = Shards(str(tmp_path), size=SIZE, label="json.kind").store
    tar(tmp_path / "a.tar", [("1.png", picture), ("1.json", b"{")])
    with pytest.raises(DataError, match=r"Cannot read the label of 1 in .*Expected JSON with the field 'kind'"):
        _ = Shards(str(tmp_path), size=SIZE, label="json.kind").store
    tar(tmp_path / "a.tar", [("x/1.left.png", picture), ("x/1.right.png", picture)])
    with pytest.raises(DataError, match=r"it has 2 pictures, left\.png, right\.png\. Say which one is meant"):
        _ = Shards(str(tmp_path), size=SIZE).store
    with pytest.raises(InputError, match="Cannot take labels from 'json'"):
        Shards(str(tmp_path), label="json")


def test_names_that_stand_twice(pictures: Path, tmp_path: Path) -> None:
    picture = files_of(pictures)[0].read_bytes()
    tar(tmp_path / "a.tar", [("x/1.png", picture), ("x/2.png", picture), ("x/1.png", picture)])
    with pytest.raises(DataError, match=r"'x/1\.png' of the class 'x': it stands there twice \(x/1\.png in .*a\.tar\)"):
        _ = Shards(str(tmp_path), size=SIZE).store
    members = [(f"{name}/{n}.png", picture) for name in "abcdef" for n in (1, 2)]
    tar(tmp_path / "a.tar", members)
    tar(tmp_path / "b.tar", members)
    with pytest.raises(
        DataError, match=r"(?s)a\.tar and .*b\.tar\), and names tell .*by-shard.* 'c/2\.png' and 6 more"
    ):
        _ = Shards(str(tmp_path), size=SIZE).store
    assert Shards(str(tmp_path), size=SIZE, keys="by-shard").store.sizes.tolist() == [4] * 6
    tar(tmp_path / "b.tar", [("x/1.png", picture), ("x/1.png", picture)])
    with pytest.raises(DataError, match=r"b\.tar: the file x/1\.png stands there twice"):
        _ = Shards(str(tmp_path), size=SIZE, keys="by-shard").store


def test_a_class_with_one_example(pictures: Path, tmp_path: Path) -> None:
    files = files_of(pictures)
    members = [(f"{name}/{n}.png", files[n].read_bytes()) for name in "abcdef" for n in range(1 + (name > "b"))]
    tar(tmp_path / "a.tar", members)
    with pytest.raises(
        DataError, match=r"class 'a': it has a single example, a/0\.png in .*--data\.least 2\. Neither.*'b'"
    ):
        _ = Shards(str(tmp_path), size=SIZE).store
    with pytest.raises(DataError, match=r"Cannot divide the classes of .*: it has 4 \(c, d, e, f\)"):
        _ = Shards(str(tmp_path), size=SIZE, least=2).store
    with pytest.raises(DataError, match="no class has 3 of them"):
        _ = Shards(str(tmp_path), size=SIZE, least=3).store
    assert Shards(str(tmp_path), size=SIZE, least=2, split="test").divided == {"test": [*"cdef"]}


def test_one_picture_in_two_classes(pictures: Path, tmp_path: Path) -> None:
    shards_of(pictures, tmp_path)
    same = (pictures / "kind 1" / "0.png").read_bytes()
    tar(tmp_path / "part-009.tar", [("kind 7/9.png", same)])
    with pytest.raises(
        DataError, match=r"class is 'kind 7', and the same picture lies in 'kind 1', as kind 1/0\.png in"
    ):
        _ = Shards(str(tmp_path), size=SIZE, keep="pixels").store


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no such column": (
        {},
        {"label": "labels"},
        r"it has no column 'labels'\. Did you mean 'label'\? It has image, label",
    ),
    "no pictures": ({}, {"picture": "label"}, r"Cannot take pictures from the column 'label' of .* it is string"),
    "numbers as pictures": (
        {},
        {"picture": "place"},
        r"it is list<.*>; expected bytes of picture files\. Say --data\.fea",
    ),
    "pictures as numbers": ({}, {"features": ("image",)}, r"Cannot take features from the column 'image'"),
    "labels of no kind": (
        {},
        {"label": "place"},
        r"Cannot take classes from the column 'place' of .*expected text or whol",
    ),
    "another type": (
        {"file_1": {"label": list(range(18))}},
        {},
        r"1\.parquet: its column 'label' is int64, and string in .*0\.parquet\. Write the files alike",
    ),
    "no label": (
        {"file_1": {"label": ["a"] * 5 + [None] + ["a"] * 12}},
        {},
        r"Cannot use row 23 \(of .*1\.parquet, .*\): its label is missing",
    ),
    "no picture": (
        {"file_0": {"image": [{"bytes": b"x", "path": ""}, {"bytes": None, "path": ""}] * 9}},
        {},
        r"Cannot use row 1 .*: it has no picture \(column 'image'\)",
    ),
    "a number missing": (
        {"file_0": {"place": [[1.0, None]] * 18}},
        {"features": ("place",)},
        "Cannot use row 0 .*: a number is missing or not finite",
    ),
    "other lengths": (
        {"file_1": {"place": [[1.0]] * 18}},
        {"features": ("place",)},
        r"Cannot use row 18 .*: it has 1 numbers, and the first row 2\.",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_parquet_files_that_cannot_be_used(wrong: str, pictures: Path, tmp_path: Path) -> None:
    changes, options, sentence = WRONG[wrong]
    parquet_of(pictures, tmp_path, **changes)
    with pytest.raises(DataError, match=sentence):
        _ = Parquet(str(tmp_path), size=SIZE, **options).store


def test_parquet_files_that_are_none(pictures: Path, tmp_path: Path) -> None:
    parquet_of(pictures, tmp_path)
    rewritten(tmp_path / "1.parquet", lambda whole: whole[:-100])
    with pytest.raises(DataError, match=r"1\.parquet: it is no Parquet file, cut off or damaged"):
        _ = Parquet(str(tmp_path), size=SIZE).store
    parquet_of(pictures, tmp_path)
    rewritten(tmp_path / "1.parquet", lambda whole: whole[:4] + b"\xff" * 4000 + whole[4004:])
    with pytest.raises(DataError, match=r"1\.parquet: it is no Parquet file, cut off or damaged"):
        _ = Parquet(str(tmp_path), size=SIZE).store


def test_places_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot look for shards: it is not said where"):
        _ = Shards().store
    with pytest.raises(DataError, match=r"Cannot read .*nowhere: No such file or directory"):
        _ = Shards(str(tmp_path / "nowhere")).store
    with pytest.raises(
        DataError, match=r"Cannot find shards files at .*: expected a file, a folder with files called \*"
    ):
        _ = Shards(str(tmp_path)).store
    with pytest.raises(DataError, match=r"Cannot find shards files at memory://nothing/\*\.tar"):
        _ = Shards("memory://nothing/*.tar").store
    with pytest.raises(DataError, match=r"Cannot reach memory://nothing/a\.tar: FileNotFoundError"):
        _ = Shards("memory://nothing/a.tar").store
    with pytest.raises(InputError, match=r"Cannot read nonsense://a\.tar: Protocol not known: nonsense\. Install what"):
        _ = Shards("nonsense://a.tar").store


def test_a_place_that_cannot_be_reached(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a training, too."""
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in shards.iterdir():
        memory.pipe(f"/far/{path.name}", path.read_bytes())
    tasks = Shards("memory://far", size=SIZE).tasks("train", **SMALL)

    def lost(*_: Any, **__: Any) -> bytes:
        raise TimeoutError("no answer after 60 s")

    monkeypatch.setattr(type(memory), "cat_file", lost)
    with pytest.raises(
        DataError, match=r"Cannot reach memory://.*part-00\d\.tar: TimeoutError: no answer after 60 s\. Ch"
    ):
        tasks.episodes(range(1))


def test_extras_that_are_missing(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(InputError, match=r"that takes fsspec\. Install it with: pip install 'quickstudy\[remote\]'"):
        _ = Shards("memory://a.tar").store
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (shards / "a.parquet").write_bytes(b"x")
    with pytest.raises(InputError, match=r"that takes pyarrow\. Install it with: pip install 'quickstudy\[parquet\]'"):
        _ = Parquet(str(shards)).store


def test_options_that_make_no_sense() -> None:
    with pytest.raises(InputError, match="Cannot read ahead = -1 steps ahead"):
        Shards("a.tar", ahead=-1)
    with pytest.raises(InputError, match="least = 0"):
        Parquet("a.parquet", least=0)
    with pytest.raises(InputError, match="Cannot use size = 3"):
        Shards("a.tar", size=3)
    with pytest.raises(InputError, match="Cannot read ahead = 65"):
        Images(Path("a"), ahead=65)


def test_folders_that_cannot_be_used(pictures: Path, tmp_path: Path) -> None:
    import shutil

    with pytest.raises(DataError, match="nowhere is no folder"):
        Images(tmp_path / "nowhere", keep="index").tasks("train", **SMALL)
    shutil.copytree(pictures, tmp_path / "own")
    (tmp_path / "own" / "empty").mkdir()
    with pytest.raises(DataError, match=r"Cannot use the folder .*empty: it holds no file that can be read"):
        Images(tmp_path / "own", keep="index").tasks("train", **SMALL)
    shutil.copy(tmp_path / "own" / "kind 1" / "0.png", tmp_path / "own" / "empty")
    with pytest.raises(
        DataError, match=r"class 'empty': it has a single example, .*empty/0\.png.* or move the folder away"
    ):
        Images(tmp_path / "own", keep="index").tasks("train", **SMALL)
    (tmp_path / "own" / "empty" / "1.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"Cannot read .*empty/1\.png: No such file or directory"):
        Images(tmp_path / "own", keep="index").tasks("train", **SMALL)
