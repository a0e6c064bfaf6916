"""Floor 6: one thread that answers; the questions that wait when it is free go through the network together.

Nothing is waited for: a lone question is answered at once, and under load there are others to go with it.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import TypeAlias

from quickstudy.estimators.together import Asked, Said, answer_together
from quickstudy.serve.errors import Refused
from quickstudy.serve.metrics import Metrics

__all__ = ["ANSWERS", "Batcher"]

ANSWERS = "quickstudy-answers"

_MOST = 64  # questions at once
_PATIENCE = 2.0  # seconds to end in

_Waiting: TypeAlias = "tuple[Asked, Future[Said]]"


class Batcher:
    """Answers questions of several users together.

    Args:
        metrics: of the service.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=ANSWERS, daemon=True)
        self._thread.start()

    def submit(self, asked: Asked) -> Future[Said]:
        """Ask; the answer comes later.

        Raises:
            Refused: the service stops.
        """
        if self._closed:
            raise Refused(503, "The service stops. Ask again in a moment.", "stopping", {"Retry-After": "5"})
        future: Future[Said] = Future()
        self._waiting.put((asked, future))
        return future

    def close(self) -> None:
        """Answer what was asked, and end; what takes long is left alone."""
        self._closed = True
        self._waiting.put(None)
        self._thread.join(timeout=_PATIENCE)

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            waiting = [first]
            while len(waiting) < _MOST:
                try:
                    further = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if further is None:
                    self._answer(waiting)
                    return
                waiting.append(further)
            self._answer(waiting)

    def _answer(self, waiting: list[_Waiting]) -> None:
        """What fails in company is asked alone, so that nobody pays for another's question."""
        live = [(asked, future) for asked, future in waiting if future.set_running_or_notify_cancel()]
        if not live:
            return
        try:
            said = answer_together([asked for asked, _ in live])
        except Exception:
            for asked, future in live:
                try:
                    future.set_result(answer_together([asked])[0])
                except Exception as error:
                    future.set_exception(error)
            return
        for (_, future), one in zip(live, said, strict=True):
            self._metrics.together.observe(one.tasks)
            future.set_result(one)
