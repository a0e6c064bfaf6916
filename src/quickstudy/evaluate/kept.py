"""Floor 4: results that are kept for ever: a result with how it came about, in one file.

A run folder has every digit; here figures of single episodes have six, as these files are read by people and kept in
repositories.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quickstudy.errors import DataError
from quickstudy.evaluate.jsonfile import contents_of
from quickstudy.evaluate.result import Result
from quickstudy.files import atomic_write_bytes

__all__ = ["load_kept", "save_kept"]


def save_kept(path: Path, result: Result, provenance: dict[str, Any]) -> None:
    """Write the file whole or not at all, folders included.

    Args:
        path: of the file.
        result: what was measured.
        provenance: how, as JSON.

    Raises:
        StorageError: the disk refused; what was there before is unchanged.
    """
    about = _shortened(json.loads(result.to_json())) | {"provenance": provenance}
    atomic_write_bytes(path, (json.dumps(about) + "\n").encode())


def load_kept(path: Path) -> tuple[Result, dict[str, Any]]:
    """What :func:`save_kept` wrote: the result, and its provenance.

    Raises:
        DataError: the file is missing, cut off, no result, or does not say how it was measured.
    """
    text = contents_of(path, "the result")
    try:
        about = json.loads(text)
    except ValueError as error:
        raise DataError(
            f"Cannot read {path} as a result: it is no JSON ({error}). It is cut off or foreign."
        ) from error
    provenance = about.pop("provenance", None) if isinstance(about, dict) else None
    if not isinstance(provenance, dict):
        raise DataError(f"{path} does not say how it was measured (no provenance). Measure it with `make results`.")
    return Result.from_json(json.dumps(about), str(path)), provenance


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(part) for key, part in value.items()}
    if isinstance(value, list):
        return [float(f"{one:.6g}") if isinstance(one, float) else _shortened(one) for one in value]
    return value
