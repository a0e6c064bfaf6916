"""LaplacianShot: neighbouring queries get the same label."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.parts.classwise import mask_absent
from quickstudy.learners.parts.transductive import (
    Pretrained,
    Transform,
    prototypes,
    rectified,
    shift_to_support,
    square_distances,
    transductive_traits,
)
from quickstudy.nets.apply import Strategy

_SHARPNESS = 10.0
"""ε of the rectified prototypes, as in the authors' code."""


class LaplacianShot(AbstractLearner):
    """Nearest prototype, with a penalty on neighbouring queries that are labelled differently.

    I. Ziko, J. Dolz, E. Granger, I. Ben Ayed, "Laplacian regularized few-shot learning", ICML 2020.

    adapt:    keep the support's features; m_k = each class's mean
    predict:  a_qk = |q - m_k|^2; W ties each query to its nearest others; from y = softmax(-a), ``iterations`` times
              y_q = softmax_k(-a_qk + λ Σ_p W_qp y_pk), which lowers
              Σ_q y_q·a_q + λ/2 Σ_qp W_qp |y_q - y_p|^2
    meta-loss: cross-entropy over all training classes (plain labelled batches)

    With λ = 0 it is the nearest prototype (SimpleShot). BD-CSPN uses the queries for the prototypes alone; here they
    also speak to each other, and no class weights are learned as in TIM.

    When to choose it: queries form tight groups whose labels the few shots place badly; nothing is to be trained at
    test time, and nothing supposed about how many queries each class has.

    Deviations: always ``iterations`` updates (the authors' code stops once the objective moves by less than a
    millionth). Prototypes are rectified as BD-CSPN's paper writes it; the authors' code weights by a softmax over
    classes instead. The mean that ``"cl2n"`` takes away is gathered while training, not afterwards.

    Transductive: an answer depends on the queries nearby, and with ``rectify`` on all of them.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``, each example alone.
        classes: how many training classes there are; needed to train.
        smoothness: λ.
        neighbours: other queries that a query is tied to; the authors' code counts the query itself, so its 3 are 2.
        iterations: updates.
        rectify: prototypes take the queries nearest to them, as in BD-CSPN.
        transform: of features: ``"none"``, ``"l2"``, ``"cl2n"``; see ``learners.parts.transductive``.
        smoothing: of the labels in training.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: a negative number, or a network that looks at other examples.

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
        if smoothness < 0 or neighbours < 0 or iterations < 0:
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
        features = self.base.queries(state, query)
        alone = mask_absent(-square_distances(features, self._centres(state, features, query.real)), query)
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

    def _centres(self, known: Examples, features: Tensor, real: Tensor) -> Tensor:
        if not self.rectify:
            return prototypes(known)
        return rectified(known, shift_to_support(known, features, real), real, _SHARPNESS, None)


def nearest_others(features: Tensor, real: Tensor, count: int) -> Tensor:
    """1 where a row is among the ``count`` nearest other real rows of its task, else 0: ``[T, N, N]``.

    Args:
        features: ``[T, N, D]``.
        real: bool ``[T, N]``.
        count: rows with fewer others are tied to all of them.
    """
    with torch.no_grad():
        distance = torch.cdist(features, features)
        itself = torch.eye(features.shape[1], dtype=torch.bool, device=features.device)
        distance = distance.masked_fill(itself | ~real[:, None], torch.inf)
        nearest, index = distance.topk(min(count, features.shape[1]), 2, largest=False)
        ties = torch.zeros_like(distance).scatter(2, index, torch.isfinite(nearest).to(distance.dtype))
        return ties * real[..., None]
