"""A program that kills trainings at any moment and lets them go on; they must end as an undisturbed one does.

    python -m tests.train.killing FOLDER TRIALS SEED

Each training is a process of its own (a fork, so that torch is imported once), which dies by SIGKILL: at some call that
changes files, before or after it, or after some time; or the disk is full at such a call. It is started again, killed
again, up to three times. Prints what was done, as JSON; ends with 1 where a run ended otherwise than undisturbed.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

RECIPES: list[tuple[str, dict[str, Any]]] = [
    (
        "sinusoid-maml",
        {"train.average": {"name": "ema", "decay": 0.8}, "train.clip-norm": 1.0, "train.patience": 50},
    ),
    ("sinusoid-cnp-fast", {"train.schedule": {"name": "cosine"}}),
    ("sinusoid-maml", {"train.precision": "fp16", "train.average": {"name": "swa", "start": 0.2}}),
]
COMMON: dict[str, Any] = {
    "train.steps": 10,
    "train.tasks-per-step": 2,
    "train.validate-every": 4,
    "train.validate-episodes": 4,
}
CALLS = ("replace", "fsync", "unlink", "rmdir", "mkdir")
"""Of ``os``: those by which training changes files, writing aside."""


def train(runs: Path, number: int) -> None:
    """Begin a run, or go on with the one that is there."""
    from quickstudy import api
    from quickstudy.runs import is_run

    name, changes = RECIPES[number]
    found = [path for path in sorted(runs.glob("*")) if is_run(path)]
    if found:
        api.train(found[-1], runs=runs, device="cpu", resume=True)
    else:
        api.train(name, overrides=COMMON | changes, runs=runs, device="cpu")


def forked(work: Callable[[], None], kill_after: float | None = None) -> int:
    """Do it in a process of its own; the wait status, negative for a signal."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            sys.stderr = io.StringIO()
            work()
            status = 0
        except Exception as error:
            status = 3 if type(error).__name__ == "StorageError" else 4
            if status == 4:
                sys.__stderr__.write(traceback.format_exc())  # type: ignore[union-attr]
        finally:
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Disturbance:
    """The ``at``-th change of a file ends this process, or finds the disk full.

    Args:
        at: which one, from 1.
        how: ``"before"`` or ``"after"`` it is killed, or ``"full"``.

    Attributes:
        count: changes so far.
    """

    def __init__(self, at: int, how: str) -> None:
        self.at, self.how, self.count = at, how, 0

    def begin(self) -> Disturbance:
        """From now on; for the rest of this process."""
        for name in CALLS:
            setattr(os, name, self._guarded(getattr(os, name)))
        builtins.open = partial(self._opened, builtins.open)
        return self

    def _is_due(self) -> bool:
        self.count += 1
        return self.count == self.at

    def _strike(self) -> None:
        if self.how == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.kill(os.getpid(), signal.SIGKILL)

    def _guarded(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            if not self._is_due():
                return real(*arguments, **more)
            if self.how == "after":
                real(*arguments, **more)
            self._strike()

        return call

    def _opened(self, real: Callable[..., Any], path: Any, mode: str = "r", *arguments: Any, **more: Any) -> Any:
        """A file whose writes count, too; one that is cut short leaves the half of it."""
        file = real(path, mode, *arguments, **more)
        if "b" not in mode or "r" in mode:
            return file
        write = file.write

        def cut(data: Any) -> Any:
            if not self._is_due():
                return write(data)
            write(data[: len(data) // 2])
            file.flush()
            self._strike()

        return _Written(file, cut)


class _Written:
    """A file with another ``write``."""

    def __init__(self, file: Any, write: Callable[[Any], int]) -> None:
        self._file, self.write = file, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *arguments: Any) -> None:
        self._file.close()


def content(runs: Path) -> tuple[Any, ...]:
    """What the finished run holds: weights, the best of them, curves without times."""
    from quickstudy.files import places
    from quickstudy.runs import is_run

    run = [path for path in sorted(runs.glob("*")) if is_run(path)][-1]
    # One that was killed between the two renames of its last checkpoint has it beside its place, from where it loads.
    kept = [places(run / "checkpoints" / which)[0] for which in ("last", "best")]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    parts = [(place / "weights.safetensors").read_bytes() for place in kept]
    states = [json.loads((place / "state.json").read_bytes()) for place in kept]
    return parts, states, [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def main(folder: Path, trials: int, seed: int) -> int:
    """All trials; the exit status."""
    import quickstudy.api
    import quickstudy.recipes.fitting  # noqa: F401  (all that a child would import)
    from quickstudy.recipes import build, load_recipe

    chance, done, wrong = random.Random(seed), Counter[str](), 0
    expected, changes, lasts = [], [], []
    for number, (name, more) in enumerate(RECIPES):
        build(load_recipe(name, COMMON | more), None)  # imports what is imported late
        runs = folder / f"whole{number}"
        began = time.monotonic()
        assert forked(lambda runs=runs, number=number: train(runs, number)) == 0  # type: ignore[misc]
        lasts.append(time.monotonic() - began)
        expected.append(content(runs))
        counted = folder / f"counted{number}"
        changes.append(_count(counted, number))
    for trial in range(trials):
        number, runs = trial % len(RECIPES), folder / f"trial{trial}"
        for _ in range(chance.randint(1, 3)):
            how = chance.choice(["before", "before", "after", "after", "full", "time"])
            at = chance.randint(1, changes[number])
            if how == "time":
                wait = chance.uniform(0, lasts[number])
                status = forked(lambda runs=runs, number=number: train(runs, number), wait)  # type: ignore[misc]
            else:

                def work(runs: Path = runs, number: int = number, at: int = at, how: str = how) -> None:
                    Disturbance(at, how).begin()
                    train(runs, number)

                status = forked(work)
            done["finished" if status == 0 else how if status in (-signal.SIGKILL, 3) else f"status {status}"] += 1
        status = forked(lambda runs=runs, number=number: train(runs, number))  # type: ignore[misc]
        if status != 0 or content(runs) != expected[number]:
            wrong += 1
            sys.stderr.write(f"trial {trial} (recipe {number}) ended otherwise, status {status}\n")
        shutil.rmtree(runs, ignore_errors=True)
    sys.stdout.write(json.dumps({"trials": trials, "wrong": wrong, "changes": changes, **done}))
    return 1 if wrong else 0


def _count(runs: Path, number: int) -> int:
    """How many changes of files an undisturbed run makes."""
    read, write = os.pipe()

    def work() -> None:
        found = Disturbance(0, "never").begin()
        train(runs, number)
        os.write(write, str(found.count).encode())

    assert forked(work) == 0
    return int(os.read(read, 20))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
