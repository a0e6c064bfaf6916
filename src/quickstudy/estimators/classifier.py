"""Floor 6: a classifier from a few examples of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch import Tensor
from typing_extensions import override

from quickstudy.episode import Classes
from quickstudy.errors import InputError
from quickstudy.estimators.fewshot import AbstractFewShot
from quickstudy.targets import Target

__all__ = ["FewShotClassifier"]


class FewShotClassifier(ClassifierMixin, AbstractFewShot):  # type: ignore[misc]
    """Learns classes from a few examples of each, with a learner that was meta-trained on other tasks.

    Predictions are inductive: what is said of an example depends on the labelled ones and on itself alone.

    Args:
        learner: ``"auto"``: what suits the examples; the name of a shipped learner (``quickstudy.shipped``) or of one
            that needs no training (``"knn"``, ``"logistic"``); the path of a saved learner or of a run; or a learner.
        rate: samples a second, where examples are waveforms.
        device: where it computes; no GPU is taken unless it is named here.

    Attributes:
        classes_: the labels, sorted; those that cannot be sorted stand in the order in which they came.

    >>> import numpy as np
    >>> X, y = np.eye(4)[[0, 0, 1, 1]], ["a", "a", "b", "b"]
    >>> FewShotClassifier(learner="knn").fit(X, y).predict(np.eye(4)[[1]]).tolist()
    ['b']
    """

    classes_: NDArray[Any]

    def __init__(self, learner: Any = "auto", *, rate: int | None = None, device: str = "cpu") -> None:
        self.learner = learner
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
        """The label of each example, ``[n]``."""
        best = self._outputs(X).argmax(1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each class, ``[n, classes]``, in the order of ``classes_``."""
        logits = self._outputs(X)
        weights = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(weights / weights.sum(1, keepdims=True))

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
        check_classification_targets(y)
        found, codes = np.unique(y, return_inverse=True)
        return found, codes.astype(np.int64)
    labels = list(y)
    try:
        names = sorted(set(labels))
    except TypeError:
        try:
            names = list(dict.fromkeys(labels))
        except TypeError as error:
            raise InputError(f"Labels must be something that can be told apart (hashable): {error}.") from error
    number = {name: place for place, name in enumerate(names)}
    kept: NDArray[Any] = np.array(names)
    if kept.ndim != 1 or kept.tolist() != names:  # tuples, or numbers beside text
        kept = np.empty(len(names), dtype=object)
        kept[:] = names
    return kept, np.array([number[label] for label in labels], dtype=np.int64)
