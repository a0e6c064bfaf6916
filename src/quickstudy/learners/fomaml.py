"""First-order MAML."""

from __future__ import annotations

from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.parts.headed import Head, HeadedNet, Part, TargetKind, check_norms, default_norm
from quickstudy.learners.parts.innerloop import FastWeights, InnerLoop, check_shared_head, gradient_traits, predict_with
from quickstudy.nets.apply import Strategy


class FOMAML(AbstractLearner):
    """MAML whose outer step takes the query gradient where the inner steps ended, as if they had not been taken.

    C. Finn, P. Abbeel, S. Levine, "Model-agnostic meta-learning for fast adaptation of deep networks", ICML 2017; named
    so by A. Nichol, J. Achiam, J. Schulman, "On first-order meta-learning algorithms", 2018.

    adapt:      φ = θ - α ∇L_support(θ), ``inner_steps`` times
    predict:    the network under φ
    meta-loss:  L_query(φ), whose gradient is taken as ∇L_query at φ: each inner gradient is held constant

    MAML multiplies that gradient by (I - α H) for each step, H the Hessian of the support loss there; leaving it out
    saves the second derivatives and the memory of the inner steps. Reptile leaves out the query as well.

    When to choose it: in place of MAML where second derivatives are too dear, or a layer has none. The paper finds it
    nearly as good on miniImageNet; for 20-way 1-shot Omniglot Nichol et al. print 89.4 % for it and 95.8 % for MAML.

    Deviations: as MAML's. Published figures are *transductive* (batch norm over the query batch); here that is the
    option ``transductive``.

    Inductive by default: with TaskNorm-I a prediction depends on the support and that query alone.

    Args:
        net: the network; see ``head`` for what it must output.
        outputs: the way, or the dimension of real targets.
        target: ``"classes"``, ``"multi-label"`` or ``"real"``.
        inner_steps: steps in meta-training.
        inner_lr: α.
        test_inner_steps: steps in ``adapt`` (meta-testing); ``inner_steps`` by default.
        test_inner_lr: the rate there; ``inner_lr`` by default.
        head: ``"fixed"``, ``"shared"``, ``"proto"`` or ``"none"``; see ``learners.parts.headed``.
        part: what is adapted; see ``learners.parts.headed``.
        rank: of ``part="lora"``.
        transductive: queries normalised together, as published; needs a network with norm="transductive".
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together, or a network with running batch statistics.

    >>> from quickstudy.nets import MLP
    >>> FOMAML(MLP(4), outputs=5).traits.exact_meta_gradient
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
        head: Head = "fixed",
        part: Part = "all",
        rank: int = 4,
        transductive: bool = False,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        check_norms(net, transductive=transductive)
        self.loop = InnerLoop.checked(inner_steps, inner_lr, test_inner_steps, test_inner_lr, first_order=True)
        self.model = HeadedNet(
            net, outputs, target, head, part=part, rank=rank, out_features=out_features, strategy=strategy
        )
        check_shared_head(self.model, min(self.loop.steps, self.loop.test_steps))
        self.transductive = transductive

    default_norm = staticmethod(default_norm)

    @property
    @override
    def traits(self) -> Traits:
        return gradient_traits(self.model, transductive=self.transductive, exact=False)

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
