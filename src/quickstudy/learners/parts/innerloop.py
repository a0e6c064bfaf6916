"""Floor 3: gradient steps on the support, and the query loss after them; what the kin of MAML share.

Each of them is a :class:`HeadedNet` (which weights exist, which of them are φ), an :class:`InnerLoop` (how many
steps, how long, of which order) and, where its paper has one, an ``update`` of its own (learned rates, curvature).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from quickstudy.episode import Episode, Examples, Real
from quickstudy.errors import InputError
from quickstudy.inner import Params, StepLosses, Update, adjoint, checkpointed, plain_step, trajectory
from quickstudy.inner.chained import descend_chain
from quickstudy.inner.descent import PlainStep
from quickstudy.learners.learner import (
    AbstractLearner,
    MetaLoss,
    Traits,
    check_episode,
    check_query,
    check_support,
    task_logs,
)
from quickstudy.learners.parts.headed import HeadedNet, losses_on
from quickstudy.learners.parts.options import one_of
from quickstudy.nets.norms import Moments

Loss = Callable[[Tensor, Examples], Tensor]
Memory: TypeAlias = Literal["unrolled", "checkpointed", "adjoint"]


@dataclass(frozen=True, eq=False)
class FastWeights:
    """What a task taught a gradient-based learner.

    Args:
        params: φ, name -> ``[T, ...]``.
        moments: norm moments of the support under φ, or None.
    """

    params: Params
    moments: Moments | None


@dataclass
class InnerLoop:
    """How a gradient-based learner descends on a support set.

    Args:
        steps: in meta-training.
        lr: the rate there.
        test_steps: in ``adapt`` (meta-testing).
        test_lr: the rate there.
        first_order: each step's gradient held constant in the outer derivative.
        memory: ``"unrolled"`` keeps the activations of every step for the outer derivative; ``"checkpointed"`` and
            ``"adjoint"`` compute each step once more, so that no activations pile up with the steps, the one with the
            graph of unrolling, the other without any.
    """

    steps: int
    lr: float
    test_steps: int
    test_lr: float
    first_order: bool = False
    memory: Memory = "unrolled"

    @classmethod
    def checked(
        cls,
        steps: int,
        lr: float,
        test_steps: int | None,
        test_lr: float | None,
        *,
        first_order: bool = False,
        memory: Memory = "unrolled",
    ) -> InnerLoop:
        """An inner loop from a constructor's options: what is None in testing is as in training.

        Raises:
            InputError: a negative number of steps, a rate that is negative or no number, or no such memory.
        """
        test_steps, test_lr = steps if test_steps is None else test_steps, lr if test_lr is None else test_lr
        loop = cls(steps, lr, test_steps, test_lr, first_order, memory)
        if min(loop.steps, loop.test_steps) < 0:
            raise InputError(f"Inner steps cannot be negative, received {steps} and {test_steps}.")
        if not (0 <= loop.lr < inf and 0 <= loop.test_lr < inf):
            raise InputError(f"Inner learning rates must be numbers of at least 0, received {lr} and {test_lr}.")
        one_of("This learner", "memory", memory, get_args(Memory))
        return loop

    def adapt(
        self,
        model: HeadedNet,
        support: Examples,
        state: FastWeights | None,
        loss: Loss,
        update: Update | None = None,
        reads: Sequence[Tensor] = (),
    ) -> FastWeights:
        """φ for each task, by the steps of meta-testing, from θ or from an earlier state.

        Args:
            model: the network.
            support: ``[T, Ns, ...]``, labelled.
            state: where to go on from.
            loss: (outputs, examples) -> ``[T]``.
            update: what a step does; plain descent with ``test_lr`` by default.
            reads: what ``update`` reads, such as learned rates, where it is to have a gradient.
        """
        check_support(support, state)
        start = begin(model, support, state, self.test_steps)
        return self.run(model, support, start, loss, self.test_steps, update or plain_step(self.test_lr), reads)

    def meta_loss(
        self,
        model: HeadedNet,
        episode: Episode,
        loss: Loss,
        update: Update | None = None,
        reads: Sequence[Tensor] = (),
    ) -> MetaLoss:
        """The query loss after the steps of meta-training; arguments as in :meth:`adapt`."""
        check_episode(episode)
        support, query = episode.support, episode.query
        start = model.start(support)
        state = self.run(model, support, start, loss, self.steps, update or plain_step(self.lr), reads)
        outputs = model.run(state.params, query.unlabelled(), state.moments)[0]
        return MetaLoss(loss(outputs, query), task_logs(outputs, query))

    def run(
        self,
        model: HeadedNet,
        support: Examples,
        start: Params,
        loss: Loss,
        steps: int,
        update: Update,
        reads: Sequence[Tensor] = (),
    ) -> FastWeights:
        """φ after ``steps`` steps from ``start``, and the norm moments of the support under φ."""
        params = self._at_once(model, support, start, loss, steps, update)
        if params is not None:
            return FastWeights(params, None)
        features = model.features(support) if model.body_is_fixed else None
        losses = losses_on(model, loss, support, features)
        # Of a fixed body the steps read the features, which the outer derivative goes on from.
        reads = (*reads, *(model.parameters() if features is None else (features,)))
        path = self.path(lambda step, p: losses(p), start, steps, update, reads=reads)
        (params,) = deque(path, maxlen=1)  # without a graph, no earlier weights need be kept
        return FastWeights(params, model.support_moments(params, support))

    def path(
        self,
        losses: StepLosses,
        start: Params,
        steps: int,
        update: Update,
        *,
        reads: Sequence[Tensor],
        second_order: bool = True,
    ) -> Iterable[Params]:
        """φ before the first step and after each, kept for the outer derivative as ``memory`` says.

        Args:
            losses: (step, weights ``[T, ...]``) -> loss ``[T]``.
            start: name -> ``[T, ...]``.
            steps: how many.
            update: what a step does.
            reads: what else the steps read and is to have a gradient.
            second_order: False for one of first order, whatever the loop is.
        """
        second_order = second_order and not self.first_order
        if self.memory == "adjoint" and torch.is_grad_enabled():
            return adjoint(losses, start, steps=steps, update=update, second_order=second_order, reads=reads)
        method = checkpointed if self.memory == "checkpointed" else trajectory
        return method(losses, start, steps=steps, update=update, second_order=second_order)

    def _at_once(
        self, model: HeadedNet, support: Examples, start: Params, loss: Loss, steps: int, update: Update
    ) -> Params | None:
        """φ by one operator for all steps, where there is one for this loss and this network; else None."""
        usual = getattr(loss, "__func__", None) is AbstractLearner.loss and isinstance(support.target, Real)
        kept = self.memory == "unrolled" or not torch.is_grad_enabled()
        if not (usual and kept and steps and support.y is not None and isinstance(update, PlainStep)):
            return None
        chain = model.as_chain(start, support)
        if chain is None:
            return None
        x, layers = chain
        end = descend_chain(x, support.y, layers, steps=steps, lr=update.lr, second_order=not self.first_order)
        if end is None:
            return None
        # The layers are some order of the same tensors.
        found = {
            id(old): new for pair, after in zip(layers, end, strict=True) for old, new in zip(pair, after, strict=True)
        }
        return {name: found[id(p)] for name, p in start.items()}


def begin(model: HeadedNet, support: Examples, state: FastWeights | None, steps: int) -> Params:
    """Where ``adapt`` starts: θ for each task, or φ of an earlier state.

    Args:
        model: the network.
        support: ``[T, Ns, ...]``.
        state: the earlier state, if any.
        steps: that will be taken; without one, what is returned does not share θ's memory, which training changes.
    """
    if state is not None:
        model.check(support, state.params)
        return state.params
    start = model.start(support)
    return start if steps > 0 else {name: p.clone() for name, p in start.items()}


def predict_with(model: HeadedNet, state: FastWeights, query: Examples) -> Tensor:
    """Outputs of a network under each task's weights, ``[T, Nq, W or D]``."""
    check_query(query, state, model.room(state.params))
    return model.run(state.params, query, state.moments)[0]


def gradient_traits(model: HeadedNet, *, transductive: bool, exact: bool) -> Traits:
    """What a gradient-based learner with full-batch steps can do.

    Args:
        model: the network; its head decides whether any way can be learned.
        transductive: queries are normalised together.
        exact: the meta-gradient is the exact derivative of the query loss.
    """
    any_way = model.kind in ("shared", "proto")
    return Traits(
        targets=(model.target,),
        any_way=any_way,
        renames=any_way,
        transductive=transductive,
        exact_meta_gradient=exact,
    )


def check_shared_head(model: HeadedNet, steps: int) -> None:
    """A shared head needs a second step for the features to learn, if they do.

    Raises:
        InputError: it has fewer than two.
    """
    if model.kind == "shared" and steps < 2 and not model.body_is_fixed:
        raise InputError(
            f"head='shared' needs at least 2 inner steps, received {steps}: "
            "until the second all classes share one row. Use more steps, or head='proto'."
        )
