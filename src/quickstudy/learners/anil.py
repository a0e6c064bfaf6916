"""Almost no inner loop."""

from __future__ import annotations

from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.parts.headed import Head, HeadedNet, TargetKind, check_norms, default_norm
from quickstudy.learners.parts.innerloop import FastWeights, InnerLoop, gradient_traits, predict_with
from quickstudy.nets.apply import Strategy


class ANIL(AbstractLearner):
    """MAML whose inner steps move the head alone; the network is meta-trained and the same for all tasks.

    A. Raghu, M. Raghu, S. Bengio, O. Vinyals, "Rapid learning or feature reuse? Towards understanding the effectiveness
    of MAML", ICLR 2020.

    adapt:      w = w0 - α ∇_w L_support(w, f), ``inner_steps`` times; f, the network, stays
    predict:    w · f(x)
    meta-loss:  L_query(w, f), differentiated in w0 and f through the steps

    Unlike MAML's, its features are computed once for each example, so that a further inner step costs next to nothing;
    BOIL does the opposite and moves all but the head. ``head="proto"`` starts the steps from the class means.

    When to choose it: for new tasks that want no other features than the old ones, many inner steps, or little memory;
    MAML or BOIL where new tasks come from another domain.

    Deviations: published figures are *transductive* (batch norm over the query batch); here that is the option
    ``transductive``. The paper's NIL, which drops the head in testing, is not part of this class.

    Inductive by default: with TaskNorm-I a prediction depends on the support and that query alone.

    Args:
        net: the network; see ``head`` for what it must output.
        outputs: the way, or the dimension of real targets.
        target: ``"classes"``, ``"multi-label"`` or ``"real"``.
        inner_steps: steps in meta-training.
        inner_lr: α.
        test_inner_steps: steps in ``adapt`` (meta-testing); ``inner_steps`` by default.
        test_inner_lr: the rate there; ``inner_lr`` by default.
        first_order: the steps' gradients held constant, cheaper and no longer exact.
        head: ``"fixed"``, ``"shared"`` or ``"proto"``; see ``learners.parts.headed``.
        transductive: queries normalised together, as published; needs a network with norm="transductive".
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together, or a network with running batch statistics.

    >>> from quickstudy.nets import MLP
    >>> ANIL(MLP(4), outputs=5).model.adapted
    ('head.weight', 'head.bias')
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
        head: Head = "fixed",
        transductive: bool = False,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        check_norms(net, transductive=transductive)
        self.loop = InnerLoop.checked(inner_steps, inner_lr, test_inner_steps, test_inner_lr, first_order=first_order)
        self.model = HeadedNet(net, outputs, target, head, part="head", out_features=out_features, strategy=strategy)
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
