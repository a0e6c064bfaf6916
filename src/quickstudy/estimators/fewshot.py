"""Floor 6: what the estimators share: from examples to a learner that has adapted to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import validate_data
from torch import Tensor

from quickstudy.episode import Examples, map_leaves
from quickstudy.errors import InputError
from quickstudy.estimators.choosing import Chosen, Task, choose, reader_for
from quickstudy.estimators.inputs import AbstractReader, Kind, kind_of
from quickstudy.evaluate.metatest import evaluating
from quickstudy.keys import Key, Keys
from quickstudy.targets import Inputs, Target

__all__ = ["AbstractFewShot", "as_scikit_learn_knows"]

_AT_ONCE = 256
"""Queries that go through a learner together: what is said of one does not depend on the others."""


class AbstractFewShot(BaseEstimator):
    """A learner that was meta-trained, as scikit-learn knows estimators.

    Attributes:
        chosen_: the learner, what it is called and why it was taken.
        kind_: of the examples: ``"rows"``, ``"pictures"``, ``"texts"`` or ``"sounds"``.
        support_: the labelled examples, as they were given.
        state_: what they taught the learner.
    """

    learner: Any
    rate: int | None
    device: str
    chosen_: Chosen
    kind_: Kind
    reader_: AbstractReader
    state_: Any

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.string = tags.input_tags.three_d_array = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "state_")

    def _adapt(self, X: Any, y: Tensor, target: Target, outputs: int) -> None:
        """Choose a learner for these examples, as checked, and let it learn them."""
        name: Literal["classes", "real"] = "real" if y.is_floating_point() else "classes"
        columns = X.shape[1] if self.kind_ == "rows" else 0
        task = Task(self.kind_, name, outputs, len(y), columns)
        chosen = choose(self.learner, task, X)
        self.reader_ = reader_for(chosen, task, X, self.rate)
        learner = chosen.learner.to(self._device())
        support = Examples(self._inputs(X), y[None].to(self._device()), target)
        with evaluating(learner), torch.no_grad():
            self.state_ = learner.adapt(support, key=self._keys())
        self.chosen_, self.target_ = chosen, target

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        """``[n, W]`` logits or ``[n, D]`` values."""
        learner, found = self.chosen_.learner, []
        inputs = self._inputs(X)
        n = next(iter(inputs.values())).shape[1] if isinstance(inputs, dict) else inputs.shape[1]
        with evaluating(learner), torch.no_grad():
            for first in range(0, n, _AT_ONCE):
                part = map_leaves(lambda leaf, first=first: leaf[:, first : first + _AT_ONCE], inputs)  # type: ignore[misc]
                query = Examples(part, None, self.target_)
                found.append(learner.predict(self.state_, query, key=self._keys().fold("predict"))[0].cpu().double())
        return torch.cat(found).numpy()

    def _checked(self, X: Any, y: Any = None) -> tuple[Any, Any]:
        """Examples of this kind, and their labels, as long as each other.

        Raises:
            InputError: they are of another kind, or there are none, or as many labels.
            ValueError: as scikit-learn says it, of rows.
        """
        fitting = y is not None
        kind = kind_of(X, self.rate)
        if not fitting and kind != self.kind_:
            raise InputError(f"Cannot predict for {kind}: this estimator learned {self.kind_}.")
        if fitting:
            self.kind_ = kind
        if kind == "rows":
            options: dict[str, Any] = {"dtype": np.float64, "reset": fitting}
            if not fitting:
                return validate_data(self, X, **options), None
            if as_scikit_learn_knows(y):
                return validate_data(self, X, y, multi_output=True, **options)
            X = validate_data(self, X, **options)
        if len(X) == 0:
            raise InputError("There are no examples. Give at least one.")
        if fitting:
            y = y if hasattr(y, "__len__") else list(y)
            if len(y) != len(X):
                raise InputError(f"There are {len(X)} examples and {len(y)} labels. Give each example its label.")
        return X, y

    def _inputs(self, X: Any) -> Inputs:
        """``[1, n, ...]`` on the device, floating parts as the learner computes."""
        dtype = next((p.dtype for p in self._parameters() if p.is_floating_point()), torch.float64)

        def moved(leaf: Tensor) -> Tensor:
            leaf = leaf[None].to(self._device())
            return leaf.to(dtype) if leaf.is_floating_point() else leaf

        return map_leaves(moved, self.reader_.read(X))

    def _parameters(self) -> Sequence[Tensor]:
        chosen = getattr(self, "chosen_", None)
        return [] if chosen is None else list(chosen.learner.parameters())

    def _device(self) -> torch.device:
        return torch.device(self.device)

    def _keys(self) -> Keys:
        return Keys(Key.of(0, "estimator"), np.zeros(1, dtype=np.int64))

    def _check_fitted(self) -> None:
        if not hasattr(self, "state_"):
            raise NotFittedError(
                f"This {type(self).__name__} has not learned anything yet. Call fit(X, y) with labelled examples first."
            )


def as_scikit_learn_knows(y: Any) -> bool:
    """Whether labels are numbers or texts, and not a list of whatever can be told apart."""
    if not isinstance(y, list | tuple):
        return not (isinstance(y, np.ndarray) and y.dtype == object)
    kinds = {str if isinstance(label, str) else float if isinstance(label, float | int) else None for label in y}
    return kinds in ({str}, {float}) and not any(isinstance(label, bool) for label in y)
