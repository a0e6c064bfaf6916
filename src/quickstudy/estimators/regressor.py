"""Floor 6: a regressor from a few examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin
from torch import Tensor
from typing_extensions import override

from quickstudy.episode import Real
from quickstudy.errors import InputError
from quickstudy.estimators.fewshot import AbstractFewShot
from quickstudy.targets import Target

__all__ = ["FewShotRegressor"]


class FewShotRegressor(MultiOutputMixin, RegressorMixin, AbstractFewShot):  # type: ignore[misc]
    """Learns numbers from a few examples, with a learner that was meta-trained on other tasks.

    Args:
        learner: as in :class:`FewShotClassifier`; plain ones are ``"knn"`` and ``"ridge"``.
        rate: samples a second, where examples are waveforms.
        device: where it computes; no GPU is taken unless it is named here.

    >>> import numpy as np
    >>> FewShotRegressor(learner="ridge").fit(np.eye(3), [1.0, 1.0, 4.0]).predict(np.eye(3)[[2]]) > 1.5
    array([ True])
    """

    def __init__(self, learner: Any = "auto", *, rate: int | None = None, device: str = "cpu") -> None:
        self.learner = learner
        self.rate = rate
        self.device = device

    def fit(self, X: Any, y: Any) -> FewShotRegressor:
        """Learn the numbers of these examples.

        Args:
            X: as in :meth:`FewShotClassifier.fit`.
            y: ``[n]`` or ``[n, D]``.
        """
        if y is None:
            raise ValueError("FewShotRegressor requires y to be passed, but the target y is None.")
        self._fit(X, y)
        return self

    def partial_fit(self, X: Any, y: Any) -> FewShotRegressor:
        """Learn further examples: the same as fitting all at once."""
        if not hasattr(self, "state_"):
            return self.fit(X, y)
        self._fit_more(X, y)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """The number of each example, ``[n]``, or ``[n, D]`` as ``y`` was."""
        found, units = self._outputs(X), self.chosen_.units
        if units is not None:
            found = found * units[1].numpy() + units[0].numpy()
        return found[:, 0] if self._flat else found

    @override
    def _understood(self, y: Any) -> tuple[Tensor, Target, int]:
        try:
            values = torch.tensor(np.asarray(y, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"A FewShotRegressor learns numbers, and these labels are none ({error}). For classes take a "
                "FewShotClassifier."
            ) from error
        if not torch.isfinite(values).all():
            place = int((~torch.isfinite(values.reshape(len(values), -1))).any(1).nonzero()[0])
            raise InputError(f"The label of example {place} is no finite number. Correct it, or leave the example out.")
        self._flat = values.dim() == 1
        values = values[:, None] if self._flat else values
        return values, Real(values.shape[1]), values.shape[1]
