"""Floor 5: a recipe as TOML, and its hash."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from quickstudy.recipes.schema import Recipe, kebab

__all__ = ["recipe_hash", "to_toml"]

_PARTS = ("learner", "net", "data")


def to_toml(recipe: Recipe) -> str:
    """The recipe as text that loads back to an equal recipe, every default written out.

    Raises:
        TypeError: an option is something that TOML cannot say.
    """
    document = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    for part in set(_PARTS) & set(document):
        options = document[part].pop("options")
        document[part] |= {kebab(name): value for name, value in options.items()}
    sizes = document.pop("episodes")
    head = {key: value for key, value in document.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    at = list(tables).index("pretrain" if "pretrain" in tables else "train")
    ordered = [*list(tables.items())[:at], *((f"episodes.{role}", size) for role, size in sizes.items())]
    ordered += list(tables.items())[at:]
    blocks = [_lines(head), *(f"[{name}]\n{_lines(table)}" for name, table in ordered)]
    return "\n".join(blocks)


def _lines(table: dict[str, Any]) -> str:
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in table.items())


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else _text(key)


def _text(text: str) -> str:
    # JSON's escapes are TOML's; TOML wants one more character escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items()) + " }"
    raise TypeError(f"TOML has no way to write {value!r} ({type(value).__name__}).")


def recipe_hash(recipe: Recipe) -> str:
    """Hex digest of everything in a recipe that makes its result: all but its name and where files lie."""
    document = recipe.settings(exclude={"name": True})
    document["data"]["options"].pop("path", None)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
