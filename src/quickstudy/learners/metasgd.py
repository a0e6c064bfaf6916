"""Meta-SGD."""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.inner import Params
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.parts.headed import (
    Head,
    HeadedNet,
    Part,
    TargetKind,
    check_norms,
    default_norm,
    module_key,
)
from quickstudy.learners.parts.innerloop import (
    FastWeights,
    InnerLoop,
    Memory,
    check_shared_head,
    gradient_traits,
    predict_with,
)
from quickstudy.nets.apply import Strategy


class MetaSGD(AbstractLearner):
    """MAML with a learned inner rate for every single weight, its sign free.

    Z. Li, F. Zhou, F. Chen, H. Li, "Meta-SGD: learning to learn quickly for few-shot learning", 2017.

    adapt:      φ = θ - α ∘ ∇L_support(θ), α of θ's shape, ``inner_steps`` times (once in the paper)
    predict:    the network under φ
    meta-loss:  L_query(φ), differentiated in θ and α: dL_query/dα = -∇L_support(θ) ∘ ∇L_query(φ) after one step

    Unlike MAML it learns direction and length of a step, at the price of as many rates as weights; Meta-Curvature
    learns matrices instead. A rate may become 0, so that a weight stays, or negative. All steps share their rates, in
    testing too.

    When to choose it: for adaptation in one step, and where no good inner rate is known.

    Deviations: the paper draws first rates uniformly from 0.005 to 0.1 (``random_rates=True``); the default is one
    ``inner_lr`` for all, which is MAML until the first outer step. Published figures are *transductive* (batch norm
    over the query batch); here that is the option ``transductive``.

    Inductive by default: with TaskNorm-I a prediction depends on the support and that query alone.

    Args:
        net: the network; see ``head`` for what it must output.
        outputs: the way, or the dimension of real targets.
        target: ``"classes"``, ``"multi-label"`` or ``"real"``.
        inner_steps: steps in meta-training.
        inner_lr: the rate that each weight has at first; its sign is free.
        random_rates: first rates uniform in 0.005 .. 0.1 instead, from torch's global generator.
        test_inner_steps: steps in ``adapt`` (meta-testing); ``inner_steps`` by default.
        first_order: the steps' gradients held constant, cheaper and no longer exact.
        memory: ``"unrolled"``, or with the activations of one step at a time, each computed once more for the same
            gradient, ``"checkpointed"`` or ``"adjoint"``.
        head: ``"fixed"``, ``"shared"``, ``"proto"`` or ``"none"``; see ``learners.parts.headed``.
        part: what is adapted; see ``learners.parts.headed``.
        rank: of ``part="lora"``.
        transductive: queries normalised together, as published; needs a network with norm="transductive".
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together, or a network with running batch statistics.

    >>> from quickstudy.nets import MLP
    >>> learner = MetaSGD(MLP(4), outputs=5)
    >>> learner.rates["head/weight"].shape == learner.model.head.weight.shape
    True
    """

    def __init__(
        self,
        net: nn.Module,
        outputs: int | None = None,
        target: TargetKind = "classes",
        *,
        inner_steps: int = 1,
        inner_lr: float = 0.05,
        random_rates: bool = False,
        test_inner_steps: int | None = None,
        first_order: bool = False,
        memory: Memory = "unrolled",
        head: Head = "fixed",
        part: Part = "all",
        rank: int = 4,
        transductive: bool = False,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        check_norms(net, transductive=transductive)
        if not isfinite(inner_lr):
            raise InputError(f"Inner learning rates must be numbers, here of either sign, received {inner_lr}.")
        self.loop = InnerLoop.checked(
            inner_steps, abs(inner_lr), test_inner_steps, None, first_order=first_order, memory=memory
        )
        self.model = HeadedNet(
            net, outputs, target, head, part=part, rank=rank, out_features=out_features, strategy=strategy
        )
        check_shared_head(self.model, min(self.loop.steps, self.loop.test_steps))
        self.rates = nn.ParameterDict(
            {
                module_key(name): nn.Parameter(torch.full(shape, float(inner_lr)))
                for name, shape in self.model.shapes.items()
            }
        )
        if random_rates:
            for rate in self.rates.values():
                nn.init.uniform_(rate, 0.005, 0.1)
        self.transductive = transductive

    default_norm = staticmethod(default_norm)

    @property
    @override
    def traits(self) -> Traits:
        return gradient_traits(self.model, transductive=self.transductive, exact=not self.loop.first_order)

    @override
    def adapt(self, support: Examples, *, state: FastWeights | None = None, key: Keys | None = None) -> FastWeights:
        del key
        return self.loop.adapt(self.model, support, state, self.loss, self._update, tuple(self.rates.parameters()))

    @override
    def predict(self, state: FastWeights, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        return predict_with(self.model, state, query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        del key
        return self.loop.meta_loss(self.model, episode, self.loss, self._update, tuple(self.rates.parameters()))

    @override
    def learned_rates(self) -> dict[str, Tensor]:
        return {name: self.rates[module_key(name)].detach().reshape(1, -1) for name in self.model.shapes}

    def _update(self, step: int, params: Params, grads: Params) -> Params:
        """Each weight by its own rate; the rows of a head for any way share theirs."""
        del step
        return {name: p - self.rates[module_key(name)] * grads[name] for name, p in params.items()}
