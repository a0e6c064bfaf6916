"""Floor 6: a row's file: a result with its provenance, held to what figures can be.

``results/<study>/*.json`` (benchmarks/results.py), ``results/reproduce/*.json`` (``quickstudy reproduce``) and
``results/leaderboard/*.json`` (``quickstudy leaderboard --add``) are such files. Single figures have six digits there,
so that a mean is held to its episodes up to that.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quickstudy.errors import DataError, UnknownName
from quickstudy.evaluate import Result
from quickstudy.evaluate.intervals import episode_ci95
from quickstudy.evaluate.result import Other
from quickstudy.evaluate.robustness import Robustness
from quickstudy.metrics import metric

__all__ = ["DIGITS", "Checked", "Energy", "Entry", "Provenance", "check_result", "read_entry", "read_result"]

DIGITS = 1e-5
"""Relative to the largest episode: what figures of six digits leave of a mean."""
_WITHIN_1 = ("auroc", "ndcg", "recall")
_HEX = re.compile(r"[0-9a-f]{16,64}")


class _Facts(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Energy(_Facts):
    """An estimate.

    Args:
        watt_hours: of the training.
        assumption: what it was estimated from.
    """

    watt_hours: float = Field(ge=0)
    assumption: str = Field(min_length=1)


class Checked(_Facts):
    """That a row's checkpoint was tested again.

    Args:
        episodes: which ones.
        difference: the largest between a figure of the file and the one found.
        tolerance: what was allowed, in words.
        torch: version that it was tested again by.
        made: the day, UTC.
    """

    episodes: tuple[int, ...] = Field(min_length=1)
    difference: float = Field(ge=0)
    tolerance: str
    torch: str
    made: str


class Provenance(_Facts):
    """How a row came about. What a kind of file does not say is None, or empty; fields of other tools are passed over.

    Args:
        row: what the row is called.
        versions: of packages, and what it ran on: ``quickstudy``, ``torch``, ``processor``, ``cpus`` ...
        recipe: name of the recipe.
        recipe_hash: of the recipe that was trained.
        claim: the published figure that it reproduces.
        protocol: digest of that claim's recipe and test; None of rows that were added, which were held to these.
        series: digest of the recipe without its seed: rows of one series are seeds of one another.
        study: whose comparison it is from.
        column: of that study's table.
        baseline: a study's baseline.
        seed: of the training.
        step: steps of training that were done.
        steps: that the recipe asks for.
        train_seconds: wall time of the training.
        test_seconds: wall time of the test.
        processor_seconds: of the training.
        energy: of the training.
        weights_sha256: of the checkpoint that was tested.
        commit: of quickstudy's sources.
        device: ``"cpu"``, or the GPU.
        command: to have it again.
        data: name and options of the data set, as in the recipe.
        overrides: what the test changed of the recipe.
        checked: that it was tested again, and how.
        robustness: figures of docs/robustness.md, of the same checkpoint and tasks; not tested again.
        by: who added it.
        made: the day, UTC.
    """

    row: str = Field(min_length=1)
    versions: dict[str, Any] = Field(min_length=1)
    recipe: str = ""
    recipe_hash: str = ""
    claim: str | None = None
    protocol: str | None = None
    series: str | None = None
    study: str | None = None
    column: str | None = None
    baseline: bool = False
    seed: int | None = Field(default=None, ge=0)
    step: int | None = Field(default=None, ge=0)
    steps: int | None = Field(default=None, ge=0)
    train_seconds: float | None = Field(default=None, ge=0)
    test_seconds: float | None = Field(default=None, ge=0)
    processor_seconds: float | None = Field(default=None, ge=0)
    energy: Energy | None = None
    weights_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    commit: str | None = None
    device: str | None = None
    command: str = ""
    data: dict[str, Any] | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)
    checked: Checked | None = None
    robustness: Robustness | None = None
    by: str | None = None
    made: str | None = None


@dataclass(frozen=True)
class Entry:
    """One file.

    Args:
        path: of the file.
        result: what was measured.
        about: how.
    """

    path: Path
    result: Result
    about: Provenance


def read_entry(path: Path) -> Entry:
    """A row's file, checked.

    Raises:
        DataError: it is missing, cut off, or has missing or impossible fields; each is named.
    """
    result, provenance = read_result(path)
    if provenance is None:
        raise DataError(
            f"{path} is no row of a leaderboard: provenance is missing, which says how it was measured. Add it by "
            "`quickstudy leaderboard --add`, which writes that."
        )
    try:
        about = Provenance.model_validate(provenance)
    except ValidationError as error:
        told = " ".join(_in_words(one) for one in error.errors())
        raise DataError(f"{path} is no row of a leaderboard. {told}") from error
    if about.robustness is not None and not about.robustness.stands_beside(result):
        raise DataError(
            f"{path} cannot be right: provenance.robustness is of another recipe, checkpoint or data than the result. "
            "Measure both by `quickstudy evaluate RUN --robustness`."
        )
    return Entry(path, result, about)


def _in_words(one: Any) -> str:
    field = ".".join(str(part) for part in ("provenance", *one["loc"]))
    if one["type"] == "missing":
        return f"{field} is missing: measure it anew, or add it by `quickstudy leaderboard --add`, which writes it."
    said = json.dumps(one["input"], default=str)
    return f"{field}: {one['msg'][:1].lower()}{one['msg'][1:]}, found {said[:60]}; measure it anew."


def read_result(path: Path) -> tuple[Result, dict[str, Any] | None]:
    """A result's file, with or without a provenance; the result is checked.

    Raises:
        DataError: it is missing, cut off, or has missing or impossible fields; each is named.
    """
    try:
        about = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"Cannot read the result {path}: {error.strerror}. Check the path.") from error
    except ValueError as error:
        raise DataError(f"Cannot read the result {path}: it is no JSON ({error}). Copy it again.") from error
    if not isinstance(about, dict):
        raise DataError(f"Cannot read the result {path}: expected a JSON object, found {type(about).__name__}.")
    provenance = about.pop("provenance", None)
    if provenance is not None and not isinstance(provenance, dict):
        raise DataError(f"Cannot read the result {path}: provenance is {type(provenance).__name__}, not an object.")
    _check_lengths(path, about)
    result = Result.from_json(json.dumps(about), str(path))
    check_result(path, result)
    return result, provenance


def _check_lengths(path: Path, about: dict[str, Any]) -> None:
    figures, episodes = about.get("per_episode"), about.get("episodes")
    if isinstance(figures, list) and isinstance(episodes, int) and len(figures) != episodes:
        raise DataError(
            f"{path} cannot be right: episodes is {episodes}, and per_episode has {len(figures)} figures. It was cut "
            "or edited; copy it from its run again."
        )


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
    values = np.array(result.per_episode, dtype=np.float64)
    yield from _wrong_figures(result.metric, "per_episode", values, result)
    median = float(np.median(values)) if len(values) else math.nan
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
    if result.first < 0 or result.seed < 0:
        yield f"first is {result.first} and seed is {result.seed}: expected whole numbers from 0 on"
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
        if wide is not None and not wide >= 0:
            yield f"{where}{more} is {wide:g}, and a half-width is 0 or more"


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
