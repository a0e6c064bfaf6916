"""Files of a web server: parts of them, where it gives parts out; a sentence where it does not."""

from __future__ import annotations

import functools
import http.server
import io
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from quickstudy.data.big.datasets import Parquet, Shards
from quickstudy.data.big.sources import Source
from quickstudy.errors import DataError
from tests.data.big.made import SIZE, SMALL, alike, parquet_of, shards_of

pytest.importorskip("aiohttp", reason="fsspec reads the web with it: pip install 'quickstudy[remote]'")


class Whole(http.server.SimpleHTTPRequestHandler):
    """Python's own: it ignores Range."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


class InParts(Whole):
    """The same with ranges, as other servers have them."""

    def send_head(self) -> Any:
        path, asked = Path(self.translate_path(self.path)), self.headers.get("Range")
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
        if path.is_dir() or not path.exists() or found is None:
            return super().send_head()
        whole = path.read_bytes()
        first = int(found[1])
        last = min(int(found[2] or len(whole)), len(whole) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(whole)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        return io.BytesIO(whole[first : last + 1])

    def copyfile(self, source: BinaryIO, outputfile: BinaryIO) -> None:  # type: ignore[override]
        outputfile.write(source.read())


@contextmanager
def served(folder: Path, by: type[Whole]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(by, directory=os.fspath(folder))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def folder(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("web")
    shards_of(pictures, place / "shards")
    parquet_of(pictures, place / "parquet")
    return place


Made = Callable[[str], Any]
PLACES: dict[str, Made] = {
    "numbered": lambda at: Shards(f"{at}/shards/part-{{000..002}}.tar", size=SIZE),
    "a folder": lambda at: Shards(f"{at}/shards/", size=SIZE),
    "a pattern": lambda at: Shards(f"{at}/shards/part-*.tar", size=SIZE),
    "Parquet": lambda at: Parquet(f"{at}/parquet/", size=SIZE),
}


@pytest.mark.parametrize("place", PLACES)
def test_tasks_are_those_of_the_same_files_here(place: str, folder: Path) -> None:
    expected = PLACES[place](str(folder)).tasks("train", **SMALL).episodes(range(4))
    with served(folder, InParts) as at:
        assert alike(PLACES[place](at).tasks("train", **SMALL).episodes(range(4)), expected)


@pytest.mark.parametrize("place", PLACES)
def test_a_server_of_whole_files_is_refused_in_a_sentence(place: str, folder: Path) -> None:
    with (
        served(folder, Whole) as at,
        pytest.raises(DataError, match=r"Cannot read parts of http://.*: its server sends whole files alone.*nginx"),
    ):
        _ = PLACES[place](at).store


def test_a_server_that_no_longer_gives_parts_out_is_refused_when_a_picture_is_drawn(folder: Path) -> None:
    with served(folder, Whole) as at:
        source = Source(f"{at}/shards/part-000.tar", 1000, "")
        with pytest.raises(DataError, match="its server sends whole files alone"):
            source.part(512, 10)


def test_a_file_that_changed_is_known_by_its_time(folder: Path) -> None:
    from quickstudy.data.big.sources import find

    with served(folder, InParts) as at:
        (before,) = find(f"{at}/shards/part-000.tar", ".tar", "shards")
        os.utime(folder / "shards" / "part-000.tar", (1e9, 1e9))
        from fsspec.implementations.http import HTTPFileSystem

        HTTPFileSystem.clear_instance_cache()
        (after,) = find(f"{at}/shards/part-000.tar", ".tar", "shards")
    assert before.stamp and before.stamp != after.stamp and before.size == after.size


def test_what_is_not_there_and_nobody_who_answers(folder: Path) -> None:
    with served(folder, InParts) as at:
        with pytest.raises(DataError, match=r"Cannot reach http://.*/nothing\.tar: FileNotFoundError: .*Check the add"):
            _ = Shards(f"{at}/nothing.tar").store
        gone = at
    with pytest.raises(DataError, match=r"Cannot reach http://127\.0\.0\.1.*Check the address"):
        _ = Shards(f"{gone}/shards/part-000.tar").store
    with pytest.raises(DataError, match=r"Cannot reach http://127\.0\.0\.1.*\*\.tar: .*Cannot connect to host"):
        _ = Shards(f"{gone}/shards/*.tar").store
