"""Floor 6: what people hand over by mistake, refused before anything is read, with what they may have meant."""

from __future__ import annotations

from collections.abc import Sequence, Set, Sized
from typing import Any

import numpy as np
from torch import Tensor

from quickstudy.data import audio
from quickstudy.data.picturefiles import SUFFIXES
from quickstudy.errors import InputError

__all__ = ["alone", "refuse_names_of_files", "refuse_none", "refuse_ragged", "refuse_several_kinds"]


def refuse_none(X: Any) -> None:
    """Refuse examples of which there are none.

    Raises:
        InputError: there are none.
    """
    n = len(X) if isinstance(X, list | tuple) else (*getattr(X, "shape", ()), 1)[0]  # a sparse matrix has no length
    if n == 0:
        raise InputError("There are no examples. Give at least one.")


def refuse_ragged(X: Any, who: str) -> None:
    """Refuse rows of several lengths, which recordings look like where nobody said that they are some.

    Args:
        X: rows.
        who: the estimator.

    Raises:
        InputError: they are of several lengths.
    """
    sizes = {len(row) for row in X if isinstance(row, Sized)} if isinstance(X, list | tuple) else set()
    if len(sizes) > 1:
        raise InputError(
            f"Rows must be of one length, found {min(sizes)} to {max(sizes)}. If they are waveforms, say how many "
            f"samples a second: {who}(rate=16000)."
        )


def refuse_several_kinds(items: Sequence[Any], kinds: Set[str]) -> None:
    """Refuse examples of several kinds; a gap among texts, as a column of a DataFrame has it, is called by its name.

    Raises:
        InputError: always.
    """
    for number, item in enumerate(items if "texts" in kinds else ()):
        if item is None or (isinstance(item, float) and item != item) or type(item).__name__ == "NAType":
            raise InputError(f"Text {number} is missing: it is {item}. Leave that example out, with its label.")
    raise InputError(
        f"Examples are of several kinds: {', '.join(sorted(kinds))}. Give examples of one kind; strings are texts, "
        "and pictures in files are given as pathlib.Path."
    )


def refuse_names_of_files(X: Sequence[Any]) -> None:
    """Refuse texts that are all names of picture or sound files, and would be learned by how they are spelt.

    Raises:
        InputError: they are.
    """
    if all(str(text).lower().endswith((*SUFFIXES, *audio.SUFFIXES)) for text in X):
        raise InputError(
            f"These texts are names of files, such as {str(X[0])!r}. To learn what is in the files, give "
            "pathlib.Path(name) for each; to learn the names, leave their endings off."
        )


def alone(X: Any) -> str:
    """What to do with a picture that stands alone, and so looks like rows; nothing of anything else."""
    return " Put a single picture into a list: [x]." if isinstance(X, np.ndarray | Tensor) and X.ndim == 2 else ""
