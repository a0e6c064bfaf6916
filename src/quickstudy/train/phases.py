"""Floor 4: what a run is trained on, and by which optimiser: plain labelled batches, tasks, or both in turn.

Steps are counted over all phases; what is drawn, the schedule and the optimiser begin anew in each, so that a run of
two phases equals two runs of one, the second from the weights of the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from quickstudy.data.batches import BatchSource
from quickstudy.data.source import TaskSource
from quickstudy.errors import InputError
from quickstudy.learners.learner import AbstractLearner
from quickstudy.train.schedules import Schedule, constant

PhaseName: TypeAlias = Literal["batches", "episodes"]
OptimizerName: TypeAlias = Literal["adam", "adamw", "sgd"]

_GIVE_BATCHES = "Give batches of the task source: source.batches(64)."
_ON = {"batches": "plain labelled batches", "episodes": "tasks"}


@dataclass(frozen=True)
class Pretraining:
    """A first phase on plain labelled batches.

    Args:
        source: where batches come from, such as ``tasks.batches(64)``.
        steps: batches.
        optimizer: ``"adam"``, ``"adamw"`` or ``"sgd"``.
        lr: its rate, before the schedule.
        schedule: see ``train.schedules``; constant by default.
        weight_decay: the optimiser's; None: its own default.
        momentum: of ``"sgd"``.
    """

    source: BatchSource
    steps: int
    optimizer: OptimizerName = "adam"
    lr: float = 1e-3
    schedule: Schedule | None = None
    weight_decay: float | None = None
    momentum: float = 0.0


@dataclass(frozen=True)
class Phase:
    """A part of a run.

    Args:
        name: what it is trained on.
        number: which of the learner's ``traits.phases`` it is.
        source: where that comes from.
        first: steps of the run before it.
        steps: its own steps.
        optimizer: its name.
        lr: its rate, before the schedule.
        schedule: counts the phase's own steps.
        weight_decay: the optimiser's; None: its own default.
        momentum: of ``"sgd"``.
    """

    name: PhaseName
    number: int
    source: TaskSource | BatchSource
    first: int
    steps: int
    optimizer: OptimizerName
    lr: float
    schedule: Schedule
    weight_decay: float | None = None
    momentum: float = 0.0

    def rate(self, done: int) -> float:
        """The learning rate of the step after ``done`` steps of the run."""
        return self.lr * self.schedule(done - self.first, self.steps)

    def build_optimizer(self, learner: nn.Module) -> torch.optim.Optimizer:
        """A fresh optimiser over everything that is not frozen.

        Raises:
            InputError: no such optimiser, momentum with another one than SGD, or everything is frozen.
        """
        kinds: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
        if self.optimizer not in kinds:
            raise InputError(f"There is no optimiser called {self.optimizer!r}. Known: {', '.join(sorted(kinds))}.")
        if self.momentum and self.optimizer != "sgd":
            raise InputError(
                f"Momentum {self.momentum} is an option of the optimiser 'sgd'; {self.optimizer!r} has its own. "
                "Leave it out."
            )
        trained = [p for p in learner.parameters() if p.requires_grad]
        if not trained:
            raise InputError(f"Every parameter of {type(learner).__name__} is frozen: there is nothing to train.")
        options = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        if self.optimizer == "sgd":
            options["momentum"] = self.momentum
        built: torch.optim.Optimizer = kinds[self.optimizer](trained, lr=self.lr, **options)
        return built


def plan(
    learner: AbstractLearner, source: TaskSource | BatchSource, pretrain: Pretraining | None, main: dict[str, Any]
) -> list[Phase]:
    """The phases of a run, checked against what the learner can be trained on.

    Args:
        learner: what is trained.
        source: of the last phase.
        pretrain: the phase before it.
        main: steps (0: there is only the phase before), optimiser, rate, schedule, weight decay and momentum of the
            last phase.

    Raises:
        InputError: the learner is not trained on that, or not in this order.
    """
    name: PhaseName = "batches" if isinstance(source, BatchSource) else "episodes"
    known = learner.traits.phases
    if name not in known:
        way_out = _GIVE_BATCHES if name == "episodes" else "Give the task source itself."
        raise InputError(f"{type(learner).__name__} is trained on {_ON[known[-1]]}, not on {_ON[name]}. {way_out}")
    if pretrain is not None and known != ("batches", name):
        raise InputError(f"{type(learner).__name__} is trained in one phase, on {_ON[name]}. Leave pretrain out.")
    if pretrain is None and known == ("batches", "batches"):
        raise InputError(
            f"{type(learner).__name__} is trained twice on plain labelled batches, the second time on what it learned "
            "in the first. Say by pretrain how the first is done."
        )
    phases = []
    if pretrain is not None:
        if not isinstance(pretrain.source, BatchSource):
            raise InputError(
                f"pretrain.source must be batches, received {type(pretrain.source).__name__}. {_GIVE_BATCHES}"
            )
        if pretrain.steps < 1:
            raise InputError(f"pretrain.steps must be a whole number of at least 1, received {pretrain.steps}.")
        given = {name: getattr(pretrain, name) for name in ("steps", "optimizer", "lr", "weight_decay", "momentum")}
        phases.append(Phase("batches", 0, pretrain.source, 0, schedule=pretrain.schedule or constant(), **given))
    first = 0 if pretrain is None else pretrain.steps
    number = len(known) - 1 if pretrain is not None else known.index(name)
    last = Phase(name, number, source, first, **main)
    return [*phases, last] if last.steps or not phases else phases
