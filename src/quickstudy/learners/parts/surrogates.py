"""Functions of a policy whose derivatives estimate those of its expected return."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

__all__ = ["Estimator", "clipped", "surrogate"]

Estimator: TypeAlias = Literal["dice", "lvc"]


def surrogate(
    log_prob: Tensor,
    old: Tensor | None,
    advantage: Tensor,
    alive: Tensor,
    *,
    estimator: Estimator,
    weight: Tensor | None = None,
) -> Tensor:
    """A number a task, to be increased, by the sampled trajectories.

    ``"dice"``: each step's advantage times (the ratio of the probabilities of all actions up to it, less that of all
    before it). Derivatives of any order are unbiased: J. Foerster and others, "DiCE: the infinitely differentiable
    Monte Carlo estimator", ICML 2018; in the form that takes advantages of G. Farquhar, S. Whiteson, J. Foerster,
    "Loaded DiCE", NeurIPS 2019.

    ``"lvc"``: each step's advantage times the ratio of its own action's probabilities. The same first derivative; of
    the second, products of the scores of different steps are left out, which makes it biased and much less noisy: J.
    Rothfuss, D. Lee, I. Clavera, T. Asfour, P. Abbeel, "ProMP: proximal meta-policy search", ICLR 2019.

    Args:
        log_prob: ``[T, N, H]``, of the actions under the policy whose derivative is wanted.
        old: the same when they were drawn, a constant; None: as ``log_prob`` is now.
        advantage: ``[T, N, H]``, constants.
        alive: bool ``[T, N, H]``: steps that were made.
        estimator: which.
        weight: ``[T, N]``, how much each trajectory counts; by default 1 / (N · H), so that the size of a step depends
            neither on the number of trajectories nor on their length.

    Returns:
        ``[T]``.
    """
    old = (log_prob if old is None else old).detach()
    change = torch.where(alive, log_prob - old, 0.0)
    if estimator == "lvc":
        factor = change.exp()
    else:
        up_to = change.cumsum(2)
        factor = up_to.exp() - (up_to - change).exp()
    each = torch.where(alive, factor * advantage, 0.0).sum(2)
    return (each * (1 / alive[0].numel() if weight is None else weight)).sum(1)


def clipped(log_prob: Tensor, old: Tensor, advantage: Tensor, alive: Tensor, *, clip: float) -> Tensor:
    """PPO's objective, a number a task, to be increased.

    J. Schulman, F. Wolski, P. Dhariwal, A. Radford, O. Klimov, "Proximal policy optimization algorithms", 2017.

    Args:
        log_prob: ``[T, N, H]``.
        old: the same when the actions were drawn, constants.
        advantage: ``[T, N, H]``, constants.
        alive: bool ``[T, N, H]``.
        clip: how far the ratio of probabilities may leave 1 and still be rewarded for it.
    """
    ratio = torch.where(alive, log_prob - old, 0.0).exp()
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return torch.where(alive, gain, 0.0).sum((1, 2)) / alive[0].numel()
