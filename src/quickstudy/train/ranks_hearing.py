"""Floor 4: what the process that started ranks hears from them, and what follows from it."""

from __future__ import annotations

import socket
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from quickstudy.train.callbacks import Callback, EndEvent
from quickstudy.train.ranks import PeerLost
from quickstudy.train.ranks_messages import Answered, Ended, Job, Leave, Stop, Told

__all__ = ["Hearing"]

_POLL = 0.2  # seconds between looks at whether the ranks are still there


@dataclass
class Hearing:
    """What ranks say, and what follows from it."""

    job: Job
    size: int
    server: socket.socket
    callbacks: Sequence[Callback]
    episodes: Callable[[int, int], None] | None
    note: Callable[[str], None] | None
    restarts: int
    start: int = 0
    ranks: dict[Connection, int] = field(default_factory=dict)
    ended: dict[int, Ended] = field(default_factory=dict)
    failed: BaseException | None = None  # of a callback
    end: EndEvent | None = None
    step: int = 0
    validated: int = 0
    stop_sent: bool = False
    end_told: bool = False
    noted: list[Told] = field(default_factory=list)

    @property
    def error(self) -> BaseException | None:
        """What went wrong, as the first rank says."""
        errors = (self.ended[rank].error for rank in sorted(self.ended))
        return self.failed or next((error for error in errors if error is not None), None)

    @property
    def losses(self) -> list[tuple[int, PeerLost]]:
        """Ranks that could not reach the others any more, and why, as they said it one after the other."""
        return [(rank, ended.lost) for rank, ended in self.ended.items() if ended.lost is not None]

    @property
    def decided(self) -> bool:
        """All ranks have said how it ended, and it ended for good."""
        lost = bool(self.losses)
        return len(self.ended) == self.size and (not lost or self.error is not None)

    def hear(self, asked: threading.Event) -> None:
        """Wait a moment for news, and hear them.

        Args:
            asked: set once the ranks are to stop politely.
        """
        for ready in wait([self.server, *self.ranks], _POLL):
            if ready is self.server:
                self._meet()
            elif isinstance(ready, Connection):
                self._hear_one(ready)
        first = next((connection for connection, rank in self.ranks.items() if rank == 0), None)
        if asked.is_set() and not self.stop_sent and first is not None:
            self.stop_sent = True
            self._send(first, Stop())
        self._dismiss()

    def verdict(self) -> Any:
        """What came of it all: what the work gave on rank 0.

        Raises:
            BaseException: what ranks or callbacks raised.
        """
        self.tell_end()
        if self.error is not None:
            raise self.error
        return self.ended[0].value

    def tell_end(self) -> None:
        """Tell callbacks, once, how it ended; it failed, unless rank 0 said otherwise."""
        if not self.end_told:
            self.end_told = True
            for callback in self.callbacks:
                callback.end(self.end or EndEvent(self.step, "failed"))

    def close(self) -> None:
        """Hear nothing more; ranks that are still there leave."""
        self.server.close()
        for connection in self.ranks:
            connection.close()
        self.ranks.clear()

    def _meet(self) -> None:
        connection = Connection(self.server.accept()[0].detach())
        try:
            connection.send(sys.path)
            hello = connection.recv()
            if self.error is not None:  # started again, though nothing is to be tried again
                raise EOFError
            if hello.start > self.start:
                self._begin_again(hello.start)
            connection.send(self.job)
            self.ranks[connection] = hello.rank
        except (EOFError, OSError):  # killed before it had begun
            connection.close()

    def _begin_again(self, start: int) -> None:
        self.start, self.stop_sent, self.end = start, False, None
        self.ended.clear()
        for connection in self.ranks:
            connection.close()
        self.ranks.clear()
        if self.note is not None:
            self.note(
                f"A rank was lost. All {self.size} are started again and go on from the last checkpoint "
                f"({start} of at most {self.restarts} times)."
            )

    def _hear_one(self, connection: Connection) -> None:
        if connection not in self.ranks:  # closed by what was heard a moment ago
            return
        try:
            message = connection.recv()
        except (EOFError, OSError):
            del self.ranks[connection]
            connection.close()
            return
        if isinstance(message, Ended):
            self.ended[self.ranks[connection]] = message
        elif isinstance(message, Told):
            self._send(connection, Answered(failed=not self._tell(message)))

    def _tell(self, told: Told) -> bool:
        """Tell callbacks; whether all went well."""
        try:
            if told.event == "episodes":
                if self.episodes is not None:
                    self.episodes(*told.arguments)
            elif told.event in ("note", "warning"):
                if told not in self.noted:  # ranks that are started again say it again
                    self.noted.append(told)
                    self._pass_on(told)
            elif told.event == "end":
                (self.end,) = told.arguments  # told when it is certain that it was the end
            elif self._is_news(told):
                for callback in self.callbacks:
                    getattr(callback, told.event)(*told.arguments)
        except Exception as error:
            self.failed = error
        return self.failed is None

    def _pass_on(self, told: Told) -> None:
        """Say here what was to be said there."""
        if told.event == "warning":
            text, category, file, number = told.arguments
            warnings.warn_explicit(text, category, file, number)
        elif self.note is not None:
            self.note(*told.arguments)

    def _is_news(self, told: Told) -> bool:
        """Whether it was not told already, before ranks were started again."""
        (event,) = told.arguments
        if told.event == "step":
            self.step, before = max(self.step, event.step), self.step
            return bool(event.step > before)
        if told.event == "validation":
            self.validated, before = max(self.validated, event.step), self.validated
            return bool(event.step > before)
        return True

    def _dismiss(self) -> None:
        """Let those go that have said how it ended.

        One that lost another goes with a status by which the agent starts all of them again, unless one of them said
        why it failed.
        """
        for connection, rank in self.ranks.items():
            ended = self.ended.get(rank)
            if ended is not None and ended.lost is not None and self.error is None:
                self._send(connection, Leave(1))
            elif ended is not None and (self.error is not None or self.decided):
                self._send(connection, Leave(0))

    @staticmethod
    def _send(connection: Connection, message: object) -> None:
        try:
            connection.send(message)
        except OSError:
            pass  # it is gone, which is heard when it is listened to
