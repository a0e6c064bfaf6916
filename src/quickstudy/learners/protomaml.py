"""MAML from a head of prototypes, and its first-order form."""

from __future__ import annotations

from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits
from quickstudy.learners.parts.headed import HeadedNet, Part, check_norms, default_norm
from quickstudy.learners.parts.innerloop import FastWeights, InnerLoop, Memory, gradient_traits, predict_with
from quickstudy.nets.apply import Strategy


class ProtoMAML(AbstractLearner):
    """MAML whose head is made of the class means before the first inner step.

    E. Triantafillou, T. Zhu, V. Dumoulin, P. Lamblin, U. Evci, K. Xu, R. Goroshin, C. Gelada, K. Swersky,
    P.-A. Manzagol, H. Larochelle, "Meta-Dataset: a dataset of datasets for learning to learn from few examples",
    ICLR 2020.

    adapt:      c_k = mean of f(x) over class k's support; w_k = 2 c_k, b_k = -|c_k|^2;
                then φ = φ - α ∇L_support(φ) for the network and this head, ``inner_steps`` times
    predict:    w · f(x) + b under φ
    meta-loss:  L_query(φ), differentiated through the steps and through the means

    Without a step it is a prototypical network; with steps it goes on from there. Unlike MAML's its head knows no label
    numbers, so any number of classes can be learned and renaming classes renames predictions.

    When to choose it: for tasks of varying way and shot; where a prototypical network is good but more shots should
    change the features. Features of large norm want a small rate, because w and b grow with them.

    Deviations: none known in the formulas; 5 steps of 0.01 are the default of Meta-Dataset's code. That leaves the
    scales and shifts of norms out of the inner steps (``part="all"`` adapts them with the rest), normalises a query
    with the support's batch norm statistics, and for its best figures starts from a network trained on plain batches
    first and finds rate and steps by a search.

    Inductive by default: with TaskNorm-I a prediction depends on the support and that query alone.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        inner_steps: steps in meta-training.
        inner_lr: α.
        test_inner_steps: steps in ``adapt`` (meta-testing); ``inner_steps`` by default.
        test_inner_lr: the rate there; ``inner_lr`` by default.
        memory: ``"unrolled"``, or with the activations of one step at a time, each computed once more for the same
            gradient, ``"checkpointed"`` or ``"adjoint"``.
        part: what is adapted along with the head; see ``learners.parts.headed``.
        rank: of ``part="lora"``.
        transductive: queries normalised together; needs a network with norm="transductive".
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together, or a network with running batch statistics.

    >>> from quickstudy.nets import MLP
    >>> ProtoMAML(MLP(4)).traits.any_way
    True
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        inner_steps: int = 5,
        inner_lr: float = 0.01,
        test_inner_steps: int | None = None,
        test_inner_lr: float | None = None,
        memory: Memory = "unrolled",
        part: Part = "all",
        rank: int = 4,
        transductive: bool = False,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        check_norms(net, transductive=transductive)
        self.loop = InnerLoop.checked(inner_steps, inner_lr, test_inner_steps, test_inner_lr, memory=memory)
        self.model = HeadedNet(
            net, None, "classes", "proto", part=part, rank=rank, out_features=out_features, strategy=strategy
        )
        self.transductive = transductive

    default_norm = staticmethod(default_norm)

    @property
    @override
    def traits(self) -> Traits:
        return gradient_traits(self.model, transductive=self.transductive, exact=True)

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


class FOProtoMAML(AbstractLearner):
    """ProtoMAML with inner gradients held constant, the form that Meta-Dataset reports.

    E. Triantafillou, T. Zhu, V. Dumoulin, P. Lamblin, U. Evci, K. Xu, R. Goroshin, C. Gelada, K. Swersky,
    P.-A. Manzagol, H. Larochelle, "Meta-Dataset: a dataset of datasets for learning to learn from few examples",
    ICLR 2020.

    adapt:      as ProtoMAML: a head of the class means, w_k = 2 c_k and b_k = -|c_k|^2, then gradient steps
    predict:    w · f(x) + b under φ
    meta-loss:  L_query(φ); no derivative through the steps' gradients, but one through the means that they started from

    It relates to ProtoMAML as FOMAML to MAML; the means are no gradient, and stay differentiated.

    When to choose it: in place of ProtoMAML with a large network or many steps.

    Deviations: as ProtoMAML.

    Inductive by default: with TaskNorm-I a prediction depends on the support and that query alone.

    Args:
        net: maps ``[N, ...]`` to features ``[N, D]``.
        inner_steps: steps in meta-training.
        inner_lr: α.
        test_inner_steps: steps in ``adapt`` (meta-testing); ``inner_steps`` by default.
        test_inner_lr: the rate there; ``inner_lr`` by default.
        part: what is adapted along with the head; see ``learners.parts.headed``.
        rank: of ``part="lora"``.
        transductive: queries normalised together; needs a network with norm="transductive".
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together, or a network with running batch statistics.

    >>> from quickstudy.nets import MLP
    >>> FOProtoMAML(MLP(4)).traits.exact_meta_gradient
    False
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        inner_steps: int = 5,
        inner_lr: float = 0.01,
        test_inner_steps: int | None = None,
        test_inner_lr: float | None = None,
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
            net, None, "classes", "proto", part=part, rank=rank, out_features=out_features, strategy=strategy
        )
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
