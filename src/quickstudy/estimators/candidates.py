"""Floor 6: the learners that examples of a kind are tried with: those that come trained, and plain ones beside them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quickstudy.episode import map_leaves
from quickstudy.errors import InputError
from quickstudy.estimators.advising import Answerer
from quickstudy.estimators.classifier import FewShotClassifier
from quickstudy.estimators.fewshot import AbstractFewShot
from quickstudy.estimators.files import Found
from quickstudy.estimators.inputs import looks_drawn
from quickstudy.estimators.regressor import FewShotRegressor
from quickstudy.keys import Integers
from quickstudy.targets import Inputs

__all__ = ["GUESS", "Candidate", "candidates_for", "made"]

GUESS = "guess"
"""The candidate that has learned nothing but which label is the most frequent, or the mean."""


@dataclass(frozen=True)
class Candidate:
    """A learner that is tried.

    Args:
        name: what it is called.
        plain: whether nobody trained anything for it.
        what: it is, in a few words.
    """

    name: str
    plain: bool
    what: str

    def answerer(self, found: Found, y: NDArray[Any], real: bool) -> Answerer:
        """Answers to questions about these examples.

        Args:
            found: examples.
            y: their classes, counted from 0, or their numbers.
            real: whether they are numbers.

        Raises:
            InputError: it cannot learn these, or a package is missing.
        """
        if self.name == GUESS:
            return _guessing(y, real)
        if found.kind == "rows":  # what is measured of columns is to be measured on each lesson alone
            return _by_fitting(self.name, found, y, real)
        return _by_features(self.name, found, y, real)


def candidates_for(found: Found, real: bool, more: Sequence[str] = ()) -> list[Candidate]:
    """What is tried.

    Args:
        found: the examples.
        real: whether a number is learned.
        more: names or folders of further learners.
    """
    guess = Candidate(GUESS, True, "the mean" if real else "always the most frequent class")
    known = {
        "rows": _of_rows(real),
        "pictures": _of_pictures,
        "texts": _of_texts(real),
        "sounds": _of_sounds,
    }[found.kind]
    usual = known(found)
    names = {candidate.name for candidate in usual}
    named = [Candidate(name, False, "as asked for") for name in dict.fromkeys(more) if name not in names]
    return [*usual, *named, guess]


def _of_rows(real: bool) -> Callable[[Found], list[Candidate]]:
    trained = Candidate("rows-real" if real else "rows", False, "shipped, in-context learner for tables")
    line = Candidate("ridge", True, "ridge regression") if real else Candidate("logistic", True, "logistic regression")
    return lambda found: [trained, line, *([] if real else [Candidate("knn", True, "nearest neighbour")])]


def _of_pictures(found: Found) -> list[Candidate]:
    names = ["drawings", "pictures"] if looks_drawn(found.X[:50]) else ["pictures", "drawings"]
    what = {"drawings": "shipped, for drawings and letters", "pictures": "shipped, for colour pictures"}
    plain = [
        Candidate("knn", True, "nearest neighbour on pixels"),
        Candidate("logistic", True, "logistic regression on pixels"),
    ]
    return [*(Candidate(name, False, what[name]) for name in names), *plain]


def _of_texts(real: bool) -> Callable[[Found], list[Candidate]]:
    head, words = ("ridge", "words-ridge") if real else ("logistic", "tf-idf")
    plain = "ridge regression on words" if real else "logistic regression on counted words"
    return lambda found: [
        Candidate(f"minilm-{head}", False, "pretrained sentence encoder"),
        Candidate(words, True, plain),
    ]


def _of_sounds(found: Found) -> list[Candidate]:
    del found
    return [
        Candidate("sounds", False, "shipped, for spoken words"),
        Candidate("mfcc-knn", True, "nearest neighbour on MFCC"),
        Candidate("mfcc-logistic", True, "logistic regression on MFCC"),
    ]


def _guessing(y: NDArray[Any], real: bool) -> Answerer:
    def answer(known: Integers, asked: Integers) -> NDArray[np.float64]:
        if real:
            return _explained(np.full(len(asked), y[known].mean()), y[asked], y)
        return np.asarray(y[asked] == np.bincount(y[known]).argmax(), dtype=np.float64)

    return answer


def _explained(said: NDArray[Any], true: NDArray[Any], every: NDArray[Any]) -> NDArray[np.float64]:
    """One less the squared error in units of the numbers' variance: R2 is its mean."""
    return np.asarray(1 - (said - true) ** 2 / max(float(every.var()), 1e-300), dtype=np.float64)


def _by_fitting(learner: str, found: Found, y: NDArray[Any], real: bool) -> Answerer:
    def answer(known: Integers, asked: Integers) -> NDArray[np.float64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # words that only a question has
            return said(known, asked)

    def said(known: Integers, asked: Integers) -> NDArray[np.float64]:
        if real:
            regressor = FewShotRegressor(learner=learner).fit(found.X[known], y[known])
            return _explained(regressor.predict(found.X[asked]), y[asked], y)
        model = FewShotClassifier(learner=learner).fit(found.X[known], y[known])
        return np.asarray(model.predict(found.X[asked]) == y[asked], dtype=np.float64)

    return answer


def _by_features(learner: str, found: Found, y: NDArray[Any], real: bool) -> Answerer:
    """Files are read once."""
    model = (FewShotRegressor if real else FewShotClassifier)(learner=learner).fit(found.X, y.tolist())
    labels = torch.from_numpy(y[:, None] if real else y)

    def answer(known: Integers, asked: Integers) -> NDArray[np.float64]:
        said = model._answer_of(_rows(model, known), labels[torch.from_numpy(known)], _rows(model, asked))
        if real:
            return _explained(said[:, 0], y[asked], y)
        return np.asarray(said.argmax(1) == y[asked], dtype=np.float64)

    return answer


def _rows(model: AbstractFewShot, rows: Integers) -> Inputs:
    return map_leaves(lambda leaf: leaf[torch.from_numpy(rows)], model.support_)


def made(
    candidates: Sequence[Candidate], found: Found, y: NDArray[Any], real: bool
) -> tuple[dict[str, Answerer], dict[str, str]]:
    """Those that can be made, and why others cannot."""
    answerers: dict[str, Answerer] = {}
    refused: dict[str, str] = {}
    for candidate in candidates:
        try:
            answerers[candidate.name] = candidate.answerer(found, y, real)
        except InputError as error:
            refused[candidate.name] = str(error)
    return answerers, refused
