"""Floor 5: PPO of stable-baselines3, on each task alone, for as many environment steps as others adapt for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from quickstudy.data.environments import AbstractEnvironment
from quickstudy.data.source import TaskShape
from quickstudy.domains.control.baselines import described
from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.inner import Params
from quickstudy.keys import Keys
from quickstudy.learners.learner import Traits
from quickstudy.learners.parts.agents import to_run
from quickstudy.learners.parts.policygradient import AbstractPolicyGradient, PolicyState
from quickstudy.learners.parts.rollouts import leaf
from quickstudy.nets.mlp import MLP

__all__ = ["StableBaselinesPPO"]


class StableBaselinesPPO(AbstractPolicyGradient):
    """A. Raffin and others, "Stable-Baselines3: reliable reinforcement learning implementations", JMLR 2021.

    Its own settings but for the length of a batch; two layers of 64 with tanh, as the package has them.

    Args:
        shape: of the tasks.
        trajectories: whose steps are one batch of PPO's.
        epochs: passes over each batch.

    Raises:
        InputError: stable-baselines3 is not installed.
    """

    def __init__(self, shape: TaskShape, trajectories: int, *, epochs: int = 10) -> None:
        try:
            import stable_baselines3  # noqa: F401
        except ImportError as error:
            raise InputError("PPO on a single task needs stable-baselines3: pip install 'quickstudy[rl]'.") from error
        assert isinstance(shape.example, tuple)
        with torch.random.fork_rng(devices=[]):
            net = MLP(shape.example[0], (64, 64), activation="tanh")
            super().__init__(net, shape.outputs, described(shape), trajectories=trajectories, inner_lr=0.0)
        self.epochs = epochs

    @property
    @override
    def traits(self) -> Traits:
        return Traits(targets=("real",), trainable=False)

    @override
    def adapt(self, support: Examples, *, state: PolicyState | None = None, key: Keys | None = None) -> PolicyState:
        """Learn each task by PPO, which runs the environment itself.

        Raises:
            InputError: trajectories that were run by others, or a state to go on from: PPO does not learn from these.
        """
        if not to_run(support) or state is not None:
            raise InputError(
                "PPO of stable-baselines3 runs its own trajectories, from the start: give it tasks to be run and no "
                "state."
            )
        keys = Keys.default(support.n_task) if key is None else key
        tasks, parts = leaf(support, "task")[:, 0], len(list(self.batches(support)))
        seeds = (keys.fold("stable-baselines3").bits(1)[:, 0] >> np.uint64(33)).astype(np.int64)
        learned = [self._one(task, int(seed), parts) for task, seed in zip(tasks, seeds, strict=True)]
        stages = [
            {name: torch.stack([one[k][name] for one in learned]) for name in learned[0][0]} for k in range(parts + 1)
        ]
        taken = torch.full((support.n_task,), float(parts * self.trajectories * self.world.horizon))
        return PolicyState(stages[-1], tuple(stages[:-1]), taken)

    def _one(self, task: Tensor, seed: int, parts: int) -> list[Params]:
        from stable_baselines3 import PPO

        steps = self.trajectories * self.world.horizon
        with _generators_as_they_were(), torch.enable_grad():
            torch.manual_seed(seed)
            model = PPO(
                "MlpPolicy",
                _gym(self.world, task, seed),
                n_steps=steps,
                batch_size=max(2, steps // 20),
                n_epochs=self.epochs,
                seed=seed,
                device="cpu",
            )
            found = [_weights(model.policy)]
            for _ in range(parts):
                model.learn(steps, reset_num_timesteps=False)
                found.append(_weights(model.policy))
        return found


def _weights(policy: Any) -> Params:
    """By the names of ``GaussianPolicy`` with an MLP of two layers."""
    layers = policy.mlp_extractor.policy_net
    named = {"log_std": policy.log_std, "head.weight": policy.action_net.weight, "head.bias": policy.action_net.bias}
    for number, layer in enumerate((layers[0], layers[2])):
        named |= {f"net.linears.{number}.weight": layer.weight, f"net.linears.{number}.bias": layer.bias}
    return {name: value.detach().clone() for name, value in named.items()}


@contextmanager
def _generators_as_they_were() -> Iterator[None]:
    """The package seeds the global generators of Python, NumPy and torch."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def _gym(world: AbstractEnvironment, task: Tensor, seed: int) -> Any:
    """One task as Gymnasium's kind of environment."""
    import gymnasium

    class OneTask(gymnasium.Env):  # type: ignore[misc, type-arg, unused-ignore]
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (world.observation,), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (world.action,), np.float32)

        def __init__(self) -> None:
            self.begun, self.at = 0, 0

        def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
            del options
            self.begun, self.at = self.begun + 1, 0
            self.running = world.start(task[None], torch.tensor([[seed + self.begun]]))
            return self.running.observation[0, 0].numpy(), {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            found = self.running.step(torch.as_tensor(action)[None, None])
            self.at += 1
            obs, ended = found.observation[0, 0].numpy(), bool(found.done[0, 0])
            return obs, float(found.reward[0, 0]), ended, self.at >= world.horizon, {}

    return OneTask()
