"""Training from scratch, the baseline without meta-training."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.inner import Params
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, Traits, check_support
from quickstudy.learners.parts.headed import HeadedNet, check_norms, default_norm
from quickstudy.learners.parts.innerloop import FastWeights, predict_with
from quickstudy.learners.parts.plain import PlainTraining, reinitialised
from quickstudy.nets.apply import Strategy


class Scratch(AbstractLearner):
    """The same network trained on the support alone, from a random initialisation drawn for each task.

    The plain lower bound of few-shot learning: nothing is meta-trained.

    adapt:      θ drawn at random for each task, then ``steps`` optimiser steps on the support loss
    predict:    the network's outputs under the weights that a task was given

    Fine-tuning takes the same steps from weights that were trained.

    When to choose it: to see what few-shot learning costs without meta-training.

    Deviations: none; there is no paper to deviate from.

    Inductive with the default norm; with ``transductive=True`` queries are normalised together. It has nothing to
    train.

    Args:
        net: the network, as a pattern; its own weights are not used.
        outputs: the way, or the dimension of real targets.
        target: ``"classes"`` or ``"real"``.
        steps: optimiser steps.
        lr: their rate.
        batch: rows a minibatch; None: the whole support.
        optimizer: ``"adam"`` or ``"sgd"``.
        transductive: queries normalised together; needs norm="transductive".
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together, a network with running batch statistics, or, in ``adapt``, a layer
            whose weights cannot be drawn anew.

    >>> from quickstudy.nets import MLP
    >>> Scratch(MLP(4), 5).traits.trainable
    False
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
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        check_norms(net, transductive=transductive)
        self.model = HeadedNet(net, outputs, target, "fixed", out_features=out_features, strategy=strategy)
        self.training_on_support = PlainTraining(steps, lr, batch, optimizer)
        self.transductive = transductive

    default_norm = staticmethod(default_norm)

    @property
    @override
    def traits(self) -> Traits:
        return Traits(
            targets=(self.model.target,),
            any_way=False,
            renames=False,
            order_invariant=self.training_on_support.batch is None,
            transductive=self.transductive,
            trainable=False,
        )

    @override
    def adapt(self, support: Examples, *, state: FastWeights | None = None, key: Keys | None = None) -> FastWeights:
        check_support(support, state)
        start = self._initial(support, key) if state is None else state.params
        return self.training_on_support.run(self.model, support, start, key)

    @override
    def predict(self, state: FastWeights, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        return predict_with(self.model, state, query)

    def _initial(self, support: Examples, key: Keys | None) -> Params:
        names = self.model.start(support)
        keys = Keys.default(support.n_task) if key is None else key
        drawn = [dict(reinitialised(self.model, one.value >> 1).named_parameters()) for one in keys.each()]
        return {name: torch.stack([weights[name].detach() for weights in drawn]) for name in names}
