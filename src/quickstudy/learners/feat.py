"""FEAT."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import get_args

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import (
    AbstractLearner,
    MetaLoss,
    Traits,
    check_query,
    check_support,
    task_logs,
    task_loss,
)
from quickstudy.learners.parts.baseclassifier import BaseClassifier
from quickstudy.learners.parts.classwise import class_sums, mask_absent
from quickstudy.learners.parts.embedder import Embedder
from quickstudy.learners.parts.features import feature_size
from quickstudy.learners.parts.options import one_of
from quickstudy.learners.parts.prototypes import Prototypes, prototypes
from quickstudy.learners.parts.settoset import SetToSet, dropout_factors
from quickstudy.learners.parts.similarity import Distance, Temperature, similarity
from quickstudy.nets.apply import Strategy, apply
from quickstudy.nets.norms import absorb_statistics


@dataclass(frozen=True, eq=False)
class AdaptedPrototypes:
    """Prototypes that know of each other.

    Args:
        known: those before the transformation, to which a later ``adapt`` adds.
        centres: ψ(c), ``[T, W, D]``.
    """

    known: Prototypes
    centres: Tensor


class FEAT(AbstractLearner):
    """Prototypes that look at each other before queries are compared with them.

    H.-J. Ye, H. Hu, D.-C. Zhan, F. Sha, "Few-shot learning via embedding adaptation with set-to-set functions", CVPR
    2020 (FEAT: few-shot embedding adaptation with a transformer).

    adapt:      c_k = mean of f(x) over class k's support; the set of all c_k goes through ψ, one layer of
                self-attention: ψ(c) = LayerNorm(c + W softmax(q kᵀ / √D) v)
    predict:    logits_k = -|f(x) - ψ(c)_k|² / temperature
    meta-loss:  cross-entropy of the query + balance · contrast: all examples of one class, support and query, go
                through ψ as a set; each example (before ψ) must be nearest to the mean of its own class's set,
                by cross-entropy at contrast_temperature

    A prototypical network is the same without ψ: there a class's centre does not depend on which other classes it must
    be told from. The backbone is first trained on plain batches, then everything on tasks.

    When to choose it: on a backbone that was pretrained on many classes, when a prototypical network on it leaves
    classes of one task too close together.

    Deviations: no dropout on attention weights (the authors' code: 0.1); one learning rate for all weights (the
    authors': ten times larger for ψ); with ``distance="cosine"`` both sides are brought to unit length, in the authors'
    code the prototypes alone.

    Inductive: queries never enter ψ at test.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        classes: how many training classes plain batches have.
        distance: ``"squared"`` Euclidean, ``"euclidean"`` or ``"cosine"``.
        temperature: similarities to ψ(c) are divided by it; 64 is the authors' for Conv-4 at one shot.
        contrast_temperature: the same in the contrast; 16 is the authors'.
        balance: weight of the contrast; 0 leaves it out.
        dropout: of what attention adds, in training.
        out_features: D, where the network does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: no such distance, temperatures, balance or dropout out of range, or features of unknown size.

    >>> from quickstudy.nets import MLP
    >>> FEAT(MLP(4)).traits.phases
    ('batches', 'episodes')
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int | None = None,
        distance: Distance = "squared",
        temperature: float = 64.0,
        contrast_temperature: float = 16.0,
        balance: float = 1.0,
        dropout: float = 0.5,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        features = feature_size(net, out_features, "FEAT")
        one_of("FEAT", "distance", distance, get_args(Distance))
        if not (0 <= balance < inf and 0 <= dropout < 1):
            raise InputError(
                "FEAT needs a balance of at least 0 and a dropout from 0 up to, but not, 1, "
                f"received {balance} and {dropout}."
            )
        self.embed = Embedder(net, strategy, features=features)
        self.set_to_set = SetToSet(features)
        self.classifier = BaseClassifier(features, classes)
        self.distance: Distance = distance
        self.temperature = Temperature("FEAT", temperature)
        self.contrast_temperature = Temperature("FEAT", contrast_temperature)
        self.balance, self.dropout = balance, dropout

    @property
    @override
    def traits(self) -> Traits:
        return Traits(
            transductive=self.embed.transductive, incremental=self.embed.singly, phases=("batches", "episodes")
        )

    @override
    def adapt(
        self, support: Examples, *, state: AdaptedPrototypes | None = None, key: Keys | None = None
    ) -> AdaptedPrototypes:
        check_support(support, state)
        self.embed.check_state(state)
        del key
        before = None if state is None else state.known
        return self._adapted(prototypes(self.embed.support(support), support, before), None)

    @override
    def predict(self, state: AdaptedPrototypes, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, state.known.ways)
        return self._logits(state, self.embed.query(state.known.moments, query), query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The query loss and the contrast, with support and query embedded in one pass; see ``parts.embedder``."""
        keys = (Keys.default(episode.n_task) if key is None else key) if self.training and self.dropout else None
        features, query = self.embed.episode(episode), episode.query
        state = self._adapted(prototypes(features.support, episode.support, None), keys)
        outputs = self._logits(state, features.query, query)
        loss = self.loss(outputs, query)
        if self.balance:
            both = torch.cat([features.support.out, features.query], 1).flatten(2)
            loss = loss + self.balance * self._contrast(both, episode.support.followed_by(query), keys)
        return MetaLoss(loss, task_logs(outputs, query), features.carried)

    @override
    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        """Plain classification, which trains the network alone."""
        del key
        return self.classifier.batch_loss(
            apply(self.embed.net, batch.x, mask=batch.mask, strategy=self.embed.strategy), batch
        )

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        absorb_statistics(self.embed.net, carried)

    def _adapted(self, known: Prototypes, keys: Keys | None) -> AdaptedPrototypes:
        present = known.counts > 0  # [T, W]
        together = present[:, :, None] & present[:, None]
        return AdaptedPrototypes(known, self._transformed(known.means, together, present, keys, "prototypes"))

    def _contrast(self, features: Tensor, examples: Examples, keys: Keys | None) -> Tensor:
        """Loss ``[T]`` of telling each example ``[T, N, D]`` by the transformed means of the classes."""
        assert examples.y is not None
        counted = examples.labelled
        same = (examples.y[:, :, None] == examples.y[:, None]) & counted[:, :, None] & counted[:, None]
        sums, counts = class_sums(self._transformed(features, same, counted, keys, "contrast"), examples)
        centres = sums / counts.clamp(min=1)[..., None]
        logits = self.contrast_temperature(similarity(features, centres, self.distance))
        return task_loss(mask_absent(logits, examples), examples)

    def _transformed(self, x: Tensor, together: Tensor, real: Tensor, keys: Keys | None, use: str) -> Tensor:
        keep = None
        if keys is not None:
            keep = dropout_factors(keys.fold(use), real, x.shape[2], self.dropout, x.dtype)
        adapted: Tensor = self.set_to_set(x, together, keep)
        return adapted

    def _logits(self, state: AdaptedPrototypes, features: Tensor, query: Examples) -> Tensor:
        logits = self.temperature(similarity(features.flatten(2), state.centres, self.distance))
        return mask_absent(logits, query)
