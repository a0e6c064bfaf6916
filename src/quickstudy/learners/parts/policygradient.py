"""What learners share that adapt a policy by steps of policy gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.inner import Params, gradients
from quickstudy.keys import Keys
from quickstudy.learners.learner import Traits
from quickstudy.learners.parts.advantages import advantages
from quickstudy.learners.parts.agents import AbstractAgent
from quickstudy.learners.parts.gaussianpolicy import GaussianPolicy
from quickstudy.learners.parts.options import one_of
from quickstudy.learners.parts.rollouts import collect, leaf, log_likelihood
from quickstudy.learners.parts.surrogates import Estimator, surrogate
from quickstudy.nets.apply import Strategy

__all__ = ["AbstractPolicyGradient", "PolicyState", "Weighed"]


@dataclass(frozen=True, eq=False)
class PolicyState:
    """What trajectories taught a policy.

    Args:
        params: φ, name -> ``[T, ...]``.
        earlier: φ before each step so far.
        taken: ``[T]``, environment steps so far.
    """

    params: Params
    earlier: tuple[Params, ...]
    taken: Tensor


@dataclass(frozen=True, eq=False)
class Weighed:
    """Trajectories with what a policy gradient needs of them, each ``[T, N, H, ...]``.

    Args:
        obs: observations.
        action: actions.
        advantage: how much better each was than usual.
        alive: steps that were made.
        log_prob: of the actions when they were drawn; None where nobody knows.
    """

    obs: Tensor
    action: Tensor
    advantage: Tensor
    alive: Tensor
    log_prob: Tensor | None


class AbstractPolicyGradient(AbstractAgent):
    """A Gaussian policy and its steps of policy gradient.

    A learner without options of its own has this constructor, from which recipes read its options.

    Args:
        net: the network below the means.
        outputs: A.
        environment: see ``data.environments``.
        trajectories: how many a step learns from.
        inner_lr: α.
        later_lr: α after the first step; None: as in the first.
        estimator: see ``learners.parts.surrogates``.
        discount: γ.
        gae_lambda: λ of the advantages.
        log_std: logarithm of the deviations at the start.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run.
    """

    def __init__(
        self,
        net: nn.Module,
        outputs: int,
        environment: Mapping[str, Any],
        *,
        trajectories: int = 20,
        inner_lr: float = 0.1,
        later_lr: float | None = None,
        estimator: Estimator = "lvc",
        discount: float = 0.99,
        gae_lambda: float = 1.0,
        log_std: float = 0.0,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__(environment, trajectories)
        one_of(type(self).__name__, "estimator", estimator, ("dice", "lvc"))
        if not 0 < discount <= 1 or not 0 <= gae_lambda <= 1:
            raise InputError(
                f"{type(self).__name__} needs a discount in 0 .. 1 (above 0) and gae_lambda in 0 .. 1, received "
                f"{discount} and {gae_lambda}."
            )
        if inner_lr < 0 or (later_lr is not None and later_lr < 0):
            raise InputError(f"{type(self).__name__} cannot step backwards: inner_lr={inner_lr}, later_lr={later_lr}.")
        self.policy = GaussianPolicy(net, outputs, features=out_features, log_std=log_std, strategy=strategy)
        self.inner_lr, self.later_lr = inner_lr, inner_lr if later_lr is None else later_lr
        self.estimator: Estimator = estimator
        self.discount, self.gae_lambda = discount, gae_lambda

    @property
    @override
    def traits(self) -> Traits:
        return Traits(targets=("real",), incremental=True)

    # --- what AbstractAgent asks for ------------------------------------------------------------------

    @override
    def begin(self, n_task: int) -> PolicyState:
        weights = {name: p.detach().clone() for name, p in self.policy.start(self.policy.weights(), n_task).items()}
        return PolicyState(weights, (), torch.zeros(n_task, device=self.policy.log_std.device))

    @override
    def learn(self, state: PolicyState, trajectories: Examples, key: Keys) -> PolicyState:
        del key
        with torch.enable_grad():
            start = {name: p.detach().requires_grad_() for name, p in state.params.items()}
            after = self.ascend(start, self.weigh(trajectories), len(state.earlier), create_graph=False)
        sound = _finite(after)
        kept = {  # a step that leads nowhere is not made
            name: torch.where(sound.view(-1, *[1] * (p.dim() - 1)), p, state.params[name]).detach()
            for name, p in after.items()
        }
        taken = state.taken + leaf(trajectories, "alive").sum((1, 2))
        return replace(state, params=kept, earlier=(*state.earlier, state.params), taken=taken)

    @override
    def play(self, state: PolicyState, tasks: Examples, key: Keys) -> Examples:
        return collect(self.world, lambda obs: self.policy.run(state.params, obs), tasks, key)

    @override
    def act(self, state: PolicyState, obs: Tensor) -> Tensor:
        mean, log_std = self.policy.run(state.params, obs)
        return torch.cat([mean, log_std.expand_as(mean)], -1)

    @override
    def stages(self, state: PolicyState) -> list[PolicyState]:
        return [replace(state, params=params, earlier=()) for params in (*state.earlier, state.params)]

    @override
    def taken(self, state: PolicyState) -> Tensor:
        return state.taken

    # --- the step -----------------------------------------------------------------------------------------

    def weigh(self, trajectories: Examples) -> Weighed:
        """Trajectories with their advantages."""
        obs, reward, alive = (leaf(trajectories, name) for name in ("obs", "reward", "alive"))
        gain = advantages(obs, reward, alive, discount=self.discount, gae_lambda=self.gae_lambda)
        known = trajectories.x.get("log_prob") if isinstance(trajectories.x, dict) else None
        return Weighed(obs, leaf(trajectories, "action"), gain, alive, known)

    def ascend(self, params: Params, seen: Weighed, number: int, *, create_graph: bool) -> Params:
        """φ after one step of gradient ascent, number ``number`` from 0 on."""
        mean, log_std = self.policy.run(params, seen.obs)
        log_prob = log_likelihood(mean, log_std, seen.action)
        gain = surrogate(log_prob, seen.log_prob, seen.advantage, seen.alive, estimator=self.estimator)
        slopes = gradients(gain, params, create_graph=create_graph)
        rate = self.later_lr if number else self.inner_lr
        return {name: p + rate * slopes[name] for name, p in params.items()}


def _finite(params: Params) -> Tensor:
    """``[T]``: whether all weights of a task are finite numbers."""
    return torch.stack([p.flatten(1).isfinite().all(1) for p in params.values()]).all(0)
