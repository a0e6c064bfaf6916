"""Body only update in the inner loop."""

from __future__ import annotations

from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.parts.headed import HeadedNet, TargetKind, check_norms, default_norm
from quickstudy.learners.parts.innerloop import FastWeights, InnerLoop, Memory, gradient_traits, predict_with
from quickstudy.nets.apply import Strategy


class BOIL(AbstractLearner):
    """MAML whose inner steps move the network alone, so that features must go to where the head already is.

    J. Oh, H. Yoo, C. Kim, S.-Y. Yun, "BOIL: towards representation change for few-shot learning", ICLR 2021.

    adapt:      f = f0 - α ∇_f L_support(w, f), ``inner_steps`` times; the head w has the rate 0
    predict:    w · f(x)
    meta-loss:  L_query(w, f), differentiated in w and f0 through the steps

    ANIL does the opposite and moves the head alone. The head is meta-trained by the outer loop as in MAML; before the
    first step it can say nothing of a new task, whose label numbers mean nothing yet.

    When to choose it: where new tasks look different from those of meta-training, which is where the paper sees it gain
    on MAML above all. The way is fixed.

    Deviations: published figures are *transductive* (batch norm over the query batch); here that is the option
    ``transductive``. The paper's ResNet without its last skip connection is a matter of the network.

    Inductive by default: with TaskNorm-I a prediction depends on the support and that query alone.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        outputs: the way, or the dimension of real targets.
        target: ``"classes"``, ``"multi-label"`` or ``"real"``.
        inner_steps: steps in meta-training.
        inner_lr: α.
        test_inner_steps: steps in ``adapt`` (meta-testing); ``inner_steps`` by default.
        test_inner_lr: the rate there; ``inner_lr`` by default.
        first_order: the steps' gradients held constant, cheaper and no longer exact.
        memory: ``"unrolled"``, or with the activations of one step at a time, each computed once more for the same
            gradient, ``"checkpointed"`` or ``"adjoint"``.
        transductive: queries normalised together, as published; needs a network with norm="transductive".
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together, or a network with running batch statistics.

    >>> from quickstudy.nets import MLP
    >>> any(name.startswith("head.") for name in BOIL(MLP(4), outputs=5).model.adapted)
    False
    """

    def __init__(
        self,
        net: nn.Module,
        outputs: int | None = None,
        target: TargetKind = "classes",
        *,
        inner_steps: int = 1,
        inner_lr: float = 0.5,
        test_inner_steps: int | None = None,
        test_inner_lr: float | None = None,
        first_order: bool = False,
        memory: Memory = "unrolled",
        transductive: bool = False,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        check_norms(net, transductive=transductive)
        self.loop = InnerLoop.checked(
            inner_steps, inner_lr, test_inner_steps, test_inner_lr, first_order=first_order, memory=memory
        )
        self.model = HeadedNet(net, outputs, target, "fixed", part="body", out_features=out_features, strategy=strategy)
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
