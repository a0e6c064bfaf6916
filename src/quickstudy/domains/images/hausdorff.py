"""Floor 5: drawings compared point by point, the baseline that was published with Omniglot."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from quickstudy.episode import Examples, as_inputs, first_leaf
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits, check_query, check_support

__all__ = ["Hausdorff"]


class Hausdorff(AbstractLearner):
    """The label of the nearest drawing, in the modified Hausdorff distance of where ink is.

    M.-P. Dubuisson, A. Jain, "A modified Hausdorff distance for object matching", ICPR 1994: with h(A, B) the mean over
    the points of A of the distance to the nearest point of B, the larger of h(A, B) and h(B, A). Points are the pixels
    with ink, moved so that their mean is 0. Omniglot's own demonstration is this on pictures of 105 x 105 pixels.

    Inductive. It has nothing to train.
    """

    @property
    @override
    def traits(self) -> Traits:
        return Traits(incremental=True, trainable=False)

    @override
    def adapt(self, support: Examples, *, state: Examples | None = None, key: Keys | None = None) -> Examples:
        """The state is the support set: pictures ``[T, N, H, W]`` or ``[T, N, 1, H, W]``, ink bright."""
        check_support(support, state)
        del key
        if first_leaf(support.x).dim() not in (4, 5):
            raise InputError(
                f"The modified Hausdorff distance compares drawings, but examples have the shape "
                f"{list(first_leaf(support.x).shape[2:])}. Use it with pictures."
            )
        return support if state is None else state.followed_by(support)

    @override
    def predict(self, state: Examples, query: Examples, *, key: Keys | None = None) -> Tensor:
        """Logits ``[T, Nq, W]``: minus the distance to the nearest drawing of each class."""
        del key
        check_query(query, state)
        assert state.y is not None
        logits = torch.full((query.n_task, query.n_example, query.max_way), -torch.inf)
        for task in range(query.n_task):
            known, asked = (
                [_Drawing(one) for one in first_leaf(as_inputs(part.x, torch.float32))[task]] for part in (state, query)
            )
            for row in query.real[task].nonzero().flatten().tolist():
                for place in state.labelled[task].nonzero().flatten().tolist():
                    label = int(state.y[task, place])
                    near = -asked[row].distance(known[place])
                    logits[task, row, label] = max(float(logits[task, row, label]), near)
        return logits


class _Drawing:
    """Where there is ink, around its mean, quick to ask for the nearest; the middle of an empty sheet."""

    def __init__(self, picture: Tensor) -> None:
        from scipy.spatial import KDTree  # scipy takes longer to import than all of quickstudy

        ink = picture.reshape(-1, *picture.shape[-2:]).mean(0) > 0.5
        points = ink.nonzero().double().numpy()
        self.points = points - points.mean(0) if len(points) else np.zeros((1, 2))
        self.tree = KDTree(self.points)

    def distance(self, other: _Drawing) -> float:
        """The larger of the two mean distances to the other one's nearest point."""
        there, _ = other.tree.query(self.points)
        back, _ = self.tree.query(other.points)
        return max(float(np.mean(there)), float(np.mean(back)))
