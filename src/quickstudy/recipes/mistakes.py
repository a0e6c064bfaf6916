"""Floor 5: what is wrong with a recipe, in sentences that name the key, what was expected and what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from quickstudy.errors import InputError, UnknownName

__all__ = ["Mistake", "mistakes_of", "refuse"]

# What pydantic calls a mistake -> what was expected instead.
_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dict_type": "a table",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number from {ge:g} on",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number up to {le:g}",
    "literal_error": "{expected}",
    "union_tag_invalid": "{expected_tags}",
    "string_pattern_mismatch": "letters, digits, '.', '_', '+' and '-' only",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
}


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong: the key it is about (``train.steps``), and the sentence without its source."""

    key: str
    sentence: str


def mistakes_of(
    error: ValidationError, document: Mapping[str, Any], model: type[BaseModel], prefix: str = ""
) -> list[Mistake]:
    """The mistakes that pydantic found, one a key.

    Args:
        error: what it raised.
        document: the tables that were read.
        model: what they were read as.
        prefix: what stands before their keys, such as ``"learner."``.
    """
    expected: dict[str, list[str]] = {}
    found: dict[str, Any] = {}
    mistakes = []
    for detail in error.errors(include_url=False):
        kind, path = detail["type"], _path_in(detail, document)
        key = prefix + ".".join(path)
        if kind in ("missing", "union_tag_not_found"):
            mistakes.append(Mistake(key, f"{key} is missing."))
        elif kind == "extra_forbidden":
            known = [prefix + ".".join([*path[:-1], name]) for name in _keys(model, path[:-1], document)]
            mistakes.append(Mistake(key, str(UnknownName.among("key", key, known))))
        elif kind == "value_error":
            mistakes.append(Mistake(key, f"{key}: {str(detail['ctx']['error']).rstrip('.')}."))
        else:
            expected.setdefault(key, []).append(_expected(detail))
            found[key] = _value(path, document)
    for key, alternatives in expected.items():
        what = " or ".join(dict.fromkeys(alternatives))
        mistakes.append(Mistake(key, f"{key}: expected {what}, found {found[key]!r}."))
    return mistakes


def _expected(detail: ErrorDetails) -> str:
    template = _EXPECTED.get(detail["type"])
    return template.format(**detail.get("ctx", {})) if template else detail["msg"]


def _path_in(detail: ErrorDetails, document: Mapping[str, Any]) -> list[str]:
    """The keys of the document that lead to a mistake, without the branches of unions that pydantic tried."""
    path: list[str] = []
    here: Any = document
    for step in detail["loc"]:
        if isinstance(here, Mapping) and step in here:
            here = here[step]
            path.append(str(step))
    if detail["type"] == "missing":
        path.append(str(detail["loc"][-1]))
    if detail["type"].startswith("union_tag") and not isinstance(here, str):  # a name alone stands for its table
        path.append("name")
    return path


def _value(path: list[str], document: Any) -> Any:
    for step in path:
        document = document[step]
    return document


def _keys(model: type[BaseModel], path: list[str], document: Any) -> list[str]:
    """The keys that the table at ``path`` may have."""
    for step in path:
        document = document[step]
        field = next(field for name, field in model.model_fields.items() if (field.alias or name) == step)
        model = next(kind for kind in _tables(field.annotation) if _tag_fits(kind, document))
    return [field.alias or name for name, field in model.model_fields.items()]


def _tables(annotation: Any) -> list[type[BaseModel]]:
    """The tables that an annotation such as ``Constant | Step | Decay`` or ``TaskSize | None`` allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _tables(argument)]


def _tag_fits(model: type[BaseModel], document: Any) -> bool:
    name = model.model_fields.get("name")
    tags = get_args(name.annotation) if name else ()
    return not tags or document.get("name") in tags


def refuse(source: str, mistakes: list[Mistake], overrides: Iterable[str]) -> InputError:
    """The error that tells all mistakes at once, each with where it was made.

    Args:
        source: the recipe's file name.
        mistakes: at least one.
        overrides: the keys that were given from outside.
    """
    given = list(overrides)
    sentences = []
    for mistake in sorted(mistakes, key=lambda mistake: mistake.key):
        option = next((key for key in given if f"{key}.".startswith(f"{mistake.key}.")), None)
        if option is None:
            sentences.append(f"{source}: {mistake.sentence}")
        else:
            sentences.append(f"--{option}: {mistake.sentence.removeprefix(f'{option}: ')}")
    if len(sentences) == 1:
        return InputError(sentences[0])
    return InputError(f"{len(sentences)} mistakes in this recipe.\n" + "\n".join(f"  {line}" for line in sentences))
