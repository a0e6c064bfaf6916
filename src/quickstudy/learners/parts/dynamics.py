"""A model of what an action leads to: the change of the observation, and the reward."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quickstudy.nets.apply import Params, Strategy, apply
from quickstudy.nets.dense import task_linear
from quickstudy.nets.mlp import MLP

__all__ = ["Dynamics", "Scales", "cross_entropy_plan"]

_LEAST = 1e-4  # a number that hardly varies is not blown up


@dataclass(frozen=True, eq=False)
class Scales:
    """By how much numbers vary, so that all count alike.

    Args:
        mean: ``[O + A + O + 1]``, of observations, actions, changes and rewards.
        std: the same, their standard deviations.
    """

    mean: Tensor
    std: Tensor

    @staticmethod
    def of(count: Tensor, total: Tensor, square: Tensor) -> Scales:
        """From sums: how many rows, their sum and that of their squares."""
        mean = total / count.clamp(min=1)
        return Scales(mean, (square / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt().clamp(min=_LEAST))


class Dynamics(nn.Module):
    """An MLP from (observation, action) to (change of the observation, reward), all standardised.

    Args:
        observation: O.
        action: A.
        hidden: width of each layer.
        strategy: how the network is run; see ``nets.apply``.
    """

    def __init__(self, observation: int, action: int, hidden: tuple[int, ...], strategy: Strategy) -> None:
        super().__init__()
        self.net = MLP(observation + action, hidden)
        self.head = nn.Linear(hidden[-1], observation + 1)
        self.observation, self.action, self.strategy = observation, action, strategy

    def start(self, n_task: int) -> Params:
        """θ once for each task, ``[T, ...]``."""
        return {name: p.expand(n_task, *p.shape) for name, p in self.named_parameters()}

    def run(self, params: Params, inputs: Tensor) -> Tensor:
        """``[T, R, O + A] -> [T, R, O + 1]``, standardised both."""
        inner = {name.removeprefix("net."): p for name, p in params.items() if name.startswith("net.")}
        head = (params["head.weight"], params["head.bias"])
        done = apply(self.net, inputs, params=inner, strategy=self.strategy, head=head)
        return done.out if done.headed else task_linear(done.out, *head)

    def standard(self, scales: Scales, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets of rows ``[..., O + A + O + 1]``."""
        found = (rows - scales.mean) / scales.std
        size = self.observation + self.action
        return found[..., :size], found[..., size:]

    def imagined(self, params: Params, scales: Scales, obs: Tensor, plans: Tensor) -> Tensor:
        """The rewards that plans would earn, summed, ``[T, R]``.

        Args:
            params: of the T tasks.
            scales: of all numbers.
            obs: ``[T, R, O]``.
            plans: ``[T, R, L, A]``.
        """
        size = self.observation + self.action
        total = obs.new_zeros(obs.shape[:2])
        for step in range(plans.shape[2]):
            told = torch.cat([obs, plans[:, :, step]], 2)
            out = self.run(params, (told - scales.mean[:size]) / scales.std[:size])
            out = out * scales.std[size:] + scales.mean[size:]
            obs, total = obs + out[..., :-1], total + out[..., -1]
        return total


@torch.no_grad()
def cross_entropy_plan(
    model: Dynamics,
    params: Params,
    scales: Scales,
    obs: Tensor,
    draws: Tensor,
    *,
    rounds: int,
    kept: int,
    first: Tensor,
) -> Tensor:
    """Plans of actions that the model thinks well of, by the cross-entropy method.

    Args:
        model: what an action leads to.
        params: its weights for the T tasks.
        scales: of all numbers.
        obs: ``[T, N, O]``, where each trajectory is.
        draws: ``[T, S, L, A]`` standard normal numbers, for S plans of L actions.
        rounds: how often plans are drawn around the best of those before.
        kept: how many are the best.
        first: ``[T, N, L, A]``, the plans to begin around.

    Returns:
        ``[T, N, L, A]``, in -1 .. 1.
    """
    (n_task, n, _), (samples, length, action) = obs.shape, draws.shape[1:]
    mean, std = first, torch.ones_like(first)
    rows = obs[:, :, None].expand(-1, -1, samples, -1).flatten(1, 2)
    for _ in range(rounds):
        plans = (mean[:, :, None] + std[:, :, None] * draws[:, None]).clamp(-1, 1)
        worth = model.imagined(params, scales, rows, plans.flatten(1, 2)).view(n_task, n, samples)
        best = worth.nan_to_num(-torch.inf).topk(kept, 2).indices[..., None, None].expand(-1, -1, -1, length, action)
        chosen = plans.gather(2, best)
        mean, std = chosen.mean(2), chosen.std(2, correction=0)
    return mean
