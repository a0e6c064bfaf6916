"""Floor 6: a folder of files, and one in JSON that knows the digests of all: what was cut off or changed is found.

Such folders are handed on. They are data, and hold no program: one with a pickle in it is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quickstudy.errors import CheckpointError, InputError
from quickstudy.files import atomic_write_bytes

__all__ = ["broken", "refuse_pickles", "seal", "unseal"]

_PICKLES = (".pkl", ".pickle", ".bin", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".npy", ".npz")
_TENSORS = ".safetensors"  # whose first bytes are a length, any
_MARKS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # how pickles of protocols 2 to 5 begin


def seal(folder: Path, name: str, about: Mapping[str, Any], others: tuple[str, ...]) -> None:
    """Write the file that knows the others, last of all.

    Args:
        folder: where they lie.
        name: of the file.
        about: its content, as JSON.
        others: names of the files that were written before.

    Raises:
        InputError: a text in it is no valid Unicode.
        StorageError: the disk refused.
    """
    _check_texts(about, name)
    whole = {**about, "sha256_of": {other: _sha(folder / other) for other in others}}
    whole["sha256"] = _digest(whole)
    atomic_write_bytes(folder / name, written(whole).encode() + b"\n")


def written(about: Mapping[str, Any]) -> str:
    """As JSON that people can read: a key a line, and a list of numbers on one, however long.

    >>> print(written({"a": [1, 2.5, -3e-5], "b": ["x"]}))
    {
     "a": [1, 2.5, -3e-05],
     "b": [
      "x"
     ]
    }
    """
    text = json.dumps(about, indent=1, ensure_ascii=False)
    # Texts have no bare line breaks, so that what begins with one after a bracket is a list.
    return re.sub(r"\[\n[\s\d.,eE+-]*\]", lambda found: "[" + " ".join(found[0][1:-1].split()) + "]", text)


def unseal(folder: Path, name: str, schema: int, what: str) -> dict[str, Any]:
    """What :func:`seal` wrote.

    Args:
        folder: where it lies.
        name: of the file.
        schema: that ``about["schema"]`` must be.
        what: how errors call the folder, such as ``"learner"``.

    Raises:
        InputError: there is a pickle in it.
        CheckpointError: a file is missing, cut off or was changed.
    """
    refuse_pickles(folder)
    try:
        about = json.loads((folder / name).read_bytes())
    except ValueError as error:
        raise broken(what, folder, f"{name} is cut off or no JSON") from error
    except OSError as error:
        raise broken(what, folder, f"{name} cannot be read ({error.strerror or error})") from error
    if not isinstance(about, dict) or about.get("schema") != schema:
        raise broken(what, folder, f"{name} is not of this version of quickstudy")
    if _digest(about) != about.get("sha256"):
        raise broken(what, folder, f"{name} was changed (its SHA-256 is not the one that it holds)")
    for other, digest in about["sha256_of"].items():
        if not (folder / other).is_file():
            raise broken(what, folder, f"{other} is missing")
        if _sha(folder / other) != digest:
            raise broken(what, folder, f"{other} is cut off or was changed (its SHA-256 is not the one in {name})")
    return about


def broken(what: str, folder: Path, why: str) -> CheckpointError:
    """The sentence for a folder that cannot be loaded."""
    return CheckpointError(f"Cannot load the {what} {folder}: {why}. Copy it again, or make it anew.")


def refuse_pickles(folder: Path) -> None:
    """Refuse a folder of a task or of a learner with a file that may run a program when it is read.

    Nothing here would read it, but whoever gets the folder from us might; quickstudy never writes one.

    Raises:
        InputError: there is such a file; names it.
    """
    for file in sorted(folder.rglob("*")):
        if not file.is_file():
            continue
        with file.open("rb") as opened:
            begins = opened.read(2) in _MARKS
        if (begins and file.suffix != _TENSORS) or file.suffix.lower() in _PICKLES:
            raise InputError(
                f"Cannot use {folder}: it holds {file.relative_to(folder)}, which is or may be a pickle, and "
                "quickstudy writes none. Get the folder from whoever made it, or remove that file if you know it."
            )


def _check_texts(part: Any, name: str) -> None:
    """Whether all texts can be written: Python's may hold half of a pair of surrogates, UTF-8 may not."""
    if isinstance(part, Mapping):
        part = [*part, *part.values()]
    if isinstance(part, list | tuple):
        for one in part:
            _check_texts(one, name)
    elif isinstance(part, str):
        try:
            part.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"Cannot write {name}: the text {part!r} is no valid Unicode (half of a pair of surrogates at "
                f"character {error.start}). Give the label, or the file, another name."
            ) from error


def _sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(about: Mapping[str, Any]) -> str:
    content = {name: value for name, value in about.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
