"""MetaOptNet: a support vector machine on learned features."""

from __future__ import annotations

from math import inf, isfinite
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.inner.solvers import ridge, svm
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query, check_support, task_logs
from quickstudy.learners.parts.classwise import check_classes, mask_absent
from quickstudy.learners.parts.embedder import Embedder, Features
from quickstudy.learners.parts.options import one_of
from quickstudy.learners.parts.solved import SolvedHead, present_columns, refuse_state, target_columns
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import absorb_statistics


class MetaOptNet(AbstractLearner):
    """Learn features on which a linear support vector machine, solved exactly for each task, separates the classes.

    K. Lee, S. Maji, A. Ravichandran, S. Soatto, "Meta-learning with differentiable convex optimization", CVPR 2019.

    adapt:      w = argmin 1/2 Σ_k |w_k|² + C Σ_n ξ_n   so that   w_y(n) · f(x_n) - w_k · f(x_n) >= [k ≠ y(n)] - ξ_n
    predict:    logits_k = scale · w_k · f(x)
    meta-loss:  cross-entropy of the query against smoothed labels, differentiated through the solution; scale is
                learned too

    The dual of this problem (Crammer and Singer 2001) has N W unknowns, however many features there are. R2D2 pulls
    every example's score to a target; here only examples near the boundary count, and far ones do not pull.

    When to choose it: several shots, where examples that are well told apart should not pull on the boundary. Each task
    is a quadratic programme, solved in iterations of systems as large as the support: where that is large, use R2D2.

    Deviations: the dual is solved to its exact solution by an interior-point method of our own, and differentiated
    with the active bounds held (the implicit gradient); 1e-10 of the kernel's mean diagonal is added to it, so that
    repeated examples do no harm. ``identity=True`` adds 1 to the kernel's diagonal in the dual alone, as later versions
    of the authors' code do; the paper and the first versions do not. Their ridge head's solution is twice the one here;
    the learned scale makes up for that. In training they batch-norm support and query apart; here both are one batch.
    They train with more shots than they test with, which is a matter of the recipe, and by SGD at a rate of 0.1, which
    soon moves the scale from 1. Adam at 1e-3 cannot move it by more than about 1 in a thousand steps: there begin with
    a larger one, for margins are 1, and the softmax of such logits is flat.

    Inductive, unless the network's norms look at the other queries.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        head: ``"svm"``, or ``"ridge"``: W = Xᵀ (X Xᵀ + penalty I)⁻¹ Y.
        c: C, of ``"svm"``.
        identity: whether 1 is added to the kernel's diagonal, of ``"svm"``.
        penalty: of ``"ridge"``.
        scale: of the logits, to begin with.
        smoothing: share of the label that the meta-loss gives to the other classes, 0 to below 1.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: an option out of its range.

    >>> from quickstudy.nets import MLP
    >>> MetaOptNet(MLP(4), c=0.5).traits.transductive
    False
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        head: Literal["svm", "ridge"] = "svm",
        c: float = 0.1,
        identity: bool = False,
        penalty: float = 50.0,
        scale: float = 1.0,
        smoothing: float = 0.1,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        one_of("MetaOptNet", "head", head, ("svm", "ridge"))
        if not (0 < c < inf and 0 < penalty < inf and 0 <= smoothing < 1):
            raise InputError(
                "MetaOptNet needs c and penalty above 0 and smoothing from 0 to below 1, received "
                f"{c}, {penalty} and {smoothing}."
            )
        if not isfinite(scale):
            raise InputError(f"MetaOptNet needs a finite scale, received {scale}.")
        self.embed = Embedder(net, strategy)
        self.head, self.c, self.identity, self.penalty, self.smoothing = head, c, identity, penalty, smoothing
        self.scale = nn.Parameter(torch.tensor(scale))

    @property
    @override
    def traits(self) -> Traits:
        return Traits(transductive=self.embed.transductive)

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> SolvedHead:
        check_support(support, state)
        del key
        refuse_state(state, "MetaOptNet")
        return self._solve(self.embed.support(support), support)

    @override
    def predict(self, state: SolvedHead, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, state.weight.shape[2])
        return self._outputs(state, self.embed.query(state.moments, query), query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The smoothed query loss, with support and query embedded in one pass; see ``parts.embedder``."""
        del key
        features, query = self.embed.episode(episode), episode.query
        outputs = self._outputs(self._solve(features.support, episode.support), features.query, query)
        return MetaLoss(smoothed_loss(outputs, query, self.smoothing), task_logs(outputs, query), features.carried)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        absorb_statistics(self.embed.net, carried)

    def _solve(self, features: Features, support: Examples) -> SolvedHead:
        x, labelled = features.out.flatten(2), support.labelled
        y = target_columns(support, x.dtype)
        check_classes(support)
        assert isinstance(support.target, Classes) and support.y is not None
        if self.head == "ridge":
            return SolvedHead(ridge(x, y, self.penalty, labelled), features.moments)
        identity = 1.0 if self.identity else 0.0
        dual = svm(x, support.y, self.c, labelled, way=support.target.way, identity=identity)
        return SolvedHead(x.transpose(1, 2) @ dual, features.moments)

    def _outputs(self, head: SolvedHead, features: Tensor, query: Examples) -> Tensor:
        return mask_absent(self.scale * (features.flatten(2) @ head.weight), query)


def smoothed_loss(outputs: Tensor, examples: Examples, smoothing: float) -> Tensor:
    """Cross-entropy with ``1 - smoothing`` on the true class and the rest shared by the others, ``[T]``.

    Args:
        outputs: logits ``[T, N, W]``.
        examples: the labelled rows that they are for.
        smoothing: 0 for the plain cross-entropy.
    """
    assert examples.y is not None and isinstance(examples.target, Classes)
    outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))  # sums of logarithms need its digits
    counted, present = examples.labelled, present_columns(examples, outputs.shape[2])
    log_p = torch.log_softmax(torch.where(counted[..., None], outputs, 0.0), 2)
    log_p = torch.where(counted[..., None] & present[:, None], log_p, 0.0)  # 0 times -inf is not 0
    true = log_p.gather(2, examples.y.masked_fill(~counted, 0)[..., None])[..., 0]
    others = (log_p.sum(2) - true) / (examples.target.way[:, None] - 1).clamp(min=1)
    rows = -(1 - smoothing) * true - smoothing * others
    return torch.where(counted, rows, 0.0).sum(1) / counted.sum(1).clamp(min=1)
