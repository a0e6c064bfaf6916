"""Floor 6: what a learner may be expected to do on examples of one's own, before one is taken.

An *episode* sets a fold of the examples aside as questions, and teaches each candidate the others: all of them, and the
first 1, 2, 5, 10 ... of each class. All candidates answer the same questions after the same lessons, so that they are
compared in pairs. Of examples that are the same one twice, one takes part.

    estimate     answers of several episodes -> their mean, and an interval for it
    Trial        a pool of examples and its episodes
    measure      candidates on a pool -> Measured
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import InputError
from quickstudy.keys import Integers

__all__ = ["Answerer", "Estimate", "Lesson", "Measured", "Pool", "Trial", "estimate", "measure"]

Floats: TypeAlias = NDArray[np.float64]
Answerer: TypeAlias = Callable[[Integers, Integers], Floats]
"""Rows to learn from, rows to be asked -> how right each answer is, ``[questions]``."""
Shots: TypeAlias = int | Literal["all"]

_SHOTS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_FOLDS = 5


@dataclass(frozen=True)
class Estimate:
    """A mean over all examples and all lessons of the same size from this source.

    Args:
        mean: of the answers.
        half: of the width of its 95 % interval; infinite of a single episode.
        episodes: that it was made of.
    """

    mean: float
    half: float
    episodes: int

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self.mean + self.half


def estimate(answers: Sequence[Floats], pool: int, lesson: float, *, shares: bool = False) -> Estimate:
    """The mean of answers from episodes that draw on one small pool, and an interval for it.

    Episodes share their examples, so that the usual interval over them (or over all answers) shrinks to nothing as
    episodes are added, while no example is. The mean is an incomplete U-statistic: of a kernel of n1 examples to learn
    from and one to be asked, over a pool of n. Its variance is that of asking n questions, once each, and that of
    learning from so much of the pool, to which Hoeffding's inequality (Var U <= m/n Var h, of a kernel of m) gives a
    bound; and that of having drawn J episodes and no more:

        s_q / n  +  (n1 / n) max(0, s_e - s_q / n2)  +  s_e / J

    s_e is the variance of the episodes' means, s_q that of answers within an episode of n2 questions. Where lesson and
    questions are the whole pool, as in cross-validation, of whose variance there is no unbiased estimate (Y. Bengio,
    Y. Grandvalet, JMLR 2004), it is (1/J + n2/n1) s_e where that is more. Student's t with min(n, J) - 1 degrees of
    freedom stands for the normal distribution. On made data (`tests/estimators/test_advising.py`) such intervals hold
    the truth in more than 90 of 100 pools; the usual ones over all answers in fewer than 80.

    W. Hoeffding, "A class of statistics with asymptotically normal distribution", 1948, section 5; G. Blom, "Some
    properties of incomplete U-statistics", Biometrika 1976; C. Nadeau, Y. Bengio, "Inference for the generalization
    error", Machine Learning 2003; for shares of right answers A. Agresti, B. Coull, The American Statistician 1998:
    two right and two wrong are thought beside them, so that ten of ten is not taken for always.

    Args:
        answers: of each episode how right its answers are, ``[questions]``.
        pool: n, the examples that episodes are drawn from.
        lesson: n1, the examples that are learned from in an episode.
        shares: whether answers are right (1) or wrong (0).
    """
    means = np.array([one.mean() for one in answers])
    episodes = len(means)
    mean = float(np.concatenate(answers).mean())
    if episodes < 2:
        return Estimate(mean, math.inf, episodes)
    from scipy.special import stdtrit

    between = float(means.var(ddof=1))
    within = float(np.mean([one.var(ddof=1) if len(one) > 1 else between for one in answers]))
    asked = float(np.mean([len(one) for one in answers]))
    if shares:
        middle = (mean * pool + 2) / (pool + 4)
        within = max(within, middle * (1 - middle))
    learned = min(lesson / pool, 1.0) * max(0.0, between - within / asked)
    variance = within / pool + learned + between / episodes
    if lesson + asked > 0.99 * pool:
        variance = max(variance, (1 / episodes + asked / lesson) * between)
    return Estimate(mean, float(stdtrit(min(episodes, pool) - 1, 0.975)) * math.sqrt(variance), episodes)


@dataclass(frozen=True, eq=False)
class Pool:
    """Examples that episodes are made of.

    Args:
        codes: the class of each, ``[n]``; all 0 where a number is learned.
        shares: whether answers are right or wrong, and nothing between.
        seed: of the draws.
    """

    codes: Integers
    shares: bool = True
    seed: int = 0

    @property
    def size(self) -> int:
        """Examples."""
        return len(self.codes)

    @property
    def counts(self) -> Integers:
        """Examples of each class."""
        return np.bincount(self.codes).astype(np.int64)

    @property
    def folds(self) -> int:
        """In how many parts it is asked."""
        return int(min(_FOLDS, self.counts.min()))

    @property
    def shots(self) -> list[Shots]:
        """Sizes of lessons: examples of each class (of a number: in all) that every episode has, then all there are."""
        left = int(self.counts.min()) - math.ceil(int(self.counts.min()) / self.folds)
        least = 1 if len(self.counts) > 1 else 5
        ways = [shots for shots in _SHOTS if least <= shots <= left]
        whole = int(self.counts.min()) == int(self.counts.max()) and ways[-1:] == [left]
        return [*(ways[:-1] if whole else ways), "all"]  # the largest may be all there are

    def lesson(self, shots: Shots) -> float:
        """Examples in a lesson of that size."""
        if shots == "all":
            return self.size * (1 - 1 / self.folds)
        return shots * len(self.counts)

    def episodes(self) -> Iterator[Lesson]:
        """Folds of one division after the other, without end."""
        division = 0
        while True:
            draw = np.random.default_rng([self.seed, division])
            fold = np.empty(self.size, dtype=np.int64)
            order = draw.permutation(self.size)
            for code in range(len(self.counts)):
                rows = order[self.codes[order] == code]
                fold[rows] = (np.arange(len(rows)) + draw.integers(self.folds)) % self.folds
            for number in range(self.folds):
                yield Lesson(order[fold[order] != number], np.flatnonzero(fold == number), self.codes)
            division += 1


@dataclass(frozen=True, eq=False)
class Lesson:
    """An episode.

    Args:
        known: rows to learn from, in a random order.
        asked: rows to be asked.
        codes: the class of each row of the pool.
    """

    known: Integers
    asked: Integers
    codes: Integers

    def first(self, shots: Shots) -> Integers:
        """The first of each class: a larger lesson has all of a smaller one."""
        if shots == "all":
            return self.known
        seen: dict[int, int] = {}
        kept = []
        for row, code in zip(self.known.tolist(), self.codes[self.known].tolist(), strict=True):
            seen[code] = seen.get(code, 0) + 1
            if seen[code] <= shots:
                kept.append(row)
        return np.array(kept, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Measured:
    """Answers of all candidates.

    Args:
        pool: of examples.
        asked: the questions of each episode.
        answers: candidate -> size of the lesson -> answers of each episode.
        refused: candidate -> why it cannot learn this.
        left_early: whether the time was up before all episodes were held.
    """

    pool: Pool
    asked: list[Integers] = field(default_factory=list)
    answers: dict[str, dict[Shots, list[Floats]]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    left_early: bool = False

    def of(self, name: str, shots: Shots = "all") -> Estimate:
        """How right a candidate is after a lesson."""
        answers, pool = self.answers[name][shots], self.pool
        return estimate(answers, pool.size, pool.lesson(shots), shares=pool.shares)

    def ahead(self, one: str, other: str, shots: Shots = "all") -> Estimate:
        """By how much one candidate is better than another, on the same questions after the same lessons."""
        pairs = zip(self.answers[one][shots], self.answers[other][shots], strict=True)
        return estimate([a - b for a, b in pairs], self.pool.size, self.pool.lesson(shots))

    def gain(self, name: str, fewer: Shots, more: Shots) -> Estimate:
        """By how much a candidate is better after the larger of two lessons, on the same questions."""
        pairs = zip(self.answers[name][more], self.answers[name][fewer], strict=True)
        return estimate([a - b for a, b in pairs], self.pool.size, self.pool.lesson(more))

    def best(self, names: Sequence[str]) -> str:
        """The one with the highest mean; of equals the first."""
        return max(names, key=lambda name: self.of(name).mean)

    def as_chosen(self, names: Sequence[str]) -> Estimate:
        """How right *the best one* is, where the choice never saw the questions that it is held to.

        The best of several owes a part of its lead to luck. Here the best is chosen anew for each episode, by the
        answers to all examples but those that this episode asks for.
        """
        total, count = (np.zeros((len(names), self.pool.size)) for _ in range(2))
        for place, name in enumerate(names):
            for rows, right in zip(self.asked, self.answers[name]["all"], strict=True):
                total[place, rows] += right
                count[place, rows] += 1
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        found = []
        for episode, rows in enumerate(self.asked):
            seen = count[0] > 0
            seen[rows] = False
            winner = int(mean[:, seen].mean(1).argmax()) if seen.any() else 0
            found.append(self.answers[names[winner]]["all"][episode])
        return estimate(found, self.pool.size, self.pool.lesson("all"), shares=self.pool.shares)


Trial: TypeAlias = Mapping[str, Answerer]
"""Candidates by name."""


def measure(
    pool: Pool,
    candidates: Trial,
    *,
    episodes: int = 20,
    seconds: float = math.inf,
    listen: Callable[[int, int], Any] = lambda done, total: None,
    clock: Callable[[], float] = time.monotonic,
) -> Measured:
    """Hold episodes, one after the other, for all candidates together.

    Args:
        pool: of examples; of each class two at the least.
        candidates: name -> answers to questions after a lesson.
        episodes: how many.
        seconds: after which no further one is begun; each example is asked for once in any case.
        listen: hears how many are done, and of how many.
        clock: seconds, for tests.

    Raises:
        InputError: no candidate can learn these examples, or a class has a single one.
    """
    if pool.folds < 2:
        raise InputError("Each class needs two examples at the least: one to learn from and another to be asked.")
    until = clock() + seconds
    asked: list[Integers] = []
    answers: dict[str, dict[Shots, list[Floats]]] = {name: {shots: [] for shots in pool.shots} for name in candidates}
    refused: dict[str, str] = {}
    for number, lesson in enumerate(pool.episodes()):
        if number == episodes or (number >= pool.folds and clock() > until):
            break
        asked.append(lesson.asked)
        for name, answerer in candidates.items():
            if name in refused:
                continue
            try:
                for shots, kept in answers[name].items():
                    kept.append(answerer(lesson.first(shots), lesson.asked))
            except InputError as error:
                refused[name] = str(error)
                del answers[name]
        listen(number + 1, episodes)
    if not answers:
        raise InputError(f"No learner can learn these examples: {next(iter(refused.values()))}")
    return Measured(pool, asked, answers, refused, len(asked) < episodes)
