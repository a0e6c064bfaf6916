"""Writing whole files or none, and where files lie."""

import errno
import os
from pathlib import Path
from typing import BinaryIO, NoReturn

import pytest

from quickstudy.errors import StorageError
from quickstudy.files import atomic_write, atomic_write_bytes, cache_root, check_writable, data_root


def full(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_makes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file"
    atomic_write_bytes(path, b"old")
    atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["file"]


def test_is_as_readable_as_any_other_file(tmp_path: Path) -> None:
    atomic_write_bytes(tmp_path / "ours", b"")
    (tmp_path / "any").write_bytes(b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: done.append("fsync"))
    replace = os.replace

    def rename(source: Path, target: Path) -> None:
        done.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "replace", rename)
    atomic_write_bytes(tmp_path / "file", b"new")
    assert done == ["fsync", "rename", "fsync"]


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    path = tmp_path / "file"
    atomic_write_bytes(path, b"old")

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        if where == "write":
            full()

    if where != "write":
        monkeypatch.setattr(os, where, full)
    sentence = (
        r"Cannot write .*file: No space left on device\. What was there before is unchanged\. "
        r"Free some space and run again\."
    )
    with pytest.raises(StorageError, match=sentence):
        atomic_write(path, write)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_folder_that_cannot_be_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.files.sync", lambda _: None)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"file: No space left on device\. The new file is in place and complete"):
        atomic_write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_file_system_without_folder_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(_: int) -> NoReturn:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr("quickstudy.files.sync", lambda _: None)
    monkeypatch.setattr(os, "fsync", unsupported)
    atomic_write_bytes(tmp_path / "file", b"new")


def test_interrupted_writer_leaves_no_litter(tmp_path: Path) -> None:
    def interrupted(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "file", interrupted)
    assert os.listdir(tmp_path) == []


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"Make sure that the folder can be written to and run again\."):
        atomic_write_bytes(tmp_path / "file" / "below", b"")


def test_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("QUICKSTUDY_CACHE", str(tmp_path / "cache"))
    assert data_root(tmp_path) == tmp_path
    assert data_root() == tmp_path / "data"
    assert cache_root() == tmp_path / "cache"
    monkeypatch.setenv("QUICKSTUDY_DATA", "")  # set to nothing is not set
    monkeypatch.delenv("QUICKSTUDY_CACHE")
    assert data_root().name == cache_root().name == "quickstudy"
    assert data_root() != cache_root()


def test_a_folder_that_takes_no_files_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anywhere, so what a closed folder answers is put in its place."""
    check_writable(tmp_path / "not" / "there", "write", "Leave it.")
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "closed")
    for folder in (tmp_path / "closed", tmp_path / "closed" / "not" / "there"):
        with pytest.raises(
            StorageError, match=r"^Cannot write in .*/closed: nothing can be written there\. Leave it\.$"
        ):
            check_writable(folder, "write", "Leave it.")
    check_writable(tmp_path / "open", "write", "Leave it.")
