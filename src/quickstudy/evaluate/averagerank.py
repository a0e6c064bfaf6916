"""Floor 4: ranks of learners over several data sets, as the leaderboards of Meta-Dataset report them.

On each data set the best learner is taken, and with it all that are not significantly worse: whose means differ by no
more than the root of the sum of both squared intervals, which is the 95 % interval of the difference of two means. They
share the average of the ranks that they take up. Then the same goes for those that are left. What is reported is the
average over data sets.

Ties are with the best one alone, so that two learners of one rank may differ significantly, and two of different ranks
not. Where learners saw the same episodes, ``evaluate.paired`` tells more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from quickstudy.errors import InputError

__all__ = ["average_ranks", "ranks"]


def ranks(figures: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Ranks on one data set, 1 being the best.

    Args:
        figures: learner -> (mean, half its 95 % interval), larger means being better; of equal means the first counts
            as the best.

    Raises:
        InputError: a figure is no number, or an interval is negative.

    >>> ranks({"a": (80.0, 1.0), "b": (79.0, 1.0), "c": (70.0, 1.0)})
    {'a': 1.5, 'b': 1.5, 'c': 3.0}
    """
    for name, (mean, interval) in figures.items():
        if not (math.isfinite(mean) and math.isfinite(interval) and interval >= 0):
            raise InputError(f"Cannot rank {name}: its figure {mean} ± {interval} is not a mean with an interval.")
    left, found, next_rank = dict(figures), dict[str, float](), 1
    while left:
        best = max(left, key=lambda name: left[name][0])
        mean, interval = left[best]
        tied = [
            name
            for name, (other, width) in left.items()
            if name == best or abs(mean - other) <= math.hypot(interval, width)
        ]
        for name in tied:
            found[name] = next_rank + (len(tied) - 1) / 2
            del left[name]
        next_rank += len(tied)
    return {name: found[name] for name in figures}


def average_ranks(table: Mapping[str, Mapping[str, tuple[float, float]]]) -> dict[str, float]:
    """The average over data sets of each learner's rank.

    Args:
        table: learner -> data set -> (mean, half its 95 % interval); of all learners on the same data sets.

    Raises:
        InputError: a learner has no figure on a data set that others have one on.
    """
    data_sets = list(dict.fromkeys(name for row in table.values() for name in row))
    for learner, row in table.items():
        if missing := [name for name in data_sets if name not in row]:
            raise InputError(
                f"Cannot average the ranks of {learner}: it has no figure on {missing[0]}. Measure it there, or leave "
                "the data set, or the learner, out."
            )
    by_data = [ranks({learner: row[name] for learner, row in table.items()}) for name in data_sets]
    return {learner: math.fsum(found[learner] for found in by_data) / len(by_data) for learner in table}
