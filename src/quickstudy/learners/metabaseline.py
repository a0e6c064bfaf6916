"""Meta-Baseline: a classifier first, then meta-learning."""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query, check_support, task_logs
from quickstudy.learners.parts.baseclassifier import BaseClassifier
from quickstudy.learners.parts.classwise import mask_absent
from quickstudy.learners.parts.embedder import Embedder
from quickstudy.learners.parts.features import feature_size
from quickstudy.learners.parts.prototypes import Prototypes, prototypes
from quickstudy.learners.parts.similarity import similarity
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import absorb_statistics


class MetaBaseline(AbstractLearner):
    """Train a network as a classifier over all training classes, then meta-train it by cosines to class means.

    Y. Chen, Z. Liu, H. Xu, T. Darrell, X. Wang, "Meta-Baseline: exploring simple meta-learning for few-shot
    learning", ICCV 2021.

    batch-loss: cross-entropy of A f(x) + a over all training classes; A and a are then thrown away
    adapt:      c_k = mean of f(x) over class k's support
    predict:    logits_k = τ cos(f(x), c_k)
    meta-loss:  cross-entropy of the query; τ is learned with the network

    Without the second phase it is the paper's Classifier-Baseline. It is a prototypical network with the cosine and a
    learned temperature 1/τ that begins from a classifier; SimpleShot stops after the classifier.

    When to choose it: with a large network, which tasks alone train slowly. The paper found that the second phase gains
    most where new classes are like the training classes, and that under a change of domain it may lose.

    Deviations: in meta-training batch norm measures each task by itself; the authors put all tasks of a step through
    the network as one batch.

    Inductive: in eval mode batch norm uses running statistics, TaskNorm the support's. Only a network that normalises
    with the current rows even then makes it transductive, and it says so.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        classes: how many training classes there are; needed for the first phase.
        scale: τ at the beginning.
        learn_scale: τ is trained.
        out_features: D, where the network does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: a scale that is not above 0, or the network's feature size is not known.

    >>> from quickstudy.nets import MLP
    >>> MetaBaseline(MLP(4), classes=64).traits.phases
    ('batches', 'episodes')
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int | None = None,
        scale: float = 10.0,
        learn_scale: bool = True,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        if not 0 < scale < inf:
            raise InputError(f"Meta-Baseline needs a scale above 0, received {scale}.")
        self.embed = Embedder(net, strategy)
        self.classifier = BaseClassifier(feature_size(net, out_features), classes)
        self.scale = nn.Parameter(torch.tensor(float(scale)), requires_grad=learn_scale)

    @property
    @override
    def traits(self) -> Traits:
        return Traits(
            transductive=self.embed.transductive, incremental=self.embed.singly, phases=("batches", "episodes")
        )

    @override
    def adapt(self, support: Examples, *, state: Prototypes | None = None, key: Keys | None = None) -> Prototypes:
        check_support(support, state)
        self.embed.check_state(state)
        del key
        return prototypes(self.embed.support(support), support, state)

    @override
    def predict(self, state: Prototypes, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, state.ways)
        return self._logits(state, self.embed.query(state.moments, query), query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The query loss, with support and query embedded in one pass; see ``parts.embedder``."""
        del key
        features, query = self.embed.episode(episode), episode.query
        state = prototypes(features.support, episode.support, None)
        outputs = self._logits(state, features.query, query)
        logs = task_logs(outputs, query) | {"scale": self.scale.detach().expand(query.n_task)}
        return MetaLoss(self.loss(outputs, query), logs, features.carried)

    @override
    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        del key
        return self.classifier.loss_through(self.embed.net, batch, self.embed.strategy)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        absorb_statistics(self.embed.net, carried)

    def _logits(self, state: Prototypes, features: Tensor, query: Examples) -> Tensor:
        return mask_absent(self.scale * similarity(features.flatten(2), state.means, "cosine"), query)
