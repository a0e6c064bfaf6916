"""Trajectories: what a policy did in an environment, as examples that a learner learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from quickstudy.data.environments import AbstractEnvironment, Failed, Step
from quickstudy.episode import Examples, Real
from quickstudy.errors import InputError, QuickstudyError, in_words
from quickstudy.keys import Keys, uniform

__all__ = ["Act", "Heard", "check_trajectories", "collect", "leaf", "log_likelihood", "noise", "returns"]

Act: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Observations ``[T, N, O]`` -> means ``[T, N, A]`` and logarithms of deviations, broadcast against them."""

Heard: TypeAlias = Callable[[Tensor, Tensor, Tensor], None]
"""Told after each step: actions ``[T, N, A]``, rewards ``[T, N]`` and which trajectories go on, bool ``[T, N]``."""

_LOG_2PI = float(np.log(2 * np.pi))


def noise(keys: Keys, n: int, horizon: int, action: int) -> Tensor:
    """Standard normal numbers, float32 ``[T, N, H, A]``, by Box and Muller's method from one word each."""
    bits = keys.bits(n * horizon * action)
    radius = np.sqrt(-2 * np.log1p(-uniform(bits)))  # of 1 - u, which is never 0
    # The low bits, which the high 53 of the radius hardly share.
    angle = 2 * np.pi * ((bits & np.uint64(0xFFFFFFFF)).astype(np.float64) * 2.0**-32)
    drawn = (radius * np.cos(angle)).astype(np.float32)
    return torch.from_numpy(drawn).view(len(keys), n, horizon, action)


def log_likelihood(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Of actions under normal distributions, summed over the numbers of an action, ``[...]``."""
    z = (action - mean) * torch.exp(-log_std)
    return (-0.5 * z.square() - log_std - 0.5 * _LOG_2PI).sum(-1)


@torch.no_grad()
def collect(
    world: AbstractEnvironment, act: Act, tasks: Examples, keys: Keys, *, heard: Heard | None = None
) -> Examples:
    """Run the trajectories that ``tasks`` asks for.

    Args:
        world: the environment.
        act: the policy of each of the T tasks.
        tasks: ``"task"`` ``[T, N, P]`` and ``"seed"`` ``[T, N]``, as ``data.controltasks`` gives them.
        keys: of the noise of actions.
        heard: told of each step, for a policy with a memory.

    Returns:
        ``x`` of leaves ``[T, N, H, ...]``: ``"obs"``, ``"action"`` (as drawn, before the environment clips it),
        ``"reward"``, ``"alive"`` (bool: the step was made) and ``"log_prob"`` (of the action when it was drawn). Steps
        that were not made are zeros.

    Raises:
        InputError: a reward or an observation is no finite number, naming the task, the trajectory and the step; what
            the environment gives has another shape than it says; or whatever the environment itself raised.
    """
    task, seed = leaf(tasks, "task"), leaf(tasks, "seed")
    (n_task, n), horizon = seed.shape, world.horizon
    draws = noise(keys, n, horizon, world.action).to(seed.device)
    with _blaming(world, "at the start"):
        running = world.start(task[:, 0].cpu(), seed.cpu())
        begun = running.observation
    _check_shapes(world, n_task, n, observation=begun)
    # Copies: an environment may go on writing into its own tensors.
    obs = begun.to(seed.device, copy=True)
    alive = torch.ones(n_task, n, dtype=torch.bool, device=seed.device)
    _check_finite(world, alive, "at the start", observation=obs)
    kept: list[tuple[Tensor, ...]] = []
    for t in range(horizon):
        mean, log_std = act(obs)
        action = mean + log_std.exp() * draws[:, :, t]
        with _blaming(world, f"in step {t}"):
            after = running.step(action.cpu())
            given = {name: getattr(after, name) for name in Step._fields}
        _check_shapes(world, n_task, n, **given)
        reward, new = (told.to(seed.device, copy=True) for told in (after.reward, after.observation))
        _check_finite(world, alive, f"step {t}", reward=reward, observation=new)
        kept.append((obs, action, reward, alive, log_likelihood(mean, log_std, action)))
        obs, alive = new, alive & ~after.done.to(seed.device)
        if heard is not None:
            heard(action, reward, alive)
        if not alive.any():
            break
    names = ("obs", "action", "reward", "alive", "log_prob")
    x = {name: _joined([step[i] for step in kept], horizon) for i, name in enumerate(names)}
    real = x["alive"]
    for name in ("obs", "action", "reward", "log_prob"):
        mask = real if x[name].dim() == 3 else real[..., None]
        x[name] = torch.where(mask, x[name], 0.0)
    return Examples(x, None, Real(world.action))


def _joined(steps: list[Tensor], horizon: int) -> Tensor:
    """``[T, N, H, ...]``, zeros behind the last step made."""
    stacked = torch.stack(steps, 2)
    missing = horizon - stacked.shape[2]
    if not missing:
        return stacked
    return torch.cat([stacked, stacked.new_zeros(*stacked.shape[:2], missing, *stacked.shape[3:])], 2)


def _check_shapes(world: AbstractEnvironment, n_task: int, n: int, **given: object) -> None:
    # Rewards [T, N, 1] would be broadcast against [T, N] without a word.
    for name, found in given.items():
        shape = (n_task, n, world.observation) if name == "observation" else (n_task, n)
        wanted = "bool" if name == "done" else "floating-point"
        said = f"a {type(found).__name__}, no tensor"
        if isinstance(found, Tensor):
            said = f"{found.dtype} of the shape {list(found.shape)}"
            fits = found.dtype == torch.bool if name == "done" else found.is_floating_point()
            if tuple(found.shape) == shape and fits:
                continue
        raise InputError(
            f"The environment {world.name!r} gave {name!r} as {said}: it has to be {wanted} of the shape "
            f"{list(shape)} for {n_task} tasks of {n} trajectories. Mend its start or step."
        )


def _check_finite(world: AbstractEnvironment, alive: Tensor, when: str, **given: Tensor) -> None:
    for name, values in given.items():
        sound = values.isfinite().view(*alive.shape, -1)
        bad = (~sound.all(2) & alive).nonzero()
        if len(bad):
            task, row = (int(i) for i in bad[0])
            value = float(values[task, row].flatten()[~sound[task, row]][0])
            raise InputError(
                f"The environment {world.name!r} gave {value}, which is no finite number, as {name} of task {task}, "
                f"trajectory {row}, {when}. Mend the environment, or bound what it gives."
            )


@contextmanager
def _blaming(world: AbstractEnvironment, when: str) -> Iterator[None]:
    """What an environment raises is told as a sentence that names it."""
    try:
        yield
    except QuickstudyError:
        raise
    except Exception as error:  # one of somebody's own may raise anything
        said = str(error) if isinstance(error, Failed) else in_words(error)
        raise InputError(f"The environment {world.name!r} failed {when}: {said}. Mend the environment.") from error


def leaf(examples: Examples, name: str) -> Tensor:
    """One tensor of a dict.

    Raises:
        InputError: there is none of this name.
    """
    if not isinstance(examples.x, dict) or name not in examples.x:
        found = ", ".join(map(repr, examples.x)) if isinstance(examples.x, dict) else "a tensor"
        raise InputError(
            f"A policy learns from trajectories, x = {{'obs', 'action', 'reward', 'alive'}}; there is no {name!r} "
            f"among {found}."
        )
    return examples.x[name]


def returns(trajectories: Examples) -> Tensor:
    """``[T, N]``: the sum of a trajectory's rewards."""
    return leaf(trajectories, "reward").double().sum(2)


def check_trajectories(trajectories: Examples, observation: int, action: int) -> None:
    """What a policy can learn from.

    Args:
        trajectories: ``"obs"`` ``[T, N, H, O]``, ``"action"`` ``[T, N, H, A]``, ``"reward"`` and ``"alive"``
            ``[T, N, H]``.
        observation: O of the policy.
        action: A of the policy.

    Raises:
        InputError: a leaf is missing or of another shape, or a reward is no finite number; names the place.
    """
    obs = leaf(trajectories, "obs")
    sizes = {"obs": (observation,), "action": (action,), "reward": (), "alive": ()}
    for name, size in sizes.items():
        found = tuple(leaf(trajectories, name).shape)
        if found != (*obs.shape[:3], *size):
            raise InputError(
                f"The policy sees {observation} numbers and acts by {action}: {name!r} must have the shape "
                f"{[*obs.shape[:3], *size]}, received {list(found)}. Build the learner for this environment."
            )
    reward = leaf(trajectories, "reward")
    bad = (~reward.isfinite() & leaf(trajectories, "alive")).nonzero()
    if len(bad):
        task, row, step = (int(i) for i in bad[0])
        raise InputError(
            f"The reward of task {task}, trajectory {row}, step {step} is {float(reward[task, row, step])}, which is "
            "no finite number. Mend the environment, or leave the trajectory out."
        )
