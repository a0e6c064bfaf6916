"""Floor 5: the options of a learner, a network or a data set, read off its constructor.

There is no list of options to keep beside the code: an argument of the constructor is an option, its annotation
the type, its default the default. So classes of outside packages are checked as strictly as our own.
"""

from __future__ import annotations

import functools
import inspect
import json
from typing import Any

from pydantic import ConfigDict, Field, create_model

from quickstudy.data.registry import data_sets
from quickstudy.learners.registry import learners
from quickstudy.nets.registry import nets
from quickstudy.recipes.schema import Table, kebab
from quickstudy.registry import Registry

__all__ = ["PROVIDED", "REGISTRIES", "arguments", "default", "needs", "options_model", "plain", "takes"]

REGISTRIES: dict[str, Registry] = {"learner": learners, "net": nets, "data": data_sets}

PROVIDED: dict[str, tuple[str, ...]] = {
    "learner": (
        "net",
        "outputs",
        "target",
        "classes",
        "example",
        "in_channels",
        "image_size",
        "in_features",
        "seed",
        "environment",
    ),
    "net": ("outputs", "target", "example", "in_channels", "image_size", "in_features", "vocabulary", "seed"),
    "data": ("root",),
}
"""Arguments that ``building`` fills in from the rest of the recipe, and that are therefore no options."""


class Options(Table):
    """What the tables made by :func:`options_model` share."""

    model_config = ConfigDict(arbitrary_types_allowed=True)


# A field of a pydantic model may not be called `copy` or `schema`, an argument of a constructor may.
_FIELD = "option_"


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The constructor's named arguments."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    signature = inspect.signature(cls, eval_str=True)
    return {name: parameter for name, parameter in signature.parameters.items() if parameter.kind in named}


def takes(cls: type, name: str) -> bool:
    """Whether the constructor has an argument of that name."""
    return name in _parameters(cls)


def needs(cls: type, name: str) -> bool:
    """Whether the constructor cannot be called without it."""
    return takes(cls, name) and _parameters(cls)[name].default is inspect.Parameter.empty


def default(cls: type, name: str) -> Any:
    """The default of an option; None when it has none."""
    given = _parameters(cls)[name].default
    return None if given is inspect.Parameter.empty else given


@functools.cache
def options_model(table: str, cls: type) -> type[Table]:
    """A model whose keys are the options of ``cls``, in kebab-case.

    A data set's ``root`` is filled in by ``building``, and may be given as the option ``path``.

    Args:
        table: ``"learner"``, ``"net"`` or ``"data"``.
        cls: the registered class.
    """
    fields: dict[str, Any] = {}
    for name, parameter in _parameters(cls).items():
        if table == "data" and name == "root":
            fields[_FIELD + "path"] = (str | None, Field(None, alias="path"))
        elif name not in PROVIDED[table]:
            kind = Any if parameter.annotation is inspect.Parameter.empty else parameter.annotation
            start = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[_FIELD + name] = (kind, Field(start, alias=kebab(name)))
    return create_model(cls.__name__, __base__=Options, **fields)


def plain(options: Table) -> dict[str, Any]:
    """The options by their Python names, as JSON types; those that are None are left out, as TOML has no null."""
    dumped = options.model_dump(mode="json", by_alias=False, exclude_none=True)
    return {name.removeprefix(_FIELD): value for name, value in dumped.items()}


def arguments(table: str, cls: type, options: dict[str, Any]) -> dict[str, Any]:
    """What :func:`plain` gave, as the constructor's annotations want it: lists become tuples, text a Path."""
    text = json.dumps({kebab(name): value for name, value in options.items()})
    read = options_model(table, cls).model_validate_json(text)
    return {name.removeprefix(_FIELD): getattr(read, name) for name in read.model_fields_set}
