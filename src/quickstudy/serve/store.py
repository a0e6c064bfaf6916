"""Floor 6: tasks and their examples in the database: the truth, of which all else is derived.

Every change of a task is one transaction that begins by raising its revision, which locks its row: two writers come
one after the other, on one machine or on several. A change is answered only when the database has it on the disk.
Everything is asked for by owner and id together, so that another owner's task and none at all look the same.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from quickstudy.serve.errors import Refused
from quickstudy.serve.settings import Limits
from quickstudy.serve.tables import examples, requests, tasks

__all__ = ["Added", "Change", "Example", "New", "Store", "Task", "now"]

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


class Store:
    """Tasks in a database.

    Args:
        engine: of the database, with its tables.
        limits: what a task and an owner may take.
    """

    def __init__(self, engine: sa.Engine, limits: Limits) -> None:
        self.engine, self.limits = engine, limits
        self._reader = engine.execution_options(reads=True)

    def check(self) -> None:
        """Ask the database for nothing.

        Raises:
            Refused: it does not answer.
        """
        with self._reading() as connection:
            connection.execute(sa.select(sa.literal(1)))

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with _answering(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with _answering(), self.engine.begin() as connection:
            yield connection

    # --- tasks ----------------------------------------------------------------------------------------

    def make(
        self,
        owner: str,
        name: str | None,
        learner: str,
        reject_unknown: float | None,
        kind: str | None = None,
        new: Sequence[New] = (),
    ) -> Task:
        """A new task.

        Args:
            owner: whose it shall be.
            name: None: one is made.
            learner: that was asked for.
            reject_unknown: see ``FewShotClassifier``.
            kind: of the examples, if there are any.
            new: its first examples.

        Raises:
            Refused: the owner has as many as allowed, or there are more examples than that.
        """
        id_, time = secrets.token_hex(12), now()
        values = {
            "id": id_, "owner": owner, "name": name or "task", "learner": learner, "reject_unknown": reject_unknown,
            "revision": 0, "following": 0, "bytes": 0, "created": time, "changed": time,
        }  # fmt: skip
        with self._writing() as connection:
            there = connection.scalar(sa.select(sa.func.count()).select_from(tasks).where(tasks.c.owner == owner)) or 0
            if there >= self.limits.tasks_per_owner:
                raise Refused(
                    409, f"You have {there} tasks, and no more are allowed. Delete one first.", "too_many_tasks"
                )
            connection.execute(tasks.insert().values(**values))
            task = _task(connection, owner, id_)
            return task if kind is None else self._added(connection, task, Change(), kind, new).task

    def task(self, owner: str, id_: str, *, classes: bool = True) -> Task:
        """One task.

        Args:
            owner: whose it must be.
            id_: of the task.
            classes: count its classes too.

        Raises:
            Refused: there is none, for this owner.
        """
        with self._reading() as connection:
            return _task(connection, owner, id_, classes=classes)

    def list_tasks(self, owner: str, limit: int, after: str | None) -> tuple[list[Task], str | None]:
        """Some tasks, the newest first, and the id to go on after; None where that was all."""
        order = (tasks.c.created.desc(), tasks.c.id.desc())
        with self._reading() as connection:
            query = sa.select(tasks).where(tasks.c.owner == owner)
            if after is not None:
                last = _task(connection, owner, after, classes=False)
                query = query.where(sa.tuple_(tasks.c.created, tasks.c.id) < sa.tuple_(last.created, last.id))
            rows = connection.execute(query.order_by(*order).limit(limit + 1)).all()
            counted = _classes(connection, [row.id for row in rows[:limit]])
        found = [_of_row(row, counted.get(row.id, {})) for row in rows[:limit]]
        return found, found[-1].id if len(rows) > limit else None

    def change(self, owner: str, id_: str, change: Change, values: Mapping[str, Any]) -> Task:
        """Other settings."""
        with self._writing() as connection:
            _raise(connection, owner, id_, change, **values)
            return _task(connection, owner, id_)

    def delete(self, owner: str, id_: str, change: Change) -> None:
        """The task, its examples and all that is derived of them."""
        with self._writing() as connection:
            _raise(connection, owner, id_, change)
            connection.execute(examples.delete().where(examples.c.task == id_))
            connection.execute(requests.delete().where(requests.c.task == id_))
            connection.execute(tasks.delete().where(tasks.c.id == id_))

    def note_learned(self, id_: str, revision: int, name: str | None, why: str, well: bool) -> None:
        """Keep what the learner of a revision turned out to be, unless there is a newer one."""
        with self._writing() as connection:
            connection.execute(
                tasks.update()
                .where(tasks.c.id == id_, tasks.c.revision == revision)
                .values(learned_revision=revision, learned_name=name, learned_why=why, learned_well=well)
            )

    # --- examples -------------------------------------------------------------------------------------

    def add(self, owner: str, id_: str, change: Change, kind: str, new: Sequence[New]) -> Added:
        """Further examples, all or none.

        Args:
            owner: whose task it must be.
            id_: of the task.
            change: see there.
            kind: of all of them.
            new: the examples.

        Raises:
            Refused: no such task, examples of another kind, more than allowed, or the request's name was used for
                other examples.
        """
        try:
            with self._writing() as connection:
                return self._added(connection, _task(connection, owner, id_, lock=True), change, kind, new)
        except IntegrityError as error:  # two of one name at once, on two replicas
            raise Refused(409, "The same request is being answered already. Send it again.", "in_progress") from error

    def _added(self, connection: sa.Connection, before: Task, change: Change, kind: str, new: Sequence[New]) -> Added:
        digest = _digest(new)
        again = _sent_before(connection, before, change, digest)
        if again is not None:
            return again
        self._check_room(before, kind, new)
        values = {
            "kind": kind,
            "columns": new[0].columns,
            "bytes": before.bytes + sum(len(one.content) for one in new),
            "following": tasks.c.following + len(new),
        }
        row = _raise(connection, before.owner, before.id, change, **values)
        return self._insert(connection, before, change, digest, new, row.following - len(new))

    def _insert(
        self, connection: sa.Connection, task: Task, change: Change, digest: str, new: Sequence[New], first: int
    ) -> Added:
        time, ids = now(), [secrets.token_hex(12) for _ in new]
        connection.execute(
            examples.insert(),
            [
                {
                    "id": given, "task": task.id, "number": first + place, "label": one.label, "media": one.media,
                    "content": one.content, "created": time,
                }
                for place, (given, one) in enumerate(zip(ids, new, strict=True))
            ],
        )  # fmt: skip
        added = [(given, one.label) for given, one in zip(ids, new, strict=True)]
        if change.key is not None:
            connection.execute(
                requests.insert().values(
                    task=task.id, key=change.key, digest=digest, added=json.dumps(added), created=time
                )
            )
        return Added(added, _task(connection, task.owner, task.id))

    def _check_room(self, task: Task, kind: str, new: Sequence[New]) -> None:
        limits = self.limits
        if task.kind is not None and task.kind != kind:
            raise Refused(
                422, f"This task is of {task.kind}, these are {kind}. Make another task for them.", "another_kind"
            )
        columns = {one.columns for one in new} | ({task.columns} if task.kind else set())
        if len(columns) > 1:
            raise Refused(
                422,
                f"The rows of a task have equally many numbers; found {_and(columns)}. Send rows of one length.",
                "another_length",
            )
        labels = set(task.classes) | {one.label for one in new}
        for name, wanted, most in (
            ("classes", len(labels), limits.classes_per_task),
            ("examples", task.n + len(new), limits.examples_per_task),
            ("bytes of examples", task.bytes + sum(len(one.content) for one in new), limits.task_bytes),
        ):
            if wanted > most:
                raise Refused(
                    422,
                    f"This task would have {wanted:,} {name}; at most {most:,} are allowed. Nothing was added. Use a "
                    "further task.",
                    "too_many",
                )

    def list_examples(
        self, owner: str, id_: str, limit: int, after: str | None, label: str | None
    ) -> tuple[list[Example], str | None, str]:
        """Some examples in their order, the id to go on after, and their kind."""
        with self._reading() as connection:
            task = _task(connection, owner, id_, classes=False)
            query = sa.select(*_ABOUT).where(examples.c.task == id_)
            if after is not None:
                query = query.where(examples.c.number > _example(connection, task, after).number)
            if label is not None:
                query = query.where(examples.c.label == label)
            rows = connection.execute(query.order_by(examples.c.number).limit(limit + 1)).all()
        found = [Example(*row) for row in rows[:limit]]
        return found, found[-1].id if len(rows) > limit else None, task.kind or "rows"

    def content(self, owner: str, id_: str, example: str) -> Example:
        """One example with its content."""
        with self._reading() as connection:
            return _example(connection, _task(connection, owner, id_, classes=False), example, content=True)

    def everything(self, owner: str, id_: str) -> tuple[Task, list[Example]]:
        """A task and all its examples with their contents, of one revision."""
        with self._reading() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            task = _task(connection, owner, id_)
            query = sa.select(*_ABOUT, examples.c.content).where(examples.c.task == id_).order_by(examples.c.number)
            return task, [Example(*row) for row in connection.execute(query)]

    def remove(self, owner: str, id_: str, change: Change, example: str) -> Task:
        """The task without an example."""
        with self._writing() as connection:
            task = _task(connection, owner, id_, classes=False, lock=True)
            _example(connection, task, example)
            return _without(connection, task, change, examples.c.id == example)

    def remove_class(self, owner: str, id_: str, change: Change, label: str) -> Task:
        """The task without a class."""
        with self._writing() as connection:
            task = _with_class(connection, owner, id_, label)
            return _without(connection, task, change, examples.c.label == label)

    def rename_class(self, owner: str, id_: str, change: Change, label: str, new: str) -> Task:
        """The task with a class of another name.

        Raises:
            Refused: no such class, or one of the new name.
        """
        with self._writing() as connection:
            task = _with_class(connection, owner, id_, label)
            if new in task.classes and new != label:
                raise Refused(
                    409,
                    f"There is a class called {new!r} already. Choose another name, or delete it first.",
                    "name_taken",
                )
            _raise(connection, owner, id_, change)
            connection.execute(
                examples.update().where(examples.c.task == id_, examples.c.label == label).values(label=new)
            )
            return _task(connection, owner, id_)


_ABOUT = (examples.c.id, examples.c.number, examples.c.label, examples.c.media, examples.c.created)


@contextmanager
def _answering() -> Iterator[None]:
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


def _task(connection: sa.Connection, owner: str, id_: str, *, classes: bool = True, lock: bool = False) -> Task:
    query = sa.select(tasks).where(tasks.c.id == id_, tasks.c.owner == owner)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise _no_task()
    return _of_row(row, _classes(connection, [id_]).get(id_, {}) if classes else {})


def _of_row(row: Any, classes: Mapping[str, int]) -> Task:
    learned = (row.learned_name, row.learned_why, row.learned_well) if row.learned_revision == row.revision else None
    return Task(
        row.id, row.owner, row.name, row.learner, row.reject_unknown, row.kind, row.columns, row.revision, row.bytes,
        row.created, row.changed, classes, learned,
    )  # fmt: skip


def _classes(connection: sa.Connection, ids: Sequence[str]) -> dict[str, dict[str, int]]:
    query = (
        sa.select(examples.c.task, examples.c.label, sa.func.count())
        .where(examples.c.task.in_(ids))
        .group_by(examples.c.task, examples.c.label)
    )
    found: dict[str, dict[str, int]] = {}
    for task, label, count in sorted(map(tuple, connection.execute(query))):  # as Python sorts, wherever it runs
        found.setdefault(task, {})[label] = count
    return found


def _example(connection: sa.Connection, task: Task, id_: str, *, content: bool = False) -> Example:
    columns = (*_ABOUT, examples.c.content) if content else _ABOUT
    row = connection.execute(sa.select(*columns).where(examples.c.id == id_, examples.c.task == task.id)).first()
    if row is None:
        raise Refused(404, "There is no example of this id in this task.", "no_such_example")
    return Example(*row)


def _with_class(connection: sa.Connection, owner: str, id_: str, label: str) -> Task:
    task = _task(connection, owner, id_, lock=True)
    if label not in task.classes:
        known = ", ".join(map(repr, task.classes)) or "none"
        raise Refused(404, f"This task has no class called {label!r}. It has: {known}.", "no_such_class")
    return task


def _raise(connection: sa.Connection, owner: str, id_: str, change: Change, **values: Any) -> Any:
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
        there = _task(connection, owner, id_, classes=False)
        raise Refused(
            412,
            f"The task was changed meanwhile: If-Match names revision {change.expected}, it is at {there.revision}. Look "
            "at it again, then repeat the change.",
        )
    return done


def _without(connection: sa.Connection, task: Task, change: Change, which: sa.ColumnElement[bool]) -> Task:
    _raise(connection, task.owner, task.id, change)
    connection.execute(examples.delete().where(examples.c.task == task.id, which))
    total, n = connection.execute(
        sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(examples.c.content)), 0), sa.func.count()).where(
            examples.c.task == task.id
        )
    ).one()
    # A task that is empty may become one of another kind.
    gone = {} if n else {"kind": None, "columns": None}
    connection.execute(tasks.update().where(tasks.c.id == task.id).values(bytes=total, **gone))
    return _task(connection, task.owner, task.id)


def _sent_before(connection: sa.Connection, task: Task, change: Change, digest: str) -> Added | None:
    if change.key is None:
        return None
    if len(change.key) > _LONGEST_KEY or not change.key.isprintable():
        raise Refused(
            400, f"Idempotency-Key: expected at most {_LONGEST_KEY} printable letters, received {len(change.key)}."
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


def _digest(new: Sequence[New]) -> str:
    digest = hashlib.sha256()
    for one in new:
        for part in (one.label.encode("utf-8", "surrogatepass"), one.media.encode(), one.content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _and(numbers: set[int | None]) -> str:
    return " and ".join(str(number) for number in sorted(number or 0 for number in numbers))
