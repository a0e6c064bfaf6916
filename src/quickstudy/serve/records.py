"""Floor 6: what stands in the database, read from its tables and locked in them: one task, one example, a change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from quickstudy.serve.errors import Refused
from quickstudy.serve.tables import examples, requests, tasks

__all__ = [
    "ABOUT",
    "Added",
    "Change",
    "Example",
    "New",
    "Task",
    "answering",
    "classes_of",
    "digest_of",
    "example_of",
    "now",
    "raised",
    "sent_before",
    "task_of",
    "task_of_row",
    "with_class",
    "without",
]

_LONGEST_KEY = 200


@dataclass(frozen=True)
class Task:
    """A task as it stands in the database.

    Args:
        classes: label -> examples, by label; empty where they were not asked for.
        n: examples.
        learned: name, why and whether it can learn them, of the learner at this revision; None: not known yet.
    """

    id: str
    owner: str
    name: str
    asked: str
    reject_unknown: float | None
    kind: str | None
    columns: int | None
    revision: int
    bytes: int
    created: str
    changed: str
    classes: Mapping[str, int]
    learned: tuple[str | None, str, bool] | None

    @property
    def n(self) -> int:
        """Examples."""
        return sum(self.classes.values())

    @property
    def full(self) -> bool:
        """There are two classes or more, which is what a learner needs."""
        return len(self.classes) > 1


@dataclass(frozen=True)
class Example:
    """A labelled example; its content is None where it was not asked for."""

    id: str
    number: int
    label: str
    media: str
    created: str
    content: bytes | None = None


@dataclass(frozen=True)
class New:
    """An example to be added: checked, as it came in."""

    label: str
    media: str
    content: bytes
    columns: int | None = None


@dataclass(frozen=True)
class Change:
    """What a request says of the change that it asks for.

    Args:
        expected: the revision that it was thought of at (``If-Match``); None: any.
        key: the name of the request (``Idempotency-Key``), for changes that shall count once.
    """

    expected: int | None = None
    key: str | None = None


@dataclass(frozen=True)
class Added:
    """What came of adding examples."""

    examples: list[tuple[str, str]]
    task: Task


def now() -> str:
    """The time, in UTC, as it is written everywhere here."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


ABOUT = (examples.c.id, examples.c.number, examples.c.label, examples.c.media, examples.c.created)


@contextmanager
def answering() -> Iterator[None]:
    """What the database cannot do is a 503, and no traceback.

    Raises:
        Refused: it does not answer.
    """
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        said = (str(error.orig).strip().splitlines() or ["no reason"])[0].rstrip(".")
        raise Refused(
            503,
            f"The database does not answer ({said}). Nothing was changed. Try again.",
            "database",
            {"Retry-After": "2"},
        ) from error


def _no_task() -> Refused:
    return Refused(404, "There is no task of this id. List yours by GET /v1/tasks.", "no_such_task")


def task_of(connection: sa.Connection, owner: str, id_: str, *, classes: bool = True, lock: bool = False) -> Task:
    """An owner's task, with its classes counted, and locked against other writers, where that is wanted.

    Raises:
        Refused: there is none, for this owner.
    """
    query = sa.select(tasks).where(tasks.c.id == id_, tasks.c.owner == owner)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise _no_task()
    return task_of_row(row, classes_of(connection, [id_]).get(id_, {}) if classes else {})


def task_of_row(row: Any, classes: Mapping[str, int]) -> Task:
    """A task, of its row and its classes."""
    learned = (row.learned_name, row.learned_why, row.learned_well) if row.learned_revision == row.revision else None
    return Task(
        row.id, row.owner, row.name, row.learner, row.reject_unknown, row.kind, row.columns, row.revision, row.bytes,
        row.created, row.changed, classes, learned,
    )  # fmt: skip


def classes_of(connection: sa.Connection, ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """For each task of these ids: label -> examples, by label."""
    query = (
        sa.select(examples.c.task, examples.c.label, sa.func.count())
        .where(examples.c.task.in_(ids))
        .group_by(examples.c.task, examples.c.label)
    )
    found: dict[str, dict[str, int]] = {}
    for task, label, count in sorted(map(tuple, connection.execute(query))):  # as Python sorts, wherever it runs
        found.setdefault(task, {})[label] = count
    return found


def example_of(connection: sa.Connection, task: Task, id_: str, *, content: bool = False) -> Example:
    """An example of a task.

    Raises:
        Refused: there is none.
    """
    columns = (*ABOUT, examples.c.content) if content else ABOUT
    row = connection.execute(sa.select(*columns).where(examples.c.id == id_, examples.c.task == task.id)).first()
    if row is None:
        raise Refused(404, "There is no example of this id in this task.", "no_such_example")
    return Example(*row)


def with_class(connection: sa.Connection, owner: str, id_: str, label: str) -> Task:
    """A task, locked, that has a class of this label.

    Raises:
        Refused: there is no such task, or no such class.
    """
    task = task_of(connection, owner, id_, lock=True)
    if label not in task.classes:
        known = ", ".join(map(repr, task.classes)) or "none"
        raise Refused(404, f"This task has no class called {label!r}. It has: {known}.", "no_such_class")
    return task


def raised(connection: sa.Connection, owner: str, id_: str, change: Change, **values: Any) -> Any:
    """Raise the revision, and with it lock the task; the row after it.

    Raises:
        Refused: there is no such task, or it is not at the revision that was expected.
    """
    where = [tasks.c.id == id_, tasks.c.owner == owner]
    if change.expected is not None:
        where.append(tasks.c.revision == change.expected)
    done = connection.execute(
        tasks.update().where(*where).values(revision=tasks.c.revision + 1, changed=now(), **values).returning(tasks)
    ).first()
    if done is None:
        there = task_of(connection, owner, id_, classes=False)
        raise Refused(
            412,
            f"The task was changed meanwhile: If-Match names revision {change.expected}, it is at {there.revision}. "
            "Look at it again, then repeat the change.",
        )
    return done


def without(connection: sa.Connection, task: Task, change: Change, which: sa.ColumnElement[bool]) -> Task:
    """The task without those of its examples."""
    raised(connection, task.owner, task.id, change)
    connection.execute(examples.delete().where(examples.c.task == task.id, which))
    total, n = connection.execute(
        sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(examples.c.content)), 0), sa.func.count()).where(
            examples.c.task == task.id
        )
    ).one()
    # A task that is empty may become one of another kind.
    gone = {} if n else {"kind": None, "columns": None}
    connection.execute(tasks.update().where(tasks.c.id == task.id).values(bytes=total, **gone))
    return task_of(connection, task.owner, task.id)


def sent_before(connection: sa.Connection, task: Task, change: Change, digest: str) -> Added | None:
    """What was answered to a request of the same name; None: there was none.

    Raises:
        Refused: the name is none, or was used for other examples.
    """
    if change.key is None:
        return None
    if not 1 <= len(change.key) <= _LONGEST_KEY or not change.key.isprintable():
        raise Refused(
            400, f"Idempotency-Key: expected 1 to {_LONGEST_KEY} printable letters, received {len(change.key)}."
        )
    row = connection.execute(
        sa.select(requests).where(requests.c.task == task.id, requests.c.key == change.key)
    ).first()
    if row is None:
        return None
    if row.digest != digest:
        raise Refused(
            422,
            "This Idempotency-Key was used for other examples. Give each request its own.",
            "key_reused",
        )
    return Added([(given, label) for given, label in json.loads(row.added)], task)


def digest_of(new: Sequence[New]) -> str:
    """Hex digest of examples: the same for the same ones, in the same order."""
    digest = hashlib.sha256()
    for one in new:
        for part in (one.label.encode("utf-8", "surrogatepass"), one.media.encode(), one.content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
