"""Fast context adaptation via meta-learning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.inner import Params, plain_step
from quickstudy.keys import Keys
from quickstudy.learners.learner import (
    AbstractLearner,
    MetaLoss,
    Traits,
    check_episode,
    check_query,
    check_support,
    task_logs,
)
from quickstudy.learners.parts.headed import HeadedNet, TargetKind, check_norms, default_norm
from quickstudy.learners.parts.innerloop import InnerLoop, Memory, gradient_traits
from quickstudy.learners.parts.options import one_of
from quickstudy.nets.adapters import has_rows, is_norm, modulated
from quickstudy.nets.apply import Strategy
from quickstudy.nets.mlp import init_small_normal
from quickstudy.nets.norms import Moments


@dataclass(frozen=True, eq=False)
class Context:
    """What a task taught CAVIA.

    Args:
        values: φ, ``[T, C]``.
        moments: norm moments of the support under φ, or None.
    """

    values: Tensor
    moments: Moments | None


class CAVIA(AbstractLearner):
    """Adapt a few context numbers that the network reads, and leave its weights alone.

    L. Zintgraf, K. Shiarlis, V. Kurin, K. Hofmann, S. Whiteson, "Fast context adaptation via meta-learning", ICML 2019.

    adapt:      φ = 0, then φ <- φ - α ∇_φ L_support(θ, φ), ``inner_steps`` times
    predict:    the network under θ with φ, as more inputs of its first layer (``context_as="inputs"``), or as a scale
                and a shift of one layer's channels, h (1 + S φ) + B φ with S and B meta-learned (``"film"``)
    meta-loss:  L_query(θ, φ), differentiated in θ through the steps (``first_order=True``: their gradients constant)

    Unlike MAML a task changes a handful of numbers and never a weight: it overfits less, adapts many tasks side by
    side cheaply, and a task is a small vector that can be kept or looked at. ANIL adapts the head instead.

    When to choose it: for regression and tasks that differ in a few factors; where a state for each task must be
    small.

    Deviations: the paper's scale is a linear map of φ with a constant of its own, here 1 + S φ (the norm in front has
    the constant), so that φ = 0 is the plain network. With max-pooling it acts before the pooling, the paper's after
    it: the same while a scale is above 0. The authors' clipping of meta-gradients is left out.

    Inductive by default, with TaskNorm-I; the paper's classification is *transductive*, which is an option.

    Args:
        net: the network; its features for ``head="fixed"``, its outputs for ``"none"``.
        outputs: the way, or the dimension of real targets.
        target: ``"classes"``, ``"multi-label"`` or ``"real"``.
        context_size: C, how many numbers.
        context_as: ``"inputs"``, ``"film"``, or ``"auto"``: inputs where the network begins with a linear layer and has
            no norms, else film.
        layer: the name of the layer in the network; by default the first linear one for ``"inputs"``, and for
            ``"film"`` the third norm (as published), or the last of fewer, or so the convolutions where there is none.
        inner_steps: steps in meta-training.
        inner_lr: α.
        test_inner_steps: steps in ``adapt`` (meta-testing); ``inner_steps`` by default.
        first_order: the steps' gradients held constant, cheaper and no longer exact.
        memory: ``"unrolled"``, or with the activations of one step at a time, each computed once more for the same
            gradient, ``"checkpointed"`` or ``"adjoint"``.
        head: ``"fixed"`` or ``"none"``; see ``learners.parts.headed``.
        transductive: queries normalised together, as published; needs a network with norm="transductive".
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together, a layer that cannot take a context, or a network with running
            batch statistics.

    >>> from quickstudy.nets import MLP
    >>> learner = CAVIA(MLP(1), outputs=1, target="real")
    >>> learner.layer, tuple(learner.map.weight.shape)
    ('linears.0', (40, 5))
    """

    def __init__(
        self,
        net: nn.Module,
        outputs: int | None = None,
        target: TargetKind = "classes",
        *,
        context_size: int = 5,
        context_as: Literal["auto", "inputs", "film"] = "auto",
        layer: str | None = None,
        inner_steps: int = 1,
        inner_lr: float = 1.0,
        test_inner_steps: int | None = None,
        first_order: bool = False,
        memory: Memory = "unrolled",
        head: Literal["fixed", "none"] = "fixed",
        transductive: bool = False,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        check_norms(net, transductive=transductive)
        one_of("CAVIA", "context_as", context_as, ("auto", "inputs", "film"))
        one_of("CAVIA", "head", head, ("fixed", "none"))
        if context_size < 1:
            raise InputError(f"CAVIA needs a context of at least one number, received {context_size}.")
        self.loop = InnerLoop.checked(
            inner_steps, inner_lr, test_inner_steps, None, first_order=first_order, memory=memory
        )
        self.model = HeadedNet(net, outputs, target, head, out_features=out_features, strategy=strategy)
        self.film = _begins_otherwise(net) if context_as == "auto" else context_as == "film"
        self.layer = layer or _usual_layer(net, self.film)
        taker = dict(net.named_modules()).get(self.layer)
        _check_layer(taker, self.layer, self.film)
        assert taker is not None
        channels = len(taker.weight)
        self.map = nn.Linear(context_size, 2 * channels if self.film else channels, bias=False)
        if getattr(net, "init", "default") == "normal-0.01":
            init_small_normal(self.map)
        elif isinstance(taker, nn.Linear) and not self.film:  # as the columns of a layer with C more inputs
            bound = 1 / math.sqrt(taker.in_features + context_size)
            nn.init.uniform_(self.map.weight, -bound, bound)
        self.context_size, self.transductive = context_size, transductive

    default_norm = staticmethod(default_norm)

    @property
    @override
    def traits(self) -> Traits:
        return gradient_traits(self.model, transductive=self.transductive, exact=not self.loop.first_order)

    @override
    def adapt(self, support: Examples, *, state: Context | None = None, key: Keys | None = None) -> Context:
        check_support(support, state)
        del key
        return self._descend(support, None if state is None else state.values, self.loop.test_steps)

    @override
    def predict(self, state: Context, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        check_query(query, state, self.model.room({}))
        return self._answer(state, query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        del key
        check_episode(episode)
        query = episode.query
        state = self._descend(episode.support, None, self.loop.steps)
        outputs = self._answer(state, query.unlabelled())
        return MetaLoss(self.loss(outputs, query), task_logs(outputs, query))

    def _answer(self, state: Context, query: Examples) -> Tensor:
        return self.model.run(self.weights(state.values), query, state.moments)[0]

    def weights(self, context: Tensor) -> Params:
        """The weights that a context changes: more inputs change a bias, a scale and a shift a weight and a bias.

        Args:
            context: ``[T, C]``.

        Returns:
            Name in the model -> ``[T, ...]``.
        """
        layer = self.model.net.get_submodule(self.layer)
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor) and isinstance(bias, Tensor)
        read: Tensor = self.map(context)
        if not self.film:
            return {f"net.{self.layer}.bias": bias + read}
        scale, shift = read.chunk(2, -1)  # [T, channels] each
        weight, moved = modulated(weight, bias, 1 + scale, shift)
        assert moved is not None
        return {f"net.{self.layer}.weight": weight, f"net.{self.layer}.bias": moved}

    def _descend(self, support: Examples, context: Tensor | None, steps: int) -> Context:
        """φ after steps from 0, or from an earlier one."""
        self.model.check(support, None if context is None else {"context": context})
        if context is None:
            context = self.map.weight.new_zeros(support.n_task, self.context_size)

        def losses(step: int, params: Params) -> Tensor:
            del step
            return self.loss(self.model.run(self.weights(params["context"]), support)[0], support)

        *_, end = self.loop.path(
            losses, {"context": context}, steps, plain_step(self.loop.lr), reads=tuple(self.parameters())
        )
        values = end["context"]
        return Context(values, self.model.support_moments(self.weights(values), support))


def _begins_otherwise(net: nn.Module) -> bool:
    """Whether the network has norms, or its first layer with weights is not linear."""
    weighted = [layer for layer in net.modules() if next(layer.parameters(recurse=False), None) is not None]
    return any(is_norm(layer) for layer in weighted) or not (weighted and isinstance(weighted[0], nn.Linear))


def _usual_layer(net: nn.Module, film: bool) -> str:
    """See ``layer`` of :class:`CAVIA`.

    Raises:
        InputError: the network has no layer of that kind.
    """
    named = list(net.named_modules())
    if film:
        names = [name for name, layer in named if is_norm(layer) and isinstance(getattr(layer, "bias", None), Tensor)]
        names = names or [name for name, layer in named if has_rows(layer)]
        names = names[:3][-1:]
    else:
        names = [name for name, layer in named if isinstance(layer, nn.Linear)][:1]
    if not names:
        raise InputError(
            f"CAVIA finds no layer in {type(net).__name__} that could take a context as "
            f"{'a scale and a shift' if film else 'more inputs'}. Name one with layer=."
        )
    return str(names[0])


def _check_layer(layer: nn.Module | None, name: str, film: bool) -> None:
    if layer is None:
        raise InputError(f"CAVIA cannot give a context to the layer {name!r}: the network has none of that name.")
    has_both = isinstance(getattr(layer, "weight", None), Tensor) and isinstance(getattr(layer, "bias", None), Tensor)
    if not has_both or not (isinstance(layer, nn.Linear) or (film and (has_rows(layer) or is_norm(layer)))):
        # A transposed convolution's rows are its inputs.
        wanted = (
            "a norm, a linear layer or a convolution, with weight and bias" if film else "a linear layer with a bias"
        )
        raise InputError(
            f"CAVIA cannot give a context to the layer {name!r}, a {type(layer).__name__}: it must be {wanted}. "
            "Name another with layer=, or choose context_as=."
        )
