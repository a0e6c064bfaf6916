"""TIM: transductive information maximisation."""

from __future__ import annotations

from math import inf
from typing import Literal

from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.parts.classwise import centres_of, membership
from quickstudy.learners.parts.information import Information, probabilities
from quickstudy.learners.parts.options import one_of
from quickstudy.learners.parts.pretrained import Pretrained, Transform, transductive_traits
from quickstudy.nets.apply import Strategy

_STEPS = {"gd": 1000, "adm": 150}


class TIM(AbstractLearner):
    """Class weights that fit the support and tell as much as possible about the queries' labels.

    M. Boudiaf, Z. Masud Ziko, J. Rony, J. Dolz, P. Piantanida, I. Ben Ayed, "Transductive information maximization
    for few-shot learning", NeurIPS 2020.

    adapt:    keep the support's features f
    predict:  p_ik ∝ exp(-τ/2 |f_i - w_k|^2), from w_k = the class means; w minimises
              λ · cross-entropy(support) - H(p̄) + α · mean_i H(p_i)   over the queries i, p̄ their mean
              ``solver="gd"``: Adam on w; ``"adm"``: closed-form steps in w and in auxiliary labels q, in turn
    meta-loss: cross-entropy over all training classes (plain labelled batches)

    The cross-entropy keeps the labels, H(p_i) makes each query sure, and H(p̄) keeps all classes in use; without the
    last, classes die. α-TIM replaces the entropies by ones that punish uneven classes less. Unlike transductive
    fine-tuning it moves the class weights alone, and it has the term H(p̄).

    When to choose it: queries come in batches with about as many of each class. If they do not, take α-TIM.

    Deviations: none known in the objective and both solvers; the network, its training and the normalisation are the
    recipe's (the authors: ResNet-18 or WRN, label smoothing 0.1, features of unit length).

    Transductive, and with a balanced prior: H(p̄) is largest where all classes have as many queries.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``, each example alone.
        classes: how many training classes there are; needed to train.
        solver: ``"gd"`` or ``"adm"``.
        steps: of the solver; by default 1,000 for ``"gd"`` and 150 for ``"adm"``.
        lr: of Adam in ``"gd"``.
        temperature: τ.
        support_weight: λ.
        conditional_weight: α.
        transform: of features: ``"none"``, ``"l2"``, ``"cl2n"``; see ``learners.parts.pretrained``.
        smoothing: of the labels in training.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: no such solver, a negative number of steps, rate or weight, a temperature that is not above 0, or a
            network that looks at other examples.

    >>> from quickstudy.nets import MLP
    >>> TIM(MLP(4), solver="adm").traits.balanced_prior
    True
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int | None = None,
        solver: Literal["gd", "adm"] = "gd",
        steps: int | None = None,
        lr: float = 1e-4,
        temperature: float = 15.0,
        support_weight: float = 0.1,
        conditional_weight: float = 0.1,
        transform: Transform = "l2",
        smoothing: float = 0.1,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        one_of("TIM", "solver", solver, _STEPS)
        if steps is not None and not steps >= 0:
            raise InputError(f"TIM cannot take a negative number of steps, received {steps}.")
        if not 0 <= lr < inf:
            raise InputError(f"TIM needs a rate lr of at least 0, received {lr}.")
        self.base = Pretrained(
            net, classes, transform=transform, smoothing=smoothing, out_features=out_features, strategy=strategy
        )
        self.information = Information(temperature, support_weight, conditional_weight)
        self.solver, self.steps, self.lr = solver, _STEPS[solver] if steps is None else steps, lr

    @property
    @override
    def traits(self) -> Traits:
        # Adam's steps are differentiated to first order, the closed-form ones exactly.
        return transductive_traits(balanced_prior=True, exact=self.solver == "adm" or self.steps == 0)

    @override
    def adapt(self, support: Examples, *, state: Examples | None = None, key: Keys | None = None) -> Examples:
        """The state is the support set, with features in place of inputs."""
        del key
        return self.base.known(support, state)

    @override
    def predict(self, state: Examples, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        features = self.base.queries(state, query)
        if self.solver == "gd":
            weights = self.information.descend(state, features, query, steps=self.steps, lr=self.lr)
        else:
            weights = self._alternate(state, features, query)
        return self.information.logits(weights, features, query)

    @override
    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        del key
        return self.base.batch_loss(batch)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        self.base.absorb(carried)

    def _alternate(self, known: Examples, query: Tensor, asked: Examples) -> Tensor:
        """Class weights ``[T, W, D]`` by the alternating direction method (the paper's proposition 1)."""
        assert isinstance(known.x, Tensor)
        labels, info = membership(known).to(query.dtype), self.information
        real = asked.real[..., None].to(query.dtype)
        # Relative to each query's weight of 1, what one support row weighs.
        ratio = (known.labelled.sum(1) / asked.real.sum(1).clamp(min=1)).to(query.dtype)[:, None, None]
        support_share = info.support_weight / (1 + info.conditional_weight)
        weights = centres_of(known)
        for _ in range(self.steps):
            p_support = probabilities(info.logits(weights, known.x, known))[0] * known.labelled[..., None]
            p_query, logs = probabilities(info.logits(weights, query, asked))
            q = _auxiliary(p_query, logs, real, info.conditional_weight)
            pulls: list[tuple[Tensor | float, Tensor, Tensor, Tensor]] = [
                (support_share, labels, p_support, known.x),
                (ratio, q, p_query * real, query),
            ]
            above, below = weights.new_zeros(()), weights.new_zeros(())
            for share, wanted, given, rows in pulls:
                held = weights * given.sum(1)[..., None] - given.transpose(1, 2) @ rows
                above = above + share * (wanted.transpose(1, 2) @ rows + held)
                below = below + share * wanted.sum(1)[..., None]
            weights = above / below.masked_fill(below == 0, 1.0)  # 0 for classes that a task does not have
        return weights


def _auxiliary(shares: Tensor, logs: Tensor, real: Tensor, conditional_weight: float) -> Tensor:
    """q_ik ∝ p_ik^(1+α) / sqrt(Σ_i p_ik^(1+α)), 0 on padding and for absent classes: ``[T, N, W]``."""
    power = shares * (conditional_weight * logs).exp() * real
    root = power.sum(1, keepdim=True).clamp(min=1e-30).sqrt()
    q: Tensor = power / root
    return q / q.sum(2, keepdim=True).masked_fill(real == 0, 1.0)
