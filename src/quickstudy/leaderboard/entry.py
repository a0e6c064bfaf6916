"""Floor 6: a row's file: a result with its provenance, held to what figures can be.

``results/<study>/*.json`` (benchmarks/results.py), ``results/reproduce/*.json`` (``quickstudy reproduce``) and
``results/leaderboard/*.json`` (``quickstudy leaderboard --add``) are such files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from quickstudy.errors import DataError
from quickstudy.evaluate import Result
from quickstudy.evaluate.kept import read_result
from quickstudy.evaluate.robustness import Robustness

__all__ = ["Checked", "Energy", "Entry", "Provenance", "read_entry", "read_result"]


class _Facts(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has characters that cannot be printed, such as those that steer a terminal")
    return text


Printable: TypeAlias = Annotated[str, AfterValidator(_printable)]


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
        commit: of quickstudy's sources, then; None where they are no checkout.
        made: the day, UTC.
    """

    episodes: tuple[int, ...] = Field(min_length=1)
    difference: float = Field(ge=0)
    tolerance: str
    torch: str
    commit: str | None = None
    made: str


class Provenance(_Facts):
    """How a row came about. What a kind of file does not say is None, or empty; fields of other tools are passed over.

    Args:
        row: what the row is called.
        versions: of packages, and what it ran on: ``quickstudy``, ``torch``, ``processor``, ``cpus`` ...
        recipe: name of the recipe.
        recipe_hash: of the recipe that was trained.
        recipe_said: of what that recipe's file said, which only somebody who edits it changes.
        settings: that recipe itself, with every default written out.
        claim: the published figure that it reproduces.
        protocol: digest of that claim's recipe and test, as they were then.
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

    row: Printable = Field(min_length=1)
    versions: dict[str, Any] = Field(min_length=1)
    recipe: str = ""
    recipe_hash: str = ""
    recipe_said: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    settings: dict[str, Any] | None = None
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
    by: Printable | None = None
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
    robust = about.robustness
    if robust is not None and not (robust.stands_beside(result) and robust.is_of(about.weights_sha256)):
        raise DataError(
            f"{path} cannot be right: provenance.robustness is of another recipe, checkpoint or tasks than the result. "
            "Measure both by `quickstudy evaluate RUN --robustness`."
        )
    return Entry(path, result, about)


def _in_words(one: Any) -> str:
    field = ".".join(str(part) for part in ("provenance", *one["loc"]))
    if one["type"] == "missing":
        return f"{field} is missing: measure it anew, or add it by `quickstudy leaderboard --add`, which writes it."
    said = json.dumps(one["input"], default=str)
    return f"{field}: {one['msg'][:1].lower()}{one['msg'][1:]}, found {said[:60]}; measure it anew."
