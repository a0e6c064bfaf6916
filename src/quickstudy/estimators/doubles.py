"""Floor 6: examples that a task has already."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from torch import Tensor

from quickstudy.estimators.fewshot import AbstractFewShot
from quickstudy.estimators.files import Found
from quickstudy.targets import Inputs

__all__ = ["known_already"]


def known_already(model: AbstractFewShot, found: Found) -> dict[str, tuple[str, Any]]:
    """Which of the examples found are among the labelled ones, as the learner reads them.

    Two rows may well be alike and be of two patients: of rows, the place in their file has to be the same as well.

    Args:
        model: a fitted estimator.
        found: examples of its kind.

    Returns:
        Name -> the name and the label of the one that is known.
    """
    if found.kind == "rows":
        return _rows_known(model, found)
    known: dict[bytes, int] = {}
    for place, digest in enumerate(_digests(model.support_)):
        known.setdefault(digest, place)
    there = [known.get(digest) for digest in _digests(model.reader_.read(found.X))]
    return {
        name: (model.names_[place], model.labels_[place])
        for name, place in zip(found.names, there, strict=True)
        if place is not None
    }


def _rows_known(model: AbstractFewShot, found: Found) -> dict[str, tuple[str, Any]]:
    place_of = {name: place for place, name in enumerate(model.names_)}
    here = [number for number, name in enumerate(found.names) if name in place_of]
    if not here:
        return {}
    asked = _digests(model.reader_.read(found.chosen(here).X))
    known = _digests(model.support_)
    return {
        found.names[number]: (found.names[number], model.labels_[place_of[found.names[number]]])
        for number, digest in zip(here, asked, strict=True)
        if known[place_of[found.names[number]]] == digest
    }


def _digests(inputs: Inputs) -> list[bytes]:
    """Of each example; of texts of their letters, however long the row is that they stand in."""
    leaf = inputs if isinstance(inputs, Tensor) else inputs["text"] if "text" in inputs else next(iter(inputs.values()))
    rows = np.ascontiguousarray(leaf.cpu().numpy())
    padded = isinstance(inputs, dict) and "text" in inputs
    return [hashlib.sha256((row[row != 0] if padded else row).tobytes()).digest() for row in rows]
