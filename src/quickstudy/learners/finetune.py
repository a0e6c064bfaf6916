"""Ordinary training on the support set: from a pretrained network, or from scratch."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.inner import Params, make_optimizer, optimize
from quickstudy.keys import Keys
from quickstudy.learners.headed import Head, HeadedNet, check_norms, default_norm, losses_on
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.maml import FastWeights
from quickstudy.learners.minibatches import minibatches
from quickstudy.nets.apply import Strategy


class FineTune(AbstractLearner):
    """Train plainly on many tasks' examples, then train on a new task's support.

    The baseline of Finn et al. (2017) and Chen et al. ("A closer look at few-shot classification", ICLR 2019).
    meta-loss: for classes, cross-entropy over *all* training classes with a classifier that is thrown away;
    for real targets, the squared error of one network on all tasks (nothing is adapted in training).
    adapt: optimiser steps on the support, with a fresh copy of the head.

    Args:
        net: the network; see ``learners.headed`` for heads.
        outputs: the way, or the dimension of real targets.
        target: ``"classes"`` or ``"real"``.
        classes: how many training classes there are (``TaskShape.classes``); needed to train on classes.
        steps: optimiser steps in ``adapt``.
        lr: their rate.
        batch: rows a minibatch; None: the whole support.
        optimizer: ``"adam"`` or ``"sgd"``.
        head: ``"fixed"``, ``"shared"`` or ``"proto"``.
        transductive: queries normalised together; needs norm="transductive".
        strategy: how the network is run; see ``nets.apply``.
    """

    def __init__(
        self,
        net: nn.Module,
        outputs: int | None = None,
        target: Literal["classes", "real"] = "classes",
        *,
        classes: int | None = None,
        steps: int = 50,
        lr: float = 1e-2,
        batch: int | None = None,
        optimizer: Literal["adam", "sgd"] = "adam",
        head: Head = "fixed",
        transductive: bool = False,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        check_norms(net, transductive=transductive)
        self.model = HeadedNet(net, outputs, target, head, strategy=strategy)
        self.base = nn.Linear(net.out_features, classes) if classes and target == "classes" else None  # type: ignore[arg-type]
        self.optimizer, self.steps, self.batch = make_optimizer(optimizer, lr), steps, batch
        self.transductive = transductive

    default_norm = staticmethod(default_norm)

    @property
    @override
    def traits(self) -> Traits:
        any_way = self.model.kind in ("shared", "proto")
        return Traits(
            targets=(self.model.target,),
            any_way=any_way,
            renames=any_way and self.batch is None,
            order_invariant=self.batch is None,
            transductive=self.transductive,
            exact_meta_gradient=False,
        )

    @override
    def adapt(self, support: Examples, *, state: FastWeights | None = None, key: Keys | None = None) -> FastWeights:
        start = self.model.start(support) if state is None else state.params
        keys = Keys.default(support.n_task) if key is None else key
        batches = minibatches(support, self.batch, self.steps, keys.fold("minibatches"))
        losses = [losses_on(self.model, self.loss, batch) for batch in batches]
        params, _, _ = optimize(losses, start, self.optimizer)
        with torch.no_grad():
            return FastWeights(params, self.model.support_moments(params, support))

    @override
    def predict(self, state: FastWeights, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        return self.model.run(state.params, query, state.moments)[0]

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """Plain joint training on the support and query rows."""
        del key
        rows = episode.support.followed_by(episode.query)
        params: Params = {}
        if not isinstance(rows.target, Classes):
            return MetaLoss(self.loss(self.model.run(params, rows)[0], rows))
        if self.base is None or episode.classes is None or rows.y is None:
            raise InputError(
                "Fine-tuning trains a classifier over all training classes first: pass classes= (how many there are) "
                "and use a task source that numbers its classes."
            )
        features = self.model.features(rows)
        logits = self.base(features)
        y = episode.classes.to(rows.device).gather(1, rows.y.clamp(min=0))
        each = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view_as(y)
        counted = rows.labelled
        right = ((logits.argmax(2) == y) & counted).sum(1) / counted.sum(1)
        return MetaLoss((each * counted).sum(1) / counted.sum(1), {"accuracy": right.detach()})


class Scratch(AbstractLearner):
    """The same network trained on the support alone, from a random initialisation drawn for each task.

    What few-shot learning costs without meta-training. Nothing is meta-trained.

    Args:
        net: the network, as a pattern; its own weights are not used.
        outputs: the way, or the dimension of real targets.
        target: ``"classes"`` or ``"real"``.
        steps: optimiser steps.
        lr: their rate.
        batch: rows a minibatch; None: the whole support.
        optimizer: ``"adam"`` or ``"sgd"``.
        transductive: queries normalised together; needs norm="transductive".
        strategy: how the network is run; see ``nets.apply``.
    """

    def __init__(
        self,
        net: nn.Module,
        outputs: int | None = None,
        target: Literal["classes", "real"] = "classes",
        *,
        steps: int = 50,
        lr: float = 1e-2,
        batch: int | None = None,
        optimizer: Literal["adam", "sgd"] = "adam",
        transductive: bool = False,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        check_norms(net, transductive=transductive)
        self.model = HeadedNet(net, outputs, target, "fixed", strategy=strategy)
        self.optimizer, self.steps, self.batch = make_optimizer(optimizer, lr), steps, batch
        self.transductive = transductive

    default_norm = staticmethod(default_norm)

    @property
    @override
    def traits(self) -> Traits:
        return Traits(
            targets=(self.model.target,),
            any_way=False,
            renames=False,
            order_invariant=self.batch is None,
            transductive=self.transductive,
            trainable=False,
        )

    @override
    def adapt(self, support: Examples, *, state: FastWeights | None = None, key: Keys | None = None) -> FastWeights:
        keys = Keys.default(support.n_task) if key is None else key
        start = self._initial(support, keys) if state is None else state.params
        batches = minibatches(support, self.batch, self.steps, keys.fold("minibatches"))
        params, _, _ = optimize([losses_on(self.model, self.loss, b) for b in batches], start, self.optimizer)
        with torch.no_grad():
            return FastWeights(params, self.model.support_moments(params, support))

    @override
    def predict(self, state: FastWeights, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        return self.model.run(state.params, query, state.moments)[0]

    def _initial(self, support: Examples, keys: Keys) -> Params:
        shapes = self.model.start(support)
        drawn = [dict(reinitialised(self.model, key.value >> 1).named_parameters()) for key in keys.each()]
        return {name: torch.stack([one[name].detach() for one in drawn]) for name in shapes}


def reinitialised(module: nn.Module, seed: int) -> nn.Module:
    """A copy of ``module`` with every layer's ``reset_parameters`` called under ``seed``.

    Layers draw from torch's global generator; it is put back afterwards. Parameters of layers without
    ``reset_parameters`` (norms) keep the values that they were built with, which are not random.
    """
    fresh = copy.deepcopy(module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in fresh.modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
    return fresh
