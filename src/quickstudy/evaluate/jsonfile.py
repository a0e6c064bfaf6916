"""Floor 4: values that stand in files of JSON, read with one sentence where a file is none of them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from quickstudy.errors import DataError

__all__ = ["contents_of", "parsed"]

T = TypeVar("T")


def contents_of(path: Path, what: str) -> bytes:
    """The bytes of a file.

    Args:
        path: of the file.
        what: what it should hold, as in "Cannot read the result x.json".

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"Cannot read {what} {path}: {error.strerror}. Check the path.") from error


def parsed(adapter: TypeAdapter[T], text: str | bytes, name: str, what: str, again: str) -> T:
    """The value that a text stands for.

    Args:
        adapter: of the value's kind.
        text: the JSON.
        name: what the error calls it, such as its path.
        what: what it should be, as in "Cannot read x.json as a result".
        again: what to do.

    Raises:
        DataError: it is cut off, or something else; names the first field that is wrong.
    """
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"Cannot read {name} as {what}: {f'{where}: ' if where else ''}{first['msg']}. It is cut off or from "
            f"elsewhere; {again}"
        ) from error
