"""A multi-layer perceptron with a task axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.errors import InputError
from quickstudy.nets.dense import Layer, task_chain, task_linear
from quickstudy.nets.norms import AbstractNorm, made_here, make_norm
from quickstudy.nets.strategy import listened_to

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "tanh": torch.tanh}


class MLP(nn.Module):
    """Linear layers, each followed by a norm and an activation; inputs are flattened.

    Args:
        in_features: size of one flattened example.
        hidden: width of each layer. MAML's sinusoid network is ``(40, 40)`` with a linear head on top.
        norm: one of ``nets.norms.NORMS``.
        activation: ``"relu"`` or ``"tanh"`` (smooth, for derivative checks).
        init: ``"default"`` (torch's) or ``"normal-0.01"``: truncated normal of deviation 0.01 and zero biases, as
            in the authors' code of MAML.
    """

    batched_on_cpu = True  # a quarter to a half of a loop's time (benchmarks/strategies.py)
    without_fused_kernels = True  # nothing in it needs to be computed otherwise to be differentiated twice

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] = (40, 40),
        *,
        norm: Literal["batch", "transductive", "task", "group", "layer", "instance", "none"] = "none",
        activation: Literal["relu", "tanh"] = "relu",
        init: Literal["default", "normal-0.01"] = "default",
    ) -> None:
        super().__init__()
        if not hidden:
            raise InputError("An MLP needs at least one hidden layer, received hidden=(). Use hidden=(40, 40).")
        widths = [in_features, *hidden]
        if min(widths) < 1:
            raise InputError(
                f"An MLP's layers need at least one unit each, received {in_features} and {tuple(hidden)}."
            )
        self.linears = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.norms = nn.ModuleList(make_norm(norm, width) for width in hidden)
        self.in_features, self.activation, self.out_features = in_features, activation, widths[-1]
        self.init = init
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Small weights, where ``init`` asks for them; torch's own have been drawn by the layers."""
        if self.init == "normal-0.01":
            for linear in self.linears:
                assert isinstance(linear, nn.Linear)
                init_small_normal(linear)

    def _flat(self, x: Tensor, lead: int) -> Tensor:
        flat = x.flatten(lead) if x.dim() > lead else x.unsqueeze(-1)
        if flat.shape[-1] != self.in_features:
            raise InputError(
                f"This MLP was built for {self.in_features} inputs an example, received {flat.shape[-1]} "
                f"(shape {list(x.shape[lead:])}). Build it with in_features={flat.shape[-1]}."
            )
        return flat

    def forward(self, x: Tensor) -> Tensor:
        """``[N, ...] -> [N, out_features]``."""
        x = self._flat(x, 1)
        for linear, norm in zip(self.linears, self.norms, strict=True):
            x = _ACTIVATIONS[self.activation](norm(linear(x)))
        return x

    @property
    def layers_as_built(self) -> bool:
        """Whether nobody exchanged a layer, or listens to one: else each has to be called."""
        linears = all(type(linear) is nn.Linear and linear.bias is not None for linear in self.linears)
        return linears and all(map(made_here, self.norms)) and not listened_to(*self.linears, *self.norms)

    @property
    def _is_chain(self) -> bool:
        """Nothing but linear layers and ReLUs, where the layers are as they were built."""
        return self.activation == "relu" and not any(isinstance(norm, AbstractNorm) for norm in self.norms)

    def as_chain(self, params: dict[str, Tensor], x: Tensor) -> tuple[Tensor, list[Layer]] | None:
        """Inputs ``[T, N, I]`` and the layers, each rectified, where that is all of it; see ``inner.chained``."""
        # A class made from this one may compute something else.
        if type(self) is not MLP or not self._is_chain or not self.layers_as_built:
            return None
        return self._flat(x, 2), self._layers(params)

    def _layers(self, params: dict[str, Tensor]) -> list[Layer]:
        return [(params[f"linears.{n}.weight"], params[f"linears.{n}.bias"]) for n in range(len(self.norms))]

    def batched(self, params: dict[str, Tensor], x: Tensor, head: Layer | None = None) -> Tensor:
        """``[T, N, ...] -> [T, N, out_features]``, or what a linear ``head`` makes of it; see ``nets.apply``."""
        x = self._flat(x, 2)
        layers = self._layers(params)
        if self._is_chain:
            return task_chain(x, layers, relu=True) if head is None else task_chain(x, [*layers, head])
        for number, (norm, layer) in enumerate(zip(self.norms, layers, strict=True)):
            x = task_linear(x, *layer)
            if isinstance(norm, AbstractNorm):
                own = {name: params[f"norms.{number}.{name}"] for name, _ in norm.named_parameters(recurse=False)}
                x = norm.normalise(x, own)
            x = _ACTIVATIONS[self.activation](x)
        return x if head is None else task_linear(x, *head)


def init_small_normal(linear: nn.Linear) -> None:
    """Truncated normal weights of deviation 0.01, zero bias (from torch's global generator; fork it outside)."""
    nn.init.trunc_normal_(linear.weight, std=0.01, a=-0.02, b=0.02)
    nn.init.zeros_(linear.bias)
