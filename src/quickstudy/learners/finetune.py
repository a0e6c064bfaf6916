"""Fine-tuning a plainly pretrained network."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.inner import Params
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_support
from quickstudy.learners.parts.headed import Head, HeadedNet, check_norms, default_norm
from quickstudy.learners.parts.innerloop import FastWeights, predict_with
from quickstudy.learners.parts.plain import PlainTraining
from quickstudy.nets.apply import Strategy


class FineTune(AbstractLearner):
    """Train plainly on many tasks' examples, then train on a new task's support.

    The baseline of Finn et al. (2017) and Chen et al. ("A closer look at few-shot classification", ICLR 2019).
    meta-loss: for classes, cross-entropy over *all* training classes with a classifier that is thrown away;
    for real targets, the squared error of one network on all tasks (nothing is adapted in training).
    adapt: optimiser steps on the support, with a fresh copy of the head.

    Args:
        net: the network; see ``learners.parts.headed`` for heads.
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
        self.training_on_support = PlainTraining(steps, lr, batch, optimizer)
        self.transductive = transductive

    default_norm = staticmethod(default_norm)

    @property
    @override
    def traits(self) -> Traits:
        any_way = self.model.kind in ("shared", "proto")
        return Traits(
            targets=(self.model.target,),
            any_way=any_way,
            renames=any_way and self.training_on_support.batch is None,
            order_invariant=self.training_on_support.batch is None,
            transductive=self.transductive,
            exact_meta_gradient=False,
        )

    @override
    def adapt(self, support: Examples, *, state: FastWeights | None = None, key: Keys | None = None) -> FastWeights:
        check_support(support, state)
        start = self.model.start(support) if state is None else state.params
        return self.training_on_support.run(self.model, support, start, key)

    @override
    def predict(self, state: FastWeights, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        return predict_with(self.model, state, query)

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
        n = counted.sum(1).clamp(min=1)
        right = ((logits.argmax(2) == y) & counted).sum(1) / n
        return MetaLoss((each * counted).sum(1) / n, {"accuracy": right.detach()})
