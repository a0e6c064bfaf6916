"""MAML with one head vector for all classes."""

from __future__ import annotations

from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.parts.headed import HeadedNet, Part, check_norms, default_norm
from quickstudy.learners.parts.innerloop import (
    FastWeights,
    InnerLoop,
    Memory,
    check_shared_head,
    gradient_traits,
    predict_with,
)
from quickstudy.nets.apply import Strategy


class UnicornMAML(AbstractLearner):
    """MAML that meta-trains a single head vector, copied to every class of a task, and takes many inner steps.

    H.-J. Ye, W.-L. Chao, "How to train your MAML to excel in few-shot classification", ICLR 2022.

    adapt:      w_k = w for each class k; then φ = φ - α ∇L_support(φ), φ the network and all w_k, ``inner_steps`` times
    predict:    w_k · f(x) + b_k under φ
    meta-loss:  L_query(φ); the outer gradient of w is the sum of its copies' gradients

    MAML's head has a row for each label number, and which class gets which number is luck, on which the accuracy of a
    task depends much in the paper; here no row knows a number, so any way can be learned and renaming classes renames
    predictions. ProtoMAML gets there by class means, and so does this head's first step, from equal logits: for W
    classes with equally many examples, w_k = w + α/W (c_k - c), with c_k the mean feature of class k and c that of all.
    What w is has no effect at all: softmax does not see what all rows share, so that its gradient is 0 and a head of
    zeros would do as well.

    When to choose it: in place of MAML where the order of labels must not matter, and many inner steps are affordable:
    the authors' scripts take 5 to 20. At least two are needed: until the second the rows of the head are equal and no
    feature learns.

    Deviations: the paper starts from a network that was trained on plain batches, and its code divides query logits by
    a temperature of 0.5; neither is part of this class. ``first_order=True`` is the authors' code, hence the default; 5
    steps of 0.1 are its script for miniImageNet, 5-way 1-shot.

    Inductive by default, by TaskNorm-I; the authors' code tests with batch norm in eval mode.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        inner_steps: steps in meta-training.
        inner_lr: α.
        test_inner_steps: steps in ``adapt`` (meta-testing); ``inner_steps`` by default.
        test_inner_lr: the rate there; ``inner_lr`` by default.
        first_order: the steps' gradients held constant, cheaper and no longer exact.
        memory: ``"unrolled"``, or with the activations of one step at a time, each computed once more for the same
            gradient, ``"checkpointed"`` or ``"adjoint"``.
        part: what is adapted; see ``learners.parts.headed``.
        rank: of ``part="lora"``.
        transductive: queries normalised together; needs a network with norm="transductive".
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together, or a network with running batch statistics.

    >>> from quickstudy.nets import MLP
    >>> UnicornMAML(MLP(4)).traits.renames
    True
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        inner_steps: int = 5,
        inner_lr: float = 0.1,
        test_inner_steps: int | None = None,
        test_inner_lr: float | None = None,
        first_order: bool = True,
        memory: Memory = "unrolled",
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
            net, None, "classes", "shared", part=part, rank=rank, out_features=out_features, strategy=strategy
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
