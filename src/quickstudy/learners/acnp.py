"""Attentive conditional neural processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query, check_support, task_logs
from quickstudy.learners.parts.embedder import Features
from quickstudy.learners.parts.rows import RowFeatures, check_fits, known_outputs, label_rows
from quickstudy.learners.parts.setencoder import Activation, Gaussian, checked_std, perceptron
from quickstudy.learners.parts.transformer import attend
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import Moments


@dataclass(frozen=True, eq=False)
class Encoded:
    """The support as keys and values.

    Args:
        keys: ``[T, Ns, width]``.
        values: ``[T, Ns, width]``, zero on rows that do not count.
        there: bool ``[T, Ns]``, False on rows that do not count.
        moments: what norms measured on the support, where the network has norms that ask for it.
    """

    keys: Tensor
    values: Tensor
    there: Tensor
    moments: Moments


class ACNP(AbstractLearner):
    """A conditional neural process in which each query attends to the support points that lie near it.

    H. Kim, A. Mnih, J. Schwarz, M. Garnelo, A. Eslami, D. Rosenbaum, O. Vinyals, Y. W. Teh, "Attentive neural
    processes", ICLR 2019: the deterministic path.

    adapt:      keys k(x_i) and values h(x_i, y_i) of the support
    predict:    r(x) = Attention(k(x), {k(x_i)}, {h(x_i, y_i)}); (μ, σ) = g(x, r(x))
    meta-loss:  -log p(y | μ, σ) of the queries

    Unlike ``cnp``, whose queries all read one mean, it fits the given points closely; a task costs O(Ns · Nq).

    When to choose it: regression with uncertainty where given points should be believed, from a few up to some
    thousands of them. Take ``cnp`` when the support is very large or prediction must cost the same whatever its size.

    Deviations: no latent path (so no samples of whole functions, and a plain likelihood instead of a bound), and no
    self-attention among the support points, which the authors' one-dimensional example does without too. Heads attend
    with equal parts of k and h, without the linear maps that the paper gives each before and behind the attention. The
    loss is on the query alone, theirs on the given points too.

    Inductive: a prediction depends on the support and that query alone.

    Args:
        net: makes features of examples; None: the examples themselves.
        outputs: D.
        target: ``"real"``, the only one.
        in_features: size of one flattened example, needed without a network.
        width: of keys, values and all hidden layers; a multiple of ``heads``.
        layers: hidden layers of k, h and g each.
        heads: of attention.
        min_std: the least σ, in units of y; the authors' code has 0.1.
        activation: ``"relu"`` or ``"tanh"``.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: sizes that are missing or do not fit, or targets that are not real.

    >>> ACNP(outputs=1, in_features=1).traits.order_invariant
    True
    """

    def __init__(
        self,
        net: nn.Module | None = None,
        outputs: int | None = None,
        target: Literal["classes", "real"] = "real",
        *,
        in_features: int | None = None,
        width: int = 128,
        layers: int = 2,
        heads: int = 8,
        min_std: float = 0.1,
        activation: Activation = "relu",
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        if target != "real":
            raise InputError(f"ACNP predicts real values, not {target!r}. For classes use CNP or in-context.")
        if heads < 1 or width % heads:
            raise InputError(f"ACNP's width must be a multiple of its heads, received {width} and {heads}.")
        self.outputs, self.heads = known_outputs(outputs, "ACNP"), heads
        self.min_std = checked_std(min_std)
        self.rows = RowFeatures(net, in_features, out_features, strategy)
        size, hidden = self.rows.out_features, [width] * layers
        self.to_key = perceptron([size, *hidden, width], activation)
        self.encoder = perceptron([size + self.outputs, *hidden, width], activation)
        self.decoder = perceptron([size + width, *hidden, 2 * self.outputs], activation)

    @property
    @override
    def traits(self) -> Traits:
        return Traits(
            targets=("real",),
            any_way=False,
            renames=False,
            transductive=self.rows.transductive,
            incremental=self.rows.singly,
        )

    @override
    def adapt(self, support: Examples, *, state: Encoded | None = None, key: Keys | None = None) -> Encoded:
        check_support(support, state)
        del key
        new = self._encode(self.rows.support(support), support)
        if state is None:
            return new
        keys, values = torch.cat([state.keys, new.keys], 1), torch.cat([state.values, new.values], 1)
        return Encoded(keys, values, torch.cat([state.there, new.there], 1), new.moments)

    @override
    def predict(self, state: Encoded, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        return self.distribution(state, query).mean

    def distribution(self, state: Encoded, query: Examples) -> Gaussian:
        """Mean and deviation of each real value, both ``[T, Nq, D]``."""
        check_query(query, state)
        return self._decode(state, self.rows.query(state.moments, query), query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The negative log-likelihood of the queries."""
        del key
        features, query = self.rows.episode(episode), episode.query
        found = self._decode(self._encode(features.support, episode.support), features.query, query)
        return MetaLoss(found.nll(query), task_logs(found.mean, query), features.carried)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        self.rows.absorb(carried)

    def _encode(self, features: Features, support: Examples) -> Encoded:
        check_fits(support, "real", self.outputs)
        pairs = torch.cat([features.out, label_rows(support, self.outputs, features.out)], 2)
        values = torch.where(support.labelled[..., None], self.encoder(pairs), 0.0)
        return Encoded(self.to_key(features.out), values, support.labelled, features.moments)

    def _decode(self, state: Encoded, features: Tensor, query: Examples) -> Gaussian:
        read = attend(self.to_key(features), state.keys, state.values, state.there, self.heads)
        return Gaussian.bounded(self.decoder(torch.cat([features, read], 2)), self.min_std)
