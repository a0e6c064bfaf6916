"""Floor 4: what differs between a run as it was and as it is to go on: named, refused or kept.

A run that goes on by other settings, on other data or by another version ends elsewhere than one that was
never stopped. So it is refused, until somebody says that it is meant; then each checkpoint from there on says what
changed, and when.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["HOW_TO_GO_ON", "Changes", "changed", "flat", "in_history", "in_sentence"]

Changes: TypeAlias = dict[str, tuple[Any, Any]]
"""Name -> (before, now); None: it was not there."""

HOW_TO_GO_ON = (
    "Go on as before, start a new run, or go on all the same with --accept-changes (accept_changes=True): "
    "the run then keeps what changed at which step."
)
_NAMED = 5  # in a sentence


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's settings by their dotted keys, as on the command line.

    Args:
        settings: name -> value or settings again.

    >>> flat({"seed": 0, "learner": {"name": "maml", "options": {"inner_lr": 0.1}}})
    {'seed': 0, 'learner.name': 'maml', 'learner.inner-lr': 0.1}
    """
    return {_key(path): value for path, value in _leaves(settings, ())}


def _leaves(settings: Mapping[str, Any], above: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, value in settings.items():
        path = (*above, name)
        found += _leaves(value, path) if isinstance(value, Mapping) and value else [(path, value)]
    return found


def _key(path: tuple[str, ...]) -> str:
    # Options of a learner, a network and the data stand beside its name in a recipe.
    names = path[:1] + path[2:] if len(path) > 2 and path[1] == "options" else path
    return ".".join([name.replace("_", "-") for name in names[:2]] + list(names[2:]))


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Changes:
    """What differs, in the order of what is now."""
    names = dict.fromkeys([*now, *before])
    return {name: (before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)}


def in_sentence(changes: Mapping[str, tuple[Any, Any]]) -> str:
    """``learner.inner-lr was 0.01 so far and is now 0.1``; the first few, and how many more.

    >>> in_sentence({"train.lr": (0.001, 0.01), "train.clip-norm": (None, 1.0)})
    'train.lr was 0.001 so far and is now 0.01, train.clip-norm was not set so far and is now 1.0'
    """
    return _listed(changes, "was {} so far and is now {}")


def in_history(changes: Mapping[str, tuple[Any, Any]]) -> str:
    """The same of what was changed once: ``learner.inner-lr changed from 0.01 to 0.1``."""
    return _listed(changes, "changed from {} to {}")


def _listed(changes: Mapping[str, tuple[Any, Any]], form: str) -> str:
    parts = [f"{name} {form.format(_said(before), _said(now))}" for name, (before, now) in changes.items()]
    more = len(parts) - _NAMED
    return ", ".join(parts[:_NAMED]) + (f", and {more} more changed" if more > 0 else "")


def _said(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)
