"""Floor 1: Meta-World's ML1: a robot arm that has to reach, or to push a puck to, a place that it is not told.

T. Yu, D. Quillen, Z. He, R. Julian, K. Hausman, C. Finn, S. Levine, "Meta-World: a benchmark and evaluation for
multi-task and meta reinforcement learning", CoRL 2019. Tasks are drawn here, from Meta-World's own ranges, in place of
its lists of 50 for training and 50 for the test; observations hide the goal as ML1 does.
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
from quickstudy.errors import InputError
from quickstudy.keys import Bits, uniform

__all__ = ["Arm", "Push", "Reach"]

_LONGEST = 500  # steps that Meta-World allows
_ACROSS = {"distance": 1.6, "elevation": -25.0, "azimuth": 145.0, "lookat": (0.0, 0.6, 0.15)}
_APART = 0.15  # metres between object and goal, seen from above, that Meta-World asks for at least


class Arm:
    """Many trajectories of one of Meta-World's arms.

    There is one arm; what it knows of a trajectory (MuJoCo's data, targets, the observation before) is exchanged before
    each step.

    Args:
        kind: ``"reach"`` or ``"push"``.
    """

    def __init__(self, kind: str) -> None:
        import mujoco
        from metaworld.envs.sawyer_push_v3 import SawyerPushEnvV3
        from metaworld.envs.sawyer_reach_v3 import SawyerReachEnvV3

        self._new = mujoco.MjData
        self._arm: Any = SawyerReachEnvV3() if kind == "reach" else SawyerPushEnvV3()
        self._arm._partially_observable = self._arm._freeze_rand_vec = self._arm._set_task_called = True
        self._arm.max_path_length = _LONGEST
        self._slots: list[dict[str, Any]] = []
        self._used = 0

    @staticmethod
    def check() -> None:
        """Whether the packages are there.

        Raises:
            ImportError: naming the one that is missing.
        """
        import metaworld  # noqa: F401
        import mujoco  # noqa: F401

    def reset(self, tasks: Floats, seeds: NDArray[np.int64]) -> Floats:
        """See ``simulators.Simulation``; the arm begins where it always does, whatever the seed."""
        found, self._used = [], len(seeds)
        for number, task in enumerate(tasks):
            data = self._slots[number]["data"] if number < len(self._slots) else self._new(self._arm.model)
            self._arm.data, self._arm._last_rand_vec = data, task.copy()
            self._arm._did_see_sim_exception, self._arm._last_stable_obs = False, None
            found.append(self._arm.reset()[0])
            known = dict(self._arm.__dict__)
            if number < len(self._slots):
                self._slots[number] = known
            else:
                self._slots.append(known)
        return np.stack(found).astype(np.float64)

    def step(self, actions: Floats) -> tuple[Floats, Floats, Floats]:
        """See ``simulators.Simulation``."""
        obs, rewards = [], []
        for number, action in enumerate(actions[: self._used]):
            self._arm.__dict__.update(self._slots[number])
            seen, reward, *_ = self._arm.step(action.astype(np.float32))
            self._slots[number] = dict(self._arm.__dict__)
            obs.append(seen)
            rewards.append(float(reward))
        return np.stack(obs).astype(np.float64), np.array(rewards), np.zeros(len(rewards))

    def frames(self, task: Tensor, seed: int, actions: Tensor, *, every: int, size: int) -> Iterator[Any]:
        """See ``AbstractEnvironment.frames``; seen from the side, across the table."""
        self.reset(task.double().numpy()[None], np.array([seed]))
        yield from drawn(self, self._arm.model, lambda: self._slots[0]["data"], actions, every, size, _ACROSS)


class _ArmTasks(AbstractSimulated):
    """What they share.

    Args:
        horizon: steps at most, up to 500.
        workers: processes; 0: in this one; None: as ``usual_workers`` says. It changes no result.

    Raises:
        InputError: a horizon that Meta-World does not have.
    """

    kind: str
    ranges: tuple[tuple[float, float], ...]
    observation, action = 39, 4
    parameters = ("object-x", "object-y", "object-z", "goal-x", "goal-y", "goal-z")

    def __init__(self, horizon: int = 200, workers: int | None = None) -> None:
        if horizon > _LONGEST:
            raise InputError(f"Meta-World's trajectories have {_LONGEST} steps at most, received horizon = {horizon}.")
        self.horizon = check_horizon(horizon)
        number = usual_workers() if workers is None else workers
        self.simulators = Simulators("quickstudy.data.metaworldtasks:Arm", {"kind": self.kind}, number)

    @override
    def draw(self, words: Bits) -> NDArray[np.float64]:
        low, high = (np.array(ends) for ends in zip(*self.ranges, strict=True))
        drawn: NDArray[np.float64] = low + (high - low) * uniform(words)
        aside = drawn[:, 3] - drawn[:, 0]
        least = drawn[:, 1] + np.sqrt(_APART**2 - np.minimum(aside**2, _APART**2)) + 1e-6
        drawn[:, 4] = np.maximum(drawn[:, 4], least)  # a goal that is too near is moved away, as far as it must be
        return drawn

    @override
    def frames(self, task: Tensor, seed: int, actions: Tensor, *, every: int, size: int) -> Iterator[Any]:
        return Arm(self.kind).frames(task, seed, actions, every=every, size=size)


class Reach(_ArmTasks):
    """Bring the hand to a place in the air."""

    name, kind = "metaworld-reach", "reach"
    ranges = ((-0.1, 0.1), (0.6, 0.7), (0.02, 0.02), (-0.1, 0.1), (0.8, 0.9), (0.05, 0.3))


class Push(_ArmTasks):
    """Push a puck to a place on the table."""

    name, kind = "metaworld-push", "push"
    ranges = ((-0.1, 0.1), (0.6, 0.7), (0.02, 0.02), (-0.1, 0.1), (0.8, 0.9), (0.01, 0.02))
