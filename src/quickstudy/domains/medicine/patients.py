"""Floor 5: figures of patients, not of tasks: tasks of one hospital ask for the same patients again and again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quickstudy.data.grouptasks import GroupTasks
from quickstudy.data.source import RowMoves
from quickstudy.episode import Episode
from quickstudy.evaluate import meta_test
from quickstudy.evaluate.calibration import Answers, Collector
from quickstudy.evaluate.intervals import row_ci95, row_effects
from quickstudy.learners.learner import AbstractLearner

__all__ = ["FIGURES", "Said", "compared", "said_of"]

Floats: TypeAlias = NDArray[np.float64]

FIGURES = ("auroc", "brier")
"""What is compared over patients."""


@dataclass(frozen=True, eq=False)
class Said:
    """What a learner said of a hospital's patients.

    Args:
        answers: to all tasks.
        means: metric -> its mean over the tasks.
        effects: metric -> ``[R]``, by how much each patient moves that mean.
    """

    answers: Answers
    means: Mapping[str, float]
    effects: Mapping[str, Floats]


def said_of(learner: AbstractLearner, source: GroupTasks, episodes: int) -> Said:
    """Test a learner on tasks 0 .. ``episodes`` - 1 of one hospital."""
    collector, moves = Collector(), list[RowMoves]()

    def observe(outputs: Tensor, episode: Episode) -> None:
        collector(outputs, episode)
        found = source.row_moves(outputs, episode)
        assert found is not None, "tasks are of one hospital"
        moves.append(found)

    result = meta_test(learner, source, episodes=episodes, observe=observe)
    rows = np.concatenate([one.rows for one in moves])
    return Said(
        collector.answers,
        {name: (result if name == result.metric else result.by(name)).mean for name in FIGURES},
        {name: row_effects(np.concatenate([one.of[name] for one in moves]), rows, episodes) for name in FIGURES},
    )


def compared(found: Mapping[str, Said], name: str) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
    """Method -> a figure, and by how much it is above the first method's; both with intervals over patients."""
    first = next(iter(found.values()))
    return {
        method: (
            (mine.means[name], row_ci95(mine.effects[name])),
            (mine.means[name] - first.means[name], row_ci95(mine.effects[name] - first.effects[name])),
        )
        for method, mine in found.items()
    }
