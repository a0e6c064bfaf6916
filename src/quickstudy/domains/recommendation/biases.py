"""Floor 5: baselines that know means: of all ratings, of an item, of an item and a user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from quickstudy.data.ratingpast import Past
from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits, check_query, check_support

__all__ = ["GlobalMean", "ItemMean", "UserItemBias", "item_numbers", "learned_biases"]

Floats: TypeAlias = NDArray[np.float64]
_ROUNDS = 20  # of alternating means, far more than they need


def item_numbers(examples: Examples) -> Tensor:
    """The items' numbers ``[T, N]``; 0 is unknown.

    Raises:
        InputError: these are no ratings.
    """
    if not isinstance(examples.x, dict) or "item" not in examples.x:
        raise InputError(
            "A baseline of recommendation needs examples with 'item', the item's number: use the data set 'ratings' or "
            "'movietweetings'."
        )
    return examples.x["item"]


def learned_biases(past: Past, item_weight: float, user_weight: float) -> Floats:
    """How much better than the mean each item is rated, when users rate higher or lower as a whole.

    b_i = Σ_u (y_ui - b_u) / (n_i + item weight) and b_u likewise, in turn (Koren, "Factor in the neighbors", 2010).

    Args:
        past: what may be known.
        item_weight: ratings by which an item is drawn to 0.
        user_weight: likewise a user.

    Returns:
        ``[M + 1]``, that of the unknown item being 0.
    """
    item, user = np.zeros(past.n_item + 1), np.zeros(past.n_user)
    n_item, n_user = past.count, np.bincount(past.user, minlength=past.n_user)
    for _ in range(_ROUNDS):
        user = np.bincount(past.user, past.value - item[past.item], minlength=len(user)) / (n_user + user_weight)
        rest = np.bincount(past.item, past.value - user[past.user], minlength=len(item))
        item = rest / np.maximum(n_item + item_weight, 1e-12)
    item[0] = 0.0
    return item


class AbstractMean(AbstractLearner):
    """Says the same whoever asks: a support teaches it nothing."""

    @property
    @override
    def traits(self) -> Traits:
        return Traits(targets=("real",), trainable=False, incremental=True)

    @override
    def adapt(self, support: Examples, *, state: Tensor | None = None, key: Keys | None = None) -> Tensor:
        del key
        check_support(support, state)
        return torch.zeros(support.n_task, 1)


class GlobalMean(AbstractMean):
    """The mean of all past ratings, which is 0 in normalised units, whoever asks for whatever.

    >>> GlobalMean().traits.trainable
    False
    """

    @override
    def predict(self, state: Tensor, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state)
        return torch.zeros(query.n_task, query.n_example, 1)


class ItemMean(AbstractMean):
    """The mean of an item's past ratings, drawn to the mean of all by ``weight`` ratings; whoever asks.

    Args:
        past: what may be known.
        weight: 0 or more; 0 is the plain mean.
    """

    bias: Tensor

    def __init__(self, past: Past, *, weight: float = 5.0) -> None:
        super().__init__()
        mean = past.total / np.maximum(past.count + weight, 1e-12)
        self.register_buffer("bias", torch.from_numpy(mean))

    @override
    def predict(self, state: Tensor, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state)
        return self.bias[item_numbers(query)][..., None]


@dataclass(frozen=True, eq=False)
class UserLevel:
    """How far a user's ratings lie above the items' own, ``[T]`` each.

    Args:
        total: the sum.
        count: of how many ratings.
    """

    total: Tensor
    count: Tensor


class UserItemBias(AbstractLearner):
    """y = b_i + b_u: the item's bias is learned from the past, the user's is a mean of the support, drawn to 0.

    R. Bell, Y. Koren, C. Volinsky, "Modeling relationships at multiple scales to improve accuracy of large recommender
    systems", KDD 2007. The baseline that every recommender has to beat, and few beat by much.

    Args:
        past: what may be known.
        item_weight: ratings by which an item is drawn to the mean of all.
        user_weight: ratings by which a user is drawn to 0.
    """

    bias: Tensor

    def __init__(self, past: Past, *, item_weight: float = 5.0, user_weight: float = 3.0) -> None:
        super().__init__()
        self.user_weight = user_weight
        self.register_buffer("bias", torch.from_numpy(learned_biases(past, item_weight, user_weight)))

    @property
    @override
    def traits(self) -> Traits:
        return Traits(targets=("real",), trainable=False, incremental=True)

    @override
    def adapt(self, support: Examples, *, state: UserLevel | None = None, key: Keys | None = None) -> UserLevel:
        del key
        check_support(support, state)
        assert support.y is not None
        rest = torch.where(support.labelled, support.y[..., 0] - self.bias[item_numbers(support)], 0.0)
        total, count = rest.sum(1), support.labelled.sum(1)
        return UserLevel(total, count) if state is None else UserLevel(total + state.total, count + state.count)

    @override
    def predict(self, state: UserLevel, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state)
        level = state.total / (state.count + self.user_weight)
        return (self.bias[item_numbers(query)] + level[:, None])[..., None]
