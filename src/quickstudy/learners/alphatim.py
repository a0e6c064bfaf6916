"""α-TIM: information maximisation for queries of uneven classes."""

from __future__ import annotations

from math import inf

from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.parts.information import Information
from quickstudy.learners.parts.pretrained import Pretrained, Transform, transductive_traits
from quickstudy.nets.apply import Strategy


class AlphaTIM(AbstractLearner):
    """TIM with α-entropies, which ask less for as many queries of each class.

    O. Veilleux, M. Boudiaf, P. Piantanida, I. Ben Ayed, "Realistic evaluation of transductive few-shot learning",
    NeurIPS 2021.

    adapt:    keep the support's features f
    predict:  p_ik ∝ exp(-τ/2 |f_i - w_k|^2), from w_k = the class means; Adam on w minimises
              λ · cross-entropy(support) - H_α(p̄) + mean_i H_α(p_i),   H_α(p) = (1 - Σ_k p_k^α) / (α - 1)
    meta-loss: cross-entropy over all training classes (plain labelled batches)

    With α = 1 and the same weights it is TIM (``solver="gd"``). A larger α flattens the reward of a uniform p̄, so that
    it no longer tears true classes apart to fill small ones.

    When to choose it: queries come in batches and nobody says how many there are of each class.

    Deviations: one α for both entropies and Shannon's cross-entropy on the support, as in the authors' settings; the
    paper also writes an α-cross-entropy. The authors' code takes α = 2 for one shot and 7 for five or more; here it
    is an option, 2 by default.

    Transductive, without a balanced prior.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``, each example alone.
        classes: how many training classes there are; needed to train.
        alpha: α, above 0.
        steps: of Adam.
        lr: its rate.
        temperature: τ.
        support_weight: λ.
        conditional_weight: of the queries' own entropies.
        transform: of features: ``"none"``, ``"l2"``, ``"cl2n"``; see ``learners.parts.pretrained``.
        smoothing: of the labels in training.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: a negative number of steps, rate or weight, an α or temperature that is not above 0, or a network
            that looks at other examples.

    >>> from quickstudy.nets import MLP
    >>> AlphaTIM(MLP(4), alpha=7.0).traits.balanced_prior
    False
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int | None = None,
        alpha: float = 2.0,
        steps: int = 1000,
        lr: float = 1e-4,
        temperature: float = 15.0,
        support_weight: float = 1.0,
        conditional_weight: float = 1.0,
        transform: Transform = "l2",
        smoothing: float = 0.1,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        if not steps >= 0:
            raise InputError(f"α-TIM cannot take a negative number of steps, received {steps}.")
        if not 0 <= lr < inf:
            raise InputError(f"α-TIM needs a rate lr of at least 0, received {lr}.")
        self.base = Pretrained(
            net, classes, transform=transform, smoothing=smoothing, out_features=out_features, strategy=strategy
        )
        self.information = Information(temperature, support_weight, conditional_weight, alpha)
        self.steps, self.lr = steps, lr

    @property
    @override
    def traits(self) -> Traits:
        return transductive_traits(exact=self.steps == 0)

    @override
    def adapt(self, support: Examples, *, state: Examples | None = None, key: Keys | None = None) -> Examples:
        """The state is the support set, with features in place of inputs."""
        del key
        return self.base.known(support, state)

    @override
    def predict(self, state: Examples, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        features = self.base.queries(state, query)
        weights = self.information.descend(state, features, query, steps=self.steps, lr=self.lr)
        return self.information.logits(weights, features, query)

    @override
    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        del key
        return self.base.batch_loss(batch)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        self.base.absorb(carried)
