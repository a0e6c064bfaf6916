"""RL²: reinforcement learning as what a memory does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.inner import Adam, Params
from quickstudy.keys import Keys
from quickstudy.learners.learner import MetaLoss, Traits
from quickstudy.learners.parts.advantages import advantages
from quickstudy.learners.parts.agents import AbstractAgent
from quickstudy.learners.parts.recurrentpolicy import RecurrentPolicy
from quickstudy.learners.parts.rollouts import collect, leaf, log_likelihood, returns
from quickstudy.learners.parts.surrogates import clipped


@dataclass(frozen=True, eq=False)
class Memory:
    """What a policy remembers of a task.

    Args:
        hidden: ``[T, hidden]``, or ``[T, N, hidden]`` where trajectories have memories of their own.
        last: ``[T, A + 1]`` or ``[T, N, A + 1]``: the last action and the reward for it.
        earlier: the memories before each step of adaptation.
        taken: ``[T]``, environment steps so far.
    """

    hidden: Tensor
    last: Tensor
    earlier: tuple[tuple[Tensor, Tensor], ...]
    taken: Tensor


class RL2(AbstractAgent):
    """A recurrent policy that sees its actions and rewards, and goes on remembering from trajectory to trajectory.

    Y. Duan, J. Schulman, X. Chen, P. Bartlett, I. Sutskever, P. Abbeel, "RL²: fast reinforcement learning via slow
    reinforcement learning", 2016.

    adapt:      run ``used`` trajectories, one after the other, and remember
    predict:    go on from that memory
    meta-step:  trials of ``episodes`` trajectories in a row; PPO on the sum of all their rewards

    The outer step is written as a loss, Σ θ·(θ - θ') with the bracket held fixed, whose gradient is the step itself:
    the outer optimiser has to be ``"sgd"`` with the rate 1.

    When to choose it: tasks of the kind that was trained on, with as little experience as possible: one trajectory
    often does. Other tasks than those it cannot learn, as no gradient is taken.

    Deviations: PPO with a linear baseline in place of TRPO with a recurrent one; Adam's state starts anew in each
    meta-step.

    Args:
        outputs: numbers of an action.
        environment: where it acts.
        trajectories: of a support, that are offered for each step of adaptation, so that it can be compared with
            others.
        used: how many of these it runs.
        episodes: trajectories in a row in training: a shot of (episodes - 1) times the queries.
        hidden: numbers that it remembers.
        epochs: steps of Adam on the same trajectories.
        outer_lr: their rate.
        clip: of the probability ratio.
        discount: γ.
        gae_lambda: λ of the advantages.
        log_std: logarithm of the actions' deviations at the start.

    Raises:
        InputError: options that do not fit together.
    """

    def __init__(
        self,
        outputs: int,
        environment: Mapping[str, Any],
        *,
        trajectories: int = 20,
        used: int = 1,
        episodes: int = 2,
        hidden: int = 64,
        epochs: int = 8,
        outer_lr: float = 1e-3,
        clip: float = 0.2,
        discount: float = 0.99,
        gae_lambda: float = 0.95,
        log_std: float = 0.0,
    ) -> None:
        super().__init__(environment, trajectories)
        if not 1 <= used <= trajectories or episodes < 1 or epochs < 1:
            raise InputError(
                f"RL2 needs used in 1 .. trajectories, and at least one episode and epoch, received used={used}, "
                f"trajectories={trajectories}, episodes={episodes}, epochs={epochs}."
            )
        self.used, self.episodes, self.epochs, self.outer_lr, self.clip = used, episodes, epochs, outer_lr, clip
        self.discount, self.gae_lambda = discount, gae_lambda
        self.actions = outputs
        self.policy = RecurrentPolicy(self.world.observation + outputs + 2, hidden, outputs, log_std=log_std)

    @property
    @override
    def traits(self) -> Traits:
        return Traits(
            targets=("real",),
            incremental=True,
            order_invariant=False,
            exact_meta_gradient=False,
            together=True,
            whole_step=True,
        )

    # --- what AbstractAgent asks for ------------------------------------------------------------------

    @override
    def batches(self, tasks: Examples) -> Iterator[Examples]:
        """Of each batch only what is run."""
        return (rows.rows(slice(0, self.used)) for rows in super().batches(tasks))

    @override
    def begin(self, n_task: int) -> Memory:
        like = self.policy.log_std
        return Memory(
            like.new_zeros(n_task, self.policy.hidden),
            like.new_zeros(n_task, self.actions + 1),
            (),
            like.new_zeros(n_task),
        )

    @override
    def adapt(self, support: Examples, *, state: Memory | None = None, key: Keys | None = None) -> Memory:
        """See :class:`AbstractAgent`; trajectories to be run are run one after the other."""
        return super().adapt(support, state=state, key=key)  # type: ignore[no-any-return]

    @override
    @torch.no_grad()
    def learn(self, state: Memory, trajectories: Examples, key: Keys) -> Memory:
        del key
        hidden, last = state.hidden, state.last
        for row in range(trajectories.n_example):
            _, hidden, last = self._through(self.policy.weights(), trajectories.rows(slice(row, row + 1)), hidden, last)
        taken = state.taken + leaf(trajectories, "alive").sum((1, 2))
        return Memory(hidden, last, (*state.earlier, (state.hidden, state.last)), taken)

    @override
    def play(self, state: Memory, tasks: Examples, key: Keys) -> Examples:
        acting = _Acting(self, state, tasks.n_example)
        return collect(self.world, acting, tasks, key, heard=acting.heard)

    @override
    def act(self, state: Memory, obs: Tensor) -> Tensor:
        """For the first step of a trajectory; later ones depend on what happened on it."""
        mean, log_std = _Acting(self, state, obs.shape[1])(obs)
        return torch.cat([mean, log_std.expand_as(mean)], -1)

    @override
    def stages(self, state: Memory) -> list[Memory]:
        memories = (*state.earlier, (state.hidden, state.last))
        return [replace(state, hidden=hidden, last=last, earlier=()) for hidden, last in memories]

    @override
    def taken(self, state: Memory) -> Tensor:
        return state.taken

    # --- sequences -----------------------------------------------------------------------------------------

    def _through(
        self, params: Params, played: Examples, hidden: Tensor, last: Tensor
    ) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """Read trajectories ``[T, N, H, ...]`` from memories ``[T(, N), ...]``, each row from one of its own.

        Returns:
            (Means ``[T, N, H, A]``, logarithms of deviations), and the memories after, shaped as before.
        """
        obs, action, reward, alive = (leaf(played, name) for name in ("obs", "action", "reward", "alive"))
        (n_task, n), shape = obs.shape[:2], hidden.shape
        before = last.view(n_task, -1, 1, self.actions + 1).expand(-1, n, -1, -1)
        did = torch.cat([action, reward[..., None]], 3).to(before)
        told = torch.cat([before, did[:, :, :-1]], 2)
        begins = torch.zeros_like(told[..., :1])
        begins[:, :, 0] = 1
        x = torch.cat([obs.to(told), told, begins], 3).flatten(0, 1)
        memory = hidden.view(n_task, -1, shape[-1]).expand(-1, n, -1).flatten(0, 1)
        mean, log_std, memory = self.policy.run(params, x, memory, alive.flatten(0, 1))
        at_end = (alive.sum(2) - 1).clamp(min=0)[..., None, None].expand(-1, -1, 1, self.actions + 1)
        after = did.gather(2, at_end)
        return (mean.view(n_task, n, -1, self.actions), log_std), memory.view(shape), after.view(last.shape)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """Trials, then PPO; logs ``return_before`` and ``return``, of the first and the last trajectory of a trial."""
        self.check_training(episode)
        keys, n = Keys.default(episode.n_task) if key is None else key, episode.query.n_example
        if episode.support.n_example != n * max(self.episodes - 1, 1):
            raise InputError(
                f"RL2 trains on trials of {self.episodes} trajectories, {n} side by side, which takes a shot of "
                f"{n * max(self.episodes - 1, 1)}, received {episode.support.n_example}."
            )
        parts = [episode.support.rows(slice(n * e, n * e + n)) for e in range(self.episodes - 1)] + [episode.query]
        trial = self._trial(parts, keys, n)
        theta = self._improved(trial)
        whole = sum((p * (p.detach() - theta[name])).sum() for name, p in self.policy.weights().items())
        assert isinstance(whole, Tensor)
        earned = [returns(played).mean(1).float() for played in trial]
        return MetaLoss(whole.expand(episode.n_task), {"return_before": earned[0], "return": earned[-1]})

    @torch.no_grad()
    def _trial(self, parts: list[Examples], keys: Keys, n: int) -> list[Examples]:
        """Trajectories in a row, N trials of each task side by side."""
        blank, found = self.begin(len(keys)), list[Examples]()
        hidden, last = (m[:, None].expand(-1, n, -1).contiguous() for m in (blank.hidden, blank.last))
        for number, rows in enumerate(parts):
            played = self.play(replace(blank, hidden=hidden, last=last), rows, keys.fold("trial", number))
            found.append(played)
            _, hidden, last = self._through(self.policy.weights(), played, hidden, last)
        return found

    def _improved(self, trial: list[Examples]) -> Params:
        """θ after the steps of PPO."""
        names = ("obs", "action", "reward", "alive", "log_prob")
        obs, action, reward, alive, old = (torch.cat([leaf(p, name) for p in trial], 2) for name in names)
        gain = advantages(obs, reward, alive, discount=self.discount, gae_lambda=self.gae_lambda)
        adam, params = Adam(self.outer_lr), {name: p.detach().clone() for name, p in self.policy.weights().items()}
        memory = adam.init({name: p[None] for name, p in params.items()})
        for _ in range(self.epochs):
            params = {name: p.detach().requires_grad_() for name, p in params.items()}
            with torch.enable_grad():
                objective = clipped(self._log_prob(params, trial, action), old, gain, alive, clip=self.clip)
                slopes = torch.autograd.grad(-objective.mean(), tuple(params.values()))
            with torch.no_grad():
                one = {name: p[None] for name, p in params.items()}
                one, memory = adam.update(one, {n: g[None] for n, g in zip(params, slopes, strict=True)}, memory)
                params = {name: p[0] for name, p in one.items()}
        return params

    def _log_prob(self, params: Params, trial: list[Examples], action: Tensor) -> Tensor:
        n_task, n = action.shape[:2]
        blank, means = self.begin(n_task), list[Tensor]()
        hidden, last = (m[:, None].expand(-1, n, -1).contiguous() for m in (blank.hidden, blank.last))
        log_std = params["log_std"]
        for played in trial:
            (mean, log_std), hidden, last = self._through(params, played, hidden, last)
            means.append(mean)
        return log_likelihood(torch.cat(means, 2), log_std, action)


class _Acting:
    """The policy on trajectories that are under way, each with its own memory."""

    def __init__(self, learner: RL2, state: Memory, n: int) -> None:
        self.learner = learner
        n_task = len(state.hidden)
        self.hidden, self.last = (m.view(n_task, -1, m.shape[-1]).expand(-1, n, -1) for m in (state.hidden, state.last))
        self.begins, self.going = True, torch.ones(n_task, n, dtype=torch.bool, device=state.hidden.device)

    def __call__(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        (n_task, n), policy = obs.shape[:2], self.learner.policy
        begins = torch.full_like(self.last[..., :1], float(self.begins))
        x = torch.cat([obs.to(self.last), self.last, begins], 2).flatten(0, 1)[:, None]
        going = self.going.flatten()[:, None]
        mean, log_std, hidden = policy.run(policy.weights(), x, self.hidden.flatten(0, 1), going)
        self.hidden = hidden.view(n_task, n, -1)
        return mean.view(n_task, n, -1), log_std

    def heard(self, action: Tensor, reward: Tensor, going: Tensor) -> None:
        """What came of the last step."""
        self.last, self.begins, self.going = torch.cat([action, reward[..., None].to(action)], 2), False, going
