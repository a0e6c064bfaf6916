"""Floor 1: a folder of records as a store: an index of where each lies, made once; pictures are read when drawn.

A folder is as the official conversion writes it: ``dataset_spec.json``, and for class n the file ``n.tfrecords``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.data.big.building import Plan
from quickstudy.data.big.entries import Entry, Mistakes
from quickstudy.data.big.index import ROLES
from quickstudy.data.big.keeping import open_or_build
from quickstudy.data.big.streamed import StreamedStore
from quickstudy.data.metadataset.examples import picture_and_label
from quickstudy.data.metadataset.pixels import of_record
from quickstudy.data.metadataset.records import content_of, maps, record_starts
from quickstudy.data.metadataset.specs import Spec, spec_of
from quickstudy.errors import DataError

__all__ = ["RecordFolder"]

_CODE = 1  # to be raised whenever the same bytes would give other pixels
_SUFFIX = ".tfrecords"


@dataclass(frozen=True)
class RecordFolder:
    """A data set of Meta-Dataset as records.

    Args:
        folder: that holds them.
    """

    folder: Path

    @cached_property
    def spec(self) -> Spec:
        """What is in them.

        Raises:
            DataError: the specification is missing or damaged.
        """
        return spec_of(self.folder)

    def store(self, size: int, ahead: int = 2) -> StreamedStore:
        """All pictures; their classes are numbered as in the specification.

        Args:
            size: pixels along a side.
            ahead: steps that are read ahead.

        Raises:
            DataError: files are missing, cut off, surplus, or do not hold what the specification says.
            StorageError: the index cannot be written.
        """
        spec = self.spec
        files = self._files(len(spec.classes))
        stamps: list[Any] = [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in files]
        listed = hashlib.sha256(json.dumps(spec.source, sort_keys=True).encode()).hexdigest()
        what = [os.path.realpath(self.folder), listed, stamps]
        index = open_or_build("meta-dataset", what, self._plan, lambda index: True)
        places = [(str(path), stat.st_mtime_ns) for path, stat in files]
        return StreamedStore(
            index,
            (3, size, size),
            lambda source, key, offset, length: maps.part(*places[source], offset, length),
            lambda record, name: of_record(record, name, size),
            self._name,
            made=[_CODE, size],
            ahead=ahead,
        )

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}{_SUFFIX}"

    def _name(self, source: int, key: str) -> str:
        return f"record {int(key)} of {self._path(source)}"

    def _files(self, count: int) -> list[tuple[Path, os.stat_result]]:
        found, mistakes = [], Mistakes()
        for number in range(count):
            path = self._path(number)
            try:
                found.append((path, path.stat()))
            except OSError as error:
                why = f"the file {path} of its class {self.spec.classes[number]!r} is missing ({error.strerror})"
                again = "Convert the data set again, or copy the file there."
                mistakes.add(path.name, DataError(f"Cannot use the records of {self.spec.name}: {why}. {again}"))
        mistakes.end()
        expected = {path.name for path, _ in found}
        surplus = sorted(name for name in os.listdir(self.folder) if name.endswith(_SUFFIX) and name not in expected)
        if surplus:
            raise DataError(
                f"Cannot use the records of {self.spec.name}: {self.folder / surplus[0]} belongs to none of the "
                f"{count} classes that its specification names. Move it away, or copy the right dataset_spec.json "
                "there."
            )
        return found

    def _plan(self) -> Plan:
        return Plan(self._entries(), self._content, self._name, self._roles, more="Convert the data set again.")

    def _entries(self) -> Iterator[Entry]:
        mistakes = Mistakes()
        for number, (name, count) in enumerate(zip(self.spec.classes, self.spec.images, strict=True)):
            path = self._path(number)
            try:
                starts = record_starts(path)
                if len(starts) - 1 != count:
                    raise DataError(
                        f"Cannot use {path}: it has {len(starts) - 1} records, and the specification counts {count} "
                        f"pictures of the class {name!r}. Convert the data set again, or copy the file again."
                    )
            except DataError as error:
                mistakes.add(path.name, error)
                continue
            for record, (start, size) in enumerate(zip(starts[:-1].tolist(), np.diff(starts).tolist(), strict=True)):
                yield Entry(f"{number:05} {name}", f"{record:08}", number, start, size)
        mistakes.end()

    def _content(self, entry: Entry) -> bytes:
        """The picture of one of the thousand whose bytes are looked at; its label has to be that of its file."""
        with open(self._path(entry.source), "rb") as file:
            file.seek(entry.offset)
            record = file.read(entry.size)
        name = self._name(entry.source, entry.key)
        picture, label = picture_and_label(content_of(record, name), name)
        if label != entry.source:
            raise DataError(
                f"Cannot use {name}: its label is {label}, and the file is of class {entry.source}. Convert the data "
                "set again."
            )
        return picture

    def _roles(self, names: list[str]) -> NDArray[np.uint8]:
        roles = np.zeros(len(names), dtype=np.uint8)
        for split, part in self.spec.parts.items():
            roles[part.start : part.stop] = ROLES[split]
        return roles
