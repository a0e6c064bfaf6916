"""Indices: sorted in bounded memory, written whole or not at all, made anew when something has changed."""

import json
import logging
import random
import resource
import shutil
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy.data.ahead import read_ahead
from quickstudy.data.big import sorting
from quickstudy.data.big.building import Plan, build
from quickstudy.data.big.datasets import Shards
from quickstudy.data.big.dividing import as_said, by_names
from quickstudy.data.big.entries import Entry
from quickstudy.data.big.index import ROLES, Index
from quickstudy.data.big.keeping import open_or_build
from quickstudy.data.big.sorting import Line, Sorter
from quickstudy.data.big.streamed import StreamedStore
from quickstudy.data.classfolders import divide
from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.pictures import Images
from quickstudy.errors import DataError, StorageError
from tests.data.big.made import SIZE, SMALL, alike, shards_of

TEXT = st.binary(max_size=4).map(lambda text: text.replace(b"\0", b"\n"))
LINES = st.lists(st.tuples(TEXT, TEXT, st.integers(0, 9)), max_size=60)


@settings(max_examples=30, deadline=None)
@given(LINES, st.integers(1, 9))
def test_lines_come_out_sorted(
    tmp_path_factory: pytest.TempPathFactory, found: list[tuple[bytes, bytes, int]], at_once: int
) -> None:
    lines = [Line(group, key, n, n * 7, -1, 2**64 - 1 - n, n % 2) for group, key, n in found]
    sorter = Sorter(tmp_path_factory.mktemp("sorting"), at_once=at_once)
    for line in lines:
        sorter.add(line)
    assert list(sorter.lines()) == list(sorter.lines())
    assert [(line.group, line.key) for line in sorter.lines()] == sorted((line.group, line.key) for line in lines)
    assert sorted(sorter.lines()) == sorted(lines)
    sorter.clear()


def test_many_runs_are_merged_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "_TOGETHER", 4)
    sorter, numbers = Sorter(tmp_path, at_once=3), list(range(100))
    random.Random(0).shuffle(numbers)
    for number in numbers:
        sorter.add(Line(b"a", b"%03d" % number, number, 0, 1))
    assert [line.source for line in sorter.lines()] == list(range(100))
    assert len(list(tmp_path.iterdir())) <= 5
    with pytest.raises(DataError, match=r"Cannot use the name b'x\\x00': there is a zero byte"):
        sorter.add(Line(b"a", b"x\0", 0, 0, 1))


@settings(max_examples=60, deadline=None)
@given(st.sets(st.text("aAbBcC ßé", min_size=1, max_size=5), max_size=40))
def test_classes_are_divided_as_a_few_are(names: set[str]) -> None:
    sorted_names, expected = sorted(names), divide(names)
    found = by_names(sorted_names)
    if expected is None:
        assert found is None
        return
    assert found is not None
    for role in ("train", "validation", "test", "train+validation"):
        assert [sorted_names[n] for n in np.flatnonzero(found & ROLES[role])] == expected[role]
    assert (as_said(sorted_names, expected) == found).all()


def entries(n: int, classes: int = 40) -> Iterator[Entry]:
    for number in range(n):
        yield Entry(f"class {number % classes:03}", f"{number:07}", 0, 0, 4, number.to_bytes(4, "big"))


def content(entry: Entry) -> bytes:
    assert entry.content is not None
    return entry.content


def roles(names: list[str]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    found = by_names(names)
    assert found is not None
    return found


def made(folder: Path, n: int, classes: int = 40, *, copy: bool = False) -> Index:
    return build(folder, Plan(entries(n, classes), content, lambda source, key: key, roles, copy=copy))


def test_an_index(tmp_path: Path) -> None:
    index = made(tmp_path / "index", 400, copy=True)
    assert len(index.classes) == 40 and len(index.keys) == 400
    assert index.classes[-1] == "class 039" and index.classes[1:3] == ["class 001", "class 002"]
    assert index.keys[10] == "0000001" and list(index.starts[:3]) == [0, 10, 20]
    offset, size = index.places[11, 1:]
    assert index.content is not None and index.content[offset : offset + size].tobytes() == (41).to_bytes(4, "big")
    assert index.divided() == divide(index.classes)
    with pytest.raises(IndexError):
        index.keys[400]
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    assert not [path for path in (tmp_path / "index").iterdir() if path.name.startswith("sorting")]


def test_what_is_kept_in_memory_does_not_grow_with_the_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By counting, as clocks and resident pages tell little on a busy machine: lines held, and bytes read to open."""
    monkeypatch.setattr(sorting, "_AT_ONCE", 500)
    monkeypatch.setattr(Sorter.__init__, "__defaults__", (500,))
    most, add = 0, Sorter.add

    def counted(self: Sorter, line: Line) -> None:
        nonlocal most
        add(self, line)
        most = max(most, len(self._lines))

    monkeypatch.setattr(Sorter, "add", counted)
    made(tmp_path / "index", 20_000)
    assert most == 499
    kept: list[int] = []
    heap = "quickstudy.data.big.building._Sample.look_at"
    from quickstudy.data.big.building import _Sample

    look_at = _Sample.look_at

    def looked(self: _Sample, line: Line, entry: Entry) -> bytes | None:
        kept.append(len(self._kept))
        return look_at(self, line, entry)

    monkeypatch.setattr(heap, looked)
    made(tmp_path / "index", 5_000)
    assert max(kept) == 1000
    index = Index.open(tmp_path / "index")
    flat = index.places.base
    assert flat is not None and isinstance(flat.base, np.memmap), "and opening it reads none of it"


@pytest.mark.parametrize("name", ["starts", "classes.ends", "keys", "places", "roles"])
def test_an_index_that_was_damaged_is_refused(name: str, tmp_path: Path) -> None:
    made(tmp_path / "index", 400)
    path = tmp_path / "index" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"Cannot use the index .*{name}: \d+ bytes were written, \d+ are there"):
        Index.open(tmp_path / "index")
    path.unlink()
    with pytest.raises(DataError, match="No such file or directory"):
        Index.open(tmp_path / "index")


def test_what_is_no_index_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "index", 400)
    path = tmp_path / "index" / "index.json"
    about = json.loads(path.read_bytes())
    for text, sentence in (
        ("{", "it is not JSON"),
        ("[]", "it was not written as quickstudy index, version 1"),
        (json.dumps(about | {"version": 2}), "it was not written as quickstudy index, version 1"),
        (json.dumps(about | {"files": None}), "it does not say how long its files are"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=sentence):
            Index.open(tmp_path / "index")
    path.unlink()
    with pytest.raises(DataError, match=r"index\.json: No such file"):
        Index.open(tmp_path / "index")


def test_a_damaged_index_is_made_anew(pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shards_of(pictures, tmp_path)
    first = Shards(str(tmp_path), size=SIZE)
    before = first.tasks("train", **SMALL).episodes(range(2))
    path = first.store.index.folder / "places"
    path.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        after = Shards(str(tmp_path), size=SIZE).tasks("train", **SMALL).episodes(range(2))
    assert alike(before, after) and "0 are there" in caplog.text and "It is made anew." in caplog.text


@pytest.mark.parametrize("copy", [False, True])
def test_a_full_disk(copy: bool, tmp_path: Path) -> None:
    """A limit of the system on the size of files: the error is real, and what stood there still does."""
    known = made(tmp_path / "index", 400).hash
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
    try:
        with pytest.raises(
            StorageError, match=r"Cannot write .*index: File too large\. What was there before is unchanged"
        ):
            made(tmp_path / "index", 20_000, copy=copy)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Index.open(tmp_path / "index").hash == known
    assert [path.name for path in tmp_path.iterdir()] == ["index"], "nothing is left over"


def test_a_walk_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[Entry]:
        yield from entries(100)
        raise DataError("Cannot read the rest.")

    with pytest.raises(DataError, match="Cannot read the rest"):
        build(tmp_path / "index", Plan(broken(), content, lambda source, key: key, roles, copy=True))
    with pytest.raises(DataError, match="Cannot make an index of nothing"):
        made(tmp_path / "index", 0)
    assert not list(tmp_path.iterdir())


def counted_builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The indices that are built from now on."""
    built: list[Path] = []

    def counted(folder: Path, plan: Plan) -> Index:
        built.append(folder)
        return build(folder, plan)

    monkeypatch.setattr("quickstudy.data.big.keeping.build", counted)
    return built


def test_two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of processes that train on the same new data: one makes the index, the others wait for it."""
    builds = counted_builds(monkeypatch)
    found: list[str | BaseException] = []

    def work() -> None:
        try:
            plan = Plan(entries(2000), content, lambda source, key: key, roles)
            found.append(open_or_build("made", ["at once"], lambda: plan, lambda index: True).hash)
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == len(builds) == 1 and isinstance(found[0], str) and len(found) == 4


def test_what_a_killed_process_left_is_cleared_away(cache: Path) -> None:
    plan = Plan(entries(400), content, lambda source, key: key, roles)
    index = open_or_build("made", ["killed"], lambda: plan, lambda index: True)
    left = index.folder.with_name(f".{index.folder.name}.0123abcd.new")
    other = index.folder.with_name(".another.0123abcd.new")
    for folder in (left, other):
        folder.mkdir()
        (folder / "sorting-1").write_bytes(b"x")
    (index.folder / "index.json").unlink()
    plan = Plan(entries(400), content, lambda source, key: key, roles)
    assert open_or_build("made", ["killed"], lambda: plan, lambda index: True).hash == index.hash
    assert not left.exists() and other.exists(), "others are not ours"


def test_sampling_keeps_nothing(tmp_path: Path) -> None:
    grey = np.zeros((40, 40), dtype=np.uint8)
    index = made(tmp_path / "index", 20_000, 400)
    store = StreamedStore(index, grey.shape, lambda *place: b"1234", lambda text, name: grey, lambda source, key: key)
    tasks = ClassTasks(store, range(400), data="made", split="train", way=5, shot=1, query=15, seed=0)
    tasks.episodes(range(8))
    tracemalloc.start()
    try:
        with read_ahead(tasks, 3) as ahead:
            for first in range(0, 800, 8):
                ahead.episodes(range(first, first + 8))
        del ahead
        assert tracemalloc.get_traced_memory()[0] < 500_000, "one call alone draws a megabyte"
        assert tracemalloc.get_traced_memory()[1] < 20_000_000, "and a few at most are there at once"
    finally:
        tracemalloc.stop()


def test_a_folder_is_walked_once_until_it_changes(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "own"
    shutil.copytree(pictures, folder)
    walks = counted_builds(monkeypatch)

    def examples() -> int:
        return int(Images(folder, size=SIZE, keep="index").tasks("train", **SMALL).store.starts[-1])

    assert (examples(), examples(), len(walks)) == (36, 36, 1)
    shutil.copy(folder / "kind 2" / "1.png", folder / "kind 2" / "another.png")
    assert (examples(), examples(), len(walks)) == (37, 37, 2)
    (folder / "kind 2" / "deeper").mkdir()
    shutil.copy(folder / "kind 3" / "1.png", folder / "kind 2" / "deeper" / "1.png")
    assert (examples(), len(walks)) == (38, 3)
    shutil.copytree(folder / "kind 2", folder / "kind 9")
    assert (examples(), len(walks)) == (44, 4)


def test_a_file_that_was_replaced_is_noticed(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(pictures, folder)
    tasks = Images(folder, size=SIZE, keep="index").tasks("train", **SMALL)
    for path in folder.rglob("*.png"):
        path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(DataError, match=r"Cannot read .*\.png: \d+ bytes are there, \d+ were when its place was noted"):
        tasks.episodes(range(1))
    shutil.rmtree(folder)
    with pytest.raises(DataError, match=r"Cannot read .*\.png: No such file or directory"):
        tasks.episodes(range(1))


def test_parts_and_links_are_as_in_the_store(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    for number, path in enumerate(sorted(pictures.iterdir())):
        shutil.copytree(path, folder / ("train" if number < 6 else "test") / path.name)
    (folder / "train" / "kind 1" / "ring").symlink_to(folder / "train" / "kind 1")
    shutil.rmtree(folder / "test" / "kind 8")
    (folder / "test" / "kind 8").symlink_to(pictures / "kind 8")
    for split in ("auto", "test"):
        stored, index = (Images(folder, size=SIZE, keep=keep, split=split) for keep in ("store", "index"))
        assert stored.divided == index.divided
        for role in stored.splits:
            one, other = (data.tasks(role, **SMALL).episodes(range(3)) for data in (stored, index))
            assert alike(one, other)
    shutil.copytree(pictures / "kind 1", folder / "test" / "kind 1")
    with pytest.raises(DataError, match=r"Cannot use the class 'kind 1' of .*: it lies both among"):
        Images(folder, size=SIZE, keep="index").tasks("train", **SMALL)
