"""Floor 6: what to know of one's own examples before a learner is taken: what they allow, and what may be expected."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import InputError
from quickstudy.estimators.advising import Estimate, Measured, Pool, Shots, measure
from quickstudy.estimators.candidates import GUESS, Candidate, candidates_for, made
from quickstudy.estimators.duplicates import groups_of
from quickstudy.estimators.files import Found
from quickstudy.keys import Integers

__all__ = ["Advice", "Survey", "advise", "survey"]

_CLASSES, _EACH, _ROWS = 50, 100, 1000  # of more a sample is tried: classes, examples of each, rows for a number


@dataclass(frozen=True, eq=False)
class Survey:
    """What is there.

    Args:
        found: examples that can be read, and those that cannot.
        real: whether a number is to be learned.
        same: names of examples that are one and the same.
        at_odds: those of them whose labels differ: name -> label.
        rows: those that can be used: one of each that is there twice, none that is at odds, of classes with two.
        few: classes with fewer than two examples that can be used.
    """

    found: Found
    real: bool
    same: list[list[str]]
    at_odds: list[dict[str, Any]]
    rows: Integers
    few: list[Any]

    @property
    def classes(self) -> dict[Any, tuple[int, int]]:
        """Label -> examples, and those among them that can be used."""
        every, used = Counter(self.found.y), Counter(self.found.y[row] for row in self.rows.tolist())
        return {label: (every[label], used[label]) for label in sorted(every, key=str)}


def survey(found: Found, real: bool = False) -> Survey:
    """Look for examples that are there twice, and for classes that are too small.

    Args:
        found: examples that can be read.
        real: whether their labels are numbers to be learned.
    """
    group = groups_of(found)
    members: dict[int, list[int]] = {}
    for row, number in enumerate(group.tolist()):
        members.setdefault(number, []).append(row)
    several = [rows for rows in members.values() if len(rows) > 1]
    odd = [rows for rows in several if len({found.y[row] for row in rows}) > 1]
    dropped = {row for rows in odd for row in rows}
    kept = [rows[0] for rows in members.values() if rows[0] not in dropped]
    counts = Counter(found.y[row] for row in kept)
    few = {} if real else {label: None for label in found.y if counts[label] < 2}  # a set that keeps their order
    return Survey(
        found,
        real,
        [[found.names[row] for row in rows] for rows in several],
        [{found.names[row]: found.y[row] for row in rows} for rows in odd],
        np.array([row for row in kept if found.y[row] not in few], dtype=np.int64),
        list(few),
    )


@dataclass(frozen=True, eq=False)
class Advice:
    """What was measured, and what follows from it.

    Args:
        survey: of the examples.
        candidates: that were tried, by name.
        measured: None where there are too few examples to try anything.
        why_not: then why.
        sampled: classes and examples that took part, where it was not all of them.
        deviation: of the numbers, where numbers are learned.
    """

    survey: Survey
    candidates: dict[str, Candidate] = field(default_factory=dict)
    measured: Measured | None = None
    why_not: str = ""
    sampled: tuple[int, int] | None = None
    deviation: float = math.nan

    @property
    def order(self) -> list[str]:
        """Candidates, the best first."""
        assert self.measured is not None
        return sorted(self.measured.answers, key=lambda name: -self._of(name).mean)

    def _of(self, name: str, shots: Shots = "all") -> Estimate:
        assert self.measured is not None
        return self.measured.of(name, shots)

    @property
    def take(self) -> str:
        """The learner to be taken: the best; a plain one where the trained ones are not shown to be better."""
        names = [name for name in self.order if name != GUESS]
        plain, trained = self.best_plain, [name for name in names if not self.candidates[name].plain]
        if not trained or plain is None:
            return names[0] if names else GUESS
        return trained[0] if self.lead is not None and self.lead.low > 0 else plain

    @property
    def best_plain(self) -> str | None:
        """The best of the plain candidates, beside the guess."""
        return next((n for n in self.order if self.candidates[n].plain and n != GUESS), None)

    @property
    def lead(self) -> Estimate | None:
        """By how much the best trained candidate is ahead of the best plain one."""
        trained = next((name for name in self.order if not self.candidates[name].plain), None)
        if trained is None or self.best_plain is None or self.measured is None:
            return None
        return self.measured.ahead(trained, self.best_plain)

    @property
    def over_guessing(self) -> Estimate:
        """By how much the learner to be taken is better than a guess."""
        assert self.measured is not None
        return self.measured.ahead(self.take, GUESS)

    @property
    def as_chosen(self) -> Estimate:
        """What may be expected of the best candidate, the choice being paid for."""
        assert self.measured is not None
        return self.measured.as_chosen([name for name in self.order if name != GUESS] or [GUESS])

    @property
    def growth(self) -> tuple[int, int, Estimate] | None:
        """The last step of the learning curve: from so many examples (of each class) to so many, and the gain."""
        assert self.measured is not None
        steps = [shots for shots in self.measured.pool.shots if isinstance(shots, int)]
        if len(steps) < 2:
            return None
        return steps[-2], steps[-1], self.measured.gain(self.take, steps[-2], steps[-1])


def advise(
    found: Found,
    *,
    real: bool = False,
    learners: Sequence[str] = (),
    episodes: int = 20,
    seconds: float = 60.0,
    listen: Callable[[int, int], Any] = lambda done, total: None,
    seed: int = 0,
) -> Advice:
    """Try learners on examples of one's own.

    Args:
        found: examples that can be read.
        real: whether a number is to be learned.
        learners: further ones to be tried: names, or folders.
        episodes: to hold.
        seconds: after which no further one is begun.
        listen: hears how many are done, and of how many.
        seed: of the draws.

    Raises:
        InputError: no learner can learn these examples, or one that was asked for does not exist.
    """
    if real and found.kind not in ("rows", "texts"):
        raise InputError(f"Advice on learning a number is given for tables and texts; these are {found.kind}.")
    seen = survey(found, real)
    why = _too_few(seen)
    if why:
        return Advice(seen, why_not=why)
    rows = _sample(seen, seed)
    some, labels = found.chosen(rows.tolist()), [found.y[row] for row in rows.tolist()]
    y = _codes(labels, real)
    candidates = candidates_for(some, real, learners)
    answerers, refused = made(candidates, some, y, real)
    pool = Pool(np.zeros(len(y), dtype=np.int64) if real else y, shares=not real, seed=seed)
    measured = measure(pool, answerers, episodes=episodes, seconds=seconds, listen=listen)
    measured.refused.update(refused)
    absent = next((name for name in learners if name in measured.refused), None)
    if absent is not None:
        raise InputError(measured.refused[absent])
    sampled = None if len(rows) == len(seen.rows) else (len(set(labels)), len(rows))
    deviation = float(np.std(y)) if real else math.nan
    return Advice(seen, {c.name: c for c in candidates}, measured, "", sampled, deviation)


def _too_few(seen: Survey) -> str:
    if seen.real:
        if len(seen.rows) < 10:
            few = f"{len(seen.rows)} different {seen.found.kind}"
            return f"{few} are too few to learn from some and ask for others; ten are needed"
        spread = len({seen.found.y[row] for row in seen.rows.tolist()})
        return "" if spread > 1 else "the number is the same everywhere"
    left = {seen.found.y[row] for row in seen.rows.tolist()}
    if len(left) >= 2:
        return ""
    return f"{len(left)} class(es) with two different examples or more; to try a learner takes two such classes"


def _sample(seen: Survey, seed: int) -> Integers:
    """All that can be used, or a part of it where that is much."""
    draw = np.random.default_rng([seed, 7])
    if seen.real:
        return np.sort(draw.permutation(seen.rows)[:_ROWS])
    label_of = seen.found.y
    names = sorted({label_of[row] for row in seen.rows.tolist()}, key=str)
    chosen = {names[place] for place in draw.permutation(len(names))[:_CLASSES].tolist()}
    count: Counter[Any] = Counter()
    kept = []
    for row in draw.permutation(seen.rows).tolist():
        label = label_of[row]
        if label in chosen and count[label] < _EACH:
            count[label] += 1
            kept.append(row)
    return np.sort(np.array(kept, dtype=np.int64))


def _codes(labels: Sequence[Any], real: bool) -> NDArray[Any]:
    if real:
        return np.array(labels, dtype=np.float64)
    place = {label: number for number, label in enumerate(sorted(set(labels), key=str))}
    return np.array([place[label] for label in labels], dtype=np.int64)
