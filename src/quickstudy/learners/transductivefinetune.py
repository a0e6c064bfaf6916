"""Transductive fine-tuning."""

from __future__ import annotations

from math import inf
from typing import Literal

from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.inner import Params, make_optimizer
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_query, check_support
from quickstudy.learners.parts.baseclassifier import BaseClassifier
from quickstudy.learners.parts.classwise import check_classes, row_mean
from quickstudy.learners.parts.descended import descended
from quickstudy.learners.parts.features import check_singly, feature_size
from quickstudy.learners.parts.headed import HeadedNet
from quickstudy.learners.parts.information import entropy, probabilities
from quickstudy.learners.parts.options import one_of
from quickstudy.learners.parts.pretrained import check_smoothing, joined, transductive_traits
from quickstudy.nets.apply import Strategy, apply
from quickstudy.nets.norms import absorb_statistics


class TransductiveFineTune(AbstractLearner):
    """Train the whole network on the support's labels and on being sure of the queries.

    G. Dhillon, P. Chaudhari, A. Ravichandran, S. Soatto, "A baseline for few-shot image classification", ICLR 2020.

    adapt:    keep the support
    predict:  from the trained network and a head made of the support's class means (w = 2c, b = -|c|^2), ``steps``
              optimiser steps on
              mean cross-entropy(support) + ``entropy_weight`` · mean Shannon entropy(queries)
    meta-loss: cross-entropy over all training classes (plain labelled batches)

    With ``entropy_weight = 0`` it is fine-tuning (``fine-tune`` with ``head="proto"``). TIM moves the class weights
    alone and adds a term that keeps all classes in use, which here only the support does.

    When to choose it: as a plain baseline where each batch of queries is worth a training of its own; it costs
    ``steps`` passes forward and back through the network.

    Deviations: the head stands on the features as they are and begins as a prototype classifier. The paper's stands on
    the logits of the training classes, after a ReLU and brought to unit length, and begins with class means of unit
    length and no bias. Each step descends the sum, as the paper writes it; the authors' code makes a step on the
    support and then one on the queries, in each of its 25 epochs. There batch norm is in training mode meanwhile; here
    it keeps its running statistics. No mixup and no augmentation.

    Transductive: all queries of a task are trained on together.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``, in eval mode each example alone.
        classes: how many training classes there are; needed to train.
        steps: optimiser steps; the paper's 25 epochs.
        lr: their rate.
        optimizer: ``"adam"`` or ``"sgd"``.
        entropy_weight: of the queries' entropy.
        smoothing: of the labels in training.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: no such optimiser, a number out of range, or a network that looks at other examples.

    >>> from quickstudy.nets import MLP
    >>> TransductiveFineTune(MLP(4), steps=5).traits.any_way
    True
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int | None = None,
        steps: int = 25,
        lr: float = 5e-5,
        optimizer: Literal["adam", "sgd"] = "adam",
        entropy_weight: float = 1.0,
        smoothing: float = 0.1,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        one_of("Transductive fine-tuning", "optimizer", optimizer, ("adam", "sgd"))
        if not (steps >= 0 and 0 <= lr < inf and 0 <= entropy_weight < inf):
            raise InputError(
                "Transductive fine-tuning needs steps, a rate and an entropy weight of at least 0, received "
                f"{steps}, {lr} and {entropy_weight}."
            )
        check_smoothing(smoothing)
        check_singly(net)
        size = feature_size(net, out_features)
        self.model = HeadedNet(net, None, "classes", "proto", out_features=size, strategy=strategy)
        self.classifier = BaseClassifier(size, classes, smoothing=smoothing)
        self.steps, self.entropy_weight = steps, entropy_weight
        self.optimizer = make_optimizer(optimizer, lr)

    @property
    @override
    def traits(self) -> Traits:
        return transductive_traits(exact=self.steps == 0)

    @override
    def adapt(self, support: Examples, *, state: Examples | None = None, key: Keys | None = None) -> Examples:
        """The state is the support set as it is: training waits for the queries."""
        check_support(support, state)
        check_classes(support)
        del key
        return joined(support, state)

    @override
    def predict(self, state: Examples, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state)
        query = query.unlabelled()

        def losses(params: Params) -> Tensor:
            support = self.loss(self.model.run(params, state)[0], state)
            said = entropy(*probabilities(self.model.run(params, query)[0]), alpha=1)
            return support + self.entropy_weight * row_mean(said, query.real)

        params = descended(losses, self.model.start(state), self.steps, self.optimizer)
        return self.model.run(params, query)[0]

    @override
    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        del key
        net = self.model.net
        return self.classifier.batch_loss(apply(net, batch.x, mask=batch.mask, strategy=self.model.strategy), batch)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        absorb_statistics(self.model.net, carried)
