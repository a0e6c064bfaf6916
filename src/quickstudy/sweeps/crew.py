"""Floor 6: the worker processes of a sweep: each gets trial after trial; one that dies has its trial taken up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quickstudy.errors import InputError, RunError, StorageError
from quickstudy.rankcount import threads_of_a_rank
from quickstudy.sweeps.folder import SweepFolder
from quickstudy.sweeps.study import Given, Study
from quickstudy.sweeps.trial import Reached
from quickstudy.train import Interrupted

__all__ = ["Crew"]

_HOPELESS = 5
"""So many trials that failed, with none that came to a figure, and the sweep ends."""
_POLITE = 60.0  # seconds that a worker has to finish its step and save

Told = Callable[[int, Reached], None]


class Crew:
    """Workers that compute the trials of a study until there are enough.

    Args:
        folder: of the sweep; its lock is held.
        study: its journal.
        number: how many workers.
        trials: how many trials there are to be, those that are there already included.
        job: what every worker is told beside its trial, such as where data lies.
        told: called with each trial that ended.
    """

    def __init__(
        self, folder: SweepFolder, study: Study, number: int, trials: int, job: dict[str, Any], told: Told
    ) -> None:
        self._folder, self._study, self._number, self._trials = folder, study, number, trials
        self._job, self._told = job, told
        self._waiting: list[Given] = []
        # Over the journal, the waiting trials and the processes: each worker has a thread here that speaks with it.
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._error: BaseException | None = None
        self._done: list[threading.Event] = []
        self._failed = self._reached = 0

    def work(self) -> None:
        """Compute all trials.

        Raises:
            Interrupted: Ctrl-C; running trials are saved and will be taken up.
            StorageError: the disk refused.
            RunError: trial after trial failed.
        """
        self._waiting = self._study.taken_up()
        try:
            for place in range(self._number):
                done = threading.Event()
                self._done.append(done)
                threading.Thread(target=self._serve, args=(place, done), daemon=True).start()
            # Not thread.join: Python 3.11 takes a thread for ended whose join is interrupted (bpo-45274).
            while not all(done.wait(0.2) for done in self._done) and self._error is None:
                pass
            if self._error is not None:
                self._ask_to_stop()
        except KeyboardInterrupt:
            self._ask_to_stop()
            raise Interrupted("Stopped.") from None
        finally:
            self._stop.set()
            for process in self._processes.values():
                _end(process)
        if self._error is not None:
            raise self._error

    def _ask_to_stop(self) -> None:
        self._stop.set()
        with self._lock:
            for process in self._processes.values():
                process.send_signal(signal.SIGINT)
        end = time.monotonic() + _POLITE
        for done in self._done:
            done.wait(max(0.0, end - time.monotonic()))

    def _serve(self, place: int, done: threading.Event) -> None:
        """What one thread does: give a worker its trials."""
        try:
            given = self._next()
            if given is None:
                return
            process = self._start(place)
            while given is not None:
                reached = self._converse(process, given)
                if reached is not None:
                    self._tell(given, reached)
                    given = self._next()
                elif self._stop.is_set():
                    return
                else:
                    given = self._after_a_death(given)
                    if given is not None:
                        process = self._start(place)
            assert process.stdin is not None
            process.stdin.close()
            process.wait(_POLITE)  # of its own accord, when there is nothing more to read
        except BaseException as error:  # of a thread: handed to the one that waits for all
            self._error = self._error or error
            self._stop.set()
        finally:
            done.set()

    def _next(self) -> Given | None:
        with self._lock:
            if self._stop.is_set():
                return None
            if self._waiting:
                return self._waiting.pop(0)
            return self._study.ask() if self._study.begun < self._trials else None

    def _start(self, place: int) -> subprocess.Popen[str]:
        self._folder.logs.mkdir(parents=True, exist_ok=True)
        # The package that runs here, wherever it was imported from, and what the user's path holds.
        paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": str(threads_of_a_rank(self._number)),
        }
        with (self._folder.logs / f"{place + 1}.log").open("a", encoding="utf-8") as log, self._lock:
            process = subprocess.Popen(
                [sys.executable, "-m", "quickstudy.sweeps.worker", str(self._folder.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches it through this process alone
            )
            self._processes[place] = process
        return process

    def _converse(self, process: subprocess.Popen[str], given: Given) -> Reached | None:
        """Hear of a trial until it ends; None: the process left without saying how."""
        assert process.stdin is not None and process.stdout is not None
        try:
            _write(process, {"trial": given.number, "values": given.values, **self._job})
            for line in process.stdout:
                message = json.loads(line)
                kind = message.pop("kind")
                if kind == "report":
                    with self._lock:
                        stop = self._study.report(given.number, message["step"], message["value"])
                    _write(process, {"stop": stop})
                elif kind == "storage":
                    raise StorageError(message["why"])
                elif kind == "reached":
                    return Reached(**message)
                else:  # interrupted: it will be taken up
                    break
        except (BrokenPipeError, ValueError):  # it was killed while it was spoken to, or in the middle of a line
            pass
        _end(process)
        return None

    def _after_a_death(self, given: Given) -> Given | None:
        """The same trial once more, or the next one where its process died too often."""
        with self._lock:
            lost = self._study.died(given.number)
        if not lost:
            return given
        self._tell(given, Reached("lost", why="its process died again and again, perhaps for want of memory"))
        return self._next()

    def _tell(self, given: Given, reached: Reached) -> None:
        with self._lock:
            self._study.tell(given.number, reached)
            self._told(given.number, reached)
            self._reached += reached.outcome in ("finished", "pruned", "diverged")
            self._failed += reached.outcome in ("refused", "failed", "lost")
            if self._failed >= _HOPELESS and not self._reached:
                kind = InputError if reached.outcome == "refused" else RunError
                raise kind(
                    f"{self._failed} trials failed and none came to a figure; the last: {reached.why}. Mend the recipe "
                    f"or the ranges; {self._folder.logs} has what was printed."
                )


def _write(process: subprocess.Popen[str], message: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:  # something was still to be written to it
                pass
