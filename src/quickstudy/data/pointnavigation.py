"""Floor 1: a point in the plane that has to find an unknown goal.

C. Finn, P. Abbeel, S. Levine, "Model-agnostic meta-learning for fast adaptation of deep networks", ICML 2017, section
5.3; sizes and rewards as in the authors' code.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from quickstudy.data.environments import AbstractEnvironment, Running, Step, check_horizon
from quickstudy.keys import Bits, uniform

__all__ = ["PointNavigation"]

STRIDE = 0.1  # how far an action of 1 moves the point
REACHED = 0.01  # a trajectory ends where both coordinates are as near as that


class PointNavigation(AbstractEnvironment):
    """From (0, 0) to a goal drawn uniformly from a square, by velocities of at most 0.1 in each direction.

    The policy sees where it is, not where the goal is; the reward is minus the distance to the goal after each step.

    Args:
        horizon: steps at most.
        reach: the goals' square is -reach .. reach in both directions.
    """

    name = "point-navigation"
    observation = 2
    action = 2
    parameters = ("goal-x", "goal-y")

    def __init__(self, horizon: int = 100, reach: float = 0.5) -> None:
        self.horizon, self.reach = check_horizon(horizon), reach

    @property
    @override
    def description(self) -> dict[str, object]:
        return super().description | {"reach": self.reach}

    @override
    def draw(self, words: Bits) -> NDArray[np.float64]:
        goals: NDArray[np.float64] = self.reach * (2 * uniform(words) - 1)
        return goals

    @override
    def start(self, task: Tensor, seed: Tensor) -> Running:
        return _Points(task.to(torch.float32), seed.shape[1])


class _Points:
    def __init__(self, goal: Tensor, n: int) -> None:
        self._goal = goal[:, None]
        self.observation = torch.zeros(len(goal), n, 2)

    def step(self, action: Tensor) -> Step:
        self.observation = self.observation + STRIDE * action.to(torch.float32).clamp(-1, 1)
        away = self.observation - self._goal
        return Step(self.observation, -away.square().sum(2).sqrt(), (away.abs() < REACHED).all(2))
