"""Floor 6: a folder that somebody handed on is data, and holds no program."""

from __future__ import annotations

from pathlib import Path

from quickstudy.errors import InputError

__all__ = ["refuse_pickles"]

_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".npy", ".npz")
_TENSORS = ".safetensors"  # whose first bytes are a length, any
_MARKS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # how pickles of protocols 2 to 5 begin


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
