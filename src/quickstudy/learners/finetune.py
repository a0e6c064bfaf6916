"""Fine-tuning a plainly pretrained network."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_episode, check_support
from quickstudy.learners.parts.baseclassifier import BaseClassifier
from quickstudy.learners.parts.features import feature_size
from quickstudy.learners.parts.headed import Head, HeadedNet, Part, check_norms, default_norm
from quickstudy.learners.parts.innerloop import FastWeights, predict_with
from quickstudy.learners.parts.plain import PlainTraining
from quickstudy.nets.apply import Strategy
from quickstudy.nets.norms import absorb_statistics


class FineTune(AbstractLearner):
    """Train plainly on many tasks' examples, then train on a new task's support.

    C. Finn, P. Abbeel, S. Levine, "Model-agnostic meta-learning for fast adaptation of deep networks", ICML 2017, and
    W.-Y. Chen et al., "A closer look at few-shot classification", ICLR 2019, compare with it.

    batch-loss: classes: cross-entropy of A f(x) + a over *all* training classes; A and a are then thrown away
    meta-loss:  real targets: the squared error of one network on the rows of all tasks; nothing is adapted
    adapt:      ``steps`` optimiser steps on the support, network and head, from θ
    predict:    the network's outputs under the weights that a task was given

    Unlike MAML it is not trained for what it does on a new task, and unlike Baseline the whole network moves there.

    When to choose it: as the yardstick for gradient-based learners, which begin from the same kind of weights; and
    with many shots, or far from the training classes.

    Deviations: none of a paper, as each of them does it in its own way; the head of a task is the fixed one that was
    drawn with the network, untrained, or one made of class means (``head="proto"``).

    Inductive with the default norm; with ``transductive=True`` queries are normalised together.

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
        part: what is trained on the support; see ``learners.parts.headed``.
        rank: of ``part="lora"``.
        transductive: queries normalised together; needs norm="transductive".
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together, or a network with running batch statistics.

    >>> from quickstudy.nets import MLP
    >>> FineTune(MLP(4), 5, classes=64).traits.phases, FineTune(MLP(4), 1, "real").traits.phases
    (('batches',), ('episodes',))
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
        part: Part = "all",
        rank: int = 4,
        transductive: bool = False,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        check_norms(net, transductive=transductive)
        self.model = HeadedNet(
            net, outputs, target, head, part=part, rank=rank, out_features=out_features, strategy=strategy
        )
        self.base = BaseClassifier(feature_size(net, out_features), classes) if target == "classes" else None
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
            phases=("episodes",) if self.base is None else ("batches",),
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
    def batch_loss(self, batch: Examples, *, key: Keys | None = None) -> MetaLoss:
        del key
        if self.base is None:
            raise InputError(
                "Fine-tuning on real targets has no classes to train a classifier on. Train it on tasks: give fit the "
                "task source itself."
            )
        return self.base.loss_through(self.model.net, batch, self.model.strategy)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """Plain joint training on the support and query rows: for classes, those of the tasks as one batch each.

        The engine trains classes by ``batch_loss``. This is the same loss for loops of one's own that only have tasks,
        where the default, the query loss after adapting, would be another method.
        """
        del key
        check_episode(episode)
        rows = episode.support.followed_by(episode.query)
        if self.base is None:
            return MetaLoss(self.loss(self.model.run({}, rows)[0], rows))
        if episode.classes is None or rows.y is None:
            raise InputError(
                "Fine-tuning trains a classifier over all training classes: use a task source that numbers its "
                "classes (Episode.classes)."
            )
        # Which class of all; rows that do not count keep their label, which marks them.
        number = episode.classes.to(rows.device).gather(1, rows.y.clamp(min=0))
        all_classes = torch.full_like(rows.target.way, self.base.classes or 0)  # type: ignore[union-attr]
        y = torch.where(rows.labelled, number, rows.y)
        numbered = replace(rows, y=y, target=Classes(all_classes))
        return self.base.loss_through(self.model.net, numbered, self.model.strategy)

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        absorb_statistics(self.model.net, carried)
