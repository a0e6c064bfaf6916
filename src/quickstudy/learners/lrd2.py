"""LR-D2: logistic regression on learned features."""

from __future__ import annotations

from math import inf
from typing import Literal

from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.inner.solvers import irls, logistic
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query, check_support, task_logs
from quickstudy.learners.parts.classwise import check_classes, mask_absent
from quickstudy.learners.parts.embedder import Embedder, Features
from quickstudy.learners.parts.options import one_of
from quickstudy.learners.parts.solved import (
    SolvedHead,
    enter_logarithm,
    present_columns,
    refuse_state,
    target_columns,
    with_ones,
)
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import absorb_statistics


class LRD2(AbstractLearner):
    """Learn features on which a few Newton steps of logistic regression separate the classes.

    L. Bertinetto, J. Henriques, P. Torr, A. Vedaldi, "Meta-learning with differentiable closed-form solvers",
    ICLR 2019.

    adapt:      for each class against the rest, from w = 0, ``iterations`` times with p = σ(X w), S = diag(p (1 - p)):
                w <- (Xᵀ S X + λ I)⁻¹ Xᵀ (S X w + y - p), with X the support's features and a column of ones
    predict:    logits_k = f(x) · w_k
    meta-loss:  cross-entropy of the query, differentiated through the Newton steps; λ is learned too

    Its sibling R2D2 minimises the squared error instead, which one linear system solves; here each step is one, for
    each class, and nothing punishes a score for being more than right.

    When to choose it: where R2D2 is the candidate and its scores are to be log-odds. R2D2 is cheaper: it solves one
    system where this one solves one for each class and step.

    Deviations: the paper derives the binary case; as in the authors' code several classes are taken one against the
    rest. ``form="multinomial"`` is ours: one softmax over all classes, solved to its optimum, with the gradient of the
    optimum. The authors keep λ fixed; here it is learned by default, through its logarithm. The steps are written so
    that nothing is divided by p (1 - p); they are the same steps.

    Inductive, unless the network's norms look at the other queries.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        form: ``"one-vs-rest"``, with a fixed number of steps, or ``"multinomial"``, at the optimum.
        iterations: Newton steps of ``"one-vs-rest"``.
        penalty: λ to begin with, above 0.
        learn_penalty: whether λ is trained.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: no such form, a penalty that is not above 0, or no iteration.

    >>> from quickstudy.nets import MLP
    >>> LRD2(MLP(4)).traits.any_way
    True
    """

    log_penalty: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        form: Literal["one-vs-rest", "multinomial"] = "one-vs-rest",
        iterations: int = 5,
        penalty: float = 50.0,
        learn_penalty: bool = True,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        one_of("LRD2", "form", form, ("one-vs-rest", "multinomial"))
        if not (0 < penalty < inf and iterations >= 1):
            raise InputError(
                f"LR-D2 needs a penalty above 0 and at least 1 iteration, received {penalty} and {iterations}."
            )
        self.embed = Embedder(net, strategy)
        self.form, self.iterations = form, iterations
        enter_logarithm(self, "log_penalty", penalty, learned=learn_penalty)

    @property
    @override
    def traits(self) -> Traits:
        return Traits(transductive=self.embed.transductive)

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> SolvedHead:
        check_support(support, state)
        del key
        refuse_state(state, "LR-D2")
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
        y, penalty = target_columns(support, x.dtype), self.log_penalty.exp()
        check_classes(support)
        if self.form == "one-vs-rest":
            weight = irls(x, y, penalty, labelled, steps=self.iterations)
        else:
            weight = logistic(x, y, penalty, labelled, present=present_columns(support, y.shape[2]))
        return SolvedHead(weight, features.moments)

    def _outputs(self, head: SolvedHead, features: Tensor, query: Examples) -> Tensor:
        return mask_absent(with_ones(features.flatten(2)) @ head.weight, query)
