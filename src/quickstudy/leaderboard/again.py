"""Floor 6: some episodes of a result, tested again by its checkpoint.

Another machine rounds otherwise, so that figures agree up to a tolerance: the share of right answers may be one answer
off in one of ten episodes (a tie that round-off decides), any other figure by a thousandth of itself.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch

from quickstudy.data.source import TaskSource
from quickstudy.errors import InputError
from quickstudy.evaluate import Result, meta_test
from quickstudy.leaderboard.entry import DIGITS, Checked
from quickstudy.learners.learner import AbstractLearner
from quickstudy.metrics import metric

__all__ = ["TOLERANCE", "sample_of", "tested_again"]

_RELATIVE = 1e-3  # round-off grows along inner steps
_FLIPPED = 10
TOLERANCE = f"one right answer more or fewer in one of {_FLIPPED} episodes; any other figure by {_RELATIVE:g} of itself"
"""What may differ, in words, as rows keep it."""


def sample_of(result: Result, size: int) -> list[int]:
    """Which episodes are tested again: numbers below ``result.episodes``, which follow from the figures themselves.

    Args:
        result: that is to be added.
        size: how many; all, where there are not so many.
    """
    content = json.loads(result.to_json())
    content.pop("seconds")
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()

    def drawn(number: int) -> bytes:
        return hashlib.sha256(digest + number.to_bytes(8, "big")).digest()

    return sorted(sorted(range(result.episodes), key=drawn)[:size])


def tested_again(
    path: Path,
    learner: AbstractLearner,
    source: TaskSource,
    result: Result,
    size: int,
    progress: Callable[[int, int], None] | None,
) -> Checked:
    """Test some episodes of a result again.

    Args:
        path: how errors call the result.
        learner: of its checkpoint.
        source: of its tasks.
        result: that is held against it.
        size: how many episodes.
        progress: told how many are done, of how many.

    Raises:
        InputError: a figure, the metric or the setting is another.
    """
    numbers, found = sample_of(result, size), []
    for done, number in enumerate(numbers, 1):
        again = meta_test(learner, source, episodes=1, first=result.first + number, seed=result.learner_seed)
        if again.metric != result.metric:
            raise InputError(
                f"{path} cannot be added: its metric is {result.metric}, and the run's tasks are measured by "
                f"{again.metric}. Name the run that it is of."
            )
        found.append(again.per_episode[0])
        if progress is not None:
            progress(done, len(numbers))
    traits = learner.traits
    if (traits.transductive, traits.balanced_prior) != (result.transductive, result.balanced_prior):
        raise InputError(
            f"{path} cannot be added: transductive is {result.transductive} and balanced_prior {result.balanced_prior} "
            f"there, and its learner is {traits.transductive} and {traits.balanced_prior}. Evaluate the run again."
        )
    largest = _compare(path, result, numbers, found)
    return Checked(
        episodes=tuple(numbers),
        difference=largest,
        tolerance=TOLERANCE,
        torch=str(torch.__version__),
        made=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


def _compare(path: Path, result: Result, numbers: list[int], found: list[float]) -> float:
    """The largest difference.

    Raises:
        InputError: it is more than round-off.
    """
    one = _answer(result)
    flips, largest = 0, 0.0
    for number, again in zip(numbers, found, strict=True):
        before = result.per_episode[number]
        off = 0.0 if before == again else abs(before - again)
        digits = DIGITS * max(1.0, abs(again)) if metric(result.metric).percent else _RELATIVE * abs(again) + 1e-12
        if off > digits and off <= one * (1 + DIGITS) and flips < max(1, len(numbers) // _FLIPPED):
            flips += 1
        elif not (math.isfinite(off) and off <= digits):
            raise InputError(
                f"{path} cannot be added: episode {result.first + number} has {result.metric} {before:g} there, and "
                f"the checkpoint gives {again:g}. The figures are of another checkpoint, or were edited; evaluate the "
                "run again and add what that writes."
            )
        largest = max(largest, off)
    return largest


def _answer(result: Result) -> float:
    """By how much one answer moves a task's share of right ones, at most; 0 where figures are no such shares."""
    way, query = result.way, result.query
    if not metric(result.metric).percent or metric(result.metric).smaller_is_better or query is None:
        return 0.0
    least = [size if isinstance(size, int) else size[0] for size in (way or 1, query)]
    # Of an accuracy all queries count alike; of others, such as sensitivity, perhaps those of one class.
    return 1 / (least[0] * least[1] if result.metric == "accuracy" else least[1])
