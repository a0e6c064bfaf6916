"""Floor 5: baselines from cornac: matrix factorisation with fold-in, and neighbours among items.

cornac fits users that it has seen. A new user is folded in here, from the support alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from quickstudy.data.ratingpast import Past
from quickstudy.domains.recommendation.biases import item_numbers, learned_biases
from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits, check_query, check_support

if TYPE_CHECKING:
    from cornac.data import Dataset

__all__ = ["ItemNeighbours", "MatrixFactorisation"]


def _cornac() -> Any:
    try:
        import cornac
        import cornac.data
        import cornac.models
    except ImportError as error:
        raise InputError(
            "Matrix factorisation and item neighbours need the package cornac, which is not installed. Install "
            "quickstudy[recommend]."
        ) from error
    return cornac


def _data(past: Past) -> Dataset:
    """The past as cornac's, whose items have the numbers of ours less one."""
    cornac = _cornac()
    triples = (past.user, past.item - 1, past.value)
    users, items = ({number: number for number in range(n)} for n in (past.n_user, past.n_item))
    return cornac.data.Dataset(past.n_user, past.n_item, users, items, triples, seed=0)


@dataclass(frozen=True, eq=False)
class FoldedIn:
    """A new user.

    Args:
        factors: ``[T, k]``.
        bias: ``[T]``.
    """

    factors: Tensor
    bias: Tensor


class MatrixFactorisation(AbstractLearner):
    """y = b_i + b_u + q_i · p_u; q and b_i are cornac's ``MF``, fitted to the past, p_u and b_u to the support.

    Y. Koren, R. Bell, C. Volinsky, "Matrix factorization techniques for recommender systems", Computer 2009. Fold-in:
    p_u and b_u minimise Σ (y - b_i - b_u - q_i · p_u)² + penalty |p_u|² + bias penalty b_u², in closed form.

    Args:
        past: what may be known.
        factors: k.
        penalty: on a user's factors, in fold-in.
        bias_penalty: on a user's bias, in fold-in.
        fit_penalty: cornac's ``lambda_reg``.
        rounds: cornac's ``max_iter``.

    Raises:
        InputError: cornac is not installed.
    """

    factors: Tensor
    bias: Tensor

    def __init__(
        self,
        past: Past,
        *,
        factors: int = 8,
        penalty: float = 3.0,
        bias_penalty: float = 3.0,
        fit_penalty: float = 0.05,
        rounds: int = 50,
    ) -> None:
        super().__init__()
        self.penalty, self.bias_penalty = penalty, bias_penalty
        model = _cornac().models.MF(
            k=factors, max_iter=rounds, lambda_reg=fit_penalty, num_threads=1, seed=1, verbose=False
        )
        model.fit(_data(past))
        unknown = np.zeros((1, factors))
        # What is left of the mean of all in cornac's model belongs to every item, the unknown one too.
        bias = np.concatenate([[0.0], model.i_biases]) + float(model.global_mean)
        self.register_buffer("bias", torch.from_numpy(bias).double())
        self.register_buffer("factors", torch.from_numpy(np.concatenate([unknown, model.i_factors])).double())

    @property
    @override
    def traits(self) -> Traits:
        return Traits(targets=("real",), trainable=False)

    @override
    def adapt(self, support: Examples, *, state: None = None, key: Keys | None = None) -> FoldedIn:
        del key
        check_support(support, state)
        assert support.y is not None
        number, counted = item_numbers(support), support.labelled
        rest = torch.where(counted, support.y[..., 0].double() - self.bias[number], 0.0)
        design = torch.cat([self.factors[number], torch.ones(*number.shape, 1, dtype=torch.float64)], 2)
        design = torch.where(counted[..., None], design, 0.0)
        weight = torch.full((design.shape[2],), self.penalty, dtype=torch.float64)
        weight[-1] = self.bias_penalty
        found = torch.linalg.solve(design.mT @ design + torch.diag(weight), (design.mT @ rest[..., None])[..., 0])
        return FoldedIn(found[:, :-1], found[:, -1])

    @override
    def predict(self, state: FoldedIn, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state)
        number = item_numbers(query)
        taste = (self.factors[number] @ state.factors[..., None])[..., 0]
        return (self.bias[number] + state.bias[:, None] + taste)[..., None]


class ItemNeighbours(AbstractLearner):
    """y = b_i + b_u + Σ_j s_ij (y_j - b_j - b_u) / (Σ_j |s_ij| + doubt), over the items j of the support.

    B. Sarwar, G. Karypis, J. Konstan, J. Riedl, "Item-based collaborative filtering recommendation algorithms", WWW
    2001; similarities s are those of cornac's ``ItemKNN``: cosines, over the people who rated both items, of ratings
    from which each one's mean is taken.

    Args:
        past: what may be known.
        item_weight: see ``UserItemBias``.
        user_weight: likewise.
        doubt: draws a prediction to the biases where there is little similarity.

    Raises:
        InputError: cornac is not installed.
    """

    bias: Tensor

    def __init__(self, past: Past, *, item_weight: float = 5.0, user_weight: float = 3.0, doubt: float = 1.0) -> None:
        super().__init__()
        self.user_weight, self.doubt = user_weight, doubt
        self.register_buffer("bias", torch.from_numpy(learned_biases(past, item_weight, user_weight)))
        # A new user's few items must be among an item's neighbours, so many are kept.
        model = _cornac().models.ItemKNN(
            k=500, similarity="cosine", mean_centered=True, num_threads=1, seed=1, verbose=False
        )
        model.fit(_data(past))
        self.similarity: Any = model.sim_mat.tocsr()

    @property
    @override
    def traits(self) -> Traits:
        return Traits(targets=("real",), trainable=False, incremental=True)

    @override
    def adapt(self, support: Examples, *, state: Examples | None = None, key: Keys | None = None) -> Examples:
        del key
        check_support(support, state)
        return support if state is None else state.followed_by(support)

    @override
    def predict(self, state: Examples, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state)
        assert state.y is not None
        known, asked, counted = item_numbers(state), item_numbers(query), state.labelled
        rest = torch.where(counted, state.y[..., 0].double() - self.bias[known], 0.0)
        level = rest.sum(1) / (counted.sum(1) + self.user_weight)
        rest = torch.where(counted, rest - level[:, None], 0.0)
        alike = torch.stack([self._alike(a, k) for a, k in zip(asked, known, strict=True)])
        alike = torch.where(counted[:, None], alike, 0.0)
        pull = (alike @ rest[..., None])[..., 0] / (alike.abs().sum(2) + self.doubt)
        return (self.bias[asked] + level[:, None] + pull)[..., None]

    def _alike(self, asked: Tensor, known: Tensor) -> Tensor:
        """Similarities ``[Nq, Ns]`` of one task's items; unknown ones are like none."""
        found = self.similarity[(asked - 1).clamp(min=0).numpy()][:, (known - 1).clamp(min=0).numpy()].toarray()
        there = (asked > 0)[:, None] & (known > 0)
        return torch.where(there, torch.from_numpy(found).double(), 0.0)
