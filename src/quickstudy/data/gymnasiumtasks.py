"""Floor 1: any of Gymnasium's environments with numbers for actions, as a family of tasks.

What differs from task to task are attributes of the environment, such as ``g`` and ``m`` of Pendulum: each is drawn
uniformly from a range, and set on the environment itself (behind its wrappers) before a trajectory begins. An attribute
may be a property whose setter does more than that. A worker has a copy of the environment for each of its trajectories.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from quickstudy.data.environments import Failed, check_horizon, imported, is_address
from quickstudy.data.simulators import AbstractSimulated, Floats, Simulators, cores
from quickstudy.errors import InputError, QuickstudyError, in_words
from quickstudy.keys import Bits, uniform

__all__ = ["Copies", "Varied"]


def made(name: str, options: Mapping[str, Any]) -> Any:
    """The ``gymnasium.Env`` of that name.

    Args:
        name: as Gymnasium registers it, ``"Pendulum-v1"`` or ``"module:Name-v0"``; or the address of a class or a
            function that gives one, ``"arm:make"``.
        options: of the class, or of ``gymnasium.make``; a function has none.

    Raises:
        InputError: Gymnasium is not installed, there is no such environment, or it cannot be made.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise InputError("Gymnasium's environments need the package: pip install 'quickstudy[rl]'.") from error
    found = imported(name) if is_address(name) else functools.partial(gymnasium.make, name, disable_env_checker=True)
    # A recipe may come with a run of somebody else's: with arguments nothing is called that makes no environment.
    if options and is_address(name) and not (isinstance(found, type) and issubclass(found, gymnasium.Env)):
        raise InputError(f"{name!r} is a function, which is called without options: remove {dict(options)}.")
    try:
        env = found(**options)
    except QuickstudyError:
        raise
    except Exception as error:  # it may need another package, a file, a display
        raise InputError(f"The environment {name!r} cannot be made: {in_words(error)}.") from error
    if not isinstance(env, gymnasium.Env):
        raise InputError(
            f"{name!r} gave a {type(env).__name__}: an environment is a gymnasium.Env, or a class derived from "
            "quickstudy.data.environments.AbstractEnvironment."
        )
    return env


class Copies:
    """Many trajectories of one environment; see ``simulators.Simulation``.

    Args:
        name: see :func:`made`.
        options: likewise.
        vary: attributes that differ from task to task.
    """

    def __init__(self, name: str, options: Mapping[str, Any], vary: Sequence[str]) -> None:
        self._name, self._options, self._vary = name, options, list(vary)
        self._copies: list[Any] = []
        self._last: list[tuple[Floats, float, bool]] = []

    @staticmethod
    def check() -> None:
        """Whether the package is there.

        Raises:
            ImportError: it is not.
        """
        import gymnasium  # noqa: F401

    def reset(self, tasks: Floats, seeds: NDArray[np.int64]) -> Floats:
        """See ``simulators.Simulation``."""
        while len(self._copies) < len(seeds):
            self._copies.append(made(self._name, self._options))
        self._last = []
        for env, task, seed in zip(self._copies, tasks, seeds, strict=False):
            begin(env, self._vary, task)
            self._last.append((_flat(env, env.reset(seed=int(seed))[0]), 0.0, False))
        return np.stack([obs for obs, _, _ in self._last])

    def step(self, actions: Floats) -> tuple[Floats, Floats, Floats]:
        """See ``simulators.Simulation``; a trajectory that has ended stays as it is."""
        self._last = [
            (last[0], 0.0, True) if last[2] else moved(env, action)
            for env, last, action in zip(self._copies, self._last, actions, strict=False)
        ]
        obs, reward, done = zip(*self._last, strict=True)
        return np.stack(obs), np.array(reward), np.array(done, dtype=np.float64)


def begin(env: Any, vary: Sequence[str], task: Floats) -> None:
    """Make it the environment of a task."""
    for name, value in zip(vary, task, strict=True):
        *path, last = name.split(".")
        setattr(functools.reduce(getattr, path, env.unwrapped), last, float(value))


def moved(env: Any, action: Floats) -> tuple[Floats, float, bool]:
    """Observation, reward and whether it ended, after an action in -1 .. 1, laid out over the space of actions."""
    space = env.action_space
    low, high = (end.astype(np.float64).ravel() for end in (space.low, space.high))
    chosen = (low + (action + 1) / 2 * (high - low)).reshape(space.shape).astype(space.dtype)
    obs, reward, ended, cut, _ = env.step(chosen)
    return _flat(env, obs), float(reward), bool(ended or cut)


def _flat(env: Any, obs: Any) -> Floats:
    found = np.asarray(obs, dtype=np.float64)
    if found.shape != env.observation_space.shape:
        raise Failed(
            f"it gave an observation of the shape {list(found.shape)}, and its observation_space has "
            f"{list(env.observation_space.shape)}"
        )
    return found.ravel()


class Varied(AbstractSimulated):
    """One of Gymnasium's environments, or of one's own, some of whose attributes differ from task to task.

    Args:
        environment: see :func:`made`.
        vary: attribute -> (lowest, highest); a dotted one is an attribute of an attribute, ``"model.opt.viscosity"``.
            Where it is left out, the environment's own attribute ``vary`` says it.
        options: of the class, or of ``gymnasium.make``.
        horizon: steps at most; a limit of the environment's own may end a trajectory before.
        workers: processes; 0: in this one; None: as many as there are cores. It changes no result.

    Raises:
        InputError: the environment cannot be made, gives or takes what is no array of numbers, or has no such
            attribute; or a range is none.
    """

    def __init__(
        self,
        environment: str,
        vary: Mapping[str, Sequence[float]] | None = None,
        options: Mapping[str, Any] | None = None,
        horizon: int = 200,
        workers: int | None = None,
    ) -> None:
        self.name, self.horizon, self._options = environment, check_horizon(horizon), dict(options or {})
        env = made(environment, self._options)
        try:
            _check_spaces(environment, env)
            self.observation = math.prod(env.observation_space.shape)
            self.action = math.prod(env.action_space.shape)
            self._ranges = _checked(environment, env, vary if vary else getattr(env.unwrapped, "vary", {}))
        finally:
            env.close()
        self.parameters = tuple(self._ranges)
        about = {"name": environment, "options": self._options, "vary": list(self.parameters)}
        number = cores() if workers is None else workers
        self.simulators = Simulators("quickstudy.data.gymnasiumtasks:Copies", about, number)

    @property
    @override
    def description(self) -> dict[str, Any]:
        about = {"name": "gymnasium", "environment": self.name, "vary": self._ranges, "horizon": self.horizon}
        return about | ({"options": self._options} if self._options else {})

    @override
    def draw(self, words: Bits) -> NDArray[np.float64]:
        low, high = (np.array(ends) for ends in zip(*self._ranges.values(), strict=True))
        drawn: NDArray[np.float64] = low + (high - low) * uniform(words)
        return drawn

    @override
    def frames(self, task: Tensor, seed: int, actions: Tensor, *, every: int, size: int) -> Iterator[Any] | None:
        """See ``AbstractEnvironment``; what a function of one's own makes is drawn only if it can be."""
        known = {} if is_address(self.name) else {"render_mode": "rgb_array"}
        env = made(self.name, known | self._options)
        return _drawn(env, self.parameters, task.double().numpy(), seed, actions, every, size)


def _drawn(
    env: Any, vary: Sequence[str], task: Floats, seed: int, actions: Tensor, every: int, size: int
) -> Iterator[Any]:
    from PIL import Image, ImageOps

    begin(env, vary, task)
    env.reset(seed=seed)
    try:
        for number, action in enumerate(actions.clamp(-1, 1).double().numpy()):
            if number % every == 0:
                frame = env.render()
                if not isinstance(frame, np.ndarray):
                    raise Failed("the environment's render() gives no array; its render_mode has to be 'rgb_array'")
                yield np.asarray(ImageOps.pad(Image.fromarray(frame.astype(np.uint8)), (size, size), color="white"))
            moved(env, action)
    finally:
        env.close()


def _check_spaces(name: str, env: Any) -> None:
    from gymnasium.spaces import Box

    seen, done = getattr(env, "observation_space", None), getattr(env, "action_space", None)
    if not isinstance(seen, Box):
        raise InputError(
            f"The observations of {name!r} are {seen}, and a policy here sees a Box, an array of numbers. Name a "
            "function of your own that gives gymnasium.wrappers.FlattenObservation of it."
        )
    if not isinstance(done, Box):
        raise InputError(
            f"The actions of {name!r} are {done}, and a policy here gives numbers, a Box. Name a function of your own "
            "that gives gymnasium.wrappers.TransformAction of it, from numbers to these, or another environment."
        )
    if not (np.isfinite(done.low).all() and np.isfinite(done.high).all()):
        raise InputError(
            f"The actions of {name!r} have no bounds, {done}: a policy here gives numbers from -1 to 1, which are laid "
            "out between the bounds. Name a function of your own that gives gymnasium.wrappers.RescaleAction of it."
        )


def _checked(name: str, env: Any, vary: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Attribute -> [lowest, highest], of attributes that there are."""
    own = env.unwrapped
    attributes = {key: value for cls in reversed(type(own).__mro__) for key, value in vars(cls).items()} | vars(own)
    known = ", ".join(sorted(key for key, value in attributes.items() if _is_number(value))) or "none"
    if not vary:
        raise InputError(
            f"Nothing differs between tasks of {name!r}: say which of its attributes do and from where to where, such "
            f"as --data.vary.NAME '[0.5, 2]'. Numbers among its attributes: {known}."
        )
    for key, ends in vary.items():
        try:
            value = operator.attrgetter(key)(own)
        except AttributeError as error:
            raise InputError(
                f"{name!r} has no attribute {key!r} to vary: {error}. Numbers among its attributes: {known}."
            ) from error
        if not _is_number(value):
            raise InputError(f"Cannot vary {key!r} of {name!r}: it is {value!r}, no number. There are: {known}.")
        fine = isinstance(ends, Sequence) and len(ends) == 2 and all(_is_number(end) for end in ends)
        if not fine or not -math.inf < ends[0] <= ends[1] < math.inf:
            raise InputError(f"Cannot vary {key!r} of {name!r} over {ends!r}: expected [lowest, highest], two numbers.")
    return {key: [float(end) for end in ends] for key, ends in vary.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | torch.Tensor)
