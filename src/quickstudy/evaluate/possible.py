"""Floor 4: what a result's figures can be: whether mean and intervals are those of its episodes, and so on.

Files of results are copied, cut and edited. Single figures have six digits in those that are kept (``kept.py``), so
that a mean is held to its episodes up to that.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quickstudy.errors import DataError, UnknownName
from quickstudy.evaluate.intervals import episode_ci95
from quickstudy.evaluate.result import Other, Result
from quickstudy.metrics import metric

__all__ = ["DIGITS", "check_result"]

DIGITS = 1e-5
"""Relative to the largest episode: what figures of six digits leave of a mean."""
_WITHIN_1 = ("auroc", "ndcg", "recall")
_HEX = re.compile(r"[0-9a-f]{16,64}")
_SETTINGS = ("data", "split", "way", "shot", "query", "seed")  # of a source, which a result says once more


def check_result(path: Path, result: Result) -> None:
    """Hold a result to what it can be.

    Args:
        path: how errors call it.
        result: what was measured.

    Raises:
        DataError: a field is impossible; all are named.
    """
    told = " ".join(f"{text}." for text in _wrong(result))
    if told:
        raise DataError(f"{path} cannot be right. {told} Measure it with `quickstudy evaluate`, and leave it as it is.")


def _wrong(result: Result) -> Iterator[str]:
    try:
        metric(result.metric)
    except UnknownName as error:
        yield f"metric: {error}".rstrip(".")
        return
    yield from _wrong_sizes(result)
    yield from _wrong_settings(result)
    values = np.array(result.per_episode, dtype=np.float64)
    if not len(values):  # that there are too few is said already
        return
    yield from _wrong_figures(result.metric, "per_episode", values, result)
    median = float(np.median(values))
    if result.median != median and not abs(result.median - median) <= DIGITS * max(1.0, abs(median)):
        yield f"median is {result.median:g}, and that of per_episode is {median:g}"
    others: dict[str, Other] = result.others
    for name, other in others.items():
        try:
            metric(name)
        except UnknownName as error:
            yield f"others: {error}".rstrip(".")
            continue
        there = np.array([value for value in other.per_episode if value is not None], dtype=np.float64)
        if len(other.per_episode) != result.episodes or not len(there):
            yield f"others.{name}.per_episode has {len(other.per_episode)} figures for {result.episodes} episodes"
            continue
        yield from _wrong_figures(name, f"others.{name}.per_episode", there, other)
    yield from _wrong_answers(result)
    yield from _wrong_converged(result, values)


def _wrong_settings(result: Result) -> Iterator[str]:
    """A task is named twice: a table goes by the fields, and what is tested again by the source's settings."""
    for name in _SETTINGS:
        said, found = json.loads(json.dumps(getattr(result, name))), result.source.get(name)
        if name in result.source and json.loads(json.dumps(found)) != said:
            yield f"{name} is {json.dumps(said)}, and source.{name} is {json.dumps(found)}"


def _wrong_converged(result: Result, values: NDArray[np.float64]) -> Iterator[str]:
    """The figures over episodes that did not diverge; those of another of the test's metrics are unknown."""
    mean, half = result.mean_converged, result.ci95_converged
    if mean is None or half is None or np.isnan(values).any():
        return
    close = DIGITS * float(np.abs(values[np.isfinite(values)]).max(initial=0.0)) + 1e-12
    if result.diverged == 0:
        for name, found, whole in (("mean", mean, result.mean), ("ci95", half, result.ci95)):
            if found != whole and not abs(found - whole) <= close:
                yield f"{name}_converged is {found:g}, and {name} {whole:g}, though no episode diverged"
    elif not (values.min() - close <= mean <= values.max() + close and half >= 0):
        yield f"mean_converged is {mean:g} ± {half:g}, and no choice of episodes of per_episode gives that"


def _wrong_sizes(result: Result) -> Iterator[str]:
    for name, least in (("way", 2), ("shot", 1), ("query", 1)):
        found = getattr(result, name)
        ends = (found,) if isinstance(found, int) else tuple(found or ())
        if any(end < least for end in ends) or list(ends) != sorted(ends):
            yield f"{name} is {found}, and no task has that: expected {least} or more, or a range of such"
    if result.episodes < 2:
        yield f"episodes is {result.episodes}: a row needs 2 or more, for an interval"
    if result.split.rpartition("/")[2] != "test":
        yield f"split is {result.split!r}: a row is of test tasks, and others were trained or selected on"
    if min(result.first, result.seed, result.learner_seed) < 0:
        said = f"first is {result.first}, seed is {result.seed} and learner_seed is {result.learner_seed}"
        yield f"{said}: expected whole numbers from 0 on"
    if not 0 <= result.diverged <= result.episodes:
        yield f"diverged is {result.diverged} of {result.episodes} episodes"
    if not (math.isfinite(result.seconds) and result.seconds >= 0):
        yield f"seconds is {result.seconds:g}, and no test takes that long"
    for name, empty in (("source_hash", False), ("recipe_hash", True)):
        found = getattr(result, name)
        if not (_HEX.fullmatch(found) or (empty and not found)):
            yield f"{name} is {found!r}, which is no digest"


def _wrong_figures(name: str, field: str, values: Any, found: Result | Other) -> Iterator[str]:
    """The figures themselves, and whether mean and interval are theirs."""
    known, where = metric(name), field.removesuffix("per_episode")
    bounded = known.percent or name.partition("@")[0] in _WITHIN_1
    if np.isnan(values).any() or math.isnan(found.mean) or math.isnan(found.ci95):
        yield f"{where}mean, {where}ci95 or {field} is NaN"
        return
    if bounded and not (0 <= found.mean <= 1 and (values >= 0).all() and (values <= 1).all()):
        shown = found.mean if not 0 <= found.mean <= 1 else next(v for v in values if not 0 <= v <= 1)
        yield f"{where}mean or a figure of {field} is {shown:g}, and the metric {name} lies between 0 and 1"
        return
    if not known.smaller_is_better and not np.isfinite(values).all():
        yield f"{field} has an infinite {name}"
        return
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(values.mean())
    scale = DIGITS * float(np.abs(values[np.isfinite(values)]).max(initial=0.0)) + 1e-12
    if found.mean != mean and not abs(found.mean - mean) <= scale:
        yield f"{where}mean is {found.mean:g}, and the mean of {field} is {mean:g}"
    half = episode_ci95(values)
    if found.ci95 != half and not abs(found.ci95 - half) <= scale:
        yield f"{where}ci95 is {found.ci95:g}, and that of {field} is {half:g}"
    for more in ("ci95_classes", "ci95_rows"):
        wide = getattr(found, more)
        if wide is not None and not (wide >= 0 and (math.isfinite(wide) or not math.isfinite(mean))):
            yield f"{where}{more} is {wide:g}, and a half-width is 0 or more, and finite"


def _wrong_answers(result: Result) -> Iterator[str]:
    """The accuracy of a task is so many of its queries."""
    way, query = result.way, result.query
    if result.metric != "accuracy" or not isinstance(way, int) or not isinstance(query, int) or way < 2 or query < 1:
        return
    right = np.array(result.per_episode) * way * query
    off = np.abs(right - right.round())
    if np.isfinite(off).all() and off.max(initial=0.0) > DIGITS * way * query:
        worst = int(off.argmax())
        yield (
            f"per_episode[{worst}] is {result.per_episode[worst]:g}, and no number of right answers to {way} x {query} "
            "queries gives that"
        )
