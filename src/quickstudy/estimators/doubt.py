"""Floor 6: how sure a classifier may be: what is unlike all that it was shown, and which classes it cannot rule out.

Both are conformal: a score of the new example is set beside the scores of examples whose answer is known. Where there
are twenty examples of one's own those are theirs, each scored by the others (by leaving it out, or a fold of them);
with fewer, they are those of the validation tasks that the learner was measured on (``saved.py``: ``calibration``);
where it was not measured, nothing is promised, and the word says so.

V. Vovk, A. Gammerman, G. Shafer, "Algorithmic learning in a random world", 2005; for folds R. F. Barber, E. Candès,
A. Ramdas, R. Tibshirani, "Predictive inference with the jackknife+", Annals of Statistics 2021.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quickstudy.data.texttasks import texts_of
from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.parts.features import flat_features

__all__ = [
    "LEAST",
    "Promise",
    "embedded",
    "folds",
    "has_features",
    "left_out",
    "nearest",
    "network_of",
    "threshold",
    "words_of",
]

Promise: TypeAlias = Literal["own examples", "tasks like those of validation", "not guaranteed"]
"""What a rate or a coverage holds for."""

LEAST = 20
"""Examples from which on their own scores are used: with fewer a rate of 5 % cannot be told from none."""

Floats: TypeAlias = NDArray[np.float64]


def embedded(learner: AbstractLearner, examples: Examples) -> Tensor:
    """Features of each example, ``[n, D]``: those of the learner's network, or the numbers themselves, or of words.

    Args:
        learner: in eval mode.
        examples: of one task.
    """
    net = network_of(learner)
    if net is None and isinstance(examples.x, dict) and "text" in examples.x:
        return words_of(texts_of(examples)[0])
    return flat_features(net, examples)[0]


def words_of(texts: list[str]) -> Tensor:
    """``[n, 4096]``, float64, of length 1: words, and two in a row, wherever their hashes fall."""
    from sklearn.feature_extraction.text import HashingVectorizer

    words = HashingVectorizer(n_features=4096, ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]", norm="l2")
    return torch.from_numpy(words.transform(texts).toarray())


def has_features(learner: AbstractLearner) -> bool:
    """Whether a network of the learner makes features."""
    return network_of(learner) is not None


def network_of(learner: AbstractLearner) -> nn.Module | None:
    """The network that makes a learner's features, where it has one."""
    embed = getattr(learner, "embed", None)
    found = getattr(learner if embed is None else embed, "net", None)
    return found if isinstance(found, nn.Module) else None


def nearest(known: Tensor, asked: Tensor) -> Floats:
    """The distance of each of ``asked [m, D]`` to the nearest of ``known [n, D]``, ``[m]``."""
    return torch.cdist(asked.double(), known.double()).amin(1).numpy()


def left_out(known: Tensor) -> Floats:
    """The distance of each of ``known [n, D]`` to the nearest other one, ``[n]``."""
    apart = torch.cdist(known.double(), known.double())
    return apart.fill_diagonal_(math.inf).amin(1).numpy()


def threshold(scores: Floats, rate: float) -> float:
    """What the score of a further example of the same kind exceeds with probability ``rate`` at most.

    Args:
        scores: ``[n]``, of examples of that kind.
        rate: above 0, below 1.

    Returns:
        The ⌈(n + 1)(1 - rate)⌉-th smallest; infinite where there are too few to tell.
    """
    place = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    return math.inf if place > len(scores) else float(np.sort(scores)[place - 1])


def folds(codes: NDArray[np.int64], most: int = 5) -> NDArray[np.int64]:
    """A fold for each example, so that every class has examples in all others: ``[n]``, -1 for the only one of a class.

    Args:
        codes: the class of each, ``[n]``.
        most: folds.
    """
    found = np.full(len(codes), -1)
    for code in np.unique(codes):
        rows = np.flatnonzero(codes == code)
        if len(rows) > 1:
            found[rows] = np.arange(len(rows)) % most
    return found


def measured(calibration: Mapping[str, Any] | None, name: str, shot: float, rate: float) -> float | None:
    """The threshold that validation tasks of about as many shots had; None where they were not measured.

    Args:
        calibration: of a saved learner: name -> shots -> quantiles at 0, 1/200 .. 1.
        name: of the score.
        shot: examples a class, on average.
        rate: see :func:`threshold`.
    """
    table = (calibration or {}).get(name)
    if not table:
        return None
    key = min(table, key=lambda known: (abs(math.log(float(known) / shot)), float(known)))
    quantiles = np.asarray(table[key], dtype=np.float64)
    return float(np.interp(1 - rate, np.linspace(0, 1, len(quantiles)), quantiles))


def check_rate(name: str, rate: float) -> None:
    """Refuse what is no share.

    Raises:
        InputError: it is not above 0 and below 1.
    """
    if not (isinstance(rate, float | int) and 0 < rate < 1):
        raise InputError(f"{name} must be a number above 0 and below 1, such as 0.05, received {rate!r}.")
