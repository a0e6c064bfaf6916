"""PT-MAP: power transform, then optimal transport between queries and classes."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.parts.classwise import centres_of, mask_absent, membership, row_mean
from quickstudy.learners.parts.pretrained import Pretrained, transductive_traits
from quickstudy.learners.parts.similarity import similarity
from quickstudy.nets.apply import Strategy

_ROUNDS = 1000
"""Sinkhorn rounds at most, as in the authors' code."""


class PTMAP(AbstractLearner):
    """Make features more like Gaussians, then share the queries out evenly among the classes, again and again.

    Y. Hu, V. Gripon, S. Pateux, "Leveraging the feature distribution in transfer-based few-shot learning", ICANN 2021.

    adapt:    f = (max(f, 0) + 1e-6)^β, to unit length; kept for the support
    predict:  support and queries each minus their mean, to unit length; from c_k = the class means, ``iterations``
              times: P = Sinkhorn(exp(-λ |q - c_k|^2)), rows summing to 1 and columns to Nq / W;
              μ_k = mean of the support rows of k and of the queries weighted by P; c_k moves to μ_k by ``step``.
              logits = log P
    meta-loss: cross-entropy over all training classes (plain labelled batches)

    TIM only rewards even classes, here they are imposed: where a task is not balanced that is wrong for certain.
    Against LaplacianShot it looks at all queries, not at neighbours.

    When to choose it: it is known that each class has as many queries; never where that is not known.

    Deviations: no QR reduction (it leaves every distance as it is). Features below 0 count as 0, where the authors'
    network ends in a ReLU. Sinkhorn's rounds start where the last ones ended and stop for each task alone; each class
    gets Nq / W queries also where that is no whole number.

    Transductive, with a balanced prior. Of a lone query nothing would be left by either step: it is centred by the
    support's mean and not shared out, so its answer is a softmax over its distances.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``, each example alone; a ReLU at its end is best.
        classes: how many training classes there are; needed to train.
        power: β.
        sharpness: λ.
        iterations: moves of the centres.
        step: share of the way that they move; the authors' code takes 0.2.
        smoothing: of the labels in training.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: a power or sharpness that is not above 0, negative iterations, a step beyond 1, or a network that
            looks at other examples.

    >>> from quickstudy.nets import MLP
    >>> PTMAP(MLP(4)).traits.balanced_prior
    True
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int | None = None,
        power: float = 0.5,
        sharpness: float = 10.0,
        iterations: int = 20,
        step: float = 0.2,
        smoothing: float = 0.0,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        if not (0 < power < inf and 0 < sharpness < inf and iterations >= 0 and 0 <= step <= 1):
            raise InputError(
                "PT-MAP needs a power and sharpness above 0, iterations of at least 0 and a step from 0 to 1, received "
                f"{power}, {sharpness}, {iterations} and {step}."
            )
        self.base = Pretrained(net, classes, smoothing=smoothing, out_features=out_features, strategy=strategy)
        self.power, self.sharpness, self.iterations, self.step = power, sharpness, iterations, step

    @property
    @override
    def traits(self) -> Traits:
        return transductive_traits(balanced_prior=True)

    @override
    def adapt(self, support: Examples, *, state: Examples | None = None, key: Keys | None = None) -> Examples:
        """The state is the support set, with features in place of inputs (those of the network itself)."""
        del key
        return self.base.known(support, state)

    @override
    def predict(self, state: Examples, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        assert isinstance(state.x, Tensor)
        asked, rows = self._powered(self.base.queries(state, query)), self._powered(state.x)
        own, known = row_mean(asked, query.real), row_mean(rows, state.labelled)
        alone = query.real.sum(1, keepdim=True) < 2
        queries = _centred(asked, torch.where(alone, known, own), query.real)
        rows = _centred(rows, known, state.labelled)
        labels, centres = membership(state).to(rows.dtype), centres_of(replace(state, x=rows))
        there = labels.any(1, keepdim=True)  # each class that a task has is of some row
        shares, columns = self._shares(queries, centres, query.real, there, None)
        for _ in range(self.iterations):
            weights = shares.exp()
            above = weights.transpose(1, 2) @ queries + labels.transpose(1, 2) @ rows
            below = (weights.sum(1) + labels.sum(1))[..., None]
            centres = centres + self.step * (above / below.masked_fill(below == 0, 1.0) - centres)
            shares, columns = self._shares(queries, centres, query.real, there, columns)
        return mask_absent(shares, query)

    @override
    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        del key
        return self.base.batch_loss(batch)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        self.base.absorb(carried)

    def _powered(self, features: Tensor) -> Tensor:
        """Power transform and unit length."""
        return F.normalize((features.clamp(min=0) + 1e-6) ** self.power, dim=2)

    def _shares(
        self, queries: Tensor, centres: Tensor, real: Tensor, there: Tensor, columns: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        logits = self.sharpness * similarity(queries, centres, "squared")
        return sinkhorn(logits, real, there, columns)


def _centred(features: Tensor, centre: Tensor, counted: Tensor) -> Tensor:
    """Minus a mean ``[T, D]``, to unit length; zero where not counted."""
    return torch.where(counted[..., None], F.normalize(features - centre[:, None], dim=2), 0.0)


def sinkhorn(logits: Tensor, real: Tensor, there: Tensor, columns: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The logarithm of the matrix ``exp(logits + f_i + g_k)`` with rows summing to 1 and even columns.

    A single row is not spread over the columns: even ones would leave nothing of its logits.

    Args:
        logits: ``[T, N, W]``, finite.
        real: bool ``[T, N]``: rows that count.
        there: bool ``[T, 1, W]``: columns that count; each sums to the number of rows by the number of columns.
        columns: g to start from, ``[T, 1, W]``; 0 by default.

    Returns:
        The logarithm, ``[T, N, W]`` (its exponential is 0 in rows and columns that do not count), and g.
    """
    rows_count = real[..., None]
    held = logits.masked_fill(~(rows_count & there), -1e30)  # finite, so that no derivative is NaN
    even = (rows_count.sum(1, keepdim=True).clamp(min=1) / there.sum(2, keepdim=True)).to(logits.dtype).log()
    enough = max(1e-10, 30 * torch.finfo(logits.dtype).eps)
    g = torch.zeros_like(held[:, :1]) if columns is None else columns
    done = rows_count.sum(1, keepdim=True) < 2  # [T, 1, 1]: one task's rounds do not depend on another's
    for _ in range(_ROUNDS):
        f = torch.where(rows_count, -(held + g).logsumexp(2, keepdim=True), 0.0)
        full = (held + f).logsumexp(1, keepdim=True)  # columns that come of f
        wrong = torch.where(there, (full + g).exp() - even.exp(), 0.0).abs().amax(2, keepdim=True)
        done = done | (wrong <= enough * even.exp())
        if bool(done.all()):
            break
        g = torch.where(there & ~done, even - full, g)
    f = torch.where(rows_count, -(held + g).logsumexp(2, keepdim=True), 0.0)
    return held + f + g, g
