"""How much better an action was than usual: a linear baseline of features of time and state, and GAE."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["advantages", "discounted", "linear_baseline"]

_RIDGE = 1e-5
_CLIP = 10.0


def discounted(reward: Tensor, discount: float) -> Tensor:
    """Each step's discounted sum of rewards from there on, ``[..., H] -> [..., H]``."""
    sums, running = torch.empty_like(reward), torch.zeros_like(reward[..., 0])
    for t in reversed(range(reward.shape[-1])):
        running = reward[..., t] + discount * running
        sums[..., t] = running
    return sums


def linear_baseline(obs: Tensor, target: Tensor, alive: Tensor) -> Tensor:
    """What a ridge regression of each task's returns on state and time predicts of them.

    Y. Duan, X. Chen, R. Houthooft, J. Schulman, P. Abbeel, "Benchmarking deep reinforcement learning for continuous
    control", ICML 2016: the features are the observation (cut at ±10), its squares, time, its square and cube, and 1.

    Args:
        obs: ``[T, N, H, O]``.
        target: ``[T, N, H]``.
        alive: bool ``[T, N, H]``; other steps play no part, and zero is predicted there.

    Returns:
        ``[T, N, H]``.
    """
    n_task, n, horizon, _ = obs.shape
    seen = obs.double().clamp(-_CLIP, _CLIP)
    time = (torch.arange(horizon, device=obs.device, dtype=torch.float64) / 100).view(1, 1, -1, 1)
    time = time.expand(n_task, n, -1, 1)
    features = torch.cat([seen, seen.square(), time, time**2, time**3, torch.ones_like(time)], 3)
    features = (features * alive[..., None]).flatten(1, 2)  # [T, N·H, F]
    y = (target.double() * alive).flatten(1, 2)[..., None]
    gram = features.mT @ features
    eye = torch.eye(gram.shape[1], device=obs.device, dtype=torch.float64)
    weight = torch.linalg.solve(gram + _RIDGE * eye, features.mT @ y)
    predicted: Tensor = (features @ weight).view(n_task, n, horizon)
    return predicted.to(target.dtype)


@torch.no_grad()
def advantages(
    obs: Tensor, reward: Tensor, alive: Tensor, *, discount: float = 0.99, gae_lambda: float = 1.0
) -> Tensor:
    """Generalised advantage estimates with each task's own linear baseline, standardised within the task.

    J. Schulman, P. Moritz, S. Levine, M. Jordan, P. Abbeel, "High-dimensional continuous control using generalized
    advantage estimation", ICLR 2016.

    Args:
        obs: ``[T, N, H, O]``.
        reward: ``[T, N, H]``.
        alive: bool ``[T, N, H]``.
        discount: γ.
        gae_lambda: λ; 1: the discounted return less the baseline.

    Returns:
        ``[T, N, H]``, zero where no step was made.
    """
    reward = torch.where(alive, reward, 0.0)
    value = linear_baseline(obs, discounted(reward, discount), alive)
    after = torch.cat([value[..., 1:], torch.zeros_like(value[..., :1])], 2)  # no value behind the last step
    gain = discounted(reward + discount * after - value, discount * gae_lambda)
    count = alive.sum((1, 2), keepdim=True).clamp(min=1)
    mean = torch.where(alive, gain, 0.0).sum((1, 2), keepdim=True) / count
    spread = (torch.where(alive, gain - mean, 0.0).square().sum((1, 2), keepdim=True) / count).sqrt()
    return torch.where(alive, (gain - mean) / (spread + 1e-8), 0.0)
