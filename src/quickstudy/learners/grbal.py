"""GrBAL: a model of the dynamics that adapts, and plans made with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.inner import Params, gradients
from quickstudy.keys import Keys
from quickstudy.learners.learner import MetaLoss, Traits
from quickstudy.learners.parts.agents import AbstractAgent
from quickstudy.learners.parts.dynamics import Dynamics, Scales, cross_entropy_plan
from quickstudy.learners.parts.rollouts import collect, leaf, noise, returns
from quickstudy.nets.apply import Strategy


@dataclass(frozen=True, eq=False)
class ModelState:
    """What a task taught the model.

    Args:
        params: φ, name -> ``[T, ...]``.
        earlier: φ before each step so far.
        taken: ``[T]``, environment steps so far.
    """

    params: Params
    earlier: tuple[Params, ...]
    taken: Tensor


class GrBAL(AbstractAgent):
    """Meta-learn a model of what actions lead to, adapt it to what was just seen, and plan with it.

    A. Nagabandi, I. Clavera, S. Liu, R. Fearing, P. Abbeel, S. Levine, C. Finn, "Learning to adapt in dynamic,
    real-world environments through meta-reinforcement learning", ICLR 2019.

    adapt:      gradient steps of the model on the transitions of ``used`` trajectories
    predict:    the first action of the plan that the model thinks best (cross-entropy method)
    meta-loss:  the model's error on other trajectories of the task, after adapting

    When to choose it: experience is dear. A model is learned from each transition and needs no returns, so that a
    single trajectory does; each action costs a plan, and the plan is as good as the model.

    Deviations: the model also predicts the reward, so that tasks may differ in what they reward (the authors' reward is
    known and their robots differ); it adapts to whole trajectories between trials, not to the last moments within one;
    training data are random trajectories and, for the query, the planner's own, of each step anew.

    Args:
        outputs: numbers of an action.
        environment: where it acts.
        trajectories: of a support, that are offered for each step of adaptation, so that it can be compared with
            others.
        used: how many of these it runs.
        hidden: width of the model's layers.
        inner_steps: gradient steps on each batch.
        inner_lr: their rate.
        plan: actions that it looks ahead.
        samples: plans that it draws.
        rounds: how often.
        kept: how many are the best.
        planned: in training, the query's trajectories are the planner's; else random like the support's.
        drift: how far the mean action of a random trajectory may lie from 0, up to 1. Random trajectories should go
            where good ones do: 1 for what has to be pushed hard, 0 where that leads far away.
        random_log_std: logarithm of the deviation of its actions.
        log_std: logarithm of the deviation of actions from the plan.
        strategy: how the model is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together.
    """

    count: Tensor
    total: Tensor
    square: Tensor

    def __init__(
        self,
        outputs: int,
        environment: Mapping[str, Any],
        *,
        trajectories: int = 20,
        used: int = 1,
        hidden: Sequence[int] = (64, 64),
        inner_steps: int = 5,
        inner_lr: float = 0.05,
        plan: int = 8,
        samples: int = 32,
        rounds: int = 2,
        kept: int = 6,
        planned: bool = True,
        drift: float = 1.0,
        random_log_std: float = 0.0,
        log_std: float = -2.0,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__(environment, trajectories)
        if not 1 <= used <= trajectories or min(inner_steps, plan, rounds, kept) < 1 or kept > samples:
            raise InputError(
                f"GrBAL needs used in 1 .. trajectories, kept in 1 .. samples, and at least one step, action and "
                f"round, received used={used}, trajectories={trajectories}, kept={kept}, samples={samples}, "
                f"inner_steps={inner_steps}, plan={plan}, rounds={rounds}."
            )
        observation = self.world.observation
        self.model = Dynamics(observation, outputs, tuple(hidden), strategy)
        self.actions, self.used, self.planned, self.log_std = outputs, used, planned, log_std
        self.drift, self.random_log_std = drift, random_log_std
        self.inner_steps, self.inner_lr = inner_steps, inner_lr
        self.length, self.samples, self.rounds, self.kept = plan, samples, rounds, kept
        width = 2 * observation + outputs + 1
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("total", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("square", torch.zeros(width, dtype=torch.float64))

    @property
    @override
    def traits(self) -> Traits:
        return Traits(targets=("real",), incremental=True)

    # --- what AbstractAgent asks for ------------------------------------------------------------------

    @override
    def batches(self, tasks: Examples) -> Iterator[Examples]:
        """Of each batch only what is run."""
        return (rows.rows(slice(0, self.used)) for rows in super().batches(tasks))

    @override
    def begin(self, n_task: int) -> ModelState:
        params = {name: p.detach().clone() for name, p in self.model.start(n_task).items()}
        return ModelState(params, (), self.total.new_zeros(n_task))

    @override
    def learn(self, state: ModelState, trajectories: Examples, key: Keys) -> ModelState:
        del key
        rows, alive = self._rows(trajectories)
        with torch.enable_grad():
            start = {name: p.detach().requires_grad_() for name, p in state.params.items()}
            after = self._descended(start, self._scales(), rows, alive, create_graph=False)
        sound = torch.stack([p.flatten(1).isfinite().all(1) for p in after.values()]).all(0)
        kept = {
            name: torch.where(sound.view(-1, *[1] * (p.dim() - 1)), p, state.params[name]).detach()
            for name, p in after.items()
        }
        taken = state.taken + leaf(trajectories, "alive").sum((1, 2))
        return replace(state, params=kept, earlier=(*state.earlier, state.params), taken=taken)

    @override
    def play(self, state: ModelState, tasks: Examples, key: Keys) -> Examples:
        planner = _Planner(self, state, key)
        return collect(self.world, planner, tasks, key)

    @override
    def act(self, state: ModelState, obs: Tensor) -> Tensor:
        mean, log_std = _Planner(self, state, Keys.default(len(obs)))(obs)
        return torch.cat([mean, log_std], -1)

    @override
    def stages(self, state: ModelState) -> list[ModelState]:
        return [replace(state, params=params, earlier=()) for params in (*state.earlier, state.params)]

    @override
    def taken(self, state: ModelState) -> Tensor:
        return state.taken

    # --- the model ------------------------------------------------------------------------------------------

    def _rows(self, played: Examples) -> tuple[Tensor, Tensor]:
        """(observation, action, change, reward) of each transition, ``[T, R, ...]``, and which were made.

        The last step of a trajectory has no observation after it and is left out.
        """
        obs, action, reward, alive = (leaf(played, name) for name in ("obs", "action", "reward", "alive"))
        change = obs[:, :, 1:] - obs[:, :, :-1]
        parts = [obs[:, :, :-1], action[:, :, :-1].clamp(-1, 1), change, reward[:, :, :-1, None]]
        made = alive[:, :, :-1] & alive[:, :, 1:]
        rows = torch.cat(parts, 3).to(next(self.model.parameters())).flatten(1, 2)
        return torch.where(made.flatten(1, 2)[..., None], rows, 0.0), made.flatten(1, 2)

    def _scales(self, more: dict[str, Tensor] | None = None) -> Scales:
        sums = {name: getattr(self, name) for name in ("count", "total", "square")}
        if more is not None:
            sums = {name: value + more[name].sum(0) for name, value in sums.items()}
        found = Scales.of(**sums)
        like = next(self.model.parameters())
        if float(sums["count"]) == 0:  # nothing was ever seen
            return Scales(torch.zeros_like(found.mean).to(like), torch.ones_like(found.std).to(like))
        return Scales(found.mean.to(like), found.std.to(like))

    def _error(self, params: Params, scales: Scales, rows: Tensor, alive: Tensor) -> Tensor:
        """``[T]``: squared error of what is predicted, standardised."""
        inputs, targets = self.model.standard(scales, rows)
        each = (self.model.run(params, inputs) - targets).square().mean(2)
        return torch.where(alive, each, 0.0).sum(1) / alive.sum(1).clamp(min=1)

    def _descended(self, params: Params, scales: Scales, rows: Tensor, alive: Tensor, *, create_graph: bool) -> Params:
        for _ in range(self.inner_steps):
            slopes = gradients(self._error(params, scales, rows, alive), params, create_graph=create_graph)
            params = {name: p - self.inner_lr * slopes[name] for name, p in params.items()}
        return params

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The adapted model's error; logs the ``return`` of the query's trajectories."""
        self.check_training(episode)
        keys = Keys.default(episode.n_task) if key is None else key
        support = self._at_random(next(self.batches(episode.support)), keys.fold("support"))
        seen = self._rows(support)
        if self.planned and float(self.count):
            state = self.learn(self.begin(episode.n_task), support, keys)
            played = self.play(state, episode.query, keys.fold("query"))
        else:
            played = self._at_random(episode.query, keys.fold("query"))
        asked = self._rows(played)
        carried = _sums([seen, asked])
        scales = self._scales(carried)
        params = self._descended(self.model.start(episode.n_task), scales, *seen, create_graph=True)
        return MetaLoss(self._error(params, scales, *asked), {"return": returns(played).mean(1).float()}, carried)

    def _at_random(self, tasks: Examples, keys: Keys) -> Examples:
        """Trajectories that drift: each has a mean action of its own."""
        n = tasks.n_example
        drift = self.drift * noise(keys.fold("drift"), n, 1, self.actions)[:, :, 0].clamp(-1, 1)
        return collect(
            self.world, lambda obs: (drift.to(obs), torch.full_like(drift, self.random_log_std).to(obs)), tasks, keys
        )

    @override
    def absorb(self, carried: dict[str, Tensor]) -> None:
        for name, values in carried.items():
            getattr(self, name).add_(values.sum(0))


def _sums(parts: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """What ``Scales`` are made from, a row a task."""
    rows = torch.cat([rows for rows, _ in parts], 1).double()
    made = torch.cat([made for _, made in parts], 1)
    return {"count": made.sum(1).double(), "total": rows.sum(1), "square": rows.square().sum(1)}


class _Planner:
    """Plans each action anew, beginning with the rest of the last plan."""

    def __init__(self, learner: GrBAL, state: ModelState, key: Keys) -> None:
        self.learner, self.state, self.scales = learner, state, learner._scales()
        drawn = noise(key.fold("plan"), learner.samples, learner.length, learner.actions)
        self.draws = drawn.to(next(learner.model.parameters()))
        self.rest: Tensor | None = None

    def __call__(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        learner = self.learner
        n_task, n = obs.shape[:2]
        if self.rest is None:
            self.rest = self.draws.new_zeros(n_task, n, learner.length, learner.actions)
        plan = cross_entropy_plan(
            learner.model,
            self.state.params,
            self.scales,
            obs.to(self.draws),
            self.draws,
            rounds=learner.rounds,
            kept=learner.kept,
            first=self.rest,
        )
        self.rest = torch.cat([plan[:, :, 1:], torch.zeros_like(plan[:, :, :1])], 2)
        return plan[:, :, 0], torch.full_like(plan[:, :, 0], learner.log_std)
