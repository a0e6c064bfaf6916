"""Floor 6: published figures as claims: a protocol that can be run, and what the paper says comes out.

Each file of ``claims/`` is a family, such as all of one paper:

    [every]                          what each claim says unless it says otherwise
    recipe, notes, source, read
    [every.overrides]                dotted keys of the recipe -> values
    [[claims]]
    name, title, recipe, overrides   what ``quickstudy reproduce NAME`` trains
    training                         or another claim, whose trained learner is tested here as well
    test                             how it is tested where the recipe says otherwise
    published                        the paper's figure and its interval, in its own unit (percent for accuracies)
    reruns                           what others got who ran the same method, with their sources

A figure stands here only if it was read in the paper or in a copy that is named; one that nobody verified is left out,
and the claim's protocol can be run all the same.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from quickstudy.errors import InputError, UnknownName
from quickstudy.evaluate.intervals import Z95
from quickstudy.metrics import metric
from quickstudy.recipes import Recipe, load_recipe
from quickstudy.recipes.load import recipe_path, said_by
from quickstudy.recipes.mistakes import mistakes_of, refuse
from quickstudy.recipes.schema import Table
from quickstudy.reproduce.verdict import Target

__all__ = ["AtTest", "Claim", "Published", "Rerun", "claim", "claims", "read_claims"]

_FOLDER = Path(__file__).parent / "claims"
_T = TypeVar("_T", bound=Table)


class Published(Table):
    """What a paper says.

    Args:
        mean: as printed: percent for accuracies.
        ci95: half-width of its 95 % interval, as printed; None where it prints none.
    """

    mean: float
    ci95: float | None = Field(default=None, ge=0)


class Rerun(Table):
    """What somebody else got who ran the method.

    Args:
        mean: as printed.
        ci95: half-width of its interval, where there is one.
        source: who.
        note: what differs from the paper's protocol.
    """

    mean: float
    ci95: float | None = Field(default=None, ge=0)
    source: str
    note: str = ""


class AtTest(Table):
    """How the learner is tested, where the recipe says otherwise; see ``quickstudy.evaluate``."""

    way: int | None = None
    shot: int | None = None
    query: int | None = None
    episodes: int | None = Field(default=None, ge=2)
    checkpoint: Literal["best", "last"] = "last"
    overrides: dict[str, Any] = Field(default_factory=dict)


class Claim(Table):
    """A published figure, and what to run to get it.

    Args:
        name: what ``quickstudy reproduce`` takes.
        title: the method and the task, in words.
        metric: of ``quickstudy.metrics``.
        recipe: name of the recipe that is the base of the protocol.
        overrides: dotted key -> value, which make the published protocol of it.
        training: another claim that is trained alike, whose run is tested here as well.
        test: how it is tested.
        published: the paper's figure; None where none was verified.
        reruns: independent ones.
        source: the paper, and where in it.
        read: how the figure was read.
        notes: what of the protocol is not known, or differs here.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    title: str
    metric: Literal["accuracy", "mse"] = "accuracy"
    recipe: str
    overrides: dict[str, Any] = Field(default_factory=dict)
    training: str | None = None
    test: AtTest = AtTest()
    published: Published | None = None
    reruns: tuple[Rerun, ...] = ()
    source: str
    read: str
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _in_its_unit(self) -> Claim:
        figures = [one.mean for one in (self.published, *self.reruns) if one is not None]
        if metric(self.metric).percent and not all(1 < one <= 100 for one in figures):
            raise ValueError(f"accuracies are in percent, from 1 to 100, received {figures}")
        return self

    @property
    def unit(self) -> float:
        """What a printed figure is divided by to be one of ours."""
        return 100.0 if metric(self.metric).percent else 1.0

    @property
    def band(self) -> tuple[float, float] | None:
        """Lowest and highest mean of the re-runs, as ours; None for fewer than two."""
        means = [one.mean / self.unit for one in self.reruns]
        return (min(means), max(means)) if len(means) > 1 else None

    @property
    def target(self) -> Target | None:
        """What ours is compared with."""
        if self.published is None:
            return None
        se = (self.published.ci95 or 0.0) / self.unit / Z95
        return Target(self.published.mean / self.unit, se, self.band)

    def recipe_of(self, seed: int, *, tested: bool = False) -> Recipe:
        """What is trained for one seed, with every default written out; or how that is tested, but for sizes."""
        given = {**self.overrides, **(self.test.overrides if tested else {})}
        return load_recipe(self.recipe, {**given, "seed": seed, "name": self.training or self.name})

    @property
    def tested_sizes(self) -> dict[str, Any]:
        """Way, shot and query of the tasks that it is tested on."""
        size = self.recipe_of(0).episodes.test
        asked = {name: getattr(self.test, name) for name in ("way", "shot", "query")}
        return {name: getattr(size, name) if value is None else value for name, value in asked.items()}

    def protocol(self, seed: int) -> str:
        """Hex digest of all that makes the figure: what the recipe's file says, what is changed of it, and the test.

        Not of the recipe with its defaults written out, which grows with each option that a learner gets: results
        would be of another protocol after every one.
        """
        said = said_by(recipe_path(self.recipe))
        test = self.test.model_dump(mode="json", exclude_none=True)
        content = [said, dict(sorted(self.overrides.items())), seed, test]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class _Family(Table):
    every: dict[str, Any] = Field(default_factory=dict)
    claims: tuple[dict[str, Any], ...] = Field(min_length=1)


_MERGED = ("overrides", "test")


def read_claims(text: str, source: str) -> list[Claim]:
    """The claims of one file.

    Args:
        text: TOML.
        source: how messages call it.

    Raises:
        InputError: it is not TOML, or says something that no claim says; names the key.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source} is not TOML: {error}.") from error
    family = _checked(_Family, document, source)
    found: dict[str, Claim] = {}
    for entry in family.claims:
        whole = _with_every(family.every, entry)
        if isinstance(entry.get("training"), str):
            whole = _as_trained(whole, entry, found, source)
        one = _checked(Claim, whole, f"{source}, the claim {entry.get('name')!r}")
        if one.name in found:
            raise InputError(f"{source} has two claims called {one.name!r}. Give each a name of its own.")
        found[one.name] = one
    return list(found.values())


def _with_every(every: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    whole = {**every, **entry}
    for table in _MERGED:
        if isinstance(every.get(table), dict) and isinstance(entry.get(table), dict):
            whole[table] = {**every[table], **entry[table]}
    whole["notes"] = [*every.get("notes", []), *entry.get("notes", [])]
    return whole


def _as_trained(
    whole: dict[str, Any], entry: Mapping[str, Any], found: Mapping[str, Claim], source: str
) -> dict[str, Any]:
    """The same with recipe and overrides of the claim whose training it shares, which stands before it."""
    own = sorted({"recipe", "overrides"} & set(entry))
    if own:
        raise InputError(
            f"{source}, the claim {entry.get('name')!r} shares the training of {entry['training']!r} and has "
            f"{' and '.join(own)} of its own. Leave one of them out."
        )
    if entry["training"] not in found:
        raise UnknownName.among(f"claim before {entry.get('name')!r} in {source}", entry["training"], found)
    trained = found[entry["training"]]
    return whole | {
        "recipe": trained.recipe,
        "overrides": trained.overrides,
        "training": trained.training or trained.name,
    }


def _checked(model: type[_T], document: dict[str, Any], source: str) -> _T:
    try:
        return model.model_validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        raise refuse(source, mistakes_of(error, document, model), ()) from error


def claims() -> dict[str, Claim]:
    """All that ship, by name, family after family."""
    return _claims_in(_FOLDER)


@cache
def _claims_in(folder: Path) -> dict[str, Claim]:
    found: dict[str, Claim] = {}
    for path in sorted(folder.glob("*.toml")):
        for one in read_claims(path.read_text(encoding="utf-8"), path.name):
            if one.name in found:
                raise InputError(f"{path.name}: there is another claim called {one.name!r}. Rename one of them.")
            found[one.name] = one
    return found


def claim(name: str) -> Claim:
    """The claim of that name.

    Raises:
        UnknownName: there is none; names the nearest.
    """
    known = claims()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}? " if near else ""  # not all of them, which are many
        raise UnknownName(f"There is no claim called {name!r}. {hint}`quickstudy reproduce` lists all.")
    return known[name]
