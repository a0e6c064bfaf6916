"""A learner."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quickstudy.episode import Classes, Examples
from quickstudy.keys import Keys
from quickstudy.learners import AbstractLearner, Traits
from quickstudy.learners.learner import check_query, check_support
from quickstudy.nets import apply


@dataclass(frozen=True, eq=False)
class Memory:
    """The support: features ``[T, Ns, D]`` and the example set itself."""

    features: Tensor
    support: Examples


class SoftNeighbours(AbstractLearner):
    """Every support example votes for its class, the nearer the louder (Vinyals et al. 2016, without its LSTMs).

    Args:
        net: makes features.
        temperature: of the votes.
    """

    def __init__(self, net: nn.Module, *, temperature: float = 1.0) -> None:
        super().__init__()
        self.net, self.temperature = net, temperature

    @property
    def traits(self) -> Traits:
        """Any number of classes; nothing random."""
        return Traits()

    def adapt(self, support: Examples, *, state: Memory | None = None, key: Keys | None = None) -> Memory:
        """Remember the support."""
        check_support(support, state)
        del key
        return Memory(apply(self.net, support.x, mask=support.mask).out, support)

    def predict(self, state: Memory, query: Examples, *, key: Keys | None = None) -> Tensor:
        """Logarithms of the classes' shares of the votes."""
        check_query(query, state)
        del key
        features = apply(self.net, query.x, mask=query.mask).out
        loudness = -torch.cdist(features, state.features).square() / self.temperature  # [T, Nq, Ns]
        loudness = loudness.masked_fill(~state.support.labelled[:, None], -torch.inf)
        assert isinstance(query.target, Classes) and state.support.y is not None
        votes = []
        for label in range(int(query.target.way.max())):
            others = state.support.y != label
            votes.append(loudness.masked_fill(others[:, None], -torch.inf).logsumexp(2))
        return torch.stack(votes, 2).log_softmax(2)
