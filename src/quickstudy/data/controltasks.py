"""Floor 1: tasks that are environments: a support is a number of trajectories that are still to be run.

A row of an episode is not an example but a trajectory to be: which task it is of and where it begins. Who learns runs
it, because what happens on it depends on the policy. So a task stays a pure function of (source, seed, split, index),
and two learners tested on the same source meet the same tasks from the same starts.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.counts import Count, bounds
from quickstudy.data.dataset import check_role
from quickstudy.data.environments import ENVIRONMENTS, AbstractEnvironment, environment, imported, is_address
from quickstudy.data.source import TaskShape, TaskSource, as_indices
from quickstudy.episode import Episode, Examples, Real
from quickstudy.errors import InputError, UnknownName, in_words
from quickstudy.keys import Integers, Key

__all__ = [
    "AntBrokenJoints",
    "ControlTasks",
    "HalfCheetahDirection",
    "HalfCheetahVelocity",
    "OwnEnvironment",
    "PointNavigation",
    "Push",
    "Reach",
]

# What the words of each stream decide.
_TASK, _SUPPORT, _QUERY = range(3)
_SPLITS = ("train", "validation", "test")
_SEED_BITS = np.uint64(33)  # leaves 31 bits, which every simulator takes


class ControlTasks(TaskSource):
    """Tasks of one environment.

    ``x`` holds ``"task"``, float32 ``[T, N, P]``, the numbers in which tasks differ, and ``"seed"``, int64 ``[T, N]``,
    of where each trajectory begins. ``y`` is zeros, as nobody knows what return could be had.

    Args:
        world: the environment.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        shot: support trajectories.
        query: trajectories on which the return is measured, after each step of adaptation.
        seed: tells sources of the same kind apart.

    Raises:
        InputError: a number makes no sense.
        UnknownName: no such split.
    """

    def __init__(self, world: AbstractEnvironment, *, split: str, shot: Count, query: Count, seed: int) -> None:
        if split not in _SPLITS:
            raise UnknownName.among(f"split of {world.name}", split, _SPLITS)
        self.environment, self._split, self._seed = world, split, seed
        self._shot, self._query = _fixed("shot", shot), _fixed("query", query)
        self._key = Key.of(seed, world.name, split)

    @property
    def shape(self) -> TaskShape:
        """Observations in, actions out."""
        world = self.environment
        return TaskShape((world.observation,), "real", world.action, environment=world.description)

    @property
    def hash(self) -> str:
        """Hex sha256 over the environment's description."""
        return hashlib.sha256(json.dumps(self.environment.description, sort_keys=True).encode()).hexdigest()

    @property
    def settings(self) -> dict[str, Any]:
        """What makes these tasks."""
        named = {"data": self.environment.name, "split": self._split, "shot": self._shot, "query": self._query}
        return named | {"seed": self._seed, "environment": self.environment.description}

    def parameters(self, indices: range | Integers) -> NDArray[np.float64]:
        """``[T, P]``: the numbers of these tasks."""
        words = self._key.bits(as_indices(indices), len(self.environment.parameters), _TASK)
        try:
            drawn = np.asarray(self.environment.draw(words), dtype=np.float64)
        except Exception as error:  # an environment of one's own may raise anything
            raise InputError(f"The environment {self.environment.name!r} failed in draw: {in_words(error)}.") from error
        if drawn.shape != words.shape or not np.isfinite(drawn).all():
            raise InputError(
                f"The environment {self.environment.name!r} has to draw finite numbers of the shape "
                f"{list(words.shape)}, a row a task and a column for each of {self.environment.parameters}: its draw "
                f"gave the shape {list(drawn.shape)}{'' if drawn.shape != words.shape else ', not all finite'}."
            )
        return drawn

    def episodes(self, indices: range | Integers) -> Episode:
        """Trajectories to be run of the tasks with these numbers."""
        tasks = as_indices(indices)
        parameters = torch.from_numpy(self.parameters(tasks).astype(np.float32))
        return Episode(
            support=self._rows(tasks, parameters, self._shot, _SUPPORT),
            query=self._rows(tasks, parameters, self._query, _QUERY),
            index=torch.from_numpy(tasks.copy()),
        )

    def _rows(self, tasks: Integers, parameters: Tensor, n: int, stream: int) -> Examples:
        seeds = torch.from_numpy((self._key.bits(tasks, n, stream) >> _SEED_BITS).astype(np.int64))
        x = {"task": parameters[:, None].expand(-1, n, -1).contiguous(), "seed": seeds}
        return Examples(x, torch.zeros(len(tasks), n, 1), Real(1))

    def figures(self, outputs: Tensor, episode: Episode) -> dict[str, NDArray[np.float64]]:
        """Returns, averaged over each task's query trajectories, and how many steps adapting took.

        Args:
            outputs: ``[T, Nq, K + 2]``: the return after 0 .. K steps of adaptation, then the environment steps that
                adapting took.
            episode: not looked at.
        """
        del episode
        means = outputs.double().mean(1).numpy()
        after = {f"return@{k}": means[:, k] for k in range(means.shape[1] - 1)}
        # There are no labels to be wrong about.
        return {"return": means[:, -2], **after, "env-steps": means[:, -1], "mse": np.full(len(means), np.nan)}


def _fixed(name: str, count: Count) -> int:
    low, high = bounds(name, count)
    if low != high:
        raise InputError(
            f"Cannot draw tasks with {name} = {count!r}: all tasks of an environment have as many trajectories. Say "
            "one number."
        )
    return low


class _Control:
    """What the data sets below share.

    Args:
        oracle: a policy sees the task's own numbers behind its observation.
        options: of the environment.
    """

    name: str
    splits = _SPLITS

    def __init__(self, oracle: bool, **options: Any) -> None:
        told = {"oracle": True} if oracle else {}
        self.environment = environment({"name": self.name, **options, **told})
        self.shape = (self.environment.observation,)

    def tasks(self, role: str, *, shot: Count, query: Count = 20, seed: int, way: Count | None = None) -> ControlTasks:
        """Tasks of one role. They are drawn from the same family with other random words.

        Args:
            role: one of :attr:`splits`.
            shot: support trajectories.
            query: trajectories on which the return is measured.
            seed: tells sources of the same kind apart.
            way: None; an environment has no classes.

        Raises:
            UnknownName: no such role.
            InputError: a number makes no sense, or a way was given.
        """
        check_role(self, role)
        if way is not None:
            raise InputError(
                f"Cannot draw {way!r}-way tasks from {self.name}: an environment has no classes. Leave way out."
            )
        return ControlTasks(self.environment, split=role, shot=shot, query=query, seed=seed)


class PointNavigation(_Control):
    """Points that have to find a goal in the plane; see ``data/pointnavigation.py``."""

    name = "point-navigation"

    def __init__(self, *, horizon: int = 100, reach: float = 0.5, oracle: bool = False) -> None:
        super().__init__(oracle, horizon=horizon, reach=reach)


class HalfCheetahDirection(_Control):
    """HalfCheetah, forwards or backwards: two tasks; see ``data/mujocotasks.py``."""

    name = "half-cheetah-direction"

    def __init__(self, *, horizon: int = 200, oracle: bool = False) -> None:
        super().__init__(oracle, horizon=horizon)


class HalfCheetahVelocity(_Control):
    """HalfCheetah at a velocity; see ``data/mujocotasks.py``."""

    name = "half-cheetah-velocity"

    def __init__(self, *, horizon: int = 200, fastest: float = 2.0, oracle: bool = False) -> None:
        super().__init__(oracle, horizon=horizon, fastest=fastest)


class AntBrokenJoints(_Control):
    """Ant with a joint that does not obey; see ``data/mujocotasks.py``."""

    name = "ant-broken-joints"

    def __init__(self, *, horizon: int = 200, oracle: bool = False) -> None:
        super().__init__(oracle, horizon=horizon)


class Reach(_Control):
    """Meta-World ML1 reach; see ``data/metaworldtasks.py``."""

    name = "metaworld-reach"

    def __init__(self, *, horizon: int = 200, oracle: bool = False) -> None:
        super().__init__(oracle, horizon=horizon)


class Push(_Control):
    """Meta-World ML1 push; see ``data/metaworldtasks.py``."""

    name = "metaworld-push"

    def __init__(self, *, horizon: int = 200, oracle: bool = False) -> None:
        super().__init__(oracle, horizon=horizon)


class OwnEnvironment(_Control):
    """An environment of one's own, or one that Gymnasium has.

    Args:
        environment: the address of a class derived from ``AbstractEnvironment``, ``"arm:Slope"``; or what
            ``data/gymnasiumtasks.py`` takes: ``"Pendulum-v1"``, or the address of what gives a ``gymnasium.Env``.
        vary: of the latter: attribute -> (lowest, highest) of what differs from task to task.
        options: of its class, or of ``gymnasium.make``.
        horizon: steps of a trajectory at most; the environment's own number, or 200, by default.
        oracle: a policy sees the task's own numbers behind its observation.

    Raises:
        InputError: no environment is named, or it cannot be used; says why.
    """

    name = "environment"

    def __init__(
        self,
        *,
        environment: str | None = None,
        vary: dict[str, tuple[float, float]] | None = None,
        options: dict[str, Any] | None = None,
        horizon: int | None = None,
        oracle: bool = False,
    ) -> None:
        if not environment:
            raise InputError(
                "Which environment? Say --environment NAME: Gymnasium's name of it, such as Pendulum-v1, or "
                "module:name of one of your own."
            )
        if environment in ENVIRONMENTS:
            raise InputError(f"{environment!r} is a data set of its own: say --data.name {environment}.")
        reserved = sorted({"name", "horizon", "oracle"} & set(options or ()))
        if reserved:
            raise InputError(f"{reserved[0]!r} is no option of an environment: say --data.{reserved[0]}.")
        how = {} if horizon is None else {"horizon": horizon}
        found = imported(environment) if is_address(environment) else None
        if isinstance(found, type) and issubclass(found, AbstractEnvironment):
            if vary:
                raise InputError(f"{environment!r} draws its tasks itself, by its method draw: leave vary out.")
            super().__init__(oracle, name=environment, **how, **(options or {}))
        else:
            given = {"environment": environment, "vary": vary, "options": options, **how}
            given = {name: value for name, value in given.items() if value is not None}
            super().__init__(oracle, name="gymnasium", **given)
