"""Floor 3: options of learners, checked when a learner is built."""

from __future__ import annotations

from collections.abc import Iterable

from quickstudy.errors import InputError


def one_of(owner: str, name: str, value: str, choices: Iterable[str]) -> None:
    """An option is one of its choices.

    Args:
        owner: the learner, for the message.
        name: of the option.
        value: what was received.
        choices: what it can be.

    Raises:
        InputError: it is something else, which would otherwise pass for the last of them.
    """
    known = list(choices)
    if value not in known:
        raise InputError(f"{owner} has no {name} {value!r}. Use one of {', '.join(known)}.")
