"""Matching networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query, check_support, task_logs
from quickstudy.learners.parts.classwise import check_every_class, mask_absent, membership
from quickstudy.learners.parts.context import QueryContext, SupportContext
from quickstudy.learners.parts.embedder import Embedder, Features
from quickstudy.learners.parts.features import feature_size
from quickstudy.learners.parts.options import one_of
from quickstudy.learners.parts.similarity import Temperature, similarity
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import Moments, absorb_statistics


@dataclass(frozen=True, eq=False)
class Matches:
    """The support that queries are matched with.

    Args:
        known: features without context, ``[T, Ns, D]``, and their labels; what a later ``adapt`` adds to.
        embedded: g(x_i, S), ``[T, Ns, D]``; the same features where there is no context.
        moments: what norms measured on the support, where the network has norms that ask for it.
    """

    known: Examples
    embedded: Tensor
    moments: Moments


class MatchingNet(AbstractLearner):
    """Classify a query by attention to every support example: each votes for its own class.

    O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra, "Matching networks for one shot learning",
    NeurIPS 2016.

    adapt:      g_i = g(x_i, S), the features of the support; with ``fce`` they know of each other, by a bidirectional
                LSTM with a skip connection
    predict:    a_i = softmax_i(cos(f(x, S), g_i)), p_k = sum of a_i over class k, logits_k = log p_k; with ``fce``
                f(x, S) is K steps of an LSTM that attends to the support
    meta-loss:  cross-entropy of the query

    A prototypical network compares with each class's mean; with one example a class and the same distance the two are
    the same. With more, this one is a soft nearest neighbour.

    When to choose it: where a class has several modes, so that no mean stands for it. With one shot take a prototypical
    network. Full context costs a pass over the support.

    Deviations: the paper fine-tunes on the support in some rows of its tables, which is not done here. It leaves open
    where the query's LSTM begins; here at h_0 = f'(x). Divided by a temperature of 1, as in the paper, cosines lie too
    close together for a sharp softmax, so that even training tasks stay mistaken: a value near 0.1 learns faster and
    ends higher (docs/results.md has both, as claims of `quickstudy reproduce`).

    Inductive.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``, of support and query alike.
        distance: ``"cosine"`` (the paper) or ``"squared"`` Euclidean.
        temperature: similarities are divided by it.
        fce: full context embeddings; then the order of the support matters.
        fce_steps: K, steps of the query's LSTM.
        out_features: D, with ``fce``, where the network does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: no such distance, a temperature or a number of steps that is not above 0, or ``fce`` on features of
            unknown size.

    >>> from quickstudy.nets import MLP
    >>> MatchingNet(MLP(4), fce=True).traits.order_invariant
    False
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        distance: Literal["cosine", "squared"] = "cosine",
        temperature: float = 1.0,
        fce: bool = False,
        fce_steps: int = 5,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        one_of("MatchingNet", "distance", distance, ("cosine", "squared"))
        features = feature_size(net, out_features, "fce=True") if fce else None
        self.embed = Embedder(net, strategy, features=features)
        self.distance: Literal["cosine", "squared"] = distance
        self.temperature = Temperature("MatchingNet", temperature)
        self.g: SupportContext | None = None
        self.f: QueryContext | None = None
        if features is not None:
            if not fce_steps >= 1:
                raise InputError(f"MatchingNet needs at least one step of the query's LSTM, received {fce_steps}.")
            self.g, self.f = SupportContext(features), QueryContext(features, fce_steps)

    @property
    @override
    def traits(self) -> Traits:
        fce = self.g is not None
        return Traits(
            transductive=self.embed.transductive,
            order_invariant=not fce,
            incremental=self.embed.singly and not fce,
        )

    @override
    def adapt(self, support: Examples, *, state: Matches | None = None, key: Keys | None = None) -> Matches:
        check_support(support, state)
        self.embed.check_state(state)
        del key
        return self._store(self.embed.support(support), support, state)

    @override
    def predict(self, state: Matches, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state.known)
        return self._logits(state, self.embed.query(state.moments, query), query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The query loss, with support and query embedded in one pass; see ``parts.embedder``."""
        del key
        features, query = self.embed.episode(episode), episode.query
        state = self._store(features.support, episode.support, None)
        outputs = self._logits(state, features.query, query)
        return MetaLoss(self.loss(outputs, query), task_logs(outputs, query), features.carried)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        absorb_statistics(self.embed.net, carried)

    def _store(self, features: Features, support: Examples, before: Matches | None) -> Matches:
        known = Examples(features.out.flatten(2), support.y, support.target, support.mask)
        if before is not None:
            known = before.known.followed_by(known)
        assert isinstance(known.x, Tensor)
        check_every_class(membership(known).sum(1), known)
        embedded = known.x if self.g is None else self.g(known.x, known.labelled)
        return Matches(known, embedded, features.moments)

    def _logits(self, state: Matches, features: Tensor, query: Examples) -> Tensor:
        known, features = state.known, features.flatten(2)
        if self.f is not None:
            features = self.f(features, state.embedded, known.labelled)
        scores = self.temperature(similarity(features, state.embedded, self.distance))[:, :, None]  # [T, Nq, 1, Ns]
        there = known.labelled[:, None]  # [T, 1, Ns]
        members = membership(known).transpose(1, 2)  # [T, W, Ns]
        # A class without examples is one that the task does not have: it borrows all rows, to be masked below.
        members = torch.where(members.any(2, keepdim=True), members, there)
        votes = scores.masked_fill(~members[:, None], -torch.inf).logsumexp(3)  # [T, Nq, W]
        return mask_absent(votes - scores.masked_fill(~there[:, None], -torch.inf).logsumexp(3), query)
