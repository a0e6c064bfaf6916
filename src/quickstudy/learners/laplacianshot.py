"""LaplacianShot: neighbouring queries get the same label."""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.parts.classwise import centres_of, mask_absent
from quickstudy.learners.parts.pretrained import Pretrained, Transform, transductive_traits
from quickstudy.learners.parts.rectification import rectified, shift_to_support
from quickstudy.learners.parts.similarity import distances, nearest, similarity
from quickstudy.nets.apply import Strategy

_SHARPNESS = 10.0
"""ε of the rectified prototypes, as in the authors' code."""


class LaplacianShot(AbstractLearner):
    """Nearest prototype, with a penalty on neighbouring queries that are labelled differently.

    I. Ziko, J. Dolz, E. Granger, I. Ben Ayed, "Laplacian regularized few-shot learning", ICML 2020.

    adapt:    keep the support's features
    predict:  the queries q are moved to the support's mean, and m_k = each class's mean takes in those nearest to it
              (``rectify=False``: both as they are); a_qk = |q - m_k|^2; W ties each query to its nearest others;
              from y = softmax(-a), ``iterations`` times
              y_q = softmax_k(-a_qk + λ Σ_p W_qp y_pk), which for a symmetric W and a λ that is not too large lowers
              Σ_q y_q·log y_q + Σ_q y_q·a_q - λ/2 Σ_qp W_qp y_q·y_p
              the relaxed form of Σ_q y_q·a_q + λ/2 Σ_qp W_qp |y_q - y_p|^2; nearest neighbours make a W that is not
              symmetric, and then nothing is guaranteed
    meta-loss: cross-entropy over all training classes (plain labelled batches)

    With λ = 0 it is the nearest prototype (SimpleShot). BD-CSPN uses the queries for the prototypes alone; here they
    also speak to each other, and no class weights are learned as in TIM.

    When to choose it: queries form tight groups whose labels the few shots place badly; nothing is to be trained at
    test time, and nothing supposed about how many queries each class has.

    Deviations: always ``iterations`` updates (the authors' code stops once the objective moves by less than a
    millionth). Prototypes are rectified as BD-CSPN's paper writes it, a weighted mean of a class's own support and the
    queries nearest to it; the authors' code puts the support, too, where it is predicted, weights by a softmax over
    classes, and takes the mean over all rows, so that the fewer rows of a class are sure of it, the shorter its
    prototype. They choose λ on validation tasks; 0.7 is what later code of their group has for one shot, tuned for
    their rectification. Queries at exactly the same distance share the last place among the neighbours. The mean that
    ``"cl2n"`` takes away is gathered while training, not afterwards; for a network that was trained elsewhere
    ``learner.base.centre_on(examples)`` measures it.

    Transductive: an answer depends on the queries nearby, and with ``rectify`` on all of them. A lone query is not
    moved to the support's mean, because nothing of it would be left.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``, each example alone.
        classes: how many training classes there are; needed to train.
        smoothness: λ.
        neighbours: other queries that a query is tied to; the authors' code counts the query itself, so its 3 are 2.
        iterations: updates.
        rectify: queries are moved to the support's mean, and prototypes take those nearest to them, as in BD-CSPN.
        transform: of features: ``"none"``, ``"l2"``, ``"cl2n"``; see ``learners.parts.pretrained``.
        smoothing: of the labels in training.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: a number that is negative or none, no such transform, or a network that looks at other examples.

    >>> from quickstudy.nets import MLP
    >>> LaplacianShot(MLP(4), smoothness=0.3).traits.balanced_prior
    False
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int | None = None,
        smoothness: float = 0.7,
        neighbours: int = 2,
        iterations: int = 20,
        rectify: bool = True,
        transform: Transform = "cl2n",
        smoothing: float = 0.1,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        if not (0 <= smoothness < inf and neighbours >= 0 and iterations >= 0):
            raise InputError(
                "LaplacianShot needs a smoothness, neighbours and iterations of at least 0, received "
                f"{smoothness}, {neighbours} and {iterations}."
            )
        self.base = Pretrained(
            net, classes, transform=transform, smoothing=smoothing, out_features=out_features, strategy=strategy
        )
        self.smoothness, self.neighbours, self.iterations, self.rectify = smoothness, neighbours, iterations, rectify

    @property
    @override
    def traits(self) -> Traits:
        return transductive_traits()

    @override
    def adapt(self, support: Examples, *, state: Examples | None = None, key: Keys | None = None) -> Examples:
        """The state is the support set, with features in place of inputs."""
        del key
        return self.base.known(support, state)

    @override
    def predict(self, state: Examples, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        features, centres = self._rectified(state, self.base.queries(state, query), query.real)
        alone = mask_absent(similarity(features, centres, "squared"), query)
        ties = nearest_others(features, query.real, self.neighbours)
        logits = alone
        for _ in range(self.iterations):
            logits = alone + self.smoothness * (ties @ logits.softmax(2))
        return logits

    @override
    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        del key
        return self.base.batch_loss(batch)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        self.base.absorb(carried)

    def _rectified(self, known: Examples, features: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """The queries where they are compared, ``[T, Nq, D]``, and the prototypes, ``[T, W, D]``."""
        if not self.rectify:
            return features, centres_of(known)
        moved = shift_to_support(known, features, real)
        return moved, rectified(known, moved, real, _SHARPNESS, None)


def nearest_others(features: Tensor, real: Tensor, count: int) -> Tensor:
    """1 where a row is among the ``count`` nearest other real rows of its task, else 0: ``[T, N, N]``.

    Rows at exactly the same distance share the last place.

    Args:
        features: ``[T, N, D]``.
        real: bool ``[T, N]``.
        count: rows with fewer others are tied to all of them.
    """
    with torch.no_grad():
        distance = distances(features, features)
        itself = torch.eye(features.shape[1], dtype=torch.bool, device=features.device)
        distance = distance.masked_fill(itself | ~real[:, None], torch.inf)
        nearer, level, share = nearest(distance, count)
        return (nearer + share * level) * real[..., None]
