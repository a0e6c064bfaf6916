"""Floor 1: Gymnasium's MuJoCo robots, with rewards and limbs that differ from task to task.

C. Finn, P. Abbeel, S. Levine, "Model-agnostic meta-learning for fast adaptation of deep networks", ICML 2017
(HalfCheetah direction and velocity); A. Nagabandi and others, "Learning to adapt in dynamic, real-world environments
through meta-reinforcement learning", ICLR 2019 (broken joints). The robots are those of Gymnasium, whose observations
leave out the position along the track.

A worker has one robot and, for each of its trajectories, MuJoCo's data of it, which are exchanged before each step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from quickstudy.data.environments import check_horizon
from quickstudy.data.simulators import AbstractSimulated, Floats, Simulators, drawn, usual_workers
from quickstudy.keys import Bits, integers, uniform

__all__ = ["AntBrokenJoints", "HalfCheetahDirection", "HalfCheetahVelocity", "Robot"]

_EFFORT = 0.05  # what a squared action costs, as in the authors' code
_BESIDE = {"distance": 6.0, "elevation": -15.0, "azimuth": 90.0, "lookat": (0.0, 0.0, 0.5)}


class Robot:
    """Many trajectories of one Gymnasium robot.

    Args:
        kind: ``"direction"``, ``"velocity"`` or ``"broken"``.
    """

    def __init__(self, kind: str) -> None:
        import gymnasium
        import mujoco

        self._kind, self._new = kind, mujoco.MjData
        options: dict[str, Any] = {"include_cfrc_ext_in_observation": False} if kind == "broken" else {}
        made = gymnasium.make("Ant-v5" if kind == "broken" else "HalfCheetah-v5", **options)
        self.robot: Any = made.unwrapped
        self._slots: list[Any] = []
        self._tasks = np.zeros((0, 1))

    @staticmethod
    def check() -> None:
        """Whether the packages are there.

        Raises:
            ImportError: naming the one that is missing.
        """
        import gymnasium  # noqa: F401
        import mujoco  # noqa: F401

    def reset(self, tasks: Floats, seeds: NDArray[np.int64]) -> Floats:
        """See ``simulators.Simulation``."""
        while len(self._slots) < len(seeds):
            self._slots.append(self._new(self.robot.model))
        self._tasks = tasks
        found = []
        for slot, seed in zip(self._slots, seeds, strict=False):
            self.robot.data = slot
            found.append(self.robot.reset(seed=int(seed))[0])
        return np.stack(found).astype(np.float64)

    def step(self, actions: Floats) -> tuple[Floats, Floats, Floats]:
        """See ``simulators.Simulation``."""
        rows = [self._one(*each) for each in zip(self._slots, self._tasks, actions, strict=False)]
        obs, reward, done = zip(*rows, strict=True)
        return np.stack(obs).astype(np.float64), np.array(reward, dtype=np.float64), np.array(done, dtype=np.float64)

    def _one(self, slot: Any, task: Floats, action: Floats) -> tuple[Floats, float, bool]:
        self.robot.data = slot
        if self._kind == "broken":
            action = action.copy()
            action[int(task[0])] = 0.0
        obs, reward, ended, _, about = self.robot.step(action)
        if self._kind == "broken":
            return obs, float(reward), bool(ended)
        speed, effort = float(about["x_velocity"]), _EFFORT * float(np.square(action).sum())
        forward = speed * float(task[0]) if self._kind == "direction" else -abs(speed - float(task[0]))
        return obs, forward - effort, bool(ended)

    def frames(self, task: Tensor, seed: int, actions: Tensor, *, every: int, size: int) -> Iterator[Any]:
        """See ``AbstractEnvironment.frames``; the camera stays where the robot began, so that one sees it go."""
        self.reset(task.double().numpy()[None], np.array([seed]))
        yield from drawn(self, self.robot.model, lambda: self._slots[0], actions, every, size, _BESIDE)


class _MujocoTasks(AbstractSimulated):
    """What they share.

    Args:
        horizon: steps at most.
        workers: processes; 0: in this one; None: as ``usual_workers`` says. It changes no result.
    """

    kind: str

    def __init__(self, horizon: int, workers: int | None) -> None:
        self.horizon = check_horizon(horizon)
        number = usual_workers() if workers is None else workers
        self.simulators = Simulators("quickstudy.data.mujocotasks:Robot", {"kind": self.kind}, number)

    @override
    def frames(self, task: Tensor, seed: int, actions: Tensor, *, every: int, size: int) -> Iterator[Any]:
        return Robot(self.kind).frames(task, seed, actions, every=every, size=size)


class HalfCheetahDirection(_MujocoTasks):
    """Run forwards (1) or backwards (-1); the reward is the velocity in that direction, less the cost of actions.

    There are two tasks, so that a test task is one that training has met; what is new is the starts.
    """

    name, kind = "half-cheetah-direction", "direction"
    observation, action, parameters = 17, 6, ("direction",)

    def __init__(self, horizon: int = 200, workers: int | None = None) -> None:
        super().__init__(horizon, workers)

    @override
    def draw(self, words: Bits) -> NDArray[np.float64]:
        return (2 * integers(words, 2) - 1).astype(np.float64)


class HalfCheetahVelocity(_MujocoTasks):
    """Run at a velocity, uniform in 0 .. ``fastest``; the reward is minus the difference, less the cost of actions.

    Args:
        horizon: steps at most.
        fastest: the highest velocity, in metres a second.
        workers: see ``_MujocoTasks``.
    """

    name, kind = "half-cheetah-velocity", "velocity"
    observation, action, parameters = 17, 6, ("velocity",)

    def __init__(self, horizon: int = 200, fastest: float = 2.0, workers: int | None = None) -> None:
        super().__init__(horizon, workers)
        self.fastest = fastest

    @property
    @override
    def description(self) -> dict[str, Any]:
        return super().description | {"fastest": self.fastest}

    @override
    def draw(self, words: Bits) -> NDArray[np.float64]:
        drawn: NDArray[np.float64] = self.fastest * uniform(words)
        return drawn


class AntBrokenJoints(_MujocoTasks):
    """Walk forwards while one of eight joints does not obey; reward and end as Gymnasium has them.

    There are eight tasks, so that a test task is one that training has met; what is new is the starts.
    """

    name, kind = "ant-broken-joints", "broken"
    observation, action, parameters = 27, 8, ("joint",)

    def __init__(self, horizon: int = 200, workers: int | None = None) -> None:
        super().__init__(horizon, workers)

    @override
    def draw(self, words: Bits) -> NDArray[np.float64]:
        return integers(words, 8).astype(np.float64)
