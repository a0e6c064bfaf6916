"""Floor 1: Parquet files with a column of pictures, or columns of numbers, and one of labels."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from quickstudy.data.big.entries import Entry, class_name
from quickstudy.data.big.sources import Source, reached
from quickstudy.errors import DataError, InputError

__all__ = ["Parquets"]

_ROWS = 256
"""Rows read at a time: some ten megabytes of pictures."""


class Parquets:
    """The rows of files, in the order of the files.

    Args:
        sources: the files.
        label: the column that says the class: text or whole numbers.
        picture: the column of pictures, files as bytes, or as ``{"bytes": ...}`` as Hugging Face writes them; None
            where there are ``features``.
        features: columns of numbers, or of lists of them, one after the other an example.

    Raises:
        InputError: pyarrow is not installed.
    """

    def __init__(self, sources: Sequence[Source], label: str, picture: str | None, features: Sequence[str]) -> None:
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise InputError(
                "Cannot read Parquet files: that takes pyarrow. Install it with: pip install 'quickstudy[parquet]'."
            ) from error
        self._parquet = pyarrow.parquet
        self._sources, self._label = sources, label
        self._columns = [picture] if picture is not None else list(features)
        self._pictures = picture is not None
        self.width: int | None = None
        """D, numbers an example; known when the first was read."""

    def entries(self) -> Iterator[Entry]:
        """All rows, with what they hold; a row's name is its number.

        Raises:
            DataError: a file is damaged, lacks a column or has another type there than the first; a row has no label,
                no picture, or other numbers than the first.
        """
        row, types = 0, None
        for number, source in enumerate(self._sources):
            with source.open() as file, reached(source.address):
                table = self._opened(source, file)
                types = self._checked(source, table.schema_arrow, types)
                names = _class_names(table.schema_arrow, self._label)
                columns = list(dict.fromkeys([self._label, *self._columns]))
                for batch in self._batches(source, table, columns):
                    labels = batch.column(self._label).to_pylist()
                    for label, content in zip(labels, self._contents(batch), strict=True):
                        where = f"row {row} (of {source.address}, and the files before it)"
                        group = self._group(label, names, where)
                        yield Entry(group, f"{row:015d}", number, 0, -1, self._content(content, where))
                        row += 1

    def _opened(self, source: Source, file: Any) -> Any:
        try:
            return self._parquet.ParquetFile(file)
        except Exception as error:  # pyarrow's errors are not of one kind
            raise _damaged(source, error) from error

    def _batches(self, source: Source, table: Any, columns: list[str]) -> Iterator[Any]:
        batches = table.iter_batches(batch_size=_ROWS, columns=columns, use_threads=False)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except Exception as error:  # likewise
                raise _damaged(source, error) from error
            yield batch

    def _checked(self, source: Source, schema: Any, before: dict[str, str] | None) -> dict[str, str]:
        """The types of the columns that are read, those of the first file."""
        wanted = [self._label, *self._columns]
        for name in wanted:
            if name not in schema.names:
                near = difflib.get_close_matches(name, schema.names, n=1, cutoff=0.5)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                option = "label" if name == self._label else "picture" if self._pictures else "features"
                raise DataError(
                    f"Cannot use {source.address}: it has no column {name!r}.{hint} It has {', '.join(schema.names)}: "
                    f"say which one with --data.{option}."
                )
        types = {name: str(schema.field(name).type) for name in wanted}
        for name, kind in types.items():
            if before is not None and before[name] != kind:
                raise DataError(
                    f"Cannot use {source.address}: its column {name!r} is {kind}, and {before[name]} in "
                    f"{self._sources[0].address}. Write the files alike."
                )
        if before is None:
            self._check_kinds(source, types)
        return types

    def _check_kinds(self, source: Source, types: dict[str, str]) -> None:
        label = types[self._label].removeprefix("dictionary<values=").partition(",")[0]
        if not label.removeprefix("large_").startswith(("string", "int", "uint", "bool")):
            raise DataError(
                f"Cannot take classes from the column {self._label!r} of {source.address}: it is {types[self._label]}; "
                "expected text or whole numbers. Say which column has the labels: --data.label."
            )
        for name in self._columns:
            kind = types[name]
            binary = kind in ("binary", "large_binary") or (kind.startswith("struct<") and "bytes: " in kind)
            numbers = any(word in kind for word in ("int", "float", "double", "halffloat")) and "struct" not in kind
            if self._pictures and not binary:
                advice = "--data.features for numbers" if numbers else "--data.picture for the column that has them"
                raise DataError(
                    f"Cannot take pictures from the column {name!r} of {source.address}: it is {kind}; expected bytes "
                    f"of picture files. Say {advice}."
                )
            if not self._pictures and not numbers:
                raise DataError(
                    f"Cannot take features from the column {name!r} of {source.address}: it is {kind}; expected "
                    "numbers, or lists of them."
                )

    def _contents(self, batch: Any) -> Iterator[Any]:
        columns = [batch.column(name).to_pylist() for name in self._columns]
        return iter(columns[0]) if self._pictures else zip(*columns, strict=True)

    def _group(self, label: Any, names: Sequence[str], where: str) -> str:
        text = "" if label is None else str(label)
        if not text or "\0" in text:
            raise DataError(
                f"Cannot use {where}: its label is {'missing' if not text else repr(text)} (column {self._label!r}). "
                "Fill it in, or leave such rows out."
            )
        return class_name(names[label] if isinstance(label, int) and 0 <= label < len(names) else text)

    def _content(self, content: Any, where: str) -> bytes:
        if self._pictures:
            found = content.get("bytes") if isinstance(content, dict) else content
            if not isinstance(found, bytes):
                raise DataError(
                    f"Cannot use {where}: it has no picture (column {self._columns[0]!r}). Fill it in, or leave such "
                    "rows out."
                )
            return found
        flat = [number for part in content for number in (part if isinstance(part, list) else [part])]
        if any(number is None or not math.isfinite(number) for number in flat):
            raise DataError(
                f"Cannot use {where}: a number is missing or not finite. Fill it in, or leave such rows out."
            )
        if self.width not in (None, len(flat)):
            raise DataError(
                f"Cannot use {where}: it has {len(flat)} numbers, and the first row {self.width}. Each needs as many."
            )
        self.width = len(flat)
        return np.asarray(flat, dtype="<f4").tobytes()


def _class_names(schema: Any, label: str) -> Sequence[str]:
    """What the numbers of classes are called, where Hugging Face's ``datasets`` wrote that into the file."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = about["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return ()
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _damaged(source: Source, error: Exception) -> DataError:
    said = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return DataError(
        f"Cannot read {source.address}: it is no Parquet file, cut off or damaged ({said}). Copy it again or "
        "leave it out."
    )
