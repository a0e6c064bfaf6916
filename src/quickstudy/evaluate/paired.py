"""Floor 4: two learners on the same episodes.

How hard an episode is moves both learners alike, so the difference episode by episode has a narrower interval
than the two means have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quickstudy.errors import InputError
from quickstudy.evaluate.intervals import episode_ci95
from quickstudy.evaluate.result import Result

__all__ = ["Paired", "paired"]

_SAME = ("metric", "data", "split", "way", "shot", "query", "seed", "first", "source_hash")


@dataclass(frozen=True)
class Paired:
    """Differences a - b over the episodes that both learners saw.

    Args:
        difference: mean of a - b, in the metric's unit (accuracy: a fraction). NaN if an episode of either
            is infinite, for then no mean difference exists; ``a_better`` and ``b_better`` still say who is ahead.
        ci95: half-width of its 95 % interval over episodes; infinite in that case.
        episodes: how many episodes both saw.
        a_better: in how many of them a was better.
        b_better: in how many of them b was better.
        smaller_is_better: the metric is an error.
    """

    difference: float
    ci95: float
    episodes: int
    a_better: int
    b_better: int
    smaller_is_better: bool = False

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0: the learners differ beyond the luck of the episodes."""
        return abs(self.difference) > self.ci95

    @property
    def favours_a(self) -> bool:
        """Whether a is better and the interval excludes 0."""
        return self.excludes_zero and (self.difference < 0) == self.smaller_is_better


def paired(a: Result, b: Result) -> Paired:
    """Compare two results episode by episode; where one saw more episodes, over those that both saw.

    Raises:
        InputError: they are not of the same tasks; the message names the first field that differs.
    """
    _check_same_tasks(a, b)
    episodes = min(a.episodes, b.episodes)
    left, right = np.array(a.per_episode[:episodes]), np.array(b.per_episode[:episodes])
    a_better, b_better = int((left > right).sum()), int((left < right).sum())
    if a.smaller_is_better:
        a_better, b_better = b_better, a_better
    finite = bool(np.isfinite(left).all() and np.isfinite(right).all())
    differences = left - right if finite else np.full(episodes, np.nan)
    return Paired(
        difference=float(differences.mean()),
        ci95=episode_ci95(differences),
        episodes=episodes,
        a_better=a_better,
        b_better=b_better,
        smaller_is_better=a.smaller_is_better,
    )


def _check_same_tasks(a: Result, b: Result) -> None:
    fields = [(name, getattr(a, name), getattr(b, name)) for name in _SAME]
    fields += [(name, a.source.get(name), b.source.get(name)) for name in sorted({*a.source, *b.source})]
    for name, left, right in fields:
        if left != right:
            raise InputError(
                f"Cannot compare {a.learner} and {b.learner} in pairs: they were tested on different tasks "
                f"({name} is {left!r} for one and {right!r} for the other). "
                "Evaluate both on the same source, from the same first episode."
            )
