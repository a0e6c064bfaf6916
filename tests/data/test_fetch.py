"""Fetching, from a server of our own on this machine that can be told to misbehave."""

import errno
import hashlib
import http.server
import io
import os
import re
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

from quickstudy.data import fetch as fetching
from quickstudy.data.alphabets import PARTS
from quickstudy.data.arabic import ArabicCommands
from quickstudy.data.caltech import Caltech101
from quickstudy.data.fetch import FetchError, fetch
from quickstudy.data.mednist import CLASSES, MedNIST
from quickstudy.data.omniglot import Omniglot
from quickstudy.data.published import FOLDERS, PUBLISHED, Published
from quickstudy.data.spokendigits import SpokenDigits
from quickstudy.data.store import ArrayStore
from quickstudy.errors import DataError, InputError, StorageError, UnknownName
from tests.conftest import needed
from tests.data.picturesmade import drawn

BODY = bytes(range(256)) * 4000  # 1,024,000 bytes: several pieces


@dataclass
class Mirror:
    """A web server's folder and its manners."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    failures: list[int] = field(default_factory=list)  # what the next requests are answered instead
    wrong_range: bool = False
    length: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path and Range of each request
    url: str = ""
    published: tuple[Published, ...] = ()


class Handler(http.server.BaseHTTPRequestHandler):
    mirror: Mirror

    def do_GET(self) -> None:
        mirror, wanted = self.mirror, self.headers.get("Range")
        mirror.asked.append((self.path, wanted))
        if mirror.failures:
            return self.send_error(mirror.failures.pop(0))
        if self.path not in mirror.files:
            return self.send_error(404)
        body = mirror.files[self.path]
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and mirror.ranges else 0
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            return self.end_headers()
        self.send_response(206 if wanted and mirror.ranges else 200)
        if wanted and mirror.ranges:
            self.send_header("Content-Range", f"bytes {start + mirror.wrong_range}-{len(body) - 1}/{len(body)}")
        if mirror.length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        until = mirror.cuts.pop(0) if mirror.cuts else len(body)
        self.wfile.write(body[start : start + until])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A server that holds one data set of two files, which is made the only published one."""
    files = {"/big.zip": BODY, "/lists/small.txt": b"a\nb\n"}
    sums = {path: "sha256:" + hashlib.sha256(data).hexdigest() for path, data in files.items()}
    published = tuple(Published(path[1:], f"http://nowhere.invalid{path}", total) for path, total in sums.items())
    monkeypatch.setattr(fetching, "PUBLISHED", {"toy": published})
    monkeypatch.setattr(fetching, "WAIT", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    own = Mirror(files, published=published)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"mirror": own}))
    own.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield own
    server.shutdown()
    thread.join()
    server.server_close()


def check(root: Path) -> None:
    assert (root / "toy" / "big.zip").read_bytes() == BODY
    assert (root / "toy" / "lists" / "small.txt").read_bytes() == b"a\nb\n"
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == ["big.zip", "small.txt"]


def test_brings_all_files(tmp_path: Path, mirror: Mirror) -> None:
    told: list[tuple[str, int, int | None]] = []
    folder = fetch("toy", tmp_path, base_url=mirror.url + "/", progress=lambda *what: told.append(what))
    assert folder == tmp_path / "toy"
    check(tmp_path)
    big = [(here, total) for name, here, total in told if name == "big.zip"]
    assert big[-1] == (len(BODY), len(BODY)) and len(big) > 2
    assert big == sorted(big)
    assert told[-1] == ("small.txt", 4, 4)


def test_published_address(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tuple(
        Published(file.path, file.url.replace("http://nowhere.invalid", mirror.url), file.checksum)
        for file in mirror.published
    )
    monkeypatch.setattr(fetching, "PUBLISHED", {"toy": here})
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path))
    fetch("toy")
    check(tmp_path)


def packed(files: dict[str, bytes]) -> bytes:
    """A zip file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def tarred(files: dict[str, bytes]) -> bytes:
    """A .tar.gz file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def picture(number: int, take: int) -> bytes:
    file = io.BytesIO()
    drawn(number, take).save(file, "JPEG")
    return file.getvalue()


def as_published(name: str, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, body: bytes, *, known: bool) -> None:
    """The mirror has ``body`` for the one file of a data set, and that is what was published."""
    (file,) = PUBLISHED[name]
    mirror.files[f"/{file.path}"] = body
    checksum = f"md5:{hashlib.md5(body, usedforsecurity=False).hexdigest()}" if known else None
    here = Published(file.path, file.url, checksum, file.same_content)
    monkeypatch.setattr(fetching, "PUBLISHED", {name: (here,)})


def test_caltech(tmp_path: Path, cache: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip file with a tar file in it, as published."""
    kinds = [name for role in ("train", "validation", "test") for name in Caltech101().divided[role]]
    inner = {
        f"101_ObjectCategories/{kind}/image_{take:04}.jpg": picture(number, take)
        for number, kind in enumerate([*kinds, "Faces", "BACKGROUND_Google"])
        for take in range(2)
    }
    body = packed({"caltech-101/Annotations.tar": b"", "caltech-101/101_ObjectCategories.tar.gz": tarred(inner)})
    as_published("caltech101", mirror, monkeypatch, body, known=True)
    with pytest.raises(DataError, match=r"`quickstudy fetch caltech101` brings it; or say"):
        _ = Caltech101(tmp_path).store
    mirror.cuts = [20_000]
    assert fetch("caltech101", tmp_path, base_url=mirror.url) == tmp_path / "caltech101-84"
    data = Caltech101(tmp_path, size=16)
    assert sorted(data.store.classes) == sorted(kinds) and (data.store.sizes == 2).all()
    again = tmp_path / "unpacked"
    for name, content in inner.items():
        path = again / "caltech101-84" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert Caltech101(again, size=16).store.hash == data.store.hash
    (tmp_path / "caltech101-84" / "caltech-101.zip").write_bytes(body[: len(body) // 2])
    with pytest.raises(DataError, match=r"caltech-101\.zip: it is half downloaded or damaged .*Copy it again"):
        _ = Caltech101(tmp_path, size=16).store


def test_mednist(tmp_path: Path, cache: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = {f"MedNIST/{kind}/{n:06}.jpeg": picture(at, n) for at, kind in enumerate(CLASSES) for n in range(3)}
    body = tarred({"MedNIST/README.md": b"words"} | inner)
    as_published("mednist", mirror, monkeypatch, body, known=True)
    assert fetch("mednist", tmp_path, base_url=mirror.url) == tmp_path / "mednist-subset"
    store = MedNIST(tmp_path, size=8).store
    assert store.classes == CLASSES and (store.sizes == 3).all()
    (tmp_path / "mednist-subset" / "MedNIST.tar.gz").write_bytes(body[:-2000])
    with pytest.raises(DataError, match=r"MedNIST\.tar\.gz: it is half downloaded or damaged"):
        _ = MedNIST(tmp_path, size=8).store


@pytest.mark.parametrize("name", ["spoken-digits", "arabic-commands"])
def test_recordings(
    data_root: Path, tmp_path: Path, cache: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The archive of a repository, packed anew at each download: what it holds is compared."""
    data_set, kept, top, more = {
        "spoken-digits": (SpokenDigits, "recordings.zip", "free-spoken-digit-dataset-26eb9aa", {}),
        "arabic-commands": (
            ArabicCommands,
            "dataset_round01.zip",
            "arabic-main",
            {"dataset/ok/00000001_NO_02.wav": b""},
        ),
    }[name]
    folder = FOLDERS[name]
    with zipfile.ZipFile(needed(data_root / folder) / kept) as archive:
        files = {inside: archive.read(inside) for inside in archive.namelist() if not inside.endswith("/")}
    inside = {f"{top}/{inside}": content for inside, content in (files | more | {"README.md": b"words"}).items()}
    as_published(name, mirror, monkeypatch, packed(inside), known=False)
    assert fetch(name, tmp_path, base_url=mirror.url) == tmp_path / folder
    assert data_set(tmp_path).store.hash == data_set(data_root).store.hash
    mirror.asked.clear()
    fetch(name, tmp_path, base_url=mirror.url)
    assert mirror.asked == [], "it is here"
    first = next(inside for inside in files if inside.endswith(".wav"))
    for wrong in (
        inside | {f"{top}/{first}": b"other"},
        {name: data for name, data in inside.items() if first not in name},
    ):
        as_published(name, mirror, monkeypatch, packed(wrong), known=False)
        with pytest.raises(
            DataError, match=r"sent: it does not hold what was published\. It was removed, and whatever"
        ):
            fetch(name, tmp_path / "other", base_url=mirror.url)


def test_what_lies_here_of_the_recordings_is_known(data_root: Path, mirror: Mirror) -> None:
    (digits,), (commands,) = PUBLISHED["spoken-digits"], PUBLISHED["arabic-commands"]
    assert digits.same_content is not None and commands.same_content is not None
    assert digits.same_content(needed(data_root / "free-spoken-digit") / "recordings.zip")
    assert commands.same_content(needed(data_root / "arabic-speech-commands") / "dataset_round01.zip")
    assert not digits.same_content(data_root / "arabic-speech-commands" / "dataset_round01.zip")


def test_what_is_here_is_left_alone(tmp_path: Path, mirror: Mirror) -> None:
    fetch("toy", tmp_path, base_url=mirror.url)
    mirror.asked.clear()
    fetch("toy", tmp_path, base_url=mirror.url)
    assert mirror.asked == []


def test_what_is_here_but_wrong_is_replaced(tmp_path: Path, mirror: Mirror) -> None:
    fetch("toy", tmp_path, base_url=mirror.url)
    (tmp_path / "toy" / "lists" / "small.txt").write_text("edited")
    mirror.asked.clear()
    fetch("toy", tmp_path, base_url=mirror.url)
    check(tmp_path)
    assert mirror.asked == [("/lists/small.txt", None)]


def test_same_content_otherwise_packed_is_left_alone(
    tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "toy" / "repacked"
    path.parent.mkdir()
    path.write_text("same")
    published = Published("repacked", "", "md5:0", lambda path: path.read_text() == "same")
    monkeypatch.setattr(fetching, "PUBLISHED", {"toy": (published,)})
    fetch("toy", tmp_path, base_url=mirror.url)
    assert mirror.asked == []
    path.write_text("other")
    with pytest.raises(FetchError, match=r"404"):
        fetch("toy", tmp_path, base_url=mirror.url)


def test_cut_connection_is_continued(tmp_path: Path, mirror: Mirror) -> None:
    mirror.cuts = [300_000, 100_000, 0, 0, 200_000, 0, 0]  # never four times in a row without a new byte
    fetch("toy", tmp_path, base_url=mirror.url)
    check(tmp_path)
    asked = [wanted for path, wanted in mirror.asked if path == "/big.zip"]
    assert asked[:3] == [None, "bytes=300000-", "bytes=400000-"]
    assert asked[-1] == "bytes=600000-"


def test_next_run_goes_on_where_the_last_one_ended(tmp_path: Path, mirror: Mirror) -> None:
    mirror.cuts = [300_000, 0, 0, 0]
    sentence = (
        r"Cannot fetch http://127.*/big\.zip: the connection broke after 300,000 of 1,024,000 bytes \(4 attempts\)\. "
        r"What arrived is kept in .*big\.zip\.part\. Check the network and run again\."
    )
    with pytest.raises(FetchError, match=sentence):
        fetch("toy", tmp_path, base_url=mirror.url)
    assert not (tmp_path / "toy" / "big.zip").exists(), "half a file is never taken for one"
    mirror.asked.clear()
    fetch("toy", tmp_path, base_url=mirror.url)
    check(tmp_path)
    assert mirror.asked[0] == ("/big.zip", "bytes=300000-")


def test_server_without_ranges_starts_over(tmp_path: Path, mirror: Mirror) -> None:
    mirror.ranges, mirror.cuts = False, [300_000, 100_000]
    fetch("toy", tmp_path, base_url=mirror.url)
    check(tmp_path)


def test_server_that_does_not_tell_the_length(tmp_path: Path, mirror: Mirror) -> None:
    mirror.length = False
    told: list[tuple[str, int, int | None]] = []
    fetch("toy", tmp_path, base_url=mirror.url, progress=lambda *what: told.append(what))
    check(tmp_path)
    assert told[-1] == ("small.txt", 4, None)


def test_another_range_than_asked_for_is_refused(tmp_path: Path, mirror: Mirror) -> None:
    mirror.cuts, mirror.wrong_range = [300_000], True
    with pytest.raises(FetchError, match=r"the server sent another range than it was asked for"):
        fetch("toy", tmp_path, base_url=mirror.url)
    assert (tmp_path / "toy" / "big.zip.part").stat().st_size == 300_000


@pytest.mark.parametrize("left", [BODY, BODY + b"more", b"of something else"], ids=["whole", "too long", "foreign"])
def test_any_part_left_over(tmp_path: Path, mirror: Mirror, left: bytes) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "big.zip.part").write_bytes(left)
    fetch("toy", tmp_path, base_url=mirror.url)
    check(tmp_path)


def test_what_arrives_packed_otherwise(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same content is as good as the same bytes, from a mirror too."""
    mirror.files["/a"] = b"same"
    published = Published("a", "http://nowhere.invalid/a", "md5:0", lambda path: path.read_bytes() == b"same")
    monkeypatch.setattr(fetching, "PUBLISHED", {"toy": (published,)})
    fetch("toy", tmp_path, base_url=mirror.url)
    assert (tmp_path / "toy" / "a").read_bytes() == b"same"


def test_corrupt_body(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "big.zip").write_bytes(b"old")
    mirror.files["/big.zip"] = BODY[:-1] + b"!"
    sentence = r"Cannot use what http://.*/big\.zip sent: its checksum is not sha256:[0-9a-f]+\. It was removed, and"
    with pytest.raises(DataError, match=sentence):
        fetch("toy", tmp_path, base_url=mirror.url)
    assert (tmp_path / "toy" / "big.zip").read_bytes() == b"old"
    assert os.listdir(tmp_path / "toy") == ["big.zip"]


def test_no_such_file(tmp_path: Path, mirror: Mirror) -> None:
    sentence = r"Cannot fetch http://.*/wrong/big\.zip: the server answers 404 Not Found\. Check the address"
    with pytest.raises(FetchError, match=sentence):
        fetch("toy", tmp_path, base_url=mirror.url + "/wrong")
    assert len(mirror.asked) == 1, "asking again would not help"


def test_busy_server(tmp_path: Path, mirror: Mirror) -> None:
    mirror.failures = [503, 429]
    fetch("toy", tmp_path, base_url=mirror.url)
    check(tmp_path)
    (tmp_path / "toy" / "big.zip").unlink()
    mirror.failures = [503] * 10
    with pytest.raises(
        FetchError, match=r"big\.zip: the server answers 503 Service Unavailable \(4 attempts\)\. Check the"
    ):
        fetch("toy", tmp_path, base_url=mirror.url)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_no_network(tmp_path: Path, mirror: Mirror) -> None:
    with pytest.raises(
        FetchError, match=r"Cannot fetch http://127.*: no connection \(.*refused.*\) \(4 attempts\)\. Check"
    ):
        fetch("toy", tmp_path, base_url=f"http://127.0.0.1:{free_port()}")


def test_no_address(tmp_path: Path, mirror: Mirror) -> None:
    with pytest.raises(
        InputError, match=r"Cannot fetch 'mirror/big\.zip': it is not an address\. Give one that begins"
    ):
        fetch("toy", tmp_path, base_url="mirror")


def full(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "big.zip").write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(
            StorageError, match=r"Cannot write .*big\.zip.*: No space left on device\. .*Free some space"
        ):
            fetch("toy", tmp_path, base_url=mirror.url)
    assert (tmp_path / "toy" / "big.zip").read_bytes() == b"old"
    assert len(mirror.asked) == 1, "a full disk is not a broken connection"
    fetch("toy", tmp_path, base_url=mirror.url)
    check(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_disk_that_really_refuses(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "big.zip.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"Cannot write .*big\.zip\.part: No space left on device\."):
        fetch("toy", tmp_path, base_url=mirror.url)


def test_names() -> None:
    with pytest.raises(
        UnknownName, match=r"There is no data set to fetch called 'omniglott'\. Did you mean 'omniglot'\?"
    ):
        fetch("omniglott")
    with pytest.raises(InputError, match=r"There is nothing to fetch for 'sinusoid': it needs no files\."):
        fetch("sinusoid")


def test_loads_nothing_heavy() -> None:
    """The command line can fetch, and list data sets, without waiting for torch."""
    code = "import sys, quickstudy.data.fetch; print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_table_of_omniglot() -> None:
    files = {file.path: file for file in PUBLISHED["omniglot"]}
    for part, about in PARTS.items():
        assert files[f"{part}.zip"].checksum == f"md5:{about.md5}"
    for file in files.values():
        assert file.url.startswith("https://raw.githubusercontent.com/") and file.url.endswith(file.path.split("/")[-1])
    lists = [name for name in files if name.startswith("splits/vinyals/")]
    assert sorted(re.findall(r"(\w+)\.txt", " ".join(lists))) == ["test", "train", "trainval", "val"]


def test_real_omniglot(
    data_root: Path, omniglot: ArrayStore, tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: fetch the real files, cut off once, and use them. Repacked zips have other checksums."""
    published = []
    for file in PUBLISHED["omniglot"]:
        data = (data_root / "omniglot" / file.path).read_bytes()
        mirror.files[f"/{file.path}"] = data
        assert file.path.endswith(".zip") or file.checksum == "sha256:" + hashlib.sha256(data).hexdigest()
        checksum = "md5:" + hashlib.md5(data, usedforsecurity=False).hexdigest()
        published.append(Published(file.path, file.url, checksum, file.same_content))
    monkeypatch.setattr(fetching, "PUBLISHED", {"omniglot": tuple(published)})
    mirror.cuts = [5_000_000]
    fetch("omniglot", tmp_path, base_url=mirror.url)
    assert mirror.asked[:2] == [("/images_background.zip", None), ("/images_background.zip", "bytes=5000000-")]
    assert Omniglot(tmp_path).store.hash == omniglot.hash
    for file in PUBLISHED["omniglot"]:
        assert (tmp_path / "omniglot" / file.path).read_bytes() == mirror.files[f"/{file.path}"]


def test_repacked_omniglot_is_here(data_root: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repacked zip is known by its drawings, so nothing is asked of the network."""
    files = tuple(file for file in PUBLISHED["omniglot"] if "background" not in file.path)  # one zip takes two seconds
    monkeypatch.setattr(fetching, "PUBLISHED", {"omniglot": files})
    assert fetch("omniglot", data_root, base_url=mirror.url) == data_root / "omniglot"
    assert mirror.asked == []
