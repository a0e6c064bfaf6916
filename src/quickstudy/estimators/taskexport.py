"""Floor 6: what an estimator has learned, as a file for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quickstudy import exporting
from quickstudy.errors import InputError, RunError
from quickstudy.exportfile import Format, write

if TYPE_CHECKING:
    from quickstudy.estimators.fewshot import AbstractFewShot

__all__ = ["export_task"]

_CLOSE = 1e-3  # of the largest number: rows are computed in float64 here, and in float32 there


def export_task(model: AbstractFewShot, path: str | Path, form: Format) -> float:
    """Write it; see ``quickstudy.exportfile.write``.

    Args:
        model: fitted.
        path: of the file.
        form: of the file.
    """
    chosen = model.chosen_
    if isinstance(model.support_, dict) and list(model.support_) == ["text"] and chosen.made is not None:
        raise InputError(
            f"Cannot export the task of {chosen.name}: it reads texts letter by letter, and what makes numbers "
            "of them is no graph of tensors. Use it through quickstudy, or export another learner."
        )
    about: dict[str, Any] = {
        "learner": chosen.name,
        "why": chosen.why,
        "kind": model.kind_,
        "reader": {"name": type(model.reader_).__name__, **model.reader_.settings},
    }
    if hasattr(model, "classes_"):
        about["labels"] = [_plain(label) for label in model.classes_.tolist()]
    if model.columns_:
        about["columns"] = list(model.columns_)
    if chosen.saved is not None:
        about["licence"] = chosen.saved.licence
    exported = exporting.task(
        f"the task of {chosen.name}",
        chosen.learner,
        model.state_,
        model.target_,
        model.support_,
        about,
        scale=model.scale_ if chosen.made is not None else None,
        units=chosen.units,
    )
    said = model._said(model.state_, model.support_, model.target_)
    if chosen.units is not None:
        said = said * chosen.units[1].numpy() + chosen.units[0].numpy()
    found = exported.module(*exported.inputs.values())[0].numpy()
    far = float(np.abs(said - found).max()) / max(1.0, float(np.abs(said).max()))
    if not far <= _CLOSE:
        raise RunError(
            f"Cannot export the task of {chosen.name}: in float32, in which files compute, it says something else, by "
            f"{far:.2g} of the largest number. Nothing was written."
        )
    return write(exported, path, form)


def _plain(label: Any) -> Any:
    return label if isinstance(label, str | int | float | bool | type(None)) else str(label)
