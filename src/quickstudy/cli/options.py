"""Floor 7: options that several commands share, and those that are keys of a recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from quickstudy.errors import InputError, UnknownName

__all__ = ["DataRoot", "Debug", "Device", "Json", "Ranks", "Runs", "Threads", "one_json", "rank_number", "recipe_keys"]

DataRoot = Annotated[
    Path | None,
    typer.Option(help="The folder of data sets; else QUICKSTUDY_DATA, else the platform's user data folder."),
]
Runs = Annotated[Path, typer.Option(help="The folder of runs.")]
Device = Annotated[
    str | None, typer.Option(help="Where to compute: cpu, cuda, cuda:1; by default a GPU if there is one.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads of one operation on the CPU; by default OMP_NUM_THREADS, else 1.")
]
Ranks = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        help="Processes that divide the tasks; auto: on a CPU as many as there are cores, where that pays.",
    ),
]

_VALUE = re.compile(r"[^-]|-[\d.]|-inf|-$")  # what does not look like the next option: "-0.5" is a value


_OWN = {
    "images": ("images", "folder"),
    "sounds": ("sounds", "folder"),
    "texts": ("texts", "file"),
    "ratings": ("ratings", "file"),
    "table": ("table", "file"),
    "bars": ("bars", ""),
    "shards": ("shards", "files"),
    "parquet": ("parquet", "files"),
}
"""Short form for a user's own files -> data set, and its option that takes the path; "" for a file or a folder."""

_MANY = ("shards", "parquet")
"""Those that may be patterns, or lie elsewhere."""

_OF_TABLES = ("group", "target", "time")
"""Short forms for columns of a table."""


def _long_form(key: str, value: str) -> dict[str, str]:
    """``images DIR`` as ``data.name images`` and ``data.folder DIR``, ``environment NAME`` likewise; others as is."""
    if key in _OF_TABLES:
        return {f"data.{key}": value}
    if key == "environment":
        return {"data.name": key, "data.environment": value}
    if key not in _OWN:
        return {key: value}
    elsewhere = key in _MANY and ("://" in value or any(mark in value for mark in "*?[{"))
    if value == "true" or not (elsewhere or Path(value).expanduser().exists()):
        said = "nothing" if value == "true" else f"{value!r}, which does not exist"
        raise InputError(f"--{key}: expected the path of your own files, received {said}.")
    name, option = _OWN[key]
    return {"data.name": name, f"data.{option or ('folder' if Path(value).expanduser().is_dir() else 'file')}": value}


def recipe_keys(context: typer.Context) -> dict[str, str]:
    """The options that the command itself does not know, as dotted keys of a recipe.

    ``--learner.inner-lr 0.2``, ``--learner.inner-lr=0.2``, and ``--learner.first-order`` alone for true. Own files have
    short forms: ``--images DIR`` is ``--data.name images --data.folder DIR``.

    Raises:
        UnknownName: an option without a dot that is neither the command's nor a recipe's; names the nearest.
        InputError: a stray argument, or a key given twice.
    """
    known = [name for parameter in context.command.params for name in parameter.opts if name.startswith("--")]
    keys: dict[str, str] = {}
    for option, value in _pairs(context.args):
        key = option.removeprefix("--")
        short = ("name", "environment", *_OWN, *_OF_TABLES)
        if "." not in key and key not in short:
            if whole := _whole_keys(key):
                nearest = " or ".join(map(repr, whole))
                raise UnknownName(f"There is no option called {option!r}. Did you mean {nearest}?")
            raise UnknownName.among("option", option, [*known, *(f"--{own}" for own in short)])
        for long, meant in _long_form(key, value).items():
            if long in keys:
                raise InputError(f"--{long} is given twice, as {keys[long]!r} and as {meant!r}. Give it once.")
            keys[long] = meant
    return keys


def _whole_keys(key: str) -> list[str]:
    """Options of a recipe's tables whose last part this is."""
    # Takes a while to load, and something is wrong anyway.
    from quickstudy.recipes.schema import EvaluateOptions, TrainOptions, kebab

    tables = (("train", TrainOptions.model_fields), ("evaluate", EvaluateOptions.model_fields))
    return [f"--{name}.{key}" for name, fields in tables if key in map(kebab, fields)]


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(arguments):
        option, equals, value = arguments[position].partition("=")
        position += 1
        if not option.startswith("--"):
            raise InputError(f"Unexpected argument {option!r}. Options are written --key value.")
        if not equals:
            value = "true"
            if position < len(arguments) and _VALUE.match(arguments[position]):
                value = arguments[position]
                position += 1
        yield option, value


def rank_number(text: str) -> int | Literal["auto"]:
    """What ``--ranks`` says.

    Raises:
        InputError: neither a number nor ``auto``.
    """
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise InputError(f"--ranks: expected a whole number of at least 1, or auto, found {text!r}.")
    return int(text)


def one_json(document: Any) -> None:
    """Print ``document`` to stdout."""
    typer.echo(json.dumps(document, indent=2))
