"""Reptile for reinforcement learning."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from quickstudy.episode import Episode
from quickstudy.keys import Keys
from quickstudy.learners.learner import MetaLoss, Traits
from quickstudy.learners.parts.policygradient import AbstractPolicyGradient
from quickstudy.learners.parts.rollouts import returns


class ReptileRL(AbstractPolicyGradient):
    """Move a policy towards where a few steps of policy gradient end.

    A. Nichol, J. Achiam, J. Schulman, "On first-order meta-learning algorithms", 2018, with policy gradients inside.

    adapt:      run the policy, φ = φ + α ∇J(φ), once for each ``trajectories`` of the support's trajectories
    outer step: θ <- θ + ε (φ - θ), averaged over tasks; ε is the outer SGD's rate

    The step is written as a loss, Σ θ·(θ - φ) with the bracket held fixed, whose gradient is θ - φ. Every trajectory of
    an episode is learned from, the support's as well as the query's.

    When to choose it: second derivatives are too dear, and several steps a task can be paid for: with a single step it
    is a policy gradient over all tasks.

    Deviations: the paper has no reinforcement learning; its authors report that it did not work there.

    Args:
        net: the network below the policy's means.
        outputs: numbers of an action.
        environment: where it acts.
        trajectories: of the support, that each step learns from.
        inner_lr: α.
        later_lr: α after the first step; as in the first by default.
        estimator: ``"lvc"`` or ``"dice"``, which have the same first derivative.
        discount: γ.
        gae_lambda: λ of the advantages.
        log_std: logarithm of the actions' deviations at the start.
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together.
    """

    @property
    @override
    def traits(self) -> Traits:
        return Traits(targets=("real",), incremental=True, exact_meta_gradient=False)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The surrogate whose gradient is θ - φ; logs ``return_before`` and ``return``, of the first and last batch."""
        self.check_training(episode)
        keys = Keys.default(episode.n_task) if key is None else key
        state, earned = self.begin(episode.n_task), list[Tensor]()
        for number, rows in enumerate([*self.batches(episode.support), *self.batches(episode.query)]):
            played = self.play(state, rows, keys.fold("support", number))
            earned.append(returns(played).mean(1).float())
            state = self.learn(state, played, keys)
        start = self.policy.start(self.policy.weights(), episode.n_task)
        loss = sum((p * (p.detach() - state.params[name])).flatten(1).sum(1) for name, p in start.items())
        assert isinstance(loss, Tensor)
        return MetaLoss(loss, {"return_before": earned[0], "return": earned[-1]})
