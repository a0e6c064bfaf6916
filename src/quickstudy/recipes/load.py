"""Floor 5: a recipe from its name or its file, with every mistake in it told at once.

TOML is read, overrides are applied, [learner], [net] and [data] are checked against the constructors of their
classes, then the whole against the schema; what comes out has every default written out.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from quickstudy.errors import InputError, UnknownName
from quickstudy.learners.learner import AbstractLearner
from quickstudy.recipes.mistakes import Mistake, mistakes_of, refuse
from quickstudy.recipes.overrides import apply_overrides
from quickstudy.recipes.parts import REGISTRIES, default, needs, options_model, plain, takes
from quickstudy.recipes.registry import recipes
from quickstudy.recipes.schema import Recipe

__all__ = ["digest_of_file", "load_recipe", "parse_recipe", "recipe_path", "said_by"]


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe with all its defaults written out.

    Args:
        name_or_path: the name of a recipe that ships or that an installed package brings; or the path of a TOML
            file (it ends in ``.toml``, or has a folder in it).
        overrides: dotted key -> value, such as ``{"learner.inner-lr": 0.2}``; a text is read as TOML reads it.

    Raises:
        UnknownName: no recipe has that name.
        InputError: the file cannot be read, or says something that a recipe cannot say; all mistakes at once.
    """
    path = recipe_path(name_or_path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"There is no recipe file {path}. `quickstudy list recipes` names those that ship.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the recipe file {path}: {error}. Give the path of a TOML file.") from error
    return parse_recipe(text, source=path.name, folder=path.parent, overrides=overrides)


def recipe_path(name_or_path: str | Path) -> Path:
    """Where a recipe's file lies.

    Raises:
        UnknownName: no recipe has that name.
    """
    given = str(name_or_path)
    is_path = isinstance(name_or_path, Path) or given.endswith(".toml") or "/" in given or "\\" in given
    return Path(given) if is_path else Path(recipes.get(given))


@cache
def said_by(path: Path) -> dict[str, Any]:
    """A recipe's file without its comments, its name and its seed."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in document.items() if key not in ("name", "seed")}


def digest_of_file(name_or_path: str | Path) -> str:
    """Hex digest of what a recipe's file says.

    Not of the recipe with its defaults written out (``recipe_hash``), which grows with each option that a learner gets:
    by this one a result that was measured before is still of the recipe, until somebody edits that.

    Raises:
        UnknownName: no recipe has that name.
    """
    return hashlib.sha256(json.dumps(said_by(recipe_path(name_or_path)), sort_keys=True).encode()).hexdigest()


def parse_recipe(
    text: str, *, source: str, folder: Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """:func:`load_recipe` for TOML that is already in memory.

    Args:
        text: TOML.
        source: how messages call it, usually the file's name.
        folder: what a relative path in the text's [data] counts from; the working folder by default.
        overrides: see :func:`load_recipe`.
    """
    overrides = dict(overrides or {})
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source} is not TOML: {error}.") from error
    _make_absolute(document, folder or Path())
    _write_out_sizes(document, overrides)
    document, mistakes = apply_overrides(document, overrides)
    _make_absolute(document, Path())  # for a path among the overrides
    if isinstance(overrides.get("name"), str) and not isinstance(document["name"], str):
        document["name"] = overrides["name"]  # `--name 2024` is a number to TOML, and a name here
    resolved = dict(document)
    for table in REGISTRIES.keys() & document.keys():
        resolved[table] = _part(table, document[table], mistakes)
    _check_pairing(document, resolved, mistakes)
    try:
        # JSON, because there a strict pydantic takes a list for a tuple, as TOML means it, but no text for a number.
        recipe = Recipe.model_validate_json(json.dumps(resolved, default=str))
    except ValidationError as error:
        mistakes += mistakes_of(error, document, Recipe)
    if mistakes:
        raise refuse(source, mistakes, overrides)
    return recipe


_PATHS = ("path", "folder", "file", "files", "items")  # options of [data] that name files of the user's


def _make_absolute(document: dict[str, Any], folder: Path) -> None:
    """A relative path counts from the recipe's own folder, so that the recipe can be used from anywhere."""
    data = document.get("data")
    if not isinstance(data, dict):
        return
    for key in _PATHS:
        if isinstance(data.get(key), str) and "://" not in data[key]:  # an address is whole already
            data[key] = str((folder / Path(data[key]).expanduser()).absolute())


def _write_out_sizes(document: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """A table of sizes that is left out is as another one; overrides change single sizes of it."""
    episodes = document.get("episodes")
    for name, other in (("train", "test"), ("test", "train"), ("validation", "test"), ("validation", "train")):
        overridden = any(key.startswith(f"episodes.{name}.") for key in overrides)
        if overridden and isinstance(episodes, dict) and name not in episodes and isinstance(episodes.get(other), dict):
            episodes[name] = dict(episodes[other])


def _wrong_kind(table: str, entry: Any) -> str | None:
    """What an entry is that cannot make what its registry is of; None where it can. Functions may make it too."""
    kind = {"learner": AbstractLearner, "net": nn.Module}.get(table)
    if isinstance(entry, type):
        return None if kind is None or issubclass(entry, kind) else f"the class {entry.__name__}, not {_KINDS[table]}"
    return None if callable(entry) else f"{entry!r}, which nothing can be built from"


_KINDS = {"learner": "an AbstractLearner", "net": "a torch.nn.Module"}


def _part(table: str, given: Any, mistakes: list[Mistake]) -> Any:
    """[learner], [net] or [data] as ``{"name", "options"}``; what is no table at all is left for the schema."""
    if not isinstance(given, dict):
        return given
    options = {key: value for key, value in given.items() if key != "name"}
    if not isinstance(given.get("name"), str):
        key = f"{table}.name"
        wrong = f"{key}: expected text, found {given['name']!r}." if "name" in given else f"{key} is missing."
        mistakes.append(Mistake(key, wrong))
        return {"name": ""}
    placeholder = {"name": given["name"]}
    try:
        cls = REGISTRIES[table].get(given["name"])
        wrong_kind = _wrong_kind(table, cls)
        if wrong_kind is not None:
            sentence = (
                f"the {REGISTRIES[table].kind} {given['name']!r} is {wrong_kind}; mend its package, or use another."
            )
            mistakes.append(Mistake(f"{table}.name", sentence))
            return placeholder
        model = options_model(table, cls)
        return {**placeholder, "options": plain(model.model_validate_json(json.dumps(options, default=str)))}
    except UnknownName as error:
        mistakes.append(Mistake(f"{table}.name", str(error)))
    except ValidationError as error:
        mistakes += mistakes_of(error, options, model, prefix=f"{table}.")
    return placeholder


def _check_pairing(document: dict[str, Any], resolved: dict[str, Any], mistakes: list[Mistake]) -> None:
    """Whether learner and network go together; the network's norm, when none is given, is the learner's choice."""
    try:
        learner = REGISTRIES["learner"].get(resolved["learner"]["name"])
        net = REGISTRIES["net"].get(resolved["net"]["name"]) if "net" in resolved else None
    except (KeyError, TypeError, InputError):
        return  # told already, or about to be
    if _wrong_kind("learner", learner) or (net is not None and _wrong_kind("net", net)):
        return
    name = resolved["learner"]["name"]
    if net is None:
        if needs(learner, "net"):
            mistakes.append(Mistake("net", f"the learner {name!r} needs a network; add a table [net] with its name."))
        return
    if not takes(learner, "net"):
        mistakes.append(Mistake("net", f"the learner {name!r} takes no network; remove the table [net]."))
    wants_norm = takes(net, "norm") and default(net, "norm") != "none" and "norm" not in document["net"]
    if wants_norm and "options" in resolved["net"] and "options" in resolved["learner"]:
        transductive = bool(resolved["learner"]["options"].get("transductive", False))
        # A learner from outside may leave the choice to the network.
        choose = getattr(learner, "default_norm", None)
        if choose is not None:
            resolved["net"]["options"]["norm"] = choose(transductive=transductive)
