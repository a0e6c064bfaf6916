"""T2A, the worker: one contestant trains until it reaches a goal: ``python -m benchmarks.speed.goals '{...}'``.

    omniglot   a prototypical network to 97.5 % on 5-way 1-shot tasks of characters never seen in training
    sinusoid   MAML to a mean squared error of 0.70 on new 5-shot waves, after the steps that it was trained with

quickstudy trains its recipe; the others train loops written with their interface, after the hyperparameters of their
example scripts (and, for the sinusoid, after those of our recipe as well, so that only the speed differs). All read
pictures from memory and are tested on the same tasks; the clock stands still while they are tested.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed import settings

__all__ = ["GOALS", "OUR_SETTINGS", "Clock", "Goal", "Reached", "main"]

OUR_SETTINGS = "-our-settings"
"""Ends the names of peers that do not train after their own example."""


@dataclass(frozen=True)
class Goal:
    """What is to be reached.

    Args:
        target: a figure of the test.
        more_is_better: whether it is reached from below.
        every: steps between tests.
        contestants: who tries.
        promised: how many times sooner than the best peer quickstudy set out to be there.
    """

    target: float
    more_is_better: bool
    every: int
    contestants: tuple[str, ...]
    promised: float

    def reached_by(self, value: float) -> bool:
        """Whether a figure is good enough."""
        return value >= self.target if self.more_is_better else value <= self.target


GOALS: dict[str, Goal] = {
    "omniglot": Goal(0.975, True, 100, ("quickstudy", "learn2learn", "torchmeta"), 3.0),
    "sinusoid": Goal(
        0.70,
        False,
        1000,
        ("quickstudy", "learn2learn", f"learn2learn{OUR_SETTINGS}", f"higher{OUR_SETTINGS}"),
        20.0,
    ),
}


class Reached(Exception):
    """The goal was reached, or the time is up: training ends."""


class Clock:
    """Counts training time, tests every so often, and says each test on a line of its own.

    Args:
        test: the value now.
        goal: a name of ``GOALS``.
        limit: seconds of training.
        say: told of each test.
        every: steps between tests; None: what the goal says.
    """

    def __init__(
        self,
        test: Callable[[], float],
        goal: str,
        limit: float,
        say: Callable[[dict[str, float]], None],
        every: int | None = None,
    ) -> None:
        self._test, self._limit, self._say = test, limit, say
        self._goal = GOALS[goal]
        self._every = every or self._goal.every
        self._steps, self._spent, self._since = 0, 0.0, time.perf_counter()

    def step(self) -> None:
        """After each step of the outer optimiser.

        Raises:
            Reached: training is to end.
        """
        self._steps += 1
        late = self._spent + time.perf_counter() - self._since > self._limit
        if self._steps % self._every and not late:
            return
        self._spent += time.perf_counter() - self._since
        value = self._test()
        self._say({"seconds": self._spent, "steps": self._steps, "value": value})
        if late or self._goal.reached_by(value):
            raise Reached
        self._since = time.perf_counter()


def main() -> None:
    """Train until the goal, the limit, or the end of the recipe; one JSON line for each test."""
    order = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    ours = order["contestant"] == "quickstudy"
    settings.apply("as-run", ours=ours)
    warnings.simplefilter("ignore")
    from tests.peers import stubs

    stubs.install()
    from benchmarks.speed import training

    def say(words: dict[str, float]) -> None:
        print(json.dumps(words), file=answers, flush=True)

    def clock(test: Callable[[], float]) -> Clock:
        return Clock(test, order["goal"], order["limit"], say, order.get("every"))

    root = Path(order["data_root"]) if order.get("data_root") else None
    try:
        training.train(order["goal"], order["contestant"], clock, root, order.get("seed", 0))
    except Reached:
        return


if __name__ == "__main__":
    main()
