"""Floor 5: what a policy that learns by trying has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from quickstudy.data.controltasks import ControlTasks
from quickstudy.data.environments import TaskKnown
from quickstudy.data.source import TaskShape, TaskSource
from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.keys import Key, Keys
from quickstudy.learners.learner import Traits
from quickstudy.learners.mamlrl import MAMLRL
from quickstudy.learners.parts.agents import AbstractAgent
from quickstudy.learners.parts.rollouts import collect, leaf
from quickstudy.nets.mlp import MLP
from quickstudy.train import fit

__all__ = ["RandomActions", "described", "from_scratch", "oracle"]

_SEED = 0


class RandomActions(AbstractAgent):
    """Actions drawn from a normal distribution of deviation 1, whatever is observed; it learns nothing.

    Args:
        shape: of the tasks.
        trajectories: that a step of adaptation would learn from.
    """

    def __init__(self, shape: TaskShape, trajectories: int) -> None:
        super().__init__(described(shape), trajectories)
        self.actions = shape.outputs

    @property
    @override
    def traits(self) -> Traits:
        return Traits(targets=("real",), incremental=True, trainable=False)

    @override
    def begin(self, n_task: int) -> list[Tensor]:
        return [torch.zeros(n_task)]

    @override
    def learn(self, state: list[Tensor], trajectories: Examples, key: Keys) -> list[Tensor]:
        del key
        return [*state, state[-1] + leaf(trajectories, "alive").sum((1, 2))]

    @override
    def play(self, state: list[Tensor], tasks: Examples, key: Keys) -> Examples:
        return collect(self.world, lambda obs: self._act(obs), tasks, key)

    def _act(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        zeros = obs.new_zeros(*obs.shape[:-1], self.actions)
        return zeros, zeros

    @override
    def act(self, state: list[Tensor], obs: Tensor) -> Tensor:
        return torch.cat(self._act(obs), -1)

    @override
    def stages(self, state: list[Tensor]) -> list[list[Tensor]]:
        return [state[: n + 1] for n in range(len(state))]

    @override
    def taken(self, state: list[Tensor]) -> Tensor:
        return state[-1]


def described(shape: TaskShape) -> dict[str, object]:
    """The description of the tasks' environment.

    Raises:
        InputError: these tasks have none.
    """
    if shape.environment is None:
        raise InputError("These baselines act, and the tasks have no environment. Use a data set of environments.")
    return shape.environment


def _policy(shape: TaskShape, in_features: int, **options: object) -> MAMLRL:
    """An untrained policy like that of the recipes; torch's generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(Key.of(_SEED, "baseline").value >> 1)
        net = MLP(in_features, (64, 64))
        return MAMLRL(net, shape.outputs, described(shape), **options)  # type: ignore[arg-type]


def from_scratch(
    shape: TaskShape, *, trajectories: int, inner_lr: float, policy: Mapping[str, Any] | None = None
) -> MAMLRL:
    """A policy that was never trained, and makes the same steps on as many trajectories.

    Args:
        shape: of the tasks.
        trajectories: that each step learns from.
        inner_lr: chosen on validation tasks.
        policy: further options of ``MAMLRL``.
    """
    assert isinstance(shape.example, tuple)
    return _policy(shape, shape.example[0], trajectories=trajectories, inner_lr=inner_lr, **(policy or {}))


def oracle(
    shape: TaskShape,
    training: TaskSource,
    *,
    trajectories: int,
    steps: int,
    tasks_per_step: int,
    policy: Mapping[str, Any] | None = None,
) -> MAMLRL:
    """A policy that is told the task, trained over all tasks like the pretrained one; it does not adapt.

    Args:
        shape: of the tasks.
        training: tasks to train on.
        trajectories: half of those of each task in a step: what learners that adapt run before adapting and again
            after it.
        steps: of training.
        tasks_per_step: tasks in a step.
        policy: further options of ``MAMLRL``.

    Raises:
        InputError: the tasks are no environments.
    """
    if not isinstance(training, ControlTasks):
        raise InputError(f"An oracle of control is trained on environments, received {type(training).__name__}.")
    world = TaskKnown(training.environment)
    told = replace(shape, example=(world.observation,), environment=world.description)
    learner = _policy(
        told,
        world.observation,
        trajectories=trajectories,
        inner_lr=0.0,
        inner_steps=0,
        **(policy or {}),
    )
    source = ControlTasks(world, split="train", shot=trajectories, query=2 * trajectories, seed=_SEED)
    fit(learner, source, steps=steps, tasks_per_step=tasks_per_step, optimizer="sgd", lr=1.0, seed=_SEED)
    return learner.eval()
