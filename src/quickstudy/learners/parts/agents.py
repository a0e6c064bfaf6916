"""Learners whose tasks are environments: what they run themselves, and what is measured when they are tested.

``adapt`` and ``predict`` are the pair that every learner has, on trajectories: ``adapt`` learns from what a policy did,
``predict`` says how to act on what is observed. A task of an environment has no examples before somebody acts. So a
support of *trajectories to be run* (``data.controltasks``) is run by the policy itself, a batch for each step of
adaptation, and learned from; and a query of trajectories to be run is answered by the returns that were earned.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from quickstudy.data.environments import AbstractEnvironment, environment
from quickstudy.episode import Episode, Examples, may_read
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.parts.rollouts import check_trajectories, leaf, returns

__all__ = ["AbstractAgent", "to_run"]


def to_run(examples: Examples) -> bool:
    """Whether these are trajectories that are still to be run."""
    return isinstance(examples.x, dict) and "seed" in examples.x


class AbstractAgent(AbstractLearner):
    """A learner that acts.

    Args:
        environment: the description of its environment; see ``data.environments``.
        trajectories: how many of a support's trajectories one step of adaptation learns from.

    Raises:
        InputError: the environment is not there, or the number below 1.
    """

    def __init__(self, environment: Mapping[str, Any], trajectories: int) -> None:
        super().__init__()
        if trajectories < 1:
            raise InputError(
                f"A step of adaptation needs at least one trajectory, received trajectories={trajectories}."
            )
        self.described, self.trajectories = dict(environment), trajectories

    @staticmethod
    @override
    def default_norm(*, transductive: bool) -> str:
        """None: what a policy does must not depend on the states beside it."""
        del transductive
        return "none"

    @property
    def world(self) -> AbstractEnvironment:
        """The environment, made when it is first needed."""
        return environment(self.described)

    @override
    def check_environment(self, described: Mapping[str, Any] | None) -> None:
        """Refuse tasks of another environment: it acts in its own, and what it earned would be named after theirs.

        Raises:
            InputError: another name, or another option; an oracle's environment is that of the others.
        """
        if described is None:
            return
        mine, theirs = ({**told, "oracle": None} for told in (self.world.description, described))
        if mine != theirs:
            names = sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))
            told = ", ".join(f"{name} = {theirs.get(name)!r} and not {mine.get(name)!r}" for name in names)
            raise InputError(
                f"{type(self).__name__} acts in the environment it was built for, and these tasks have {told}. Build "
                "and train a learner for them."
            )

    # --- what a subclass says ---------------------------------------------------------------------

    @abstractmethod
    def begin(self, n_task: int) -> Any:
        """The state of T tasks of which nothing is known."""

    @abstractmethod
    def learn(self, state: Any, trajectories: Examples, key: Keys) -> Any:
        """The state after one batch of trajectories; ``rollouts.collect`` says what they hold."""

    @abstractmethod
    def play(self, state: Any, tasks: Examples, key: Keys) -> Examples:
        """Run trajectories of the tasks by the policy as it is."""

    @abstractmethod
    def act(self, state: Any, obs: Tensor) -> Tensor:
        """``[T, N, O] -> [T, N, 2A]``: means, then logarithms of the deviations."""

    @abstractmethod
    def stages(self, state: Any) -> list[Any]:
        """The states before each step of adaptation, and the last."""

    @abstractmethod
    def taken(self, state: Any) -> Tensor:
        """``[T]``: environment steps that adapting took."""

    # --- the pair ------------------------------------------------------------------------------------

    @override
    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Any:
        """Learn from trajectories; those that are still to be run are run first, batch by batch.

        Args:
            support: ``"obs"``, ``"action"``, ``"reward"``, ``"alive"`` as ``learners.parts.rollouts.collect`` gives
                them, and ``"log_prob"`` where it is known; or ``"task"`` and ``"seed"`` of trajectories to be run.
            state: what was learned before.
            key: randomness of each task.

        Raises:
            InputError: trajectories of another environment, or rewards that are no finite numbers.
        """
        n = support.n_task
        keys = Keys.default(n) if key is None else key
        state = self.begin(n) if state is None else state
        if not to_run(support):
            check_trajectories(support, self.world.observation, self.world.action)
            return self.learn(state, support, keys.fold("learn", self._number(state)))
        for rows in self.batches(support):
            number = self._number(state)
            played = self.play(state, rows, keys.fold("support", number))
            state = self.learn(state, played, keys.fold("learn", number))
        return state

    @override
    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        """How to act, or what was earned.

        Args:
            state: from :meth:`adapt`.
            query: observations ``[T, N, O]``; or ``"task"`` and ``"seed"`` of trajectories to be run.
            key: randomness of each task.

        Returns:
            ``[T, N, 2A]``, means and logarithms of deviations of the actions; or ``[T, N, K + 2]``: each trajectory's
            return by the policy after 0 .. K steps of adaptation, and the environment steps that adapting took.
        """
        if not to_run(query):
            return self.act(state, self._observations(query))
        keys = (Keys.default(query.n_task) if key is None else key).fold("query")
        earned = [returns(self.play(stage, query, keys)) for stage in self.stages(state)]
        steps = self.taken(state).to(earned[0])[:, None].expand_as(earned[0])
        return torch.stack([*earned, steps], 2)

    def batches(self, tasks: Examples) -> Iterator[Examples]:
        """The rows for each step of adaptation.

        Raises:
            InputError: the last step would have fewer than the others.
        """
        n, size = tasks.n_example, self.trajectories
        if n % size:
            raise InputError(
                f"A step of adaptation learns from {size} trajectories, and the support has {n}: use a shot that is a "
                f"multiple of {size}, or another trajectories = ... in [learner]."
            )
        return (tasks.rows(slice(first, first + size)) for first in range(0, n, size))

    # --- pieces ---------------------------------------------------------------------------------------

    def _number(self, state: Any) -> int:
        return len(self.stages(state)) - 1

    def _observations(self, query: Examples) -> Tensor:
        obs = leaf(query, "obs") if isinstance(query.x, dict) else query.x
        if obs.shape[-1] != self.world.observation:
            raise InputError(
                f"The policy sees {self.world.observation} numbers, received observations of {obs.shape[-1]}. Build "
                "the learner for this environment."
            )
        return obs

    def check_training(self, episode: Episode) -> None:
        """A training step can be made on this.

        Raises:
            InputError: the support is not to be run, or the step is being traced.
        """
        if not may_read():
            raise InputError(
                f"{type(self).__name__} runs an environment in each step, which cannot be traced. Say compile = 'no'."
            )
        if not (to_run(episode.support) and to_run(episode.query)):
            raise InputError(
                f"{type(self).__name__} is trained on environments, whose trajectories it runs itself. Use a data set "
                "of environments, such as 'point-navigation'."
            )
