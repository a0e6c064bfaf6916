"""Meta-Curvature."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.inner import Params, Update
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


class MetaCurvature(AbstractLearner):
    """MAML whose inner gradients are multiplied by learned matrices, one for each axis of a weight.

    E. Park, J. B. Oliva, "Meta-Curvature", NeurIPS 2019.

    adapt:      φ = θ - α MC(∇L_support(θ)), ``inner_steps`` times, with MC(G) = G ×_1 M_o ×_2 M_i ×_3 M_f for a
                convolution's gradient G ``[O, I, k k]``, and M_o G M_i^T for a linear layer's
    predict:    the network under φ
    meta-loss:  L_query(φ), differentiated in θ and in the matrices

    The matrices are a Kronecker-factored preconditioner that meta-training finds; at the identity it is MAML. Unlike
    Meta-SGD's rates, one for each weight, they mix the gradients of a layer's weights, and are fewer for a wide
    convolution. All steps share them.

    When to choose it: where one inner step should go far, with layers of moderate width (an axis of length n costs n^2
    numbers).

    Deviations: the paper describes the matrices for weights of layers; biases and the weights of norms get a learned
    factor each, as biases do in the authors' code. Heads for any way have no M_o, whose size would be the way. The
    authors' Omniglot code is a fork of MAML's, whose batch norm is *transductive*; that is an option here.

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
    >>> learner = MetaCurvature(MLP(4, (6,)), outputs=5)
    >>> {name: tuple(m.shape) for name, m in learner.curvature["head/weight"].named_parameters()}
    {'out': (5, 5), 'into': (6, 6)}
    """

    def __init__(
        self,
        net: nn.Module,
        outputs: int | None = None,
        target: TargetKind = "classes",
        *,
        inner_steps: int = 1,
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
        any_way = self.model.kind in ("shared", "proto")
        self.curvature = nn.ModuleDict(
            {
                module_key(name): ModeMatrices(shape, any_way=any_way and name.startswith("head."))
                for name, shape in self.model.shapes.items()
            }
        )
        self.transductive = transductive

    default_norm = staticmethod(default_norm)

    @property
    @override
    def traits(self) -> Traits:
        return gradient_traits(self.model, transductive=self.transductive, exact=not self.loop.first_order)

    @override
    def adapt(self, support: Examples, *, state: FastWeights | None = None, key: Keys | None = None) -> FastWeights:
        del key
        return self.loop.adapt(
            self.model, support, state, self.loss, self._update(self.loop.test_lr), tuple(self.curvature.parameters())
        )

    @override
    def predict(self, state: FastWeights, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        return predict_with(self.model, state, query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        del key
        return self.loop.meta_loss(
            self.model, episode, self.loss, self._update(self.loop.lr), tuple(self.curvature.parameters())
        )

    @override
    def learned_rates(self) -> dict[str, Tensor]:
        """What each entry's own gradient is multiplied by: α and the matrices' diagonals.

        How entries mix is not in it.
        """
        matrices = {name: self.curvature[module_key(name)] for name in self.model.shapes}
        return {
            name: (self.loop.lr * one.diagonal()).reshape(1, -1)
            for name, one in matrices.items()
            if isinstance(one, ModeMatrices)
        }

    def _update(self, rate: float) -> Update:
        def update(step: int, params: Params, grads: Params) -> Params:
            del step
            return {name: p - rate * self.curvature[module_key(name)](grads[name]) for name, p in params.items()}

        return update


class ModeMatrices(nn.Module):
    """The learned matrices of one weight, each the identity at first.

    Args:
        shape: of the weight, ``[O, I, ...]``, or ``[n]`` for a bias or the scale of a norm.
        any_way: the first axis counts classes, whose number is not known; its matrix stays the identity.
    """

    def __init__(self, shape: torch.Size, *, any_way: bool) -> None:
        super().__init__()
        if len(shape) < 2:
            self.vector = nn.Parameter(torch.ones(shape))
            return
        lengths = {"out": shape[0], "into": shape[1], "filter": shape[2:].numel()}
        if any_way:
            del lengths["out"]
        if len(shape) == 2:
            del lengths["filter"]
        for name, length in lengths.items():
            self.register_parameter(name, nn.Parameter(torch.eye(length)))

    def diagonal(self) -> Tensor:
        """What :meth:`forward` multiplies each entry's own gradient by, detached: ``[M]``, one for any class."""
        found = torch.ones(1)
        for mode in self.parameters():
            own = mode.detach() if mode.ndim == 1 else mode.detach().diagonal()
            found = (found.to(own)[:, None] * own).reshape(-1)
        return found

    def forward(self, grad: Tensor) -> Tensor:
        """``[T, *shape] -> [T, *shape]``."""
        own = dict(self.named_parameters())
        if "vector" in own:
            return grad * own["vector"]
        full = grad.reshape(*grad.shape[:3], -1)  # [T, O, I, F]
        for name, mode in (("out", "toif,po->tpif"), ("into", "toif,pi->topf"), ("filter", "toif,pf->toip")):
            if name in own:
                full = torch.einsum(mode, full, own[name])
        return full.reshape(grad.shape)
