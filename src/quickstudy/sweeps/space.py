"""Floor 6: what a sweep varies: keys of a recipe, each over a range or a choice.

    learner.inner-lr = log:0.01:1       a number, drawn evenly on a logarithmic scale
    net.dropout      = float:0:0.5      a number, drawn evenly
    learner.inner-steps = int:1:10      a whole number (intlog:1:100 on a logarithmic scale)
    net.norm         = choice:task,group     one of these; in a file a list

A file says the same in the tables of a recipe: ``[learner]`` and then ``inner-lr = "log:0.01:1"``.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from quickstudy.errors import InputError
from quickstudy.recipes import Recipe
from quickstudy.recipes.load import parse_recipe
from quickstudy.recipes.overrides import read_value
from quickstudy.recipes.schema import kebab

__all__ = ["Dimension", "Suggests", "check_space", "default_space", "read_dimension", "read_search"]

_KINDS = ("log", "float", "int", "intlog", "choice")
_FORMS = "log:0.01:1, float:0:0.5, int:1:10, intlog:1:100 or choice:a,b"

_YARDSTICK = (
    *("evaluate", "episodes.validation", "episodes.test", "train.validate-every", "train.validate-episodes"),
    *("train.role", "data.name", "data.path", "name", "seed"),
)
"""Keys that say how trials are measured, on what, or how lucky they are: what is chosen must not depend on them."""


class Suggests(Protocol):
    """A trial that values are drawn for; Optuna has it."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of these."""


@dataclass(frozen=True)
class Dimension:
    """A key of the recipe and what it may be.

    Args:
        key: dotted, as on the command line: ``"learner.inner-lr"``.
        kind: ``"log"``, ``"float"``, ``"int"``, ``"intlog"`` or ``"choice"``.
        low: the smallest value; 0 of a choice.
        high: the largest.
        choices: of a choice, JSON types.
    """

    key: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[Any, ...] = ()

    @property
    def log(self) -> bool:
        """Whether it is drawn, and drawn in figures, on a logarithmic scale."""
        return self.kind in ("log", "intlog")

    @property
    def ends(self) -> tuple[Any, ...]:
        """Its smallest and largest value, or all choices."""
        return self.choices if self.kind == "choice" else (self._number(self.low), self._number(self.high))

    def __str__(self) -> str:
        """As it is written on the command line."""
        if self.kind == "choice":
            return "choice:" + ",".join(one if isinstance(one, str) else json.dumps(one) for one in self.choices)
        return ":".join([self.kind, *(_written(end) for end in self.ends)])

    def suggest(self, trial: Suggests) -> Any:
        """The trial's value of it."""
        low, high = self._number(self.low), self._number(self.high)
        if self.kind == "choice":
            kept = trial.suggest_categorical(self.key, [self.kept(one) for one in self.choices])
            return next(one for one in self.choices if self.kept(one) == kept)
        if self.kind in ("int", "intlog"):
            return trial.suggest_int(self.key, low, high, log=self.log)
        return trial.suggest_float(self.key, low, high, log=self.log)

    def kept(self, value: Any) -> Any:
        """A value as it stands in the journal: lists, which Optuna does not keep, as JSON."""
        return json.dumps(value) if isinstance(value, list | dict) else value

    def holds(self, value: Any) -> bool:
        """Whether a value lies in the range, or is one of the choices."""
        if self.kind == "choice":
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        whole = self.kind == "log" or self.kind == "float" or float(value).is_integer()
        return whole and self._number(self.low) <= value <= self._number(self.high)

    def record(self) -> dict[str, Any]:
        """What is kept of it, as JSON."""
        return {"key": self.key, "range": list(self.choices) if self.kind == "choice" else str(self)}

    def _number(self, end: float) -> Any:
        return int(end) if self.kind in ("int", "intlog") else float(end)


def _written(end: float) -> str:
    """As short as it can be read back from."""
    short = f"{end:g}"
    return short if float(short) == end else repr(end)


def read_dimension(key: str, given: Any) -> Dimension:
    """What ``--vary KEY=RANGE`` or a line of a file says.

    Args:
        key: dotted.
        given: a range as text, or a list of choices.

    Raises:
        InputError: it is no range, or an empty one.

    >>> read_dimension("learner.inner-lr", "log:0.01:1").ends
    (0.01, 1.0)
    >>> str(read_dimension("net.norm", ["task", "group"]))
    'choice:task,group'
    """
    if isinstance(given, list):
        return _choice(key, given)
    kind, _, rest = given.partition(":") if isinstance(given, str) else ("", "", "")
    if kind not in _KINDS:
        raise InputError(f"Cannot vary {key} over {given!r}: expected a range such as {_FORMS}.")
    if kind == "choice":
        return _choice(key, _choices(rest))
    parts = rest.split(":")
    read = [_as_number(part, whole=kind in ("int", "intlog")) for part in parts]
    ends = [end for end in read if end is not None]
    if not len(ends) == len(parts) == 2:
        what = "two whole numbers" if kind in ("int", "intlog") else "two numbers"
        raise InputError(f"Cannot vary {key} over {given!r}: expected {what}, as in {_example(kind)}.")
    low, high = ends
    if low >= high:
        raise InputError(f"Cannot vary {key} over {given!r}: the first number must be below the second.")
    if kind in ("log", "intlog") and low <= 0:
        raise InputError(
            f"Cannot vary {key} over {given!r}: on a logarithmic scale numbers are above 0, found {low:g}. "
            f"Take a small one, or {'float' if kind == 'log' else 'int'}:{low:g}:{high:g}."
        )
    return Dimension(key, kind, low, high)


def _choice(key: str, choices: Sequence[Any]) -> Dimension:
    found: list[Any] = []
    for one in choices:
        if one not in found:
            found.append(one)
    if len(found) < 2:
        raise InputError(f"Cannot vary {key}: a choice needs two different values or more, found {list(choices)!r}.")
    return Dimension(key, "choice", choices=tuple(found))


def _choices(text: str) -> list[Any]:
    """``a,b`` or ``[1, 2],[3]``: what stands between commas outside of brackets, each read as in TOML."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [read_value(part.strip()) for part in parts if part.strip()]


def _as_number(text: str, *, whole: bool) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and (not whole or value.is_integer()) else None


def _example(kind: str) -> str:
    return {"log": "log:0.01:1", "float": "float:0:0.5", "int": "int:1:10", "intlog": "intlog:1:100"}[kind]


def read_search(path: Path) -> list[Dimension]:
    """The search space of a TOML file.

    Raises:
        InputError: it cannot be read, or says something that is no range.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"Cannot read the search space {path}: {error}. Give the path of a TOML file.") from error
    found = [read_dimension(key, given) for key, given in _flat(document)]
    if not found:
        raise InputError(
            f'The search space {path} is empty. Say what to vary, such as [train] and lr = "log:1e-4:1e-2".'
        )
    return found


def _flat(tables: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tables.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return found


def check_space(space: Sequence[Dimension], base: str) -> None:
    """Whether the recipe has these keys, and takes the ends of the ranges.

    Args:
        space: what is varied.
        base: the recipe, TOML.

    Raises:
        InputError: it does not; or a key decides how trials are measured, or is given twice.
    """
    seen: set[str] = set()
    for one in space:
        if one.key in seen:
            raise InputError(f"Cannot vary {one.key} twice. Give it one range.")
        seen.add(one.key)
        if any(one.key == key or one.key.startswith(f"{key}.") for key in _YARDSTICK):
            raise InputError(
                f"Cannot vary {one.key}: it decides by what, or on what, trials are measured, so that the best would "
                f"be the one with the easiest measure. Set it for all trials: --{one.key} VALUE."
            )
        for value in one.ends:
            try:
                parse_recipe(base, source="the recipe", overrides={one.key: value})
            except InputError as error:
                said = str(error).removeprefix(f"--{one.key}: ")
                raise InputError(f"Cannot vary {one.key} over {one}: {said}") from error


# --- a space of its own for each learner ---------------------------------------------------------

_SCALES = (
    *("inner_lr", "test_inner_lr", "lr", "outer_lr", "rate", "weight_decay", "penalty", "film_penalty", "c"),
    *("temperature", "contrast_temperature", "scale", "test_scale", "strength", "noise", "sharpness"),
)
"""Options whose order of magnitude matters: from a tenth to ten times what the recipe says."""
_COUNTS = ("inner_steps", "test_inner_steps", "steps", "cg_steps", "k", "neighbours", "trees")
"""Options that count: from one to twice what the recipe says."""


def default_space(recipe: Recipe, *, whole_step: bool = False) -> list[Dimension]:
    """What is worth varying of a recipe: its learning rates, the steps and the strengths of its learner.

    Args:
        recipe: resolved.
        whole_step: the learner's meta-gradient is the step itself, so that the outer rate is 1.

    Raises:
        InputError: it has nothing of the kind.
    """
    found = []
    if recipe.train.steps and not whole_step:
        found.append(_around("train.lr", recipe.train.lr))
        if recipe.train.weight_decay:
            found.append(_around("train.weight-decay", recipe.train.weight_decay))
    if recipe.pretrain is not None:
        found.append(_around("pretrain.lr", recipe.pretrain.lr))
    options = recipe.learner.options
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            continue
        key = f"learner.{kebab(name)}"
        if name in _SCALES:
            found.append(_around(key, value))
        elif name in _COUNTS:
            least = 2 if options.get("head") == "shared" and name.endswith("inner_steps") else 1
            kind, high = ("intlog" if value > 20 else "int"), max(2 * value, least + 4)
            found.append(Dimension(key, kind, least, high))
    if not found:
        raise InputError(
            f"There is nothing that a sweep of {recipe.name} would vary by itself: the learner {recipe.learner.name} "
            f"has no rate and no number of steps. Say what to vary: --vary KEY=RANGE, such as {_FORMS}."
        )
    return found


def _around(key: str, value: float) -> Dimension:
    return Dimension(key, "log", float(f"{value / 10:.3g}"), float(f"{value * 10:.3g}"))
