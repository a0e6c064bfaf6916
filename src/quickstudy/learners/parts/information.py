"""Floor 3: what a set of queries tells of its labels, as TIM and α-TIM maximise it.

With probabilities p_ik of query i's class k and their mean p̄_k over queries, the mutual information of queries and
labels is H(p̄) - mean_i H(p_i): classes that are all used, and each query sure of its own. H is Shannon's entropy, or
Tsallis' α-entropy (1 - Σ p^α) / (α - 1), which becomes Shannon's as α goes to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.inner import Adam, Params
from quickstudy.learners.parts.classwise import centres_of, mask_absent, membership, row_mean
from quickstudy.learners.parts.descended import descended
from quickstudy.learners.parts.similarity import similarity


@dataclass(frozen=True)
class Information:
    """The objective of TIM and α-TIM over class weights ``[T, W, D]``.

    loss = ``support_weight`` · cross-entropy of the support - H(p̄) + ``conditional_weight`` · mean_i H(p_i)

    Args:
        temperature: τ, logits are -τ/2 times the squared distance.
        support_weight: λ.
        conditional_weight: of the queries' own entropies.
        alpha: 1 for Shannon's entropy.

    Raises:
        InputError: a temperature or α that is not above 0, or a weight below it.
    """

    temperature: float
    support_weight: float
    conditional_weight: float
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.temperature < inf and 0 < self.alpha < inf):
            raise InputError(
                f"Cannot weigh information: temperature and alpha must be above 0, received {self.temperature} and "
                f"{self.alpha}. Entropies with alpha=1 are Shannon's."
            )
        if not (0 <= self.support_weight < inf and 0 <= self.conditional_weight < inf):
            raise InputError(
                "Cannot weigh information: support_weight and conditional_weight must be at least 0, received "
                f"{self.support_weight} and {self.conditional_weight}."
            )

    def logits(self, weights: Tensor, features: Tensor, examples: Examples) -> Tensor:
        """``[T, N, W]``, -inf for classes that a task does not have."""
        return mask_absent(self.temperature / 2 * similarity(features, weights, "squared"), examples)

    def losses(self, weights: Tensor, known: Examples, query: Tensor, asked: Examples) -> Tensor:
        """The objective, ``[T]``.

        Args:
            weights: ``[T, W, D]``.
            known: labelled features of the support.
            query: features of the queries.
            asked: the queries, for their mask and classes.
        """
        assert isinstance(known.x, Tensor)
        _, said = probabilities(self.logits(weights, known.x, known))
        support = -row_mean((membership(known) * said).sum(2), known.labelled)
        marginal, conditional = self.entropies(self.logits(weights, query, asked), asked.real)
        return self.support_weight * support - marginal + self.conditional_weight * conditional

    def entropies(self, logits: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """H(p̄) and mean_i H(p_i), each ``[T]``."""
        shares, logs = probabilities(logits)
        mean = row_mean(shares, real)
        mean_logs = mean.clamp(min=torch.finfo(mean.dtype).tiny).log().masked_fill(mean == 0, 0.0)
        return entropy(mean, mean_logs, self.alpha), row_mean(entropy(shares, logs, self.alpha), real)

    def descend(self, known: Examples, query: Tensor, asked: Examples, *, steps: int, lr: float) -> Tensor:
        """Class weights after Adam steps from the prototypes, ``[T, W, D]``."""
        # A step's gradient is held constant by whoever differentiates the result, so its graph is of no use.
        assert isinstance(known.x, Tensor)
        fixed = Examples(known.x.detach(), known.y, known.target, known.mask)

        def losses(params: Params) -> Tensor:
            return self.losses(params["weights"], fixed, query.detach(), asked)

        return descended(losses, {"weights": centres_of(known)}, steps, Adam(lr))["weights"]


def probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and their logarithms; for logits of -inf both are 0."""
    logs = logits.log_softmax(-1)
    return logs.exp(), logs.masked_fill(torch.isinf(logits), 0.0)


def entropy(shares: Tensor, logs: Tensor, alpha: float) -> Tensor:
    """Shannon's entropy (``alpha`` 1) or Tsallis' over the last axis.

    Args:
        shares: p.
        logs: log p, and 0 where p is 0 because a class is absent.
        alpha: α.
    """
    if alpha == 1:
        return -(shares * logs).sum(-1)
    # p^α - p = p (p^(α-1) - 1) keeps its digits as α goes to 1. For α < 1 the power of a tiny p overflows: there the
    # difference itself loses none.
    power = (alpha - 1) * logs
    near, far = shares * torch.expm1(power.clamp(max=1)), torch.exp(alpha * logs) - shares
    return torch.where(power > 1, far, near).sum(-1) / (1 - alpha)
