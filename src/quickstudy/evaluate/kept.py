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
from quickstudy.evaluate.possible import check_result
from quickstudy.evaluate.result import Result
from quickstudy.files import atomic_write_bytes

__all__ = ["load_kept", "read_result", "save_kept"]


def save_kept(path: Path, result: Result, provenance: dict[str, Any]) -> None:
    """Write the file whole or not at all, folders included.

    Args:
        path: of the file.
        result: what was measured.
        provenance: how, as JSON.

    Raises:
        StorageError: the disk refused; what was there before is unchanged.
    """
    whole = json.loads(result.to_json())
    about = _shortened(whole) | {"source": whole["source"], "provenance": provenance}
    atomic_write_bytes(path, (json.dumps(about) + "\n").encode())


def load_kept(path: Path) -> tuple[Result, dict[str, Any]]:
    """What :func:`save_kept` wrote: the result, and its provenance.

    Raises:
        DataError: as :func:`read_result`; or it does not say how it was measured.
    """
    about, provenance = _parts(path)
    if provenance is None:
        raise DataError(f"{path} does not say how it was measured (no provenance). Measure it with `make results`.")
    return _result(path, about), provenance


def read_result(path: Path) -> tuple[Result, dict[str, Any] | None]:
    """A result's file, with or without a provenance, held to what it can be.

    Raises:
        DataError: it is missing, cut off, or has missing or impossible fields; each is named.
    """
    about, provenance = _parts(path)
    return _result(path, about), provenance


def _parts(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The result's fields, and the provenance."""
    content = contents_of(path, "the result")  # outside, as its error is a ValueError, too
    try:
        about = json.loads(content)
    except ValueError as error:
        raise DataError(
            f"Cannot read {path} as a result: it is no JSON ({error}). It is cut off or foreign; copy it again."
        ) from error
    if not isinstance(about, dict):
        raise DataError(f"Cannot read {path} as a result: expected a JSON object, found {type(about).__name__}.")
    provenance = about.pop("provenance", None)
    if provenance is not None and not isinstance(provenance, dict):
        raise DataError(f"Cannot read {path} as a result: provenance is {type(provenance).__name__}, not an object.")
    return about, provenance


def _result(path: Path, about: dict[str, Any]) -> Result:
    _check_lengths(path, about)
    result = Result.from_json(json.dumps(about), str(path))
    check_result(path, result)
    return result


def _check_lengths(path: Path, about: dict[str, Any]) -> None:
    figures, episodes = about.get("per_episode"), about.get("episodes")
    if isinstance(figures, list) and isinstance(episodes, int) and len(figures) != episodes:
        raise DataError(
            f"{path} cannot be right: episodes is {episodes}, and per_episode has {len(figures)} figures. It was cut "
            "or edited; copy it from its run again."
        )


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(part) for key, part in value.items()}
    if isinstance(value, list):
        return [float(f"{one:.6g}") if isinstance(one, float) else _shortened(one) for one in value]
    return value
