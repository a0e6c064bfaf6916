"""Floor 1: bring a published data set into the data root.

A file arrives under ``<name>.part``, is continued where it was cut off, compared with its checksum and only then put in
place; what lay there before stays until that moment.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from quickstudy.data.published import FOLDERS, PUBLISHED, Published
from quickstudy.data.registry import data_sets
from quickstudy.errors import DataError, InputError, RunError, UnknownName
from quickstudy.files import data_root, storage_error, sync, sync_folder

__all__ = ["FetchError", "Progress", "fetch"]

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that are here, and the bytes there are (None: the server does not say)."""

ATTEMPTS = 4  # in a row that bring nothing new
WAIT = 1.0  # seconds before the second attempt; doubled each time
_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 16


class FetchError(RunError):
    """A data set could not be brought: no network, no such file, or a server that fails."""


class _CutError(Exception):
    """The connection broke, or the server is busy: worth another attempt."""


def fetch(
    name: str, root: Path | None = None, *, base_url: str | None = None, progress: Progress | None = None
) -> Path:
    """Bring a data set; files that are here already and right are left alone.

    Args:
        name: of the data set.
        root: the data root; by default QUICKSTUDY_DATA or the platform's data folder.
        base_url: a mirror, laid out like the data set's folder; by default each file's published address.
        progress: told of each piece that arrives.

    Returns:
        The folder that holds the data set.

    Raises:
        UnknownName: no such data set.
        InputError: the data set is made, not fetched.
        FetchError: no connection, or the server does not have or does not give the file.
        DataError: what arrived is not what was published.
        StorageError: the disk refused.
    """
    if name not in PUBLISHED:
        if name in data_sets.names():
            raise InputError(f"There is nothing to fetch for {name!r}: it needs no files. Use it as it is.")
        raise UnknownName.among("data set to fetch", name, PUBLISHED)
    folder = data_root(root) / FOLDERS.get(name, name)
    for published in PUBLISHED[name]:
        target = folder / published.path
        if target.is_file() and _is_right(target, published):
            continue
        url = published.url if base_url is None else f"{base_url.rstrip('/')}/{published.path}"
        _bring(url, target, published, progress or (lambda name, here, total: None))
    return folder


def _is_right(path: Path, published: Published) -> bool:
    if published.checksum is not None and _checksum_fits(path, published.checksum):
        return True
    return published.same_content is not None and published.same_content(path)


def _checksum_fits(path: Path, checksum: str) -> bool:
    algorithm, expected = checksum.split(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest() == expected


def _bring(url: str, target: Path, published: Published, progress: Progress) -> None:
    """Download, check and put in place one file."""
    part = target.with_name(f"{target.name}.part")
    continued = part.exists()
    _download(url, part, progress)
    if continued and not _is_right(part, published):
        # What was here may have been the beginning of something else.
        part.unlink()
        _download(url, part, progress)
    if not _is_right(part, published):
        part.unlink()
        wrong = "it does not hold what was published" if published.checksum is None else None
        raise DataError(
            f"Cannot use what {url} sent: {wrong or f'its checksum is not {published.checksum}'}. It was removed, and "
            f"whatever was at {target} before is unchanged. Try again later, or from another network."
        )
    with _refusals(target):
        os.replace(part, target)
    sync_folder(target)


def _download(url: str, part: Path, progress: Progress) -> None:
    """Fill ``part``, going on where it ends, through broken connections."""
    failures, furthest = 0, 0
    while True:
        try:
            return _continue(url, part, progress)
        except _CutError as error:
            here = part.stat().st_size if part.exists() else 0
            failures = 1 if here > furthest else failures + 1  # whoever gets further may try again
            furthest = max(here, furthest)
            if failures == ATTEMPTS:
                kept = f" What arrived is kept in {part}." if here else ""
                raise FetchError(
                    f"Cannot fetch {url}: {error} ({ATTEMPTS} attempts).{kept} Check the network and run again."
                ) from error
            time.sleep(WAIT * 2 ** (failures - 1))


def _continue(url: str, part: Path, progress: Progress) -> None:
    """One attempt: ask for what is missing and append it."""
    here = part.stat().st_size if part.exists() else 0
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={here}-"} if here else {})
    except ValueError as error:
        raise InputError(f"Cannot fetch {url!r}: it is not an address. Give one that begins with https://.") from error
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            start = _start(response, here)
            total = _total(response, start)
            _append(response, part, start, lambda now: progress(part.stem, now, total))
    except urllib.error.HTTPError as error:
        _answer(url, part, here, error)
        return
    except urllib.error.URLError as error:
        raise _CutError(f"no connection ({error.reason})") from error
    except (http.client.HTTPException, OSError) as error:
        raise _CutError(f"the connection broke ({str(error) or type(error).__name__})") from error
    arrived = part.stat().st_size
    if total is not None and arrived < total:
        raise _CutError(f"the connection broke after {arrived:,} of {total:,} bytes")


def _answer(url: str, part: Path, here: int, error: urllib.error.HTTPError) -> None:
    """Deal with an answer other than success: return if nothing is missing, raise otherwise."""
    with error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and here:
            if error.headers.get("Content-Range") == f"bytes */{here}":
                return
            part.unlink()
            raise _CutError("what was here was longer than the file") from error
        said = f"the server answers {error.code} {error.reason}"
        if error.code in (408, 429) or error.code >= 500:
            raise _CutError(said) from error
        raise FetchError(f"Cannot fetch {url}: {said}. Check the address, or give that of a mirror.") from error


def _start(response: http.client.HTTPResponse, here: int) -> int:
    """Where the bytes that come now belong: at ``here``, or at 0 from a server that does not know ranges."""
    if response.status != http.client.PARTIAL_CONTENT:
        return 0
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if not match or int(match[1]) != here:
        raise http.client.HTTPException("the server sent another range than it was asked for")
    return here


def _total(response: http.client.HTTPResponse, start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _append(response: http.client.HTTPResponse, part: Path, start: int, arrived: Callable[[int], None]) -> None:
    """Write what comes from byte ``start`` of ``part`` on."""
    with _refusals(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        file = open(part, "ab" if start else "wb")
    try:
        while piece := response.read1(_CHUNK):
            with _refusals(part):
                file.write(piece)
            arrived(file.tell())
        with _refusals(part):
            sync(file)
    finally:
        with _refusals(part):
            file.close()


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Tell an error of the disk from one of the network: both are OSErrors."""
    try:
        yield
    except OSError as error:
        raise storage_error(path, error) from error
