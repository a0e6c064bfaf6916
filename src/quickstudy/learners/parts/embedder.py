"""Floor 3: support and query through one network, for learners that solve a task on its features.

In meta-training support and query go through the network in one pass, as in the code of most of these papers, so that
batch norm measures one batch; what it measured is *carried* and absorbed by the engine. In ``adapt`` and ``predict``
they go separately, in eval mode, so that a prediction depends on the support and that query alone. A network whose
norms use the current rows even then gets support and query separately in training as well: else it would be trained on
statistics that it never meets in a test.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.learners.learner import check_episode
from quickstudy.nets.apply import Applied, Strategy, apply
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
        features: how many features an example must have, where something was built for that many.
    """

    def __init__(self, net: nn.Module, strategy: Strategy = "auto", *, features: int | None = None) -> None:
        super().__init__()
        self.net, self.strategy, self.features = net, strategy, features

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
        applied = self.applied(support)
        return Features(applied.out, applied.moments)

    def query(self, moments: Moments, query: Examples) -> Tensor:
        """Features of queries, given what norms measured on the support."""
        return self.applied(query, moments if needs_support_moments(self.net) else None).out

    def episode(self, episode: Episode) -> EpisodeFeatures:
        """Features of support and query in one pass, for training.

        Not in one pass with norms that ask for the support's moments, which must not see the query, nor with norms that
        use the current rows in tests as well.

        Raises:
            InputError: the tasks cannot be learned from or scored; see ``learner.check_episode``.
        """
        check_episode(episode)
        support, query = episode.support, episode.query.unlabelled()
        if not self.singly:
            known = self.applied(support)
            asked = self.applied(query, known.moments if needs_support_moments(self.net) else None)
            return EpisodeFeatures(Features(known.out, known.moments), asked.out, _both(known.carried, asked.carried))
        applied = self.applied(support.unlabelled().followed_by(query))
        n = support.n_example
        return EpisodeFeatures(Features(applied.out[:, :n], applied.moments), applied.out[:, n:], applied.carried)

    def applied(self, examples: Examples, given: Moments | None = None) -> Applied:
        """All that one pass of the network over examples gives.

        Args:
            examples: ``[T, N, ...]``.
            given: moments of the support, for norms that ask for them.

        Raises:
            InputError: features without an axis, or of another size than was said.
        """
        applied = apply(self.net, examples.x, mask=examples.mask, given=given, strategy=self.strategy)
        check_features(applied.out, self.features)
        return applied


def _both(support: dict[str, Tensor], query: dict[str, Tensor]) -> dict[str, Tensor]:
    """What two passes carry, task after task, each task's support first."""
    shared = [name for name in support if name in query]
    return {name: torch.stack([support[name], query[name]], 1).flatten(0, 1) for name in shared}


def check_features(out: Tensor, expected: int | None = None) -> None:
    """A network gives vectors (or maps), of the expected size.

    Args:
        out: what it gave, ``[T, N, ...]``.
        expected: D, of the flattened features; None where any will do.

    Raises:
        InputError: it gives a single number an example, without an axis, or features of another size.
    """
    if out.dim() < 3:
        raise InputError(
            "The network gives features of shape [N]; this learner needs [N, D], an axis of features even where D is 1."
        )
    found = out.shape[2:].numel()
    if expected is not None and found != expected:
        raise InputError(
            f"The network gives {found} features an example, but this learner was built for {expected}. Build it with "
            f"a network whose attribute out_features (or map_shape) is right, or pass the right one."
        )
