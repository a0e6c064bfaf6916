"""Floor 6: everything that a classifier says of new examples at once, for who asks often.

What the answers need of the labelled examples alone (their features, from where on something is unknown, which doubt is
too much) is computed once and kept.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from quickstudy.estimators.classifier import FewShotClassifier
from quickstudy.estimators.doubt import Promise, check_rate
from quickstudy.estimators.together import Asked, Said

__all__ = ["Answer", "Answering", "weakest"]

_PROMISES: tuple[Promise, ...] = ("own examples", "tasks like those of validation", "not guaranteed")


@dataclass(frozen=True)
class Answer:
    """What is said of one example.

    Args:
        label: of the most probable class.
        probabilities: label -> probability.
        unknown: it is farther from every labelled example than the rate of ``reject_unknown`` allows.
        possible: labels that cannot be ruled out; None: nobody asked.
        nearest: number of a labelled example, its label, its distance; the nearest first.
    """

    label: Any
    probabilities: dict[Any, float]
    unknown: bool
    possible: list[Any] | None
    nearest: list[tuple[int, Any, float]]


@dataclass(eq=False)
class Answering:
    """A fitted classifier that keeps what its answers have in common.

    Args:
        model: fitted; must not be fitted again.
    """

    model: FewShotClassifier
    _known: Tensor | None = None
    _unknown: tuple[float, Promise] | None = None
    _scores: NDArray[np.float64] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def labels(self) -> list[Any]:
        """The classes, in their order."""
        found: list[Any] = self.model.classes_.tolist()
        return found

    @property
    def known(self) -> Tensor:
        """Features of the labelled examples, float64 ``[n, D]``."""
        if self._known is None:
            self._known = self.model._embedded(self.model.support_).double()
        return self._known

    def asked(self, X: Any) -> Asked:
        """New examples, read as the labelled ones were, for :func:`~quickstudy.estimators.together.answer_together`.

        Raises:
            InputError: they are of another kind, or cannot be read.
            ValueError: as scikit-learn says it, of rows.
        """
        return Asked(self.model, self.model._read(X))

    def answers(self, said: Said, *, nearest: int = 3, coverage: float | None = None) -> list[Answer]:
        """Answers in full.

        Args:
            said: of n queries.
            nearest: labelled examples to name.
            coverage: see ``FewShotClassifier.predict_set``.

        Raises:
            InputError: the coverage is none.
        """
        probable = softmax(said.logits, axis=1)
        apart = torch.cdist(said.features.double(), self.known)
        order = apart.argsort(dim=1, stable=True)[:, :nearest].tolist()
        limit = np.inf if self.model.reject_unknown is None else self._limit()[0]
        doubt = None if coverage is None else self._set_limit(coverage)[0]
        labels, of_example = self.labels, _plain(self.model.labels_)
        found = []
        for row, (chances, places) in enumerate(zip(probable, order, strict=True)):
            found.append(
                Answer(
                    labels[int(chances.argmax())],
                    dict(zip(labels, chances.tolist(), strict=True)),
                    bool(apart[row].min() > limit),
                    None
                    if doubt is None
                    else [label for label, p in zip(labels, chances, strict=True) if 1 - p <= doubt],
                    [(place, of_example[place], float(apart[row, place])) for place in places],
                )
            )
        return found

    def promise(self, coverage: float | None = None) -> Promise | None:
        """What rates hold for, the weaker of those that were asked for; None: none was."""
        found = [] if self.model.reject_unknown is None else [self._limit()[1]]
        if coverage is not None:
            found.append(self._set_limit(coverage)[1])
        return weakest(found)

    def _limit(self) -> tuple[float, Promise]:
        if self._unknown is None:
            assert self.model.reject_unknown is not None
            self._unknown = self.model._unknown_limit(self.known, self.model.reject_unknown)
        return self._unknown

    def _set_limit(self, coverage: float) -> tuple[float, Promise]:
        check_rate("coverage", coverage)
        return self.model._set_limit(coverage, self._left_out_scores)

    def _left_out_scores(self) -> NDArray[np.float64]:
        """Once, whatever coverage is asked for: each fold of the examples is learned anew for them."""
        with self._lock:
            if self._scores is None:
                self._scores = self.model._left_out_scores()
            return self._scores


def weakest(promises: Sequence[Promise]) -> Promise | None:
    """The one that holds for the fewest; None of none."""
    return max(promises, key=_PROMISES.index, default=None)


def _plain(labels: Any) -> list[Any]:
    return labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
