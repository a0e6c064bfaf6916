"""Floor 1: environments: many trajectories of many tasks at once, each a pure function of (task, seed, actions).

    AbstractEnvironment   a family of tasks that differ in a few numbers (a goal, a velocity, a broken joint)
    Running               T x N trajectories under way, which advance together
    environment           from its description, JSON that stands in checkpoints, to the environment
    imported              what stands at an address such as "arm:Slope", for environments of one's own

An environment draws no random numbers of its own: where a trajectory begins is decided by its seed, and what noise its
actions have is decided by who acts.
"""

from __future__ import annotations

import functools
import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from quickstudy.errors import InputError, QuickstudyError, UnknownName, in_words
from quickstudy.keys import Bits

__all__ = [
    "ENVIRONMENTS",
    "AbstractEnvironment",
    "Failed",
    "Running",
    "Step",
    "TaskKnown",
    "check_horizon",
    "environment",
    "imported",
    "is_address",
]


class Failed(Exception):
    """What went wrong in a simulation, in words, perhaps in another process; who runs trajectories names it."""


class Step(NamedTuple):
    """What one step gave, for T x N trajectories.

    Args:
        observation: float32 ``[T, N, O]``, after the step.
        reward: float32 ``[T, N]``.
        done: bool ``[T, N]``: the trajectory ends with this step. What it is told afterwards must not matter.
    """

    observation: Tensor
    reward: Tensor
    done: Tensor


class Running(Protocol):
    """Trajectories under way."""

    observation: Tensor
    """Float32 ``[T, N, O]``, at the start."""

    def step(self, action: Tensor) -> Step:
        """Advance all trajectories; actions ``[T, N, A]`` are clipped to what is allowed."""


class AbstractEnvironment(ABC):
    """A family of tasks in one simulator.

    Args:
        name: in :data:`ENVIRONMENTS`; one of one's own, made by its address, is named by that.
        observation: O, numbers that a policy sees.
        action: A, numbers that it gives; each is clipped to -1 .. 1.
        parameters: names of the numbers in which tasks differ; P of them.
        horizon: steps of a trajectory at most.
    """

    name: str
    observation: int
    action: int
    parameters: tuple[str, ...]
    horizon: int

    @property
    def description(self) -> dict[str, Any]:
        """JSON from which :func:`environment` makes it again."""
        return {"name": self.name, "horizon": self.horizon}

    @abstractmethod
    def draw(self, words: Bits) -> NDArray[np.float64]:
        """The tasks that random words ``[T, P]`` mean, ``[T, P]``."""

    @abstractmethod
    def start(self, task: Tensor, seed: Tensor) -> Running:
        """Begin N trajectories of each of T tasks.

        Args:
            task: ``[T, P]``.
            seed: int64 ``[T, N]``, of where each begins.
        """

    def close(self) -> None:
        """End worker processes, if it has any; the next trajectories start them anew."""
        return

    def frames(self, task: Tensor, seed: int, actions: Tensor, *, every: int, size: int) -> Iterator[Any] | None:
        """Pictures of one trajectory; None where there are none to be had.

        Args:
            task: ``[P]``.
            seed: of where it begins.
            actions: ``[H, A]``, of the steps that were made.
            every: steps from picture to picture.
            size: pixels along a side.

        Returns:
            Uint8 ``[size, size, 3]`` each; what a renderer raises is raised while they are drawn.
        """
        del task, seed, actions, every, size
        return None


class TaskKnown(AbstractEnvironment):
    """The same environment whose observations end with the task's own numbers: what an oracle sees.

    Args:
        inside: the environment.
    """

    def __init__(self, inside: AbstractEnvironment) -> None:
        self.inside, self.name, self.action = inside, inside.name, inside.action
        self.parameters, self.horizon = inside.parameters, inside.horizon
        self.observation = inside.observation + len(inside.parameters)

    @property
    @override
    def description(self) -> dict[str, Any]:
        return self.inside.description | {"oracle": True}

    @override
    def draw(self, words: Bits) -> NDArray[np.float64]:
        return self.inside.draw(words)

    @override
    def start(self, task: Tensor, seed: Tensor) -> Running:
        return _Told(self.inside.start(task, seed), task, seed.shape[1])

    @override
    def close(self) -> None:
        self.inside.close()

    @override
    def frames(self, task: Tensor, seed: int, actions: Tensor, *, every: int, size: int) -> Iterator[Any] | None:
        return self.inside.frames(task, seed, actions, every=every, size=size)


class _Told:
    def __init__(self, running: Running, task: Tensor, n: int) -> None:
        self._running, self._task = running, task.to(torch.float32)[:, None].expand(-1, n, -1)
        self.observation = self._with(running.observation)

    def _with(self, observation: Tensor) -> Tensor:
        return torch.cat([observation, self._task], 2)

    def step(self, action: Tensor) -> Step:
        found = self._running.step(action)
        return found._replace(observation=self._with(found.observation))


ENVIRONMENTS = {
    "point-navigation": "quickstudy.data.pointnavigation:PointNavigation",
    "half-cheetah-direction": "quickstudy.data.mujocotasks:HalfCheetahDirection",
    "half-cheetah-velocity": "quickstudy.data.mujocotasks:HalfCheetahVelocity",
    "ant-broken-joints": "quickstudy.data.mujocotasks:AntBrokenJoints",
    "metaworld-reach": "quickstudy.data.metaworldtasks:Reach",
    "metaworld-push": "quickstudy.data.metaworldtasks:Push",
    "gymnasium": "quickstudy.data.gymnasiumtasks:Varied",
}


def is_address(name: str) -> bool:
    """Whether a name is ``"module:attribute"``; Gymnasium's ``"module:Name-v0"`` is none."""
    module, _, attribute = name.partition(":")
    return all(part.isidentifier() for part in [*module.split("."), attribute])


def imported(address: str) -> Any:
    """What stands at ``"module:attribute"``.

    Raises:
        InputError: the module or its attribute is not there, or whatever importing it raised.
    """
    module, _, attribute = address.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module of one's own may raise anything
        raise InputError(
            f"The environment {address!r}, a module and a name in it, cannot be imported: {in_words(error)}. Modules "
            "are looked for among the installed packages, by the command line in the current folder, too."
        ) from error


def environment(description: Mapping[str, Any]) -> AbstractEnvironment:
    """The environment of that description, one object for all who ask for it, so that workers are started once.

    Args:
        description: ``{"name": "point-navigation", "horizon": 100}`` and what else its constructor takes; the name of
            one of one's own is the address of its class, such as ``"arm:Slope"``.

    Raises:
        UnknownName: there is no such environment; names the nearest.
        InputError: an option that it does not have or that its own description leaves out, no class of the kind where
            it is said to be, or its simulator is not installed.

    >>> environment({"name": "point-navigation", "horizon": 10}).horizon
    10
    """
    try:
        told = json.dumps(dict(description), sort_keys=True)
    except TypeError as error:
        raise InputError(f"An environment is described by JSON, which {dict(description)} is not: {error}.") from error
    name = str(description.get("name", ""))
    if name not in ENVIRONMENTS and not is_address(name):
        raise UnknownName.among("environment", name, ENVIRONMENTS)
    kind = imported(ENVIRONMENTS.get(name, name))
    # A description may come with a run of somebody else's: nothing else that can be imported is called.
    if not (isinstance(kind, type) and issubclass(kind, AbstractEnvironment)):
        raise InputError(
            f"{ENVIRONMENTS.get(name, name)!r} is {kind!r}, and an environment is a class derived from "
            "quickstudy.data.environments.AbstractEnvironment; what gives a gymnasium.Env is named by "
            "--environment, or in [data] by name = 'environment'."
        )
    return _made(told, kind)


@functools.cache
def _made(told: str, kind: type[AbstractEnvironment]) -> AbstractEnvironment:
    options = json.loads(told)
    name, oracle = options.pop("name"), options.pop("oracle", False)
    try:
        made: AbstractEnvironment = kind(**options)
        if is_address(name):  # by which a learner makes it again
            made.name = name
    except QuickstudyError:
        raise
    except Exception as error:  # one of one's own may raise anything
        raise InputError(f"The environment {name!r} cannot be made with {options}: {in_words(error)}.") from error
    for fact in ("name", "observation", "action", "parameters", "horizon"):
        if not hasattr(made, fact):
            raise InputError(f"The environment {name!r} has no {fact!r}: set it in the class {kind.__name__}.")
    _check_described(made, {"name": name, **options})
    return TaskKnown(made) if oracle else made


def _check_described(made: AbstractEnvironment, options: Mapping[str, Any]) -> None:
    """Whether the description says all that it was made with: a learner makes its environment from that again."""
    described = json.loads(json.dumps(made.description))
    for option, value in options.items():
        if option != "workers" and described.get(option) != value:  # how many processes changes no result
            raise InputError(
                f"The environment {made.name!r} was made with {option} = {value!r}, and its description {described} "
                f"does not say so: learners would act in another one. Add {option!r} to what its description returns."
            )


def check_horizon(horizon: int) -> int:
    """At least one step.

    Raises:
        InputError: otherwise.
    """
    if not isinstance(horizon, int) or horizon < 1:
        raise InputError(f"A trajectory needs at least one step, a whole number, received horizon = {horizon!r}.")
    return horizon
