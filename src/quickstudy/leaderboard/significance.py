"""Floor 6: which rows of a table differ, where they were tested on the same episodes.

Each pair's differences, episode by episode, give a p-value (Student's t; the sign test where an error is infinite).
All pairs of a table are looked at together, and so their p-values are corrected by Holm's method (Holm 1979), which
bounds the chance of a single false difference in the table by 5 %, however the pairs depend on each other. Letters
show what is left (Piepho 2004): rows that share a letter cannot be told apart.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quickstudy.evaluate import Result, paired
from quickstudy.evaluate.intervals import Z95
from quickstudy.evaluate.paired import Paired

__all__ = ["LEVEL", "Pair", "groups", "holm", "pairs", "tasks_of"]

LEVEL = 0.05


@dataclass(frozen=True)
class Pair:
    """Two rows of a table, by their places in it.

    Args:
        a: the first.
        b: the second.
        versus: a - b over the episodes that both saw.
        p: of no difference, by itself.
        p_holm: corrected for all pairs of the table.
    """

    a: int
    b: int
    versus: Paired
    p: float
    p_holm: float

    @property
    def clear(self) -> bool:
        """Whether they differ, at a level of 5 % for all pairs together."""
        return self.p_holm < LEVEL


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected for their number, by Holm's step-down method.

    >>> [round(one, 3) for one in holm([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    found, largest = [1.0] * len(p), 0.0
    for place, number in enumerate(sorted(range(len(p)), key=lambda number: p[number])):
        largest = max(largest, min(1.0, (len(p) - place) * p[number]))
        found[number] = largest
    return found


def tasks_of(result: Result) -> str:
    """The same text for results of the same episodes, which can be compared in pairs."""
    same = {name: getattr(result, name) for name in ("metric", "first", "seed", "source_hash", "source")}
    return json.dumps([same, result.data, result.split, result.way, result.shot, result.query], sort_keys=True)


def pairs(results: Sequence[Result]) -> list[Pair]:
    """All pairs of a table's rows that saw the same episodes.

    Args:
        results: one a row.
    """
    kinds = [tasks_of(result) for result in results]
    found: list[tuple[int, int, Paired, float]] = []
    for a, b in itertools.combinations(range(len(results)), 2):
        if kinds[a] == kinds[b] and min(results[a].episodes, results[b].episodes) > 1:
            versus = paired(results[a], results[b])
            found.append((a, b, versus, _p(versus)))
    corrected = holm([p for *_, p in found])
    return [Pair(a, b, versus, p, after) for (a, b, versus, p), after in zip(found, corrected, strict=True)]


def _p(versus: Paired) -> float:
    from scipy import stats

    if not math.isfinite(versus.difference) or not math.isfinite(versus.ci95):
        told = versus.a_better + versus.b_better
        return float(stats.binomtest(versus.a_better, told).pvalue) if told else 1.0
    if versus.ci95 == 0:
        return 1.0 if versus.difference == 0 else 0.0
    t = abs(versus.difference) * Z95 / versus.ci95
    return float(2 * stats.t.sf(t, versus.episodes - 1))


def groups(rows: int, found: Sequence[Pair]) -> list[str]:
    """Letters of each row: two that were compared share one exactly if they cannot be told apart.

    Args:
        rows: how many; they are best ordered by their figures.
        found: from :func:`pairs`.

    Returns:
        Such as ``["a", "ab", "b"]``; empty texts for rows that were compared with none.
    """
    compared = np.eye(rows, dtype=bool)
    for pair in found:
        compared[pair.a, pair.b] = compared[pair.b, pair.a] = True
    # Rows that were never compared share no letter either.
    apart = [(a, b) for a in range(rows) for b in range(a + 1, rows) if not compared[a, b]]
    apart += [(pair.a, pair.b) for pair in found if pair.clear]
    sets = [frozenset(range(rows))]
    for a, b in apart:
        split = [part for one in sets for part in ([one - {a}, one - {b}] if {a, b} <= one else [one])]
        distinct = list(dict.fromkeys(split))
        sets = [one for one in distinct if not any(one < other for other in distinct)]
    sets.sort(key=sorted)
    alone = compared.sum(1) == 1
    return [
        "" if alone[row] else "".join(_letter(n) for n, one in enumerate(sets) if row in one) for row in range(rows)
    ]


def _letter(number: int) -> str:
    letter = chr(ord("a") + number % 26)
    return letter if number < 26 else f"{letter}{number // 26}"
