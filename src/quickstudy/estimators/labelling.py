"""Floor 6: labels as people hand them over: lists, arrays, tensors, columns of a DataFrame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from quickstudy.errors import InputError

__all__ = ["as_scikit_learn_knows", "in_order", "joined_labels", "plain_labels"]


def plain_labels(y: Any) -> Any:
    """Labels as an array, or as a list where they are a list or anything else that can be gone through.

    Tensors become numbers: as labels two tensors are never the same.

    Raises:
        InputError: they are no list of labels, or one is missing (NaN, or pandas' NA or NaT); names it.
    """
    if isinstance(y, Tensor):
        y = y.detach().cpu().numpy()
    elif hasattr(y, "iloc") or hasattr(y, "__array__"):
        y = np.asarray(y)
    elif isinstance(y, str | bytes) or not hasattr(y, "__iter__"):
        raise InputError(f"Expected a list of labels, one for each example, received one {type(y).__name__}: {y!r}.")
    else:
        y = [label.item() if isinstance(label, Tensor) and label.dim() == 0 else label for label in y]
    _refuse_missing(y)
    return y


def _refuse_missing(y: Any) -> None:
    if isinstance(y, np.ndarray) and y.dtype.kind not in "OfMm":
        return
    missing = next((place for place, label in enumerate(y) if _is_missing(label)), None)
    if missing is not None:
        raise InputError(
            f"The label of example {missing} is missing: it is {y[missing]}. Give it one, or leave the example out."
        )


def _is_missing(label: Any) -> bool:
    if isinstance(label, float | np.floating | np.datetime64 | np.timedelta64):
        return bool(label != label)
    return type(label).__name__ in ("NAType", "NaTType")  # pandas', which need not be here


def joined_labels(known: Any, more: Any) -> Any:
    """One after the other."""
    arrays = isinstance(known, np.ndarray) and isinstance(more, np.ndarray)
    if arrays and known.dtype.kind == more.dtype.kind and known.shape[1:] == more.shape[1:]:
        return np.concatenate([known, more])
    return [*known, *more]


def as_scikit_learn_knows(y: Any) -> bool:
    """Whether labels are numbers or texts, and not a list of whatever can be told apart."""
    if not isinstance(y, list | tuple):
        return not (isinstance(y, np.ndarray) and y.dtype == object)
    kinds = {str if isinstance(label, str) else float if isinstance(label, float | int) else None for label in y}
    return kinds in ({str}, {float}) and not any(isinstance(label, bool) for label in y)


def in_order(labels: Sequence[Any]) -> list[Any]:
    """Each label once: sorted, or in the order in which they came where they have none of their own.

    Sets can be compared, too, but by what they contain: sorted, they would stand in another order in each process.

    Raises:
        TypeError: one is not hashable.
    """
    found = dict.fromkeys(labels)
    if any(isinstance(label, frozenset) for label in found):
        return list(found)
    try:
        return sorted(found)
    except TypeError:
        return list(found)
