"""k-nearest neighbours, the baseline that needs no training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits, check_support
from quickstudy.learners.parts.classwise import check_every_class, class_sums, mask_absent
from quickstudy.learners.parts.features import check_singly, flat_features


class KNN(AbstractLearner):
    """The labels of the nearest support examples, in Euclidean distance.

    T. Cover, P. Hart, "Nearest neighbor pattern classification", 1967.

    adapt:      keep the support
    predict:    votes of the k nearest support examples; a tie goes to the class that has the nearer one

    When to choose it: always, as the baseline that costs nothing. On pixels it shows what no learning gives.

    Deviations: none known.

    Args:
        net: makes features; None: the inputs themselves (pixels).
        k: how many neighbours vote; all of them where the support has fewer.
    """

    def __init__(self, net: nn.Module | None = None, *, k: int = 1) -> None:
        super().__init__()
        check_singly(net)
        if k < 1:
            raise InputError(f"k-NN needs k of at least 1, received {k}.")
        self.net, self.k = net, k

    @property
    @override
    def traits(self) -> Traits:
        return Traits(incremental=True, trainable=False)

    @override
    def adapt(self, support: Examples, *, state: Examples | None = None, key: Keys | None = None) -> Examples:
        """The state is the support set, with features in place of inputs."""
        check_support(support, state)
        del key
        features = flat_features(self.net, support)
        known = Examples(features, support.y, support.target, support.mask)
        if state is not None:
            known = state.followed_by(known)
        check_every_class(_counts(known), known)
        return known

    @override
    def predict(self, state: Examples, query: Examples, *, key: Keys | None = None) -> Tensor:
        """Votes of the k nearest; a fraction of a vote, the share of nearness, breaks ties."""
        del key
        assert isinstance(state.x, Tensor) and state.y is not None
        distance = torch.cdist(flat_features(self.net, query), state.x)  # [T, Nq, Ns]
        distance = distance.masked_fill(~state.labelled[:, None], torch.inf)
        nearest, index = distance.topk(min(self.k, state.n_example), 2, largest=False)  # [T, Nq, k]
        label = state.y[:, None].expand_as(distance).gather(2, index).clamp(min=0)
        votes = nearest.new_zeros(*nearest.shape[:2], state.max_way)
        votes = votes.scatter_add(2, label, torch.isfinite(nearest).to(votes.dtype))
        closest = nearest.new_full(votes.shape, torch.inf).scatter_reduce(2, label, nearest, "amin")
        return mask_absent(votes + 0.5 / (1 + closest), query)


def _counts(known: Examples) -> Tensor:
    assert isinstance(known.x, Tensor)
    return class_sums(known.x[..., :1], known)[1]
