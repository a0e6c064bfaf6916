"""Floor 3: a classifier trained by descent on the features of a support set, the network left as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from torch import Tensor

from quickstudy.episode import Examples
from quickstudy.errors import InputError
from quickstudy.inner import Params, Sgd, TaskLosses, optimize
from quickstudy.keys import Keys
from quickstudy.learners.learner import task_loss
from quickstudy.learners.parts.classwise import mask_absent
from quickstudy.learners.parts.minibatches import minibatches

Logits: TypeAlias = Callable[[Params, Tensor], Tensor]
"""(weights ``[T, ...]``, features ``[T, N, D]``) -> ``[T, N, W]``."""


@dataclass(frozen=True)
class HeadTraining:
    """SGD with momentum on minibatches of the support.

    Args:
        steps: minibatches.
        lr: the rate.
        batch: rows a minibatch; None: the whole support.
        momentum: also the dampening, so that a step is as long as without it.
        weight_decay: of the classifier's weights.

    Raises:
        InputError: a number out of its range.
    """

    steps: int
    lr: float
    batch: int | None
    momentum: float
    weight_decay: float

    def __post_init__(self) -> None:
        if self.steps < 0 or not 0 < self.lr < inf:
            raise InputError(
                f"The classifier of a task needs steps of at least 0 and a rate above 0, received steps={self.steps} "
                f"and lr={self.lr}."
            )
        if self.batch is not None and self.batch < 1:
            raise InputError(
                f"The classifier of a task needs minibatches of at least 1 row, received batch={self.batch}. "
                "None takes the whole support."
            )
        if not 0 <= self.momentum < 1 or not 0 <= self.weight_decay < inf:
            raise InputError(
                "The classifier of a task needs a momentum of at least 0 and below 1 and a weight decay of at least 0, "
                f"received momentum={self.momentum} and weight_decay={self.weight_decay}."
            )

    def run(self, logits: Logits, start: Params, known: Examples, key: Keys | None) -> Params:
        """The classifier's weights for each task after training from ``start``.

        Args:
            logits: how the classifier answers.
            start: name -> ``[T, ...]``.
            known: labelled features ``[T, Ns, D]``.
            key: of the minibatches; a fixed one by default.
        """
        if not self.steps:
            return start
        keys = (Keys.default(known.n_task) if key is None else key).fold("minibatches")
        losses = [_loss(logits, part) for part in minibatches(known, self.batch, self.steps, keys)]
        optimizer = Sgd(self.lr, self.momentum, self.momentum, weight_decay=self.weight_decay)
        return optimize(losses, start, optimizer)[0]


def _loss(logits: Logits, part: Examples) -> TaskLosses:
    assert isinstance(part.x, Tensor)
    features = part.x
    return lambda params: task_loss(mask_absent(logits(params, features), part), part)
