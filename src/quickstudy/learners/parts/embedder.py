"""Floor 3: support and query through one network, for learners that solve a task on its features.

In meta-training support and query go through the network in one pass, as the authors of these papers do, so that
batch norm measures one batch; what it measured is *carried* and absorbed by the engine. In ``adapt`` and ``predict``
they go separately, in eval mode, so that a prediction depends on the support and that query alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.nets.apply import Strategy, apply
from quickstudy.nets.norms import Moments, needs_support_moments, uses_current_rows


@dataclass(frozen=True, eq=False)
class Features:
    """Features of T tasks' examples.

    Args:
        out: ``[T, N, ...]`` as the network gives them, zero on padding.
        moments: what norms measured, for :meth:`Embedder.query`.
    """

    out: Tensor
    moments: Moments


@dataclass(frozen=True, eq=False)
class EpisodeFeatures:
    """Features of an episode.

    Args:
        support: ``[T, Ns, ...]``, with its moments.
        query: ``[T, Nq, ...]``.
        carried: what to hand to ``absorb_statistics``.
    """

    support: Features
    query: Tensor
    carried: dict[str, Tensor]


class Embedder(nn.Module):
    """A network, and the order in which support and query go through it.

    Args:
        net: maps ``[N, ...]`` to features.
        strategy: how it is run; see ``nets.apply``.
    """

    def __init__(self, net: nn.Module, strategy: Strategy = "auto") -> None:
        super().__init__()
        self.net, self.strategy = net, strategy

    @property
    def transductive(self) -> bool:
        """Whether a feature depends on the other queries (norms over the current rows, even in eval mode)."""
        return uses_current_rows(self.net)

    @property
    def singly(self) -> bool:
        """Whether each example's feature depends on that example alone."""
        return not (self.transductive or needs_support_moments(self.net))

    def check_state(self, state: object) -> None:
        """Features of an earlier support are still what they would be beside the new one.

        Raises:
            InputError: there is a state, but the network's norms look at the whole support.
        """
        if state is not None and not self.singly:
            raise InputError(
                "Cannot add to a state: this network's norms look at all examples of the support together, so the "
                "earlier ones would have other features now. Adapt to all examples at once, or build the network with "
                "norm='batch'."
            )

    def support(self, support: Examples) -> Features:
        """Features of the support alone."""
        applied = apply(self.net, support.x, mask=support.mask, strategy=self.strategy)
        return Features(applied.out, applied.moments)

    def query(self, moments: Moments, query: Examples) -> Tensor:
        """Features of queries, given what norms measured on the support."""
        given = moments if needs_support_moments(self.net) else None
        return apply(self.net, query.x, mask=query.mask, given=given, strategy=self.strategy).out

    def episode(self, episode: Episode) -> EpisodeFeatures:
        """Features of support and query in one pass, for training.

        Not in one pass with norms that ask for the support's moments, which must not see the query.
        """
        support, query = episode.support, episode.query.unlabelled()
        if needs_support_moments(self.net):
            known = self.support(support)
            return EpisodeFeatures(known, self.query(known.moments, query), {})
        both = support.unlabelled().followed_by(query)
        applied = apply(self.net, both.x, mask=both.mask, strategy=self.strategy)
        n = support.n_example
        return EpisodeFeatures(Features(applied.out[:, :n], applied.moments), applied.out[:, n:], applied.carried)
