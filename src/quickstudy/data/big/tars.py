"""Floor 1: tar shards, as WebDataset writes them: files of one example follow one another and share a name up to a dot.

    n01440764/0001.jpg                    the folder is the class; or
    0001.jpg 0001.cls                     the text of the file .cls (or .txt) is; or
    0001.jpg 0001.json                    a field of the .json is

Only headers and labels are read; what is between them is sought over.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from typing import IO

from quickstudy.data.big.entries import Entry, class_name
from quickstudy.data.big.sources import Source, reached
from quickstudy.errors import DataError, InputError

__all__ = ["Tars"]

_PADDING = 1 << 20
"""What may follow the last file of a shard, all zero: programs fill it up to a multiple of some size."""


class Tars:
    """What lies in shards.

    Args:
        sources: the shards.
        suffixes: of pictures, with their dots, in small letters.
        label: ``"auto"``: the file ``.cls`` where there is one, else the folder; ``"folder"``; what a file is called
            after its first dot, such as ``"cls"``; or ``"json.FIELD"``.
        picture: what the picture is called after its first dot, where an example has several; None: the only one.
    """

    def __init__(self, sources: Sequence[Source], suffixes: tuple[str, ...], label: str, picture: str | None) -> None:
        self._sources, self._suffixes, self._label, self._picture = sources, suffixes, label, picture
        self.beside = 0
        """Files that were passed over."""

    def entries(self) -> Iterator[Entry]:
        """All examples, shard by shard.

        Raises:
            DataError: a shard is cut off, damaged or compressed; an example has no picture, several, or no class.
        """
        for number, source in enumerate(self._sources):
            with source.open() as file, reached(source.address):
                found = 0
                for sample in _samples(source, file):
                    entry = self._entry(number, source, file, sample)
                    if entry is not None:
                        found += 1
                        yield entry
                if not found:
                    raise DataError(
                        f"Cannot use the shard {source.address}: it holds no picture ({', '.join(self._suffixes)})."
                    )

    def _entry(self, number: int, source: Source, file: IO[bytes], sample: _Sample) -> Entry | None:
        pictures = {ext: member for ext, member in sample.parts.items() if self._is_picture(ext)}
        if not pictures:
            self.beside += len(sample.parts)
            return None
        if len(pictures) > 1:
            raise DataError(
                f"Cannot use {sample.key} in {source.address}: it has {len(pictures)} pictures, {', '.join(pictures)}. "
                f"Say which one is meant: --data.picture {next(iter(pictures))}."
            )
        (ext, member), *_ = pictures.items()
        group = self._class_of(sample, source, file)
        if not group:
            raise DataError(
                f"Cannot use {sample.key} in {source.address}: it has no label ({self._expected(sample)}). Add it, or "
                "leave the example out."
            )
        if "\0" in group:
            raise DataError(
                f"Cannot use {sample.key} in {source.address}: its label {group!r} is no text. Write a name."
            )
        return Entry(class_name(group), f"{sample.key}.{ext}", number, member.offset_data, member.size)

    def _is_picture(self, ext: str) -> bool:
        return ext == self._picture if self._picture else f".{ext.rpartition('.')[2]}" in self._suffixes

    def _class_of(self, sample: _Sample, source: Source, file: IO[bytes]) -> str:
        name, _, field = self._label.partition(".")
        if name == "folder" or (name == "auto" and "cls" not in sample.parts):
            return os.path.basename(os.path.dirname(sample.key))
        member = sample.parts.get("cls" if name == "auto" else "json" if name == "json" else self._label)
        if member is None:
            return ""
        file.seek(member.offset_data)
        content = file.read(member.size)
        try:
            text = content.decode().strip()
            found = json.loads(text).get(field) if name == "json" else text
        except (ValueError, AttributeError) as error:
            raise DataError(
                f"Cannot read the label of {sample.key} in {source.address}: {error}. Expected "
                f"{'JSON with the field ' + repr(field) if name == 'json' else 'text'}."
            ) from error
        return "" if found is None else str(found)

    def _expected(self, sample: _Sample) -> str:
        if self._label in ("auto", "folder"):
            return f"expected {sample.key}.cls beside it, or a folder that is named as the class"
        name, _, field = self._label.partition(".")
        return f"expected {field!r} in {sample.key}.json" if name == "json" else f"expected {sample.key}.{self._label}"


class _Sample:
    """Files of one example: what each is called after the dot -> where it lies."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.parts: dict[str, tarfile.TarInfo] = {}


def _samples(source: Source, file: IO[bytes]) -> Iterator[_Sample]:
    sample: _Sample | None = None
    for member in _members(source, file):
        folder, name = os.path.split(member.name.removeprefix("./"))
        if name.startswith(".") or not name or "__MACOSX" in folder:
            continue
        stem, _, ext = name.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = _Sample(key)
        if ext.lower() in sample.parts:
            raise DataError(
                f"Cannot use the shard {source.address}: the file {member.name} stands there twice. Pack it again."
            )
        sample.parts[ext.lower()] = member
    if sample is not None:
        yield sample


def _members(source: Source, file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """The files of a shard, up to its end, of which one makes sure."""
    begins = file.read(6)
    file.seek(0)
    if begins[:2] == b"\x1f\x8b" or begins[:3] == b"BZh" or begins == b"\xfd7zXZ\0" or begins[:4] == b"(\xb5/\xfd":
        raise InputError(
            f"Cannot read {source.address} at any place, which tasks need: it is compressed. Unpack it to a plain "
            ".tar; pictures do not get smaller by it."
        )
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # else it remembers all
                if member.isfile():
                    yield member
            _check_end(source, file, archive.offset)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(
            f"Cannot read the shard {source.address}: it is cut off or damaged ({str(error).rstrip('.')}). Copy it "
            "again or leave it out."
        ) from error


def _check_end(source: Source, file: IO[bytes], end: int) -> None:
    """Whether two blocks of zeros end it, and nothing follows that would be passed over."""
    file.seek(end)
    rest = file.read(_PADDING + 1)
    if len(rest) < tarfile.BLOCKSIZE:
        raise DataError(
            f"Cannot read the shard {source.address}: it is cut off, after {end} bytes its end is missing. Copy it "
            "again or leave it out."
        )
    if rest.strip(b"\0"):
        raise DataError(
            f"Cannot read the shard {source.address}: {source.size - end} bytes follow its end, as where archives were "
            "written one after the other. Pack them into one, or keep them apart."
        )
