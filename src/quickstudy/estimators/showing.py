"""Floor 6: what a fitted estimator says of itself: which learner, why, from what, and what is odd in the examples."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quickstudy.estimators.fewshot import AbstractFewShot

__all__ = ["beside_html", "beside_text", "learned", "paragraph"]


def learned(model: AbstractFewShot) -> str:
    """Which learner, why and from what, such as ``"drawings (grey, on even paper), from 20 pictures of 10 classes"``.

    Args:
        model: fitted.
    """
    chosen, n = model.chosen_, len(model.labels_)
    what = model.kind_ if n != 1 else model.kind_.removesuffix("s")
    classes = f" of {len(model.classes_)} classes" if hasattr(model, "classes_") else ""
    return f"{chosen.name} ({chosen.why}), from {n:,} {what}{classes}"


def beside_text(model: AbstractFewShot) -> str:
    """What stands behind an estimator's parameters in its repr, as comments of Python; nothing before ``fit``."""
    if not hasattr(model, "state_"):
        return ""
    return "".join([f"  # {learned(model)}", *(f"\n# {said}" for said in _warnings(model))])


def beside_html(model: AbstractFewShot) -> str:
    """The same under scikit-learn's diagram."""
    if not hasattr(model, "state_"):
        return ""
    return paragraph("Learner", learned(model)) + "".join(paragraph("Note", said) for said in _warnings(model))


def paragraph(head: str, said: str) -> str:
    """A sentence as HTML."""
    return f'<p class="quickstudy-learner"><b>{head}:</b> {html.escape(said)}</p>'


def _warnings(model: AbstractFewShot) -> list[str]:
    said = model.warning_
    return [] if said is None else [said]
