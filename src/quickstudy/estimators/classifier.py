"""Floor 6: a classifier from a few examples of each class."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch import Tensor
from typing_extensions import override

from quickstudy.episode import Classes, map_leaves
from quickstudy.errors import InputError
from quickstudy.estimators.doubt import (
    LEAST,
    Promise,
    check_rate,
    folds,
    left_out,
    measured,
    nearest,
    threshold,
)
from quickstudy.estimators.fewshot import AbstractFewShot
from quickstudy.estimators.labelling import in_order
from quickstudy.targets import Target

__all__ = ["FewShotClassifier"]


class FewShotClassifier(ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, AbstractFewShot):  # type: ignore[misc]
    """Learns classes from a few examples of each, with a learner that was meta-trained on other tasks.

    Predictions are inductive: what is said of an example depends on the labelled ones and on itself alone.

    Args:
        learner: ``"auto"``: what suits the examples; the name of a shipped learner (``quickstudy.shipped``) or of one
            that needs no training (``"knn"``, ``"logistic"``); the path of a saved learner or of a run; or a learner.
        reject_unknown: the share of examples of the known classes that may be called unknown by mistake, such as 0.05;
            None: every example is of one of the classes.
        unknown: what ``predict`` calls an example that is unlike all that it was shown.
        rate: samples a second, where examples are waveforms.
        device: where it computes; no GPU is taken unless it is named here.

    Attributes:
        classes_: the labels, sorted; those that cannot be sorted stand in the order in which they came.
        promise_: what the rate of ``reject_unknown``, or of ``is_unknown``, holds for; see ``doubt.py``.
        set_promise_: what the coverage of ``predict_set`` holds for, likewise.

    >>> import numpy as np
    >>> X, y = np.eye(4)[[0, 0, 1, 1]], ["a", "a", "b", "b"]
    >>> FewShotClassifier(learner="knn").fit(X, y).predict(np.eye(4)[[1]]).tolist()
    ['b']
    """

    classes_: NDArray[Any]

    def __init__(
        self,
        learner: Any = "auto",
        *,
        reject_unknown: float | None = None,
        unknown: Any = "unknown",
        rate: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.learner = learner
        self.reject_unknown = reject_unknown
        self.unknown = unknown
        self.rate = rate
        self.device = device

    def fit(self, X: Any, y: Any) -> FewShotClassifier:
        """Learn the classes of these examples, and forget others.

        Args:
            X: n examples: rows ``[n, F]``, pictures ``[n, H, W]`` or ``[n, H, W, 3]`` or a list of Pillow's, or
                waveforms.
            y: n labels, anything that can be told apart.

        Raises:
            InputError: examples that cannot be read or of a single class, or a learner that cannot learn them.
        """
        if y is None:
            raise ValueError("FewShotClassifier requires y to be passed, but the target y is None.")
        if self.reject_unknown is not None:
            check_rate("reject_unknown", self.reject_unknown)
        self._fit(X, y)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Sequence[Any] | None = None) -> FewShotClassifier:
        """Learn further examples, of known or of new classes: the same as fitting all at once.

        Args:
            X: as in :meth:`fit`.
            y: likewise.
            classes: not needed, as new classes may come at any time; scikit-learn's meta-estimators hand it over.
        """
        del classes
        if not hasattr(self, "state_"):
            return self.fit(X, y)
        self._fit_more(X, y)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """The label of each example, ``[n]``; ``unknown`` where ``reject_unknown`` says so."""
        best = self._outputs(X).argmax(1)
        found: NDArray[Any] = self.classes_[best]
        if self.reject_unknown is None:
            return found
        found = found.astype(object)
        found[self.is_unknown(X)] = self.unknown
        return found

    def is_unknown(self, X: Any, rate: float | None = None) -> NDArray[np.bool_]:
        """Which examples are farther from every labelled one than labelled ones are from each other, ``[n]``.

        Args:
            X: as in :meth:`predict`.
            rate: by default ``reject_unknown``, or 0.05.

        Raises:
            InputError: the rate is none.
        """
        usual = 0.05 if self.reject_unknown is None else self.reject_unknown
        rate = usual if rate is None else rate
        check_rate("reject_unknown", rate)
        known, asked = self._embedded(self.support_), self._embedded(self._read(X))
        limit, _ = self._unknown_limit(known, rate)
        return np.asarray(nearest(known, asked) > limit)

    def _unknown_limit(self, known: Tensor, rate: float) -> tuple[float, Promise]:
        """From which distance to the nearest of ``known [n, D]`` on an example is unknown; what the rate holds for."""
        apart = left_out(known)
        told = measured(self.chosen_.calibration, "novelty", len(apart) / len(self.classes_), rate)
        if self.promise_ == "own examples":
            return threshold(apart, rate), self.promise_
        return float(apart.max()) if told is None else told * float(np.median(apart)), self.promise_

    def predict_set(self, X: Any, coverage: float = 0.9) -> NDArray[np.bool_]:
        """Which classes cannot be ruled out, ``[n, classes]`` in the order of ``classes_``.

        With the probability ``coverage`` the true class is among them, over examples like the labelled ones.

        Args:
            X: as in :meth:`predict`.
            coverage: above 0, below 1.
        """
        check_rate("coverage", coverage)
        said = 1 - self.predict_proba(X)
        limit, _ = self._set_limit(coverage)
        return np.asarray(said <= limit)

    def _set_limit(
        self, coverage: float, left_out: Callable[[], NDArray[np.float64]] | None = None
    ) -> tuple[float, Promise]:
        """Up to which doubt a class cannot be ruled out; what the coverage holds for.

        Args:
            coverage: see :meth:`predict_set`.
            left_out: :meth:`_left_out_scores`, or what has them at hand.
        """
        promise = self.set_promise_
        told = measured(self.chosen_.calibration, "doubt", len(self.labels_) / len(self.classes_), 1 - coverage)
        if told is not None and promise != "own examples":  # to score them would be for nothing
            return told, promise
        scores = (left_out or self._left_out_scores)()
        if promise == "own examples":
            return threshold(scores, 1 - coverage), promise
        return float(scores.max(initial=0.0)) if len(scores) else np.inf, promise

    @property
    def promise_(self) -> Promise:
        """See the class; known once it is fitted."""
        return self._promise("novelty", len(self.labels_))

    @property
    def set_promise_(self) -> Promise:
        """See the class; an example that is the only one of its class has no others to be measured by."""
        return self._promise("doubt", int((folds(self._understood(self.labels_)[0].numpy()) >= 0).sum()))

    def _promise(self, score: str, measurable: int) -> Promise:
        if measurable >= LEAST:
            return "own examples"
        return "tasks like those of validation" if (self.chosen_.calibration or {}).get(score) else "not guaranteed"

    def _left_out_scores(self) -> NDArray[np.float64]:
        """One minus the probability of each labelled example's class, by those of the other folds."""
        labels, _, _ = self._understood(self.labels_)
        codes = labels.numpy()
        fold = folds(codes)
        found = []
        for number in range(fold.max(initial=-1) + 1):
            out = fold == number
            there = torch.from_numpy(~out)
            logits = self._answer_of(
                map_leaves(lambda leaf, there=there: leaf[there], self.support_),  # type: ignore[misc]
                labels[there],
                map_leaves(lambda leaf, there=there: leaf[~there], self.support_),  # type: ignore[misc]
            )
            found.append(1 - softmax(logits, axis=1)[np.arange(int(out.sum())), codes[out]])
        return np.concatenate(found) if found else np.zeros(0)

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Features of each example, ``[n, D]``: of the learner's network; where it has none, the example's own numbers.

        Numbers of rows are in deviations of the labelled ones.
        """
        return self._embedded(self._read(X)).double().numpy()

    @property
    def _n_features_out(self) -> int:
        """How many features :meth:`transform` gives: scikit-learn numbers them, for ``set_output``."""
        return self._embedded(map_leaves(lambda leaf: leaf[:1], self.support_)).shape[1]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each class, ``[n, classes]``, in the order of ``classes_``."""
        return np.asarray(softmax(self._outputs(X), axis=1))

    @override
    def _understood(self, y: Any) -> tuple[Tensor, Target, int]:
        found, codes = _classes(y)
        if len(found) < 2:
            raise InputError(
                f"All examples are of one class, {found.tolist()[0]!r}, so there is nothing to tell apart. Give "
                "examples of at least two classes."
            )
        self.classes_ = found
        return torch.from_numpy(codes), Classes(torch.tensor([len(found)], device=self._device())), len(found)


def _classes(y: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The labels that there are, and the number of each example's."""
    if (isinstance(y, np.ndarray) and y.dtype != object) or hasattr(y, "iloc"):
        y = column_or_1d(np.asarray(y), warn=True)
        with warnings.catch_warnings():  # one or two examples of each class are what this is for
            warnings.filterwarnings("ignore", message="The number of unique classes is greater than 50%")
            check_classification_targets(y)
        found, codes = np.unique(y, return_inverse=True)
        return found, codes.astype(np.int64)
    labels = list(y)
    try:
        names = in_order(labels)
    except TypeError as error:
        raise InputError(f"Labels must be something that can be told apart (hashable): {error}.") from error
    number = {name: place for place, name in enumerate(names)}
    if {type(name) for name in names} in ({str}, {int}, {float}, {bool}):
        return np.array(names), np.array([number[label] for label in labels], dtype=np.int64)
    kept = np.empty(len(names), dtype=object)  # tuples, or numbers beside text: numpy would make other things of them
    for place, name in enumerate(names):
        kept[place] = name
    return kept, np.array([number[label] for label in labels], dtype=np.int64)
