"""Stores: what is written is what is opened, and nothing else is."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray

from quickstudy.data.store import ArrayStore, open_or_build
from quickstudy.errors import DataError, InputError, StorageError


def pictures(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def small(seed: int = 0, **changes: NDArray[Any]) -> ArrayStore:
    classes = {"a": pictures(seed, 3, 4, 4), "b": pictures(seed + 1, 5, 4, 4), "ä/ß": pictures(seed + 2, 1, 4, 4)}
    return ArrayStore.from_classes(classes | changes)


def same(one: ArrayStore, other: ArrayStore) -> bool:
    fields = np.array_equal(one.images, other.images) and np.array_equal(one.starts, other.starts)
    return bool(fields) and one.classes == other.classes and one.hash == other.hash


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 6)])
def test_what_is_saved_is_opened(tmp_path: Path, shape: tuple[int, ...]) -> None:
    store = ArrayStore.from_classes({"a": pictures(0, 3, *shape), "b": pictures(1, 5, *shape)})
    store.save(tmp_path)
    opened = ArrayStore.open(tmp_path)
    assert same(store, opened)
    assert isinstance(opened.images.base, np.memmap)
    assert not opened.images.flags.writeable
    assert np.array_equal(np.load(tmp_path / "images.npy"), store.images), "the file is an ordinary .npy"


def test_fields() -> None:
    store = small()
    assert store.classes == ("a", "b", "ä/ß")
    assert store.starts.tolist() == [0, 3, 8, 9]
    assert store.sizes.tolist() == [3, 5, 1]
    assert store.shape == (1, 4, 4)
    assert np.array_equal(store.of(1), pictures(1, 5, 4, 4))
    assert store.numbers(["b", "a"]) == [1, 0]
    assert ArrayStore.from_classes({"rgb": pictures(0, 2, 3, 4, 6)}).shape == (3, 4, 6)


def test_hash_tells_content_apart() -> None:
    flipped = pictures(0, 3, 4, 4)
    flipped[2, 3, 3] ^= 1
    a, b = pictures(0, 2, 4, 4), pictures(1, 2, 4, 4)
    stores = [
        small(),
        small(a=flipped),
        ArrayStore.from_classes({"a": a, "b": b}),
        ArrayStore.from_classes({"b": a, "a": b}),  # other names on the same bytes
        ArrayStore.from_classes({"a": np.concatenate([a, b[:1]]), "b": b[1:]}),  # other borders on the same bytes
        ArrayStore.from_classes({"a": a.reshape(2, 2, 8), "b": b.reshape(2, 2, 8)}),  # other shape on the same bytes
    ]
    assert len({store.hash for store in stores}) == len(stores)
    assert small().hash == small().hash


@pytest.mark.parametrize("channels", [(), (3,)])
def test_turned(channels: tuple[int, ...]) -> None:
    store = ArrayStore.from_classes({"a": pictures(0, 5, *channels, 4, 4)})
    for quarter in range(4):
        for number, picture in enumerate(store.images):
            assert np.array_equal(store.turned[quarter, number], np.rot90(picture, quarter, (-2, -1)))


def test_oblong_pictures_cannot_be_turned() -> None:
    store = ArrayStore.from_classes({"a": pictures(0, 5, 4, 6)})
    with pytest.raises(
        InputError, match=r"Cannot rotate pictures of 4 x 6 pixels by 90 degrees: they are not square\."
    ):
        _ = store.turned


def test_classes_that_cannot_be_stored() -> None:
    with pytest.raises(DataError, match=r"Cannot make a store without classes"):
        ArrayStore.from_classes({})
    for wrong in (pictures(0, 3, 4, 5), pictures(0, 0, 4, 4), pictures(0, 3, 4, 4).view(np.int8)):
        with pytest.raises(DataError, match=r"Cannot store the class 'b': expected uint8 pictures \['k', 4, 4\]"):
            small(b=wrong)


def test_unknown_class() -> None:
    with pytest.raises(DataError, match=r"Cannot find the class 'c' among the 3 classes .*1 of 2 names are unknown"):
        small().numbers(["a", "c"])


def flip(path: Path, where: int) -> None:
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)


def edit(folder: Path, **changes: object) -> None:
    about = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps(about | changes))


def put_other_pictures(folder: Path) -> None:
    small(seed=9).save(folder.parent / "other")
    os.replace(folder.parent / "other" / "images.npy", folder / "images.npy")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (lambda f: os.truncate(f / "images.npy", 200), r"bytes of \[9, 4, 4\] pictures were written, 200 bytes"),
    "empty": (lambda f: os.truncate(f / "images.npy", 0), r"pictures were written, 0 bytes are there"),
    "longer": (lambda f: os.truncate(f / "images.npy", 1000), r"pictures were written, 1000 bytes are there"),
    "no pictures": (lambda f: os.remove(f / "images.npy"), r"No such file or directory"),
    "bit in a picture": (lambda f: flip(f / "images.npy", -1), r"its bytes are not those that were written"),
    "bit in the header": (lambda f: flip(f / "images.npy", 3), r"pictures were written"),
    "foreign pictures": (put_other_pictures, r"its bytes are not those that were written"),
    "no JSON": (lambda f: (f / "store.json").write_bytes(b"\x80"), r"it is not JSON"),
    "half the JSON": (lambda f: os.truncate(f / "store.json", 50), r"it is not JSON"),
    "another list": (lambda f: (f / "store.json").write_text("[]"), r"it was not written as quickstudy array store"),
    "another version": (lambda f: edit(f, version=2), r"it was not written as quickstudy array store, version 1"),
    "another name": (lambda f: edit(f, classes=["a", "b", "c"]), r"its bytes are not those that were written"),
    "other counts": (lambda f: edit(f, counts=[4, 4, 1]), r"its bytes are not those that were written"),
    "a name less": (lambda f: edit(f, classes=["a", "b"]), r"counts and shape do not fit together"),
    "a count too many": (lambda f: edit(f, counts=[3, 5, 2]), r"counts and shape do not fit together"),
    "negative count": (lambda f: edit(f, counts=[-1, 9, 1]), r"counts and shape do not fit together"),
    "no counts": (lambda f: edit(f, counts=None), r"counts and shape do not fit together"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_store_is_refused_and_rebuilt(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    folder = tmp_path / "store"
    small().save(folder)
    inflict, why = DAMAGE[damage]
    inflict(folder)
    with pytest.raises(DataError, match=rf"Cannot use the cache .*store.*{why}.* Delete the folder .*store\."):
        ArrayStore.open(folder)
    assert same(open_or_build(folder, small), small())
    assert "Cannot use the cache" in caplog.text and "It is made anew." in caplog.text
    assert same(ArrayStore.open(folder), small())


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No such file or directory"):
        ArrayStore.open(tmp_path / "nowhere")


def test_sound_store_is_not_rebuilt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_or_build(tmp_path, small)

    def never() -> NoReturn:
        raise AssertionError("built again")

    assert same(open_or_build(tmp_path, never), small())
    assert not caplog.text


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("file", [0, 1], ids=["images", "json"])
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, file: int) -> None:
    """A store that could not be written is never taken for one, and is written once there is space."""
    done = getattr(os, call)
    turns = iter(range(100))
    fails = file * 2 if call == "fsync" else file  # each file's fsync is followed by its folder's

    def full(*arguments: object) -> object:
        if next(turns) == fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return done(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(StorageError, match=r"Cannot write .*: No space left on device"):
            open_or_build(tmp_path, small)
    assert same(open_or_build(tmp_path, small), small())
    assert sorted(os.listdir(tmp_path)) == ["images.npy", "store.json"]
