"""Trust-region steps: as far along the natural gradient as the policy may change, and no further than it helps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from quickstudy.nets.apply import Params

__all__ = ["Judged", "TrustRegion", "conjugate_gradient"]

Judged: TypeAlias = Callable[[Params], tuple[Tensor, Tensor]]
"""θ -> what is to be increased, ``[T]``, and how far the policies have moved, a KL divergence, ``[T]``."""


@dataclass(frozen=True)
class TrustRegion:
    """J. Schulman, S. Levine, P. Moritz, M. Jordan, P. Abbeel, "Trust region policy optimization", ICML 2015.

    Args:
        max_kl: δ, by how much the policies may move, averaged over tasks.
        iterations: of conjugate gradients.
        damping: added to the curvature.
        backtracks: how often a step that is too long is shortened.
        shorter: by what factor.
    """

    max_kl: float = 0.01
    iterations: int = 10
    damping: float = 1e-3
    backtracks: int = 12
    shorter: float = 0.7

    def step(self, params: Params, judge: Judged, moved: Callable[[Params], Tensor]) -> tuple[Params, float]:
        """θ after a step.

        Args:
            params: θ, by name.
            judge: the objective and the divergence, in full.
            moved: a divergence ``[T]`` for the curvature alone, which may be of fewer trajectories.

        Returns:
            The new θ, which is the old one where no step helps, and the share of the full step that was made.
        """
        start = {name: p.detach().requires_grad_() for name, p in params.items()}
        with torch.enable_grad():
            before, _ = judge(start)
            gradient = _flat(torch.autograd.grad(before.mean(), tuple(start.values())))
            slope = torch.autograd.grad(moved(start).mean(), tuple(start.values()), create_graph=True)

        def curvature(vector: Tensor) -> Tensor:
            along = sum((s * v).sum() for s, v in zip(slope, _split(vector, start), strict=True))
            assert isinstance(along, Tensor)
            found = torch.autograd.grad(along, tuple(start.values()), retain_graph=True)
            return _flat(found) + self.damping * vector

        direction = conjugate_gradient(curvature, gradient, self.iterations)
        bend = float(direction @ curvature(direction))
        if not bend > 0 or not torch.isfinite(direction).all():
            return {name: p.detach() for name, p in params.items()}, 0.0
        full = direction * (2 * self.max_kl / bend) ** 0.5
        return self._longest(start, full, judge, float(before.detach().mean()))

    @torch.no_grad()
    def _longest(self, start: Params, full: Tensor, judge: Judged, before: float) -> tuple[Params, float]:
        share = 1.0
        for _ in range(self.backtracks):
            parts = _split(share * full, start)
            tried = {name: p.detach() + part for (name, p), part in zip(start.items(), parts, strict=True)}
            gained, moved = judge(tried)
            # Written so that what is no number is refused.
            if float(gained.mean()) > before and float(moved.mean()) <= self.max_kl:
                return tried, share
            share *= self.shorter
        return {name: p.detach() for name, p in start.items()}, 0.0


def conjugate_gradient(product: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Tensor:
    """Solve ``product(x)`` = b for x, with a symmetric positive product; stops where nothing is left of b.

    >>> matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    >>> conjugate_gradient(lambda v: matrix @ v, torch.tensor([3.0, 4.0]), 2).round(decimals=4).tolist()
    [1.0, 1.0]
    """
    x, rest = torch.zeros_like(b), b.clone()
    along, size = rest.clone(), rest @ rest
    for _ in range(iterations):
        if float(size) < 1e-20:
            break
        bent = product(along)
        length = size / (along @ bent)
        x = x + length * along
        rest = rest - length * bent
        new = rest @ rest
        along, size = rest + new / size * along, new
    return x


def _flat(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def _split(vector: Tensor, like: Params) -> list[Tensor]:
    parts = torch.split(vector, [p.numel() for p in like.values()])
    return [part.view_as(p) for part, p in zip(parts, like.values(), strict=True)]
