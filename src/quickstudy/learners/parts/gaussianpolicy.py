"""A policy whose actions are normally distributed around what a network says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.nets.apply import Params, Strategy, apply
from quickstudy.nets.dense import task_linear
from quickstudy.nets.norms import couples_examples

__all__ = ["GaussianPolicy"]

_LEAST_LOG_STD = -6.0


class GaussianPolicy(nn.Module):
    """Means from a network with a linear layer on top, one learned deviation for each number of an action.

    Args:
        net: maps observations ``[N, O]`` to features ``[N, F]``; one that treats rows singly.
        actions: A.
        features: F, where the network does not say (``out_features``).
        log_std: logarithm of the deviations at the start.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: the network does not say how many features it gives, or couples the states of a batch.
    """

    def __init__(
        self,
        net: nn.Module,
        actions: int,
        *,
        features: int | None = None,
        log_std: float = 0.0,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        width = getattr(net, "out_features", None) if features is None else features
        if not isinstance(width, int):
            raise InputError(
                f"A policy needs to know how many features {type(net).__name__} gives: it has no out_features. Say "
                "out_features = ... in [learner]."
            )
        if couples_examples(net):
            raise InputError(
                "A policy's network must treat every state by itself, and this one has norms that look at others "
                "beside it. Build it with norm='none' or 'layer'."
            )
        self.net, self.head, self.strategy = net, nn.Linear(width, actions), strategy
        self.log_std = nn.Parameter(torch.full((actions,), log_std))
        with torch.no_grad():
            self.head.bias.zero_()

    def weights(self) -> Params:
        """θ: all that is not frozen, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def start(self, params: Params, n_task: int) -> Params:
        """θ once for each task, ``[T, ...]``; derivatives reach θ."""
        return {name: p.expand(n_task, *p.shape) for name, p in params.items()}

    def run(self, params: Params, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Means ``[T, ..., A]`` and logarithms of the deviations ``[T, 1, ..., A]`` for ``obs`` ``[T, ..., O]``."""
        n_task, between = len(obs), obs.shape[1:-1]
        rows = obs.reshape(n_task, -1, obs.shape[-1]).to(self.log_std.dtype)
        whole = self.start(dict(self.named_parameters()), n_task) | params
        inner = {name.removeprefix("net."): p for name, p in whole.items() if name.startswith("net.")}
        head = (whole["head.weight"], whole["head.bias"])
        done = apply(self.net, rows, params=inner, strategy=self.strategy, head=head)
        mean = done.out if done.headed else task_linear(done.out, *head)
        log_std = whole["log_std"].clamp(min=_LEAST_LOG_STD)
        return mean.view(n_task, *between, -1), log_std.view(n_task, *(1 for _ in between), -1)
