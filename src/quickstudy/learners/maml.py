"""Model-agnostic meta-learning."""

from __future__ import annotations

from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.parts.headed import Head, HeadedNet, Part, TargetKind, check_norms, default_norm
from quickstudy.learners.parts.innerloop import (
    FastWeights,
    InnerLoop,
    Memory,
    check_shared_head,
    gradient_traits,
    predict_with,
)
from quickstudy.nets.apply import Strategy


class MAML(AbstractLearner):
    """Learn an initialisation from which a few gradient steps on the support solve the task.

    C. Finn, P. Abbeel, S. Levine, "Model-agnostic meta-learning for fast adaptation of deep networks", ICML 2017.

    adapt:      φ = θ - α ∇L_support(θ), ``inner_steps`` times
    predict:    the network under φ
    meta-loss:  L_query(φ), differentiated through the steps (``first_order=True``: the steps' gradients held
                constant, which is cheaper)

    Unlike Reptile it needs a query set in training and second derivatives. Published numbers are
    *transductive*: batch norm uses the query batch's statistics. Here that is an option; the default norm is
    TaskNorm-I, for which a prediction depends on the support and that query alone.

    When to choose it: tasks that differ in more than their classes (regression, control, users), or where a few steps
    of the whole network pay. Where only classes change, a metric learner is cheaper, and the one to beat.

    Deviations: the norm, as said; ``transductive=True`` is as published. Two things of the authors' released code are
    otherwise: it sums the support's cross-entropy over the classes, of which the mean is taken here, so that its α of
    0.4 at 5 ways is 2.0 here; and its norms have shifts alone, meta-trained but not adapted (``part="all"`` adapts the
    scales and shifts of norms with the rest).

    Args:
        net: the network; see ``head`` for what it must output.
        outputs: the way, or the dimension of real targets.
        target: ``"classes"``, ``"multi-label"`` or ``"real"``.
        inner_steps: steps in meta-training.
        inner_lr: α.
        test_inner_steps: steps in ``adapt`` (meta-testing); ``inner_steps`` by default.
        test_inner_lr: β, the rate there; ``inner_lr`` by default.
        first_order: FOMAML.
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
    >>> MAML(MLP(4), outputs=5, inner_lr=0.1).traits.transductive
    False
    """

    def __init__(
        self,
        net: nn.Module,
        outputs: int | None = None,
        target: TargetKind = "classes",
        *,
        inner_steps: int = 5,
        inner_lr: float = 0.1,
        test_inner_steps: int | None = None,
        test_inner_lr: float | None = None,
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
        self.loop = InnerLoop.checked(
            inner_steps, inner_lr, test_inner_steps, test_inner_lr, first_order=first_order, memory=memory
        )
        self.model = HeadedNet(
            net, outputs, target, head, part=part, rank=rank, out_features=out_features, strategy=strategy
        )
        check_shared_head(self.model, min(self.loop.steps, self.loop.test_steps))
        self.transductive = transductive

    default_norm = staticmethod(default_norm)

    @property
    @override
    def traits(self) -> Traits:
        return gradient_traits(self.model, transductive=self.transductive, exact=not self.loop.first_order)

    @override
    def adapt(self, support: Examples, *, state: FastWeights | None = None, key: Keys | None = None) -> FastWeights:
        del key
        return self.loop.adapt(self.model, support, state, self.loss)

    @override
    def predict(self, state: FastWeights, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        return predict_with(self.model, state, query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        del key
        return self.loop.meta_loss(self.model, episode, self.loss)
