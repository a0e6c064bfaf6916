"""Floor 6: some episodes of a result, tested again by its checkpoint.

Another machine rounds otherwise, so that figures agree up to a tolerance: the share of right answers may be one answer
off in one of ten episodes (a tie that round-off decides), any other figure by a thousandth of itself. That holds for
each metric of the result by itself.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from quickstudy.data.source import TaskSource
from quickstudy.errors import InputError
from quickstudy.evaluate import Result, meta_test
from quickstudy.evaluate.possible import DIGITS
from quickstudy.leaderboard.entry import Checked
from quickstudy.learners.learner import AbstractLearner
from quickstudy.metrics import metric
from quickstudy.reproduce.record import commit

__all__ = ["TOLERANCE", "sample_of", "tested_again"]

_RELATIVE = 1e-3  # round-off grows along inner steps
_FLIPPED = 10
_ORDERED = ("auroc", "ndcg")  # figures of an order of answers, which a tie moves, too
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
        InputError: a figure of any metric, the metrics or the setting are others.
    """
    numbers = sample_of(result, size)
    found: dict[str, list[float | None]] = {name: [] for name in (result.metric, *result.others)}
    for done, number in enumerate(numbers, 1):
        again = meta_test(learner, source, episodes=1, first=result.first + number, seed=result.learner_seed)
        for name, values in found.items():
            there = _figures(again, name)
            if there is None or (name == result.metric) != (name == again.metric):
                raise InputError(
                    f"{path} cannot be added: its metric is {_metrics(result)}, and the run's tasks are measured by "
                    f"{_metrics(again)}. Name the run that it is of."
                )
            values.append(there[0])
        if progress is not None:
            progress(done, len(numbers))
    traits = learner.traits
    if (traits.transductive, traits.balanced_prior) != (result.transductive, result.balanced_prior):
        raise InputError(
            f"{path} cannot be added: transductive is {result.transductive} and balanced_prior {result.balanced_prior} "
            f"there, and its learner is {traits.transductive} and {traits.balanced_prior}. Evaluate the run again."
        )
    largest = max(_compare(path, result, numbers, values, name) for name, values in found.items())
    return Checked(
        episodes=tuple(numbers),
        difference=largest,
        tolerance=TOLERANCE,
        torch=str(torch.__version__),
        commit=commit(),
        made=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


def _figures(result: Result, name: str) -> Sequence[float | None] | None:
    """By one of its metrics; None of another one."""
    if name == result.metric:
        return result.per_episode
    return result.others[name].per_episode if name in result.others else None


def _metrics(result: Result) -> str:
    return ", ".join((result.metric, *result.others))


def _compare(
    path: Path, result: Result, numbers: list[int], found: Sequence[float | None], name: str | None = None
) -> float:
    """The largest difference, by the main metric or the one of that name.

    Raises:
        InputError: it is more than round-off.
    """
    name = name or result.metric
    figures, one = _figures(result, name) or (), _answer(result, name)
    flips, largest = 0, 0.0
    for number, there in zip(numbers, found, strict=True):
        # Where a figure is not defined, it is neither there nor here.
        before, again = (math.nan if value is None else value for value in (figures[number], there))
        if before == again or (math.isnan(before) and math.isnan(again)):
            continue
        off = abs(before - again)
        digits = DIGITS * max(1.0, abs(again)) if metric(name).percent else _RELATIVE * abs(again) + 1e-12
        if off > digits and off <= one * (1 + DIGITS) and flips < max(1, len(numbers) // _FLIPPED):
            flips += 1
        elif not (math.isfinite(off) and off <= digits):
            raise InputError(
                f"{path} cannot be added: episode {result.first + number} has {name} {before:g} there, and "
                f"the checkpoint gives {again:g}. The figures are of another checkpoint, or were edited; evaluate the "
                "run again and add what that writes."
            )
        largest = max(largest, off)
    return largest


def _answer(result: Result, name: str) -> float:
    """By how much one answer moves a task's share of right ones, at most; 0 where figures are no such shares."""
    way, query = result.way, result.query
    by_answers = metric(name).percent or name.partition("@")[0] in _ORDERED
    if not by_answers or metric(name).smaller_is_better or query is None:
        return 0.0
    least = [size if isinstance(size, int) else size[0] for size in (way or 1, query)]
    # Of an accuracy all queries count alike; of others, such as sensitivity, perhaps those of one class.
    return 1 / (least[0] * least[1] if name == "accuracy" else least[1])
