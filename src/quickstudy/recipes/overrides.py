"""Floor 5: ``--learner.inner-lr 0.2``: any key of a recipe, given from outside.

A value is written as in TOML, and text may go without its quotes: ``0.2``, ``true``, ``[1, 5]``, ``vinyals``.
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping
from typing import Any

from quickstudy.recipes.mistakes import Mistake

__all__ = ["apply_overrides", "read_value"]


def read_value(text: str) -> Any:
    """The value that a text stands for.

    >>> read_value("0.2"), read_value("[5, 20]"), read_value("vinyals")
    (0.2, [5, 20], 'vinyals')
    """
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if len(document) == 1 else text  # a line break in the text would begin another key


def apply_overrides(document: dict[str, Any], overrides: Mapping[str, Any]) -> tuple[dict[str, Any], list[Mistake]]:
    """A copy of ``document`` with the given keys set.

    Naming another learner, network, data set or schedule empties its table first, because the options that stand
    there belong to the one that is replaced.

    Args:
        document: tables as read from TOML.
        overrides: dotted key -> value; a text is read as on the command line.

    Returns:
        The new document, and a mistake for each key that lies inside something that is no table.
    """
    document = copy.deepcopy(document)
    mistakes = []
    # Names first, so that `--learner.k 3 --learner.name knn` sets an option of the new one.
    for key, value in sorted(overrides.items(), key=lambda item: not item[0].endswith(".name")):
        *tables, last = key.split(".")
        here: Any = document
        for table in tables:
            here = here.setdefault(table, {}) if isinstance(here, dict) else None
        if not isinstance(here, dict):
            mistakes.append(Mistake(key, f"{'.'.join(tables)} is not a table, so {key} cannot be set."))
            continue
        value = read_value(value) if isinstance(value, str) else value
        if tables and last == "name" and here.get("name") not in (None, value):
            here.clear()
        here[last] = value
    return document, mistakes
