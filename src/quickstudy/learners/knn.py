"""k-nearest neighbours, the baseline that needs no training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits, check_query, check_support
from quickstudy.learners.parts.classwise import check_every_class, mask_absent, membership
from quickstudy.learners.parts.features import check_singly, flat_features
from quickstudy.learners.parts.similarity import distances, nearest


class KNN(AbstractLearner):
    """The labels of the nearest support examples, in Euclidean distance.

    T. Cover, P. Hart, "Nearest neighbor pattern classification", IEEE Transactions on Information Theory 1967.

    adapt:      keep the support
    predict:    votes of the k nearest support examples; those at exactly the distance of the last one share the votes
                that are left, and a tie goes to the class that has the nearer one

    When to choose it: always, as the baseline that costs nothing. On pixels it shows what no learning gives.

    Deviations: none known, but for the shared votes.

    Inductive. It has nothing to train.

    Args:
        net: makes features; None: the inputs themselves (pixels).
        k: how many neighbours vote; all of them where the support has fewer.

    Raises:
        InputError: k below 1, or the network's norms look at other rows.

    >>> KNN(k=3).traits.incremental
    True
    """

    def __init__(self, net: nn.Module | None = None, *, k: int = 1) -> None:
        super().__init__()
        check_singly(net)
        if not k >= 1:
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
        check_every_class(membership(known).sum(1), known)
        return known

    @override
    def predict(self, state: Examples, query: Examples, *, key: Keys | None = None) -> Tensor:
        """Votes of the k nearest; a part of the smallest share of a vote, larger where nearer, breaks ties."""
        del key
        assert isinstance(state.x, Tensor)
        check_query(query, state)
        distance = distances(flat_features(self.net, query, state.x.shape[2]), state.x)  # [T, Nq, Ns]
        distance = distance.masked_fill(~state.labelled[:, None], torch.inf)
        nearer, level, share = nearest(distance, self.k)
        members = membership(state)  # [T, Ns, W]
        whole, shared = (part.to(distance.dtype) @ members.to(distance.dtype) for part in (nearer, level))
        voters = (nearer | level)[..., None] & members[:, None]  # [T, Nq, Ns, W]
        closest = distance[..., None].masked_fill(~voters, torch.inf).amin(2)
        # Votes differ by one of as many parts as there are rows at the last distance, if they differ at all.
        parts = level.sum(2, keepdim=True).clamp(min=1)
        return mask_absent(whole + share * shared + 0.5 / (1 + closest) / parts, query)
