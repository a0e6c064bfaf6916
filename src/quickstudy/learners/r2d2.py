"""R2-D2: ridge regression on learned features."""

from __future__ import annotations

from math import inf, isfinite

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.inner.solvers import ridge
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query, check_support, task_logs
from quickstudy.learners.parts.classwise import mask_absent
from quickstudy.learners.parts.embedder import Embedder, Features
from quickstudy.learners.parts.solved import (
    SolvedHead,
    enter_logarithm,
    refuse_state,
    target_columns,
    with_ones,
)
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import absorb_statistics


class R2D2(AbstractLearner):
    """Learn features on which ridge regression, solved exactly for each task, separates the classes.

    L. Bertinetto, J. Henriques, P. Torr, A. Vedaldi, "Meta-learning with differentiable closed-form solvers",
    ICLR 2019.

    adapt:      W = Xᵀ (X Xᵀ + λ n I)⁻¹ Y, with X the support's features and a column of ones, Y one-hot, n the rows
    predict:    scale · f(x) W + bias
    meta-loss:  cross-entropy of the query, differentiated through the solution; λ, scale and bias are learned too

    Unlike a prototypical network it weighs features against each other within the task; unlike MAML, which approaches
    a solution in steps, it has the exact one at the cost of one small linear system. LR-D2 is its logistic sibling.

    When to choose it: where a task should weigh features in its own way and a gradient at test time costs too much;
    any number of classes; real targets and several labels an example work as well (there with scale=1 and a small
    penalty to begin with).

    Deviations: as in the authors' code, not in the paper's formula, the penalty counts n times. They keep λ fixed in
    the published configurations; here it is learned by default, as the paper's text says, through its logarithm, so
    that it stays above 0. Where there are more rows than features the D x D system is solved instead, which has the
    same solution.

    Inductive, unless the network's norms look at the other queries.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        penalty: λ to begin with, above 0.
        scale: of the outputs, to begin with.
        bias: of the outputs, to begin with; the same for all classes, so that a softmax does not see it.
        learn_penalty: whether λ is trained.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: a penalty that is not above 0, a scale or bias that is no number.

    >>> from quickstudy.nets import MLP
    >>> R2D2(MLP(4)).traits.targets
    ('classes', 'multi-label', 'real')
    """

    log_penalty: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        penalty: float = 50.0,
        scale: float = 10.0,
        bias: float = 0.0,
        learn_penalty: bool = True,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        if not 0 < penalty < inf:
            raise InputError(f"R2D2 needs a penalty above 0, received {penalty}.")
        if not (isfinite(scale) and isfinite(bias)):
            raise InputError(f"R2D2 needs a finite scale and bias, received {scale} and {bias}.")
        self.embed = Embedder(net, strategy)
        enter_logarithm(self, "log_penalty", penalty, learned=learn_penalty)
        self.scale, self.bias = nn.Parameter(torch.tensor(scale)), nn.Parameter(torch.tensor(bias))

    @property
    @override
    def traits(self) -> Traits:
        return Traits(targets=("classes", "multi-label", "real"), transductive=self.embed.transductive)

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> SolvedHead:
        check_support(support, state)
        del key
        refuse_state(state, "R2D2")
        return self._solve(self.embed.support(support), support)

    @override
    def predict(self, state: SolvedHead, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, state.weight.shape[2])
        return self._outputs(state, self.embed.query(state.moments, query), query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The query loss, with support and query embedded in one pass; see ``parts.embedder``."""
        del key
        features, query = self.embed.episode(episode), episode.query
        outputs = self._outputs(self._solve(features.support, episode.support), features.query, query)
        return MetaLoss(self.loss(outputs, query), task_logs(outputs, query), features.carried)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        absorb_statistics(self.embed.net, carried)

    def _solve(self, features: Features, support: Examples) -> SolvedHead:
        x, labelled = with_ones(features.out.flatten(2)), support.labelled
        penalty = self.log_penalty.exp() * labelled.sum(1)
        return SolvedHead(ridge(x, target_columns(support, x.dtype), penalty, labelled), features.moments)

    def _outputs(self, head: SolvedHead, features: Tensor, query: Examples) -> Tensor:
        scores = with_ones(features.flatten(2)) @ head.weight
        return mask_absent(self.scale * scores + self.bias, query)
