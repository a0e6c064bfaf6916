"""Floor 6: what the service does, whatever the protocol: the parts, and how they work together.

Five kinds of threads: a few for the database, a few that read what clients send, one that learns, one that answers, and
a few that reckon what an answer needs of all labelled examples. So a task that takes long keeps nobody waiting who asks
about another one that was learned; and what is computed for nobody any more, when the service stops, is not waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from quickstudy.errors import QuickstudyError
from quickstudy.estimators.together import Said
from quickstudy.serve import schemas
from quickstudy.serve.access import Access, Keys, check_start
from quickstudy.serve.batching import Batcher
from quickstudy.serve.brains import LEARNS, Brain, Brains, not_ready
from quickstudy.serve.content import kind_of
from quickstudy.serve.errors import Refused
from quickstudy.serve.gate import State
from quickstudy.serve.learners import Roster
from quickstudy.serve.metrics import Metrics
from quickstudy.serve.records import New, Task
from quickstudy.serve.settings import Settings
from quickstudy.serve.store import Store
from quickstudy.serve.tables import open_database

__all__ = ["Service"]

_T = TypeVar("_T")
_THREADS, _RECKONERS = 8, 4
_READERS = 4  # of what clients send: they never keep the database's threads from answering others
_PULSE = 0.5  # seconds after which who waits for an answer looks whether the service stops
_GLANCE = 2.0  # seconds for which an answer about a task waits for the name of its learner
_WHOLE = 6  # digits of numbers in answers: what is beyond depends on who else asked


class Service:
    """One replica.

    Args:
        settings: see there.

    Raises:
        InputError: the settings do not allow it to start, see :func:`~quickstudy.serve.access.check_start`.
        StorageError: the database cannot be opened.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.limits = settings, settings.limits
        engine = open_database(settings.tasks, settings.database)
        self.engine = engine
        self.keys = Keys(engine)
        check_start(settings, self.keys)
        self.access = Access(self.keys, settings)
        self.metrics, self.state = Metrics(), State()
        self.roster = Roster(settings.learners)
        self.store = Store(engine, settings.limits)
        self.brains = Brains(self.store, self.roster, self.metrics, settings.models)
        self.batcher = Batcher(self.metrics)
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="quickstudy-serves")
        self._reckoning = ThreadPoolExecutor(_RECKONERS, thread_name_prefix=f"{LEARNS}-folds")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="quickstudy-reads")
        self._warming: Future[None] | None = None

    def start(self) -> None:
        """Load learners in the background, where the settings want it."""
        if self.settings.warm:
            self._warming = self.brains.warm(self.settings.loaded)

    @property
    def ready(self) -> bool:
        """What had to be loaded is there."""
        return self._warming is None or self._warming.done()

    def close(self) -> None:
        """Finish what was begun."""
        self.state.stopping = True
        self.threads.shutdown(wait=True, cancel_futures=False)
        self._reckoning.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=True, cancel_futures=False)
        self.brains.close()
        self.batcher.close()
        self.engine.dispose()

    async def work(self, function: Callable[..., _T], *given: Any) -> _T:
        """Call a function that waits, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *given)

    async def reckon(self, function: Callable[..., _T], *given: Any) -> _T:
        """Call a function that may compute for long.

        Raises:
            Refused: it takes longer than the limits allow.
        """
        return await self.timely(self._reckoning.submit(function, *given))

    async def read(self, function: Callable[..., _T], *given: Any) -> _T:
        """Call a function that reads or writes pictures, sounds or zips, which may take long, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, function, *given)

    async def timely(self, future: Future[_T], seconds: float | None = None) -> _T:
        """What a thread is computing.

        Args:
            future: of it.
            seconds: to wait; by default as many as the limits allow.

        Raises:
            Refused: it takes longer.
        """
        seconds = self.limits.compute_seconds if seconds is None else seconds
        waited, end = asyncio.wrap_future(future), time.monotonic() + seconds
        waited.add_done_callback(_seen)
        while not waited.done():
            left = end - time.monotonic()
            if self.state.hurry:
                raise Refused(503, "The service stops. Ask again in a moment.", "stopping", {"Retry-After": "5"})
            if left <= 0:
                said = f"It took longer than {seconds:g} seconds. What is being learned goes on; ask again."
                raise Refused(503, said, "busy", {"Retry-After": "5"})
            await asyncio.wait({waited}, timeout=min(left, _PULSE))  # which cancels nothing: others may wait for it
        return waited.result()

    # --- tasks ----------------------------------------------------------------------------------------

    async def seen(self, task: Task) -> Task:
        """The task with what its learner turned out to be: learned now, if need be, and if that does not take long."""
        if not task.full or task.learned is not None:
            return task
        try:
            brain = await self.brain(task, seconds=_GLANCE)
        except Refused as error:
            if error.code != "cannot_learn":  # busy: it will be known later
                return task
        else:
            if brain.task.revision != task.revision:
                return task
        return await self.work(self.store.task, task.owner, task.id)

    async def brain(self, task: Task, learner: str | None = None, seconds: float | None = None) -> Brain:
        """A task, learned.

        Args:
            task: as it is now.
            learner: a name; None: the task's own.
            seconds: to wait; by default as many as the limits allow.

        Raises:
            Refused: it has too few classes, or its learner cannot learn it, or takes too long.
        """
        if not self.brains.knows(task, learner):  # what cannot be learned waits for nothing that is being learned
            task = await self.work(self.store.task, task.owner, task.id)
            if not task.full:
                raise not_ready(task)
        found = self.brains.of(task, learner)
        return await self.timely(found, seconds) if isinstance(found, Future) else found

    def body(self, task: Task) -> schemas.TaskBody:
        """A task as it is sent."""
        name, why, well = task.learned if task.learned is not None and task.full else (None, None, True)
        return schemas.TaskBody(
            id=task.id,
            name=task.name,
            kind=task.kind,  # type: ignore[arg-type]
            learner=schemas.LearnerOf(asked=task.asked, name=name, why=why),
            classes=[schemas.ClassBody(label=label, examples=n) for label, n in task.classes.items()],
            examples=task.n,
            revision=task.revision,
            ready=task.full and well,
            reject_unknown=task.reject_unknown,
            created=task.created,
            changed=task.changed,
        )

    # --- answers --------------------------------------------------------------------------------------

    async def ask(self, brain: Brain, queries: Sequence[New]) -> Said:
        """What the network says of queries.

        Raises:
            Refused: they are of another kind than the task, or cannot be read, or it takes too long.
        """
        asked = await self.read(self._asked, brain, queries)
        return await self.timely(self.batcher.submit(asked))

    def _asked(self, brain: Brain, queries: Sequence[New]) -> Any:
        odd = next((one for one in queries if kind_of(one.media) != brain.task.kind), None)
        if odd is not None:
            raise Refused(
                422, f"This task is of {brain.task.kind}, the query is of {kind_of(odd.media)}. Ask another task.",
                "another_kind",
            )  # fmt: skip
        rows = brain.task.kind == "rows"
        if rows and any(one.columns != brain.task.columns for one in queries):
            raise Refused(
                422,
                f"A row of this task has {brain.task.columns} numbers; the query has "
                f"{next(one.columns for one in queries if one.columns != brain.task.columns)}.",
                "another_length",
            )
        try:
            X = [self.brains.decoder.read(one.media, one.content, brain.rate) for one in queries]
            return brain.answering.asked(np.array(X) if rows else X)
        except QuickstudyError as error:
            raise Refused(422, str(error), "unreadable") from error

    async def answers(self, brain: Brain, said: Said, nearest: int, coverage: float | None) -> schemas.Answers:
        """Answers as they are sent.

        Raises:
            Refused: it takes too long: what a set of labels needs of all examples is computed with the first one.
        """
        return await self.reckon(self._answers, brain, said, nearest, coverage)

    def _answers(self, brain: Brain, said: Said, nearest: int, coverage: float | None) -> schemas.Answers:
        found = brain.answering.answers(said, nearest=nearest, coverage=coverage)
        return schemas.Answers(
            task=brain.task.id,
            revision=brain.task.revision,
            promise=brain.answering.promise(coverage),
            answers=[
                schemas.AnswerBody(
                    label=one.label,
                    probability=rounded(one.probabilities[one.label]),
                    probabilities={label: rounded(p) for label, p in one.probabilities.items()},
                    unknown=one.unknown,
                    set=one.possible,
                    nearest=[
                        schemas.Near(example=brain.ids[place], label=label, distance=rounded(far))
                        for place, label, far in one.nearest
                    ],
                )
                for one in found
            ],
        )


def _seen(waited: asyncio.Future[Any]) -> None:
    """What comes of a question that nobody waits for any more is nothing for the log."""
    if not waited.cancelled():
        waited.exception()


def rounded(number: float) -> float:
    """To as many digits as do not depend on who else asked at the same time."""
    return round(number, _WHOLE)
