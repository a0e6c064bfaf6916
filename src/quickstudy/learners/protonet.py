"""Prototypical networks."""

from __future__ import annotations

from typing import get_args

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
    check_scored,
    check_support,
    task_logs,
)
from quickstudy.learners.parts.classwise import mask_absent
from quickstudy.learners.parts.embedder import Embedder
from quickstudy.learners.parts.features import known_size
from quickstudy.learners.parts.options import one_of
from quickstudy.learners.parts.prototypes import Prototypes, prototypes
from quickstudy.learners.parts.similarity import Distance, Temperature, similarity
from quickstudy.learners.parts.zeroshot import Descriptions
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import absorb_statistics, needs_support_moments


class ProtoNet(AbstractLearner):
    """Classify a query by its distance to each class's mean feature.

    J. Snell, K. Swersky, R. Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017.

    adapt:      c_k = mean of f(x) over class k's support; zero-shot: c_k = V a_k / |V a_k| of its description a_k
    predict:    logits_k = -d(f(x), c_k) / temperature
    meta-loss:  cross-entropy of the query

    With the squared Euclidean distance it is a linear classifier on the features (w = 2c, b = -|c|^2). Unlike
    MAML it takes no gradient step on a new task, learns any number of classes, and new examples or classes join
    by adding to the sums. Matching networks compare a query with every example instead of every class's mean.

    When to choose it: first, and whenever adapting must be cheap. It supposes that one mean describes a class; take
    another where classes have several modes, or a task needs other features than those that were trained.

    Deviations: the paper stops training by validation loss, which is the recipe's to say. A learned temperature is
    not in the paper.

    Inductive: in eval mode batch norm uses running statistics, TaskNorm the support's. Only a network that
    normalises with the current rows even then makes it transductive, and it says so.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        distance: ``"squared"`` Euclidean (the paper), ``"euclidean"`` or ``"cosine"``.
        temperature: logits are divided by it; for ``"cosine"`` a value near 0.1 is usual.
        learn_temperature: it is trained too, from that value on.
        zero_shot: prototypes are made of descriptions ``Examples.side`` ``[T, W, A]``; the support's examples, which
            may be none, are not looked at.
        side_features: A, with ``zero_shot``.
        out_features: D, with ``zero_shot``, where the network does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: no such distance, a temperature that is not above 0, or options that do not fit together.

    >>> from quickstudy.nets import MLP
    >>> ProtoNet(MLP(4)).traits.any_way
    True
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        distance: Distance = "squared",
        temperature: float = 1.0,
        learn_temperature: bool = False,
        zero_shot: bool = False,
        side_features: int | None = None,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        one_of("ProtoNet", "distance", distance, get_args(Distance))
        features = known_size(net, out_features) if zero_shot else None
        self.embed = Embedder(net, strategy, features=features)
        self.distance: Distance = distance
        self.temperature = Temperature("ProtoNet", temperature, learned=learn_temperature)
        self.describe = None
        if zero_shot:
            if side_features is None or features is None:
                raise InputError(
                    "zero_shot=True needs to know the size of a class's description and of the network's features. "
                    "Pass side_features=, and out_features= where the network has no such attribute."
                )
            if needs_support_moments(net):
                raise InputError(
                    "zero_shot=True has no support examples, but the network's norms ask for their moments. "
                    "Build it with norm='batch'."
                )
            self.describe = Descriptions(side_features, features)

    @property
    @override
    def traits(self) -> Traits:
        incremental = self.embed.singly and self.describe is None
        return Traits(transductive=self.embed.transductive, incremental=incremental)

    @override
    def adapt(self, support: Examples, *, state: Prototypes | None = None, key: Keys | None = None) -> Prototypes:
        del key
        if self.describe is not None:
            return self._described(support)  # what the classes are was said, so earlier states add nothing
        check_support(support, state)
        self.embed.check_state(state)
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
        query = episode.query
        if self.describe is None:
            features = self.embed.episode(episode)
            state = prototypes(features.support, episode.support, None)
            embedded, carried = features.query, features.carried
        else:
            check_scored(query)
            state = self._described(episode.support)
            applied = self.embed.applied(query)
            embedded, carried = applied.out, applied.carried
        outputs = self._logits(state, embedded, query)
        return MetaLoss(self.loss(outputs, query), task_logs(outputs, query), carried)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        absorb_statistics(self.embed.net, carried)

    def _described(self, support: Examples) -> Prototypes:
        assert self.describe is not None
        centres, present = self.describe(support)
        return Prototypes(centres, present.to(centres.dtype), {})

    def _logits(self, state: Prototypes, features: Tensor, query: Examples) -> Tensor:
        logits = self.temperature(similarity(features.flatten(2), state.means, self.distance))
        return mask_absent(logits, query)
