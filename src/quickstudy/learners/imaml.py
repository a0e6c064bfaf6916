"""Implicit MAML."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.inner import MatVec, Params, Sgd, cg, implicit, newton_cg, optimize
from quickstudy.keys import Keys
from quickstudy.learners.learner import AbstractLearner, MetaLoss, Traits, check_episode, check_support, task_logs
from quickstudy.learners.parts.headed import Head, HeadedNet, Part, TargetKind, check_norms, default_norm, losses_on
from quickstudy.learners.parts.innerloop import (
    FastWeights,
    begin,
    check_shared_head,
    gradient_traits,
    predict_with,
)
from quickstudy.learners.parts.options import one_of
from quickstudy.nets.apply import Strategy


class IMAML(AbstractLearner):
    """Solve each task near the initialisation, and differentiate the solution instead of the steps to it.

    A. Rajeswaran, C. Finn, S. Kakade, S. Levine, "Meta-learning with implicit gradients", NeurIPS 2019.

    adapt:      φ* = argmin_φ L_support(φ) + λ/2 |φ - θ|², by gradient descent or Hessian-free Newton steps
    predict:    the network under φ*
    meta-loss:  L_query(φ*); its gradient is (I + H/λ)^-1 ∇L_query(φ*), H the Hessian of L_support at φ*, found by a
                few steps of conjugate gradients

    Unlike MAML the meta-gradient does not depend on the path to φ*, and no step is remembered: memory does not grow
    with the inner steps. It is exact only at the minimum; MAML's is exact wherever its steps end.

    When to choose it: for many inner steps, or an inner solver that cannot be differentiated.

    The steps must come near φ*. Those of ``"gd"`` do where ``inner_lr`` times the curvature of the regularised loss
    stays below 2, and no part of the implicit gradient keeps the curvature small. Where the logged ``support_loss``,
    which is that at φ*, climbs in training, they have begun to diverge: take a smaller ``inner_lr`` or a smaller outer
    rate, or ``"newton"``, which never goes uphill.

    Deviations: the inner steps descend the regularised loss, as in the paper; the authors' code descends the support
    loss alone and takes one step towards θ at the end. Both dampings are their code's (1 and 10 there, which leaves
    little of H) and not the paper's. Conjugate gradients end for a task where the matrix bends downwards. λ is one
    number and is not learned.

    Inductive by default, with TaskNorm-I; published figures are *transductive*, which is an option.

    Args:
        net: the network; see ``head`` for what it must output.
        outputs: the way, or the dimension of real targets.
        target: ``"classes"``, ``"multi-label"`` or ``"real"``.
        strength: λ in meta-training.
        test_strength: λ in ``adapt`` (meta-testing), 0 in the authors' protocol.
        solver: ``"gd"`` (gradient descent) or ``"newton"`` (Newton steps by conjugate gradients, with a line search).
        inner_steps: steps of it in meta-training.
        test_inner_steps: steps in ``adapt``; ``inner_steps`` by default.
        inner_lr: the rate of ``"gd"``.
        cg_steps: conjugate gradient steps, for the meta-gradient and in each Newton step.
        cg_damping: times I, added to I + H/λ in the meta-gradient; shrinks it and steadies it where H bends downwards.
        strength_damping: added to the λ that divides H there.
        head: ``"fixed"``, ``"shared"``, ``"proto"`` or ``"none"``; see ``learners.parts.headed``.
        part: what is adapted; see ``learners.parts.headed``.
        rank: of ``part="lora"``.
        transductive: queries normalised together, as published; needs a network with norm="transductive".
        out_features: the network's feature size, where it does not say.
        strategy: how the network is run; see ``nets.apply``.

    Raises:
        InputError: options that do not fit together, or a network with running batch statistics.

    >>> from quickstudy.nets import MLP
    >>> IMAML(MLP(4), outputs=5).traits.exact_meta_gradient
    False
    """

    def __init__(
        self,
        net: nn.Module,
        outputs: int | None = None,
        target: TargetKind = "classes",
        *,
        strength: float = 2.0,
        test_strength: float = 0.0,
        solver: Literal["gd", "newton"] = "gd",
        inner_steps: int = 16,
        test_inner_steps: int | None = None,
        inner_lr: float = 0.1,
        cg_steps: int = 5,
        cg_damping: float = 0.0,
        strength_damping: float = 0.0,
        head: Head = "fixed",
        part: Part = "all",
        rank: int = 4,
        transductive: bool = False,
        out_features: int | None = None,
        strategy: Strategy = "auto",
    ) -> None:
        super().__init__()
        check_norms(net, transductive=transductive)
        self.inner_steps = inner_steps
        self.test_inner_steps = inner_steps if test_inner_steps is None else test_inner_steps
        self.strength, self.test_strength, self.solver, self.inner_lr = strength, test_strength, solver, inner_lr
        self.cg_steps, self.cg_damping, self.strength_damping = cg_steps, cg_damping, strength_damping
        self._check()
        self.model = HeadedNet(
            net, outputs, target, head, part=part, rank=rank, out_features=out_features, strategy=strategy
        )
        check_shared_head(self.model, min(self.inner_steps, self.test_inner_steps))
        self.transductive = transductive

    default_norm = staticmethod(default_norm)

    def _check(self) -> None:
        one_of("iMAML", "solver", self.solver, ("gd", "newton"))
        if not self.strength > 0 or not self.test_strength >= 0:
            raise InputError(
                "iMAML needs a strength above 0 in training (without it the solution forgets where it began) and at "
                f"least 0 in testing, received {self.strength} and {self.test_strength}."
            )
        dampings = (self.cg_damping, self.strength_damping)
        numbers = (self.inner_steps, self.test_inner_steps, self.inner_lr, *dampings)
        if not all(number >= 0 for number in numbers) or self.cg_steps < 1:
            raise InputError(
                "iMAML needs steps, rate and damping of at least 0 and cg_steps of at least 1, received inner_steps="
                f"{self.inner_steps}, test_inner_steps={self.test_inner_steps}, inner_lr={self.inner_lr}, "
                f"cg_damping={self.cg_damping}, strength_damping={self.strength_damping}, cg_steps={self.cg_steps}."
            )
        steepest = self.inner_lr * max(self.strength, self.test_strength)
        if self.solver == "gd" and steepest >= 2:
            raise InputError(
                f"Gradient descent with inner_lr * strength = {steepest:g} diverges from 2 on. Use a smaller inner_lr, "
                "or solver='newton'."
            )

    @property
    @override
    def traits(self) -> Traits:
        return gradient_traits(self.model, transductive=self.transductive, exact=False)

    @override
    def adapt(self, support: Examples, *, state: FastWeights | None = None, key: Keys | None = None) -> FastWeights:
        check_support(support, state)
        del key
        with torch.no_grad():
            centre = self.model.start(support)
            first = begin(self.model, support, state, self.test_inner_steps)
            if any(p.shape != centre[name].shape for name, p in first.items()):
                raise InputError(
                    "iMAML goes on near θ, which has a row for each class of this support: other classes than the "
                    "state's. Give a support of the same classes, or adapt to all from the start."
                )
            params = self._solve(support, first, centre, self.test_inner_steps, self.test_strength)
            return FastWeights(params, self.model.support_moments(params, support))

    @override
    def predict(self, state: FastWeights, query: Examples, *, key: Keys | None = None) -> Tensor:
        del key
        return predict_with(self.model, state, query)

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        """The query loss of the solution; its gradient is the implicit one. Logs the support loss there as well."""
        del key
        check_episode(episode)
        support, query = episode.support, episode.query
        start = self.model.start(support)
        solution = self._solve(support, start, start, self.inner_steps, self.strength)
        losses = losses_on(self.model, self.loss, support)
        with torch.no_grad():
            reached = losses(solution)
        params = implicit(losses, solution, start, strength=self.strength, solver=self._solve_system)
        state = FastWeights(params, self.model.support_moments(params, support))
        outputs = self.model.run(state.params, query.unlabelled(), state.moments)[0]
        return MetaLoss(self.loss(outputs, query), task_logs(outputs, query) | {"support_loss": reached})

    def _solve(self, support: Examples, first: Params, centre: Params, steps: int, strength: float) -> Params:
        """φ*, or what the steps make of it; without a graph."""
        with torch.no_grad():
            losses = losses_on(self.model, self.loss, support)
        centre = {name: p.detach() for name, p in centre.items()}

        def objective(params: Params) -> Tensor:
            away = [(p - centre[name]).square().reshape(len(p), -1).sum(1) for name, p in params.items()]
            return losses(params) + strength / 2 * torch.stack(away).sum(0)

        if self.solver == "newton":
            return newton_cg(objective, first, steps=steps, cg_steps=self.cg_steps)
        return optimize([objective] * steps, first, Sgd(self.inner_lr))[0]

    def _solve_system(self, matvec: MatVec, b: Params) -> Params:
        """``(H + λ)^-1 b``, as ``(I + H/λ)^-1 b / λ``: where that bends downwards, b / λ is left, the first order."""
        divisor = self.strength + self.strength_damping
        rest = 1 - self.strength / divisor  # what of I is missing when H + λ is divided by more than λ

        def scaled(v: Params) -> Params:
            return {name: p / divisor + rest * v[name] for name, p in matvec(v).items()}

        found = cg(scaled, b, steps=self.cg_steps, damping=self.cg_damping)
        return {name: p / self.strength for name, p in found.x.items()}
