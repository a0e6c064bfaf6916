"""MAML for reinforcement learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode
from quickstudy.errors import InputError
from quickstudy.inner import Adam, Params
from quickstudy.keys import Keys
from quickstudy.learners.learner import MetaLoss, Traits
from quickstudy.learners.parts.options import one_of
from quickstudy.learners.parts.policygradient import AbstractPolicyGradient, Weighed
from quickstudy.learners.parts.rollouts import log_likelihood, returns
from quickstudy.learners.parts.surrogates import Estimator, clipped, surrogate
from quickstudy.learners.parts.trustregion import TrustRegion
from quickstudy.nets.apply import Strategy


class MAMLRL(AbstractPolicyGradient):
    """Learn a policy that a few steps of policy gradient make a good one for the task at hand.

    C. Finn, P. Abbeel, S. Levine, "Model-agnostic meta-learning for fast adaptation of deep networks", ICML 2017,
    section 5.3; J. Rothfuss, D. Lee, I. Clavera, T. Asfour, P. Abbeel, "ProMP: proximal meta-policy search", ICLR 2019.

    adapt:      run the policy, φ = φ + α ∇J(φ), once for each ``trajectories`` of the support's trajectories
    predict:    the policy under φ
    meta-step:  run the policy under φ; increase what it earns as a function of θ, through the steps

    The outer step by a trust region is written as a loss, Σ θ·(θ - θ') with the bracket held fixed, whose gradient is
    the step itself: the outer optimiser has to be ``"sgd"`` with the rate 1. ``outer="gradient"`` hands the
    meta-gradient to the outer optimiser as other learners do.

    When to choose it: a policy must get better by trying a few times, and it is acceptable that the first tries are no
    good. Where what differs can be read off a few steps (a velocity, a broken part), a memory or a model of the
    dynamics needs less experience.

    Deviations: the steps' surrogate weighs actions by their probability ratio (``"lvc"``, ``"dice"``), where the
    authors' code takes log-likelihoods, which has the same first derivative; ``metric="first-order"`` measures
    curvature as if θ moved φ one to one, while the line search measures the true divergence.

    Args:
        net: the network below the policy's means.
        outputs: numbers of an action.
        environment: where it acts.
        inner_steps: steps of adaptation in meta-training. 0: a policy trained over all tasks as they come, which is
            what plain pretraining is here; the support is not used then.
        trajectories: of the support, that each step learns from.
        inner_lr: α.
        later_lr: α after the first step; as in the first by default.
        estimator: ``"lvc"`` (low variance) or ``"dice"`` (unbiased second derivatives).
        outer: ``"trpo"``, ``"ppo"`` or ``"gradient"``.
        max_kl: how far ``"trpo"`` may move the adapted policies at once.
        cg_steps: of its conjugate gradients.
        metric: of its curvature, ``"exact"``: through the steps, or ``"first-order"``.
        curvature_share: of the trajectories that curvature is measured on.
        epochs: of ``"ppo"``: steps of Adam on the same trajectories.
        outer_lr: their rate.
        clip: of the probability ratio.
        discount: γ.
        gae_lambda: λ of the advantages.
        log_std: logarithm of the actions' deviations at the start.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together.
    """

    def __init__(
        self,
        net: nn.Module,
        outputs: int,
        environment: Mapping[str, Any],
        *,
        inner_steps: int = 1,
        trajectories: int = 20,
        inner_lr: float = 0.1,
        later_lr: float | None = None,
        estimator: Estimator = "lvc",
        outer: Literal["trpo", "ppo", "gradient"] = "trpo",
        max_kl: float = 0.01,
        cg_steps: int = 10,
        metric: Literal["exact", "first-order"] = "exact",
        curvature_share: float = 1.0,
        epochs: int = 5,
        outer_lr: float = 1e-3,
        clip: float = 0.3,
        discount: float = 0.99,
        gae_lambda: float = 1.0,
        log_std: float = 0.0,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__(
            net,
            outputs,
            environment,
            trajectories=trajectories,
            inner_lr=inner_lr,
            later_lr=later_lr,
            estimator=estimator,
            discount=discount,
            gae_lambda=gae_lambda,
            log_std=log_std,
            out_features=out_features,
            strategy=strategy,
        )
        one_of("MAMLRL", "outer", outer, ("trpo", "ppo", "gradient"))
        one_of("MAMLRL", "metric", metric, ("exact", "first-order"))
        if inner_steps < 0 or epochs < 1 or cg_steps < 1 or not 0 < curvature_share <= 1 or max_kl <= 0:
            raise InputError(
                "MAMLRL needs inner_steps of at least 0, epochs and cg_steps of at least 1, max_kl above 0 and "
                f"curvature_share in 0 .. 1, received {inner_steps}, {epochs}, {cg_steps}, {max_kl} and "
                f"{curvature_share}."
            )
        self.inner_steps, self.outer, self.metric = inner_steps, outer, metric
        self.region = TrustRegion(max_kl, cg_steps)
        self.curvature_share, self.epochs, self.outer_lr, self.clip = curvature_share, epochs, outer_lr, clip

    @property
    @override
    def traits(self) -> Traits:
        plain = self.outer == "gradient"
        return Traits(
            targets=("real",),
            incremental=True,
            exact_meta_gradient=plain,
            together=not plain,
            whole_step=not plain,
        )

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """Run each task before and after adapting; logs ``return_before`` and ``return``."""
        self.check_training(episode)
        keys = Keys.default(episode.n_task) if key is None else key
        state, tried, before = self.begin(episode.n_task), list[Weighed](), None
        for number, rows in enumerate(self._supports(episode)):
            played = self.play(state, rows, keys.fold("support", number))
            before = returns(played).mean(1) if before is None else before
            tried.append(self.weigh(played))
            state = self.learn(state, played, keys)
        played = self.play(state, episode.query, keys.fold("query"))
        earned = returns(played).mean(1)
        logs = {"return": earned, "return_before": earned if before is None else before}
        meta = _MetaStep(self, tried, self.weigh(played), state.params)
        if self.outer == "gradient":
            return MetaLoss(-meta.judge(self.policy.weights())[0], logs)
        theta = {name: p.detach() for name, p in self.policy.weights().items()}
        if self.outer == "trpo":
            new, share = self.region.step(theta, meta.judge, meta.moved)
            logs["step_share"] = torch.full_like(earned, share)
        else:
            new = meta.climbed(theta)
        return MetaLoss(self._towards(new, episode.n_task), {name: v.float().detach() for name, v in logs.items()})

    def _supports(self, episode: Episode) -> list[Any]:
        if not self.inner_steps:
            return []
        found = list(self.batches(episode.support))
        if len(found) != self.inner_steps:
            raise InputError(
                f"MAMLRL makes {self.inner_steps} steps of {self.trajectories} trajectories in training, which takes a "
                f"shot of {self.inner_steps * self.trajectories}, received {episode.support.n_example}."
            )
        return found

    def _towards(self, new: Params, n_task: int) -> Tensor:
        """A loss ``[T]`` whose gradient is θ - θ'."""
        weights = self.policy.weights()
        whole = sum((p * (p.detach() - new[name])).sum() for name, p in weights.items())
        assert isinstance(whole, Tensor)
        return whole.expand(n_task)


class _MetaStep:
    """One meta-step's trajectories as functions of θ."""

    def __init__(self, learner: MAMLRL, tried: list[Weighed], played: Weighed, adapted: Params) -> None:
        self.learner, self.tried, self.played = learner, tried, played
        self.n_task = len(played.obs)
        with torch.no_grad():
            self.old = learner.policy.run(adapted, played.obs)
            start = learner.policy.start(learner.policy.weights(), self.n_task)
            self.by = {name: p - start[name] for name, p in adapted.items()}  # how far adapting moved each task
        assert played.log_prob is not None
        self.old_log_prob: Tensor = played.log_prob

    def adapted(self, theta: Params) -> Params:
        """φ(θ), ``[T, ...]``, from the trajectories that were run."""
        params, graph = self.learner.policy.start(theta, self.n_task), torch.is_grad_enabled()
        with torch.enable_grad():
            if not graph:
                params = {name: p.detach().requires_grad_() for name, p in params.items()}
            for number, seen in enumerate(self.tried):
                params = self.learner.ascend(params, seen, number, create_graph=graph)
        return params

    def judge(self, theta: Params) -> tuple[Tensor, Tensor]:
        """The surrogate of what is earned after adapting, and how far the adapted policies moved, ``[T]`` each."""
        return self._judge(self.adapted(theta))

    def _judge(self, params: Params) -> tuple[Tensor, Tensor]:
        mean, log_std = self.learner.policy.run(params, self.played.obs)
        log_prob = log_likelihood(mean, log_std, self.played.action)
        gain = surrogate(log_prob, self.old_log_prob, self.played.advantage, self.played.alive, estimator="lvc")
        return gain, divergence(self.old, (mean, log_std), self.played.alive)

    def moved(self, theta: Params) -> Tensor:
        """The divergence for the curvature."""
        part = self._part()
        if self.learner.metric == "exact":
            return part.judge(theta)[1]
        start = self.learner.policy.start(theta, self.n_task)
        return part._judge({name: p + self.by[name] for name, p in start.items()})[1]

    def _part(self) -> _MetaStep:
        """The same with a share of the trajectories."""
        share = self.learner.curvature_share
        if share == 1:
            return self
        part = object.__new__(_MetaStep)
        part.learner, part.n_task, part.by = self.learner, self.n_task, self.by
        part.tried = [_some(seen, share) for seen in self.tried]
        part.played = _some(self.played, share)
        part.old = (self.old[0][:, : part.played.obs.shape[1]], self.old[1])
        if self.learner.metric == "exact":
            # From fewer trajectories another φ comes: its own policy is what curvature is measured around.
            theta = {name: p.detach() for name, p in self.learner.policy.weights().items()}
            with torch.no_grad():
                part.old = self.learner.policy.run(part.adapted(theta), part.played.obs)
        part.old_log_prob = self.old_log_prob[:, : part.played.obs.shape[1]]
        return part

    def climbed(self, theta: Params) -> Params:
        """θ after the steps of PPO."""
        adam, params = Adam(self.learner.outer_lr), {name: p.clone() for name, p in theta.items()}
        memory = adam.init({name: p[None] for name, p in params.items()})
        for _ in range(self.learner.epochs):
            params = {name: p.detach().requires_grad_() for name, p in params.items()}
            with torch.enable_grad():
                mean, log_std = self.learner.policy.run(self.adapted(params), self.played.obs)
                log_prob = log_likelihood(mean, log_std, self.played.action)
                seen = self.played
                gain = clipped(log_prob, self.old_log_prob, seen.advantage, seen.alive, clip=self.learner.clip)
                slopes = torch.autograd.grad(-gain.mean(), tuple(params.values()))
            with torch.no_grad():
                one = {name: p[None] for name, p in params.items()}
                grads = {name: g[None] for name, g in zip(params, slopes, strict=True)}
                one, memory = adam.update(one, grads, memory)
                params = {name: p[0] for name, p in one.items()}
        return params


def divergence(old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], alive: Tensor) -> Tensor:
    """KL(old || new) of normal distributions, averaged over each task's steps, ``[T]``."""
    (mean_0, log_0), (mean_1, log_1) = old, new
    far = (mean_1 - mean_0).square() + (2 * log_0).exp()
    each = (log_1 - log_0 + 0.5 * far * (-2 * log_1).exp() - 0.5).sum(-1)
    return torch.where(alive, each, 0.0).sum((1, 2)) / alive.sum((1, 2)).clamp(min=1)


def _some(seen: Weighed, share: float) -> Weighed:
    n = max(1, round(share * seen.obs.shape[1]))
    first = slice(0, n)
    known = None if seen.log_prob is None else seen.log_prob[:, first]
    return Weighed(seen.obs[:, first], seen.action[:, first], seen.advantage[:, first], seen.alive[:, first], known)
