"""Floor 6: tasks and their examples in the database: the truth, of which all else is derived.

Every change of a task is one transaction that begins by raising its revision, which locks its row: two writers come
one after the other, on one machine or on several. A change is answered only when the database has it on the disk.
Everything is asked for by owner and id together, so that another owner's task and none at all look the same.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from quickstudy.serve.errors import Refused
from quickstudy.serve.records import (
    ABOUT,
    Added,
    Change,
    Example,
    New,
    Task,
    answering,
    classes_of,
    digest_of,
    example_of,
    now,
    raised,
    sent_before,
    task_of,
    task_of_row,
    with_class,
    without,
)
from quickstudy.serve.settings import Limits
from quickstudy.serve.tables import examples, requests, tasks

__all__ = ["Store"]


class Store:
    """Tasks in a database.

    Args:
        engine: of the database, with its tables.
        limits: what a task and an owner may take.
    """

    def __init__(self, engine: sa.Engine, limits: Limits) -> None:
        self.engine, self.limits = engine, limits
        # What a reader asks for one after the other is of one revision; SQLite has it so by itself.
        whole = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == "postgresql" else {}
        self._reader = engine.execution_options(reads=True, **whole)

    def check(self) -> None:
        """Ask the database for nothing.

        Raises:
            Refused: it does not answer.
        """
        with self._reading() as connection:
            connection.execute(sa.select(sa.literal(1)))

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with answering(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with answering(), self.engine.begin() as connection:
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
            task = task_of(connection, owner, id_)
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
            return task_of(connection, owner, id_, classes=classes)

    def list_tasks(self, owner: str, limit: int, after: str | None) -> tuple[list[Task], str | None]:
        """Some tasks, the newest first, and the id to go on after; None where that was all."""
        order = (tasks.c.created.desc(), tasks.c.id.desc())
        with self._reading() as connection:
            query = sa.select(tasks).where(tasks.c.owner == owner)
            if after is not None:
                last = task_of(connection, owner, after, classes=False)
                query = query.where(sa.tuple_(tasks.c.created, tasks.c.id) < sa.tuple_(last.created, last.id))
            rows = connection.execute(query.order_by(*order).limit(limit + 1)).all()
            counted = classes_of(connection, [row.id for row in rows[:limit]])
        found = [task_of_row(row, counted.get(row.id, {})) for row in rows[:limit]]
        return found, found[-1].id if len(rows) > limit else None

    def change(self, owner: str, id_: str, change: Change, values: Mapping[str, Any]) -> Task:
        """Other settings."""
        with self._writing() as connection:
            raised(connection, owner, id_, change, **values)
            return task_of(connection, owner, id_)

    def delete(self, owner: str, id_: str, change: Change) -> None:
        """The task, its examples and all that is derived of them."""
        with self._writing() as connection:
            raised(connection, owner, id_, change)
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
                return self._added(connection, task_of(connection, owner, id_, lock=True), change, kind, new)
        except IntegrityError as error:  # two of one name at once, on two replicas
            raise Refused(409, "The same request is being answered already. Send it again.", "in_progress") from error

    def _added(self, connection: sa.Connection, before: Task, change: Change, kind: str, new: Sequence[New]) -> Added:
        digest = digest_of(new)
        again = sent_before(connection, before, change, digest)
        if again is not None:
            return again
        self._check_room(before, kind, new)
        values = {
            "kind": kind,
            "columns": new[0].columns,
            "bytes": before.bytes + sum(len(one.content) for one in new),
            "following": tasks.c.following + len(new),
        }
        row = raised(connection, before.owner, before.id, change, **values)
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
        return Added(added, task_of(connection, task.owner, task.id))

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
    ) -> tuple[list[Example], str | None]:
        """Some examples in their order, and the id to go on after."""
        with self._reading() as connection:
            task = task_of(connection, owner, id_, classes=False)
            query = sa.select(*ABOUT).where(examples.c.task == id_)
            if after is not None:
                query = query.where(examples.c.number > example_of(connection, task, after).number)
            if label is not None:
                query = query.where(examples.c.label == label)
            rows = connection.execute(query.order_by(examples.c.number).limit(limit + 1)).all()
        found = [Example(*row) for row in rows[:limit]]
        return found, found[-1].id if len(rows) > limit else None

    def content(self, owner: str, id_: str, example: str) -> Example:
        """One example with its content."""
        with self._reading() as connection:
            return example_of(connection, task_of(connection, owner, id_, classes=False), example, content=True)

    def everything(self, owner: str, id_: str) -> tuple[Task, list[Example]]:
        """A task and all its examples with their contents, of one revision."""
        with self._reading() as connection:
            task = task_of(connection, owner, id_)
            query = sa.select(*ABOUT, examples.c.content).where(examples.c.task == id_).order_by(examples.c.number)
            return task, [Example(*row) for row in connection.execute(query)]

    def remove(self, owner: str, id_: str, change: Change, example: str) -> Task:
        """The task without an example."""
        with self._writing() as connection:
            task = task_of(connection, owner, id_, classes=False, lock=True)
            example_of(connection, task, example)
            return without(connection, task, change, examples.c.id == example)

    def remove_class(self, owner: str, id_: str, change: Change, label: str) -> Task:
        """The task without a class."""
        with self._writing() as connection:
            task = with_class(connection, owner, id_, label)
            return without(connection, task, change, examples.c.label == label)

    def rename_class(self, owner: str, id_: str, change: Change, label: str, new: str) -> Task:
        """The task with a class of another name.

        Raises:
            Refused: no such class, or one of the new name.
        """
        with self._writing() as connection:
            task = with_class(connection, owner, id_, label)
            if new in task.classes and new != label:
                raise Refused(
                    409,
                    f"There is a class called {new!r} already. Choose another name, or delete it first.",
                    "name_taken",
                )
            raised(connection, owner, id_, change)
            connection.execute(
                examples.update().where(examples.c.task == id_, examples.c.label == label).values(label=new)
            )
            return task_of(connection, owner, id_)


def _and(numbers: set[int | None]) -> str:
    return " and ".join(str(number) for number in sorted(number or 0 for number in numbers))
