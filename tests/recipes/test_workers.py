"""Jobs in processes."""

import os
import time
from collections.abc import Callable
from functools import partial

import pytest

from quickstudy.errors import InputError, RunError
from quickstudy.recipes.workers import News, run_jobs, tell


def count(who: str, total: int) -> int:
    """Tells of each of its steps, which take long enough for the news to arrive while it works."""
    for done in range(1, total + 1):
        tell(News(who, done, total, "steps"))
        time.sleep(0.5)
    return total


def refuse() -> int:
    """A mistake of the user's."""
    raise InputError("This cannot be done.")


def die() -> int:
    """As the system kills a process that takes too much memory."""
    os._exit(9)


def work_until_stopped(seconds: float) -> int:
    """Far longer than anyone waits, unless asked to stop."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        tell(News("patient", 0, 1, "steps"))
        time.sleep(0.01)
    return 0


def ignore(news: News) -> None:
    """Nobody listens."""


def test_results_come_in_order_and_news_on_the_way() -> None:
    heard: list[News] = []
    assert run_jobs([partial(count, "a", 3), partial(count, "b", 2)], at_once=2, listen=heard.append) == [3, 2]
    told = [[news.done for news in heard if news.who == who] for who in "ab"]
    assert told == [[1, 2, 3], [1, 2]]


def test_an_error_stops_the_other_jobs() -> None:
    patient: Callable[[], int] = partial(work_until_stopped, 200.0)
    started = time.monotonic()
    with pytest.raises(InputError, match=r"^This cannot be done\.$"):
        run_jobs([patient, refuse], at_once=2, listen=ignore)
    assert time.monotonic() - started < 100


def test_a_process_that_dies_is_a_sentence() -> None:
    with pytest.raises(RunError, match="A process died, perhaps for want of memory"):
        run_jobs([die], at_once=1, listen=ignore)


def test_elsewhere_telling_does_nothing() -> None:
    tell(News("nobody", 1, 1, "steps"))
