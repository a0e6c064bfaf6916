"""Floor 6: what the service allows, each limit with its reason. An operator changes one by ``--limit NAME=VALUE``."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from quickstudy.errors import InputError, UnknownName

__all__ = ["Limits", "Settings"]

_MIB = 1024 * 1024


def _limit(default: float, about: str) -> int:
    return field(default=default, metadata={"about": about})  # type: ignore[return-value]  # so do dataclasses


@dataclass(frozen=True)
class Limits:
    """What one request, one task and one owner may take; docs/service.md has the table."""

    body_bytes: int = _limit(32 * _MIB, "bytes of a request's body")
    content_bytes: int = _limit(8 * _MIB, "bytes of one picture, recording or file")
    pixels: int = _limit(16_000_000, "pixels of a picture, of which there are never more than 65 million")
    sound_seconds: int = _limit(
        60, "seconds of a recording, never more than 60, nor than 12 million samples in all channels"
    )
    text_letters: int = _limit(10_000, "letters of a text")
    row_numbers: int = _limit(1_000, "numbers of a row")
    label_letters: int = _limit(100, "letters of a label")
    name_letters: int = _limit(200, "letters of a task's name")
    examples_per_request: int = _limit(500, "examples that one request may add")
    queries_per_request: int = _limit(200, "queries that one request may ask")
    learners_per_request: int = _limit(8, "learners that one request may compare")
    tasks_per_owner: int = _limit(1_000, "tasks of an owner")
    classes_per_task: int = _limit(100, "classes of a task")
    examples_per_task: int = _limit(2_000, "examples of a task")
    task_bytes: int = _limit(64 * _MIB, "bytes of a task's examples")
    requests_per_second: int = _limit(200, "requests a second of an owner, in the long run; twice as many at once")
    waiting: int = _limit(256, "requests that may be worked on at once; further ones are asked to come again")
    head_seconds: int = _limit(10, "seconds that a client may take to send a request's head")
    body_seconds: int = _limit(30, "seconds that it may take to send the body")
    compute_seconds: int = _limit(30, "seconds that learning and answering may take")
    stop_seconds: int = _limit(20, "seconds that a stop waits for requests that were accepted")

    def changed(self, given: Iterable[str]) -> Limits:
        """The same with other numbers.

        Args:
            given: ``"pixels=4000000"`` and the like; words are joined by hyphens or underscores.

        Raises:
            InputError: there is no such limit, or the number is none.
        """
        found: dict[str, int] = {}
        known = [one.name for one in fields(self)]
        for text in given:
            name, _, number = text.partition("=")
            key = name.strip().replace("-", "_")
            if key not in known:
                raise UnknownName.among("limit", name.strip(), [one.replace("_", "-") for one in known])
            if not (number.strip().isascii() and number.strip().isdigit() and int(number) > 0):
                raise InputError(f"--limit {name}: expected a whole number of at least 1, received {number!r}.")
            found[key] = int(number)
        return replace(self, **found)


@dataclass(frozen=True)
class Settings:
    """How a service is run.

    Args:
        tasks: the folder of its database, where ``database`` names no other.
        database: an address of SQLAlchemy, such as ``postgresql+psycopg://user@host/name``.
        host: the address that it listens on.
        port: 0 for any that is free.
        limits: what it allows.
        learners: names that clients may ask for beside those of the package -> folders of saved learners or runs.
        models: adapted tasks that are kept in memory.
        warm: load learners at the start; until then it is not ready.
        loaded: is called once they are, before it is ready.
    """

    tasks: Path = Path("quickstudy-tasks")
    database: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    limits: Limits = Limits()
    learners: dict[str, Path] = field(default_factory=dict)
    models: int = 256
    warm: bool = False
    loaded: Callable[[], object] | None = None

    @property
    def loopback(self) -> bool:
        """Nobody but this machine can reach it."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
