"""Prototypical networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_support, task_logs
from quickstudy.learners.parts.classwise import check_every_class, class_sums, mask_absent, same_tasks
from quickstudy.learners.parts.embedder import Embedder, Features
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import Moments, absorb_statistics


@dataclass(frozen=True, eq=False)
class Prototypes:
    """Feature sums and counts of each class; their quotient is the prototype.

    Args:
        sums: ``[T, W, D]``.
        counts: ``[T, W]``, zero for classes that a task does not have.
        moments: what norms measured on the support, where the network has norms that ask for it.
    """

    sums: Tensor
    counts: Tensor
    moments: Moments

    @property
    def means(self) -> Tensor:
        """The prototypes, ``[T, W, D]``."""
        return self.sums / self.counts.clamp(min=1)[..., None]


class ProtoNet(AbstractLearner):
    """Classify a query by its distance to each class's mean feature.

    J. Snell, K. Swersky, R. Zemel, "Prototypical networks for few-shot learning", NeurIPS 2017.

    adapt:    c_k = mean of f(x) over class k's support
    predict:  logits_k = -d(f(x), c_k)

    With the squared Euclidean distance it is a linear classifier on the features (w = 2c, b = -|c|^2). Unlike
    MAML it takes no gradient step on a new task, learns any number of classes, and new examples or classes join
    by adding to the sums. Inductive: in eval mode batch norm uses running statistics, TaskNorm the support's. Only
    a network that normalises with the current rows even then makes it transductive, and it says so.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        distance: ``"squared"`` Euclidean (the paper), ``"euclidean"`` or ``"cosine"``.
        temperature: logits are divided by it; for ``"cosine"`` a value near 0.1 is usual.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: a temperature that is not above 0.

    >>> from quickstudy.nets import MLP
    >>> ProtoNet(MLP(4)).traits.any_way
    True
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        distance: Literal["squared", "euclidean", "cosine"] = "squared",
        temperature: float = 1.0,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise InputError(f"ProtoNet needs a temperature above 0, received {temperature}.")
        self.embed = Embedder(net, strategy)
        self.distance, self.temperature = distance, temperature

    @property
    @override
    def traits(self) -> Traits:
        return Traits(transductive=self.embed.transductive, incremental=self.embed.singly)

    @override
    def adapt(self, support: Examples, *, state: Prototypes | None = None, key: Keys | None = None) -> Prototypes:
        check_support(support, state)
        del key
        return self._summarise(self.embed.support(support), support, state)

    @override
    def predict(self, state: Prototypes, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        same_tasks(state.sums.shape[0], query)
        return self._logits(state, self.embed.query(state.moments, query), query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The query loss, with support and query embedded in one pass; see ``parts.embedder``."""
        del key
        features, query = self.embed.episode(episode), episode.query
        state = self._summarise(features.support, episode.support, None)
        outputs = self._logits(state, features.query, query)
        return MetaLoss(self.loss(outputs, query), task_logs(outputs, query), features.carried)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        absorb_statistics(self.embed.net, carried)

    @staticmethod
    def _summarise(features: Features, support: Examples, before: Prototypes | None) -> Prototypes:
        sums, counts = class_sums(features.out, support)
        if before is not None:  # either set may know more classes
            way = max(sums.shape[1], before.sums.shape[1])
            sums = _widen(sums, way, -2) + _widen(before.sums, way, -2)
            counts = _widen(counts, way, -1) + _widen(before.counts, way, -1)
        check_every_class(counts, support)
        return Prototypes(sums, counts, features.moments)

    def _logits(self, state: Prototypes, features: Tensor, query: Examples) -> Tensor:
        centres = state.means
        if self.distance != "cosine":
            # Distances do not change when all is moved; far from the origin the squares below would cancel.
            origin = centres.detach().mean(1, keepdim=True)
            features, centres = features - origin, centres - origin
        if self.distance == "cosine":
            logits = F.normalize(features, dim=2) @ F.normalize(centres, dim=2).transpose(1, 2)
        else:
            # |f|^2 - 2 f.c + |c|^2: a matrix product instead of a [T, N, W, D] tensor of differences.
            square = features.square().sum(2, keepdim=True) + centres.square().sum(2)[:, None]
            square = square - 2 * features @ centres.transpose(1, 2)
            # At distance 0 the root has no derivative; the floor gives it the derivative 0.
            logits = -square if self.distance == "squared" else -square.clamp(min=1e-12).sqrt()
        return mask_absent(logits / self.temperature, query)


def _widen(values: Tensor, way: int, axis: int) -> Tensor:
    """Zeros appended to the class axis (the last, or the one before it) up to ``way``."""
    missing = way - values.shape[axis]
    return F.pad(values, (0, missing) if axis == -1 else (0, 0, 0, missing))
