"""Floor 5: jobs in processes side by side, which tell how far they are and stop when asked to."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from typing import Any, TypeAlias, TypeVar

from quickstudy.errors import RunError

__all__ = ["News", "Tell", "run_jobs", "tell"]

T = TypeVar("T")


@dataclass(frozen=True)
class News:
    """How far a job is: ``done`` of ``total`` of something, such as steps."""

    who: str
    done: int
    total: int
    what: str


Tell: TypeAlias = Callable[[News], None]


class StoppedError(Exception):
    """The jobs are no longer wanted."""


_POLL = 0.2  # seconds between looks at what the jobs tell

# Set in each worker process, once, by `_begin`: the way back to who started it.
_news: Queue[News] | None = None
_stop: Event | None = None


def tell(news: News) -> None:
    """Called by a job now and then; elsewhere than in a worker it does nothing.

    Raises:
        StoppedError: the job is to stop.
    """
    if _stop is not None and _stop.is_set():
        raise StoppedError
    if _news is not None:
        _news.put(news)


def run_jobs(
    jobs: Sequence[Callable[[], T]], *, at_once: int, listen: Tell, prepare: Callable[[], None] | None = None
) -> list[T]:
    """The results of all jobs, in their order; the first error stops the others.

    Args:
        jobs: functions of a module (or ``functools.partial`` of one), as they are sent to other processes.
        at_once: how many processes; fewer where there are fewer cores.
        listen: gets what the jobs tell, in this process.
        prepare: called in each process before its first job, a function of a module too.

    Raises:
        RunError: a process died.
    """
    # Not fork: torch's threads do not survive it.
    context = multiprocessing.get_context("spawn")
    news: Queue[News] = context.Queue()
    stop = context.Event()
    pool = ProcessPoolExecutor(min(at_once, _cores()), context, initializer=_begin, initargs=(news, stop, prepare))
    try:
        futures = [pool.submit(job) for job in jobs]
        _follow(futures, news, listen)
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        raise RunError("A process died, perhaps for want of memory. Close other programs and run again.") from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        news.close()


def _follow(futures: Sequence[Future[T]], news: Queue[News], listen: Tell) -> None:
    """Hand on the news until all is done, or one job failed."""
    pending: set[Future[T]] = set(futures)
    while pending:
        finished, pending = wait(pending, timeout=_POLL, return_when=FIRST_COMPLETED)
        while True:
            try:
                listen(news.get_nowait())
            except queue.Empty:
                break
        for future in finished:
            future.result()


def _begin(news: Queue[News], stop: Event, prepare: Callable[[], None] | None) -> None:
    global _news, _stop
    _news, _stop = news, stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one decides
    if prepare is not None:
        prepare()


def _cores() -> int:
    affinity: Any = getattr(os, "sched_getaffinity", None)  # where the system knows which cores are ours
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
