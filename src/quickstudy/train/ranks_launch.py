"""Floor 4: start ranks on this machine, hear them, and end them, by torch's own elastic launch.

Ranks are fresh Python processes, which run a function of a module; the script of the user is not run again in them. A
rank that is killed takes the others with it, and all are started anew, from the last checkpoint; a rank that fails with
an error says so, and nothing is tried again.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from quickstudy.errors import InputError
from quickstudy.train.callbacks import Callback
from quickstudy.train.contexts import polite_interrupt
from quickstudy.train.ranks import PeerLost, RanksLost
from quickstudy.train.ranks_hearing import Hearing
from quickstudy.train.ranks_messages import Job
from quickstudy.train.ranks_rendezvous import BACKEND, LOOPBACK, register

__all__ = ["RESTARTS", "run_ranks"]

RESTARTS = 3
"""How often ranks are started again after one of them was killed."""

_SIGNALS = "TORCHELASTIC_SIGNALS_TO_HANDLE"  # torch's launch writes it into the environment
_LONGEST_ADDRESS = 100  # bytes of a socket's path; systems allow 104 to 108

# Begins each rank. What it prints goes to a file (torch would redirect it too, but leaves its files open). First it
# hears where modules lie, as the starter may have changed its sys.path.
_BEGIN = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.makedirs(sys.argv[2], exist_ok=True)  # where somebody tidied up since, a rank can start again all the same
printed = os.open(sys.argv[2] + "/rank" + os.environ["RANK"] + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(printed, 1)
os.dup2(printed, 2)
from multiprocessing.connection import Client
try:
    connection = Client(sys.argv[1], "AF_UNIX")
    sys.path[:] = connection.recv()
except (OSError, EOFError):
    sys.exit(0)
from quickstudy.train.ranks_worker import main
main(connection)
"""


def run_ranks(
    job: Job,
    size: int,
    *,
    logs: Path | None = None,
    callbacks: Sequence[Callback] = (),
    episodes: Callable[[int, int], None] | None = None,
    polite: bool = False,
    note: Callable[[str], None] | None = None,
    restarts: int = RESTARTS,
) -> Any:
    """Do a job in ``size`` processes that know each other; what it gave on rank 0.

    Args:
        job: what to do.
        size: how many ranks.
        logs: gets what ranks and torch print; it stays only where ranks were lost for good. None: a temporary folder.
        callbacks: told in this process what rank 0 tells. After ranks were started again they hear of no step twice.
        episodes: told of how many episodes are done, of how many.
        polite: Ctrl-C lets the running step be finished and saved; a second one ends the ranks at once.
        note: told sentences to show: those of rank 0, and that ranks were lost and are started again.
        restarts: how often, before it is given up.

    Raises:
        InputError: ranks cannot be started on this system.
        RanksLost: ranks were killed too often.
        Exception: whatever the job raised; the error of the first rank that did.
    """
    if os.name == "nt":
        raise InputError("Cannot divide the work over ranks on Windows. Leave ranks out, or say ranks=1.")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(_short_folder()))
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(folder / "ranks"))
        server.listen(size)
        place = stack.enter_context(_log_folder(logs or folder / "logs"))
        agent = _Agent(size, str(folder / "ranks"), place, restarts)
        hearing = Hearing(job, size, server, callbacks, episodes, note, restarts)
        stack.callback(agent.thread.join)
        stack.callback(hearing.close)  # before the agent is waited for: ranks that nobody hears leave
        asked = stack.enter_context(polite_interrupt()) if polite else threading.Event()
        stack.callback(hearing.tell_end)
        agent.thread.start()
        while not hearing.decided and agent.thread.is_alive():
            hearing.hear(asked)
        if not hearing.decided and hearing.error is None:
            hearing.failed = agent.error(restarts, logs, hearing.losses)
        return hearing.verdict()


# --- the agent ---------------------------------------------------------------------------------------


class _Agent:
    """torch's elastic agent, in a thread: it starts ranks, sees one die, and starts all again.

    Not in the main thread, as there it would take the signals, and callbacks belong into the thread of who called.
    """

    def __init__(self, size: int, address: str, logs: Path, restarts: int) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._failed: BaseException | None = None
        self._address, self._logs = address, logs
        self._config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=size,
            run_id=secrets.token_hex(4),
            rdzv_backend=BACKEND,
            rdzv_endpoint=LOOPBACK,
            local_addr=LOOPBACK,
            logs_specs=DefaultLogsSpecs(os.devnull),
            max_restarts=restarts,
        )

    def _run(self) -> None:
        register()
        # A dollar sign would be taken for the beginning of a name to replace.
        arguments = [text.replace("$", "$$") for text in (_BEGIN, self._address, str(self._logs.absolute()))]
        try:
            with _quiet_elastic(self._logs):
                elastic_launch(self._config, sys.executable)("-c", *arguments)
        except BaseException as error:
            self._failed = error

    def error(self, restarts: int, logs: Path | None, losses: Sequence[tuple[int, PeerLost]]) -> BaseException:
        """Why ranks left without saying how it ended.

        Args:
            restarts: how often they were started again.
            logs: where they printed.
            losses: which ranks could not reach the others any more, and why, the first one first.
        """
        where = f" What they printed is in {logs}." if logs is not None and logs.exists() else ""
        if isinstance(self._failed, ChildFailedError):
            rank, failure = min(self._failed.failures.items(), key=lambda item: (_cause(item[1].exitcode), item[0]))
            lost = f"Ranks were lost {restarts + 1} times, the last time"
            todo = f"perhaps for want of memory.{where} Close other programs, or use fewer ranks."
            if failure.exitcode >= 0 and losses:  # none was killed: the first that gave up knows why
                rank, loss = losses[0]
                return RanksLost(f"{lost} as rank {rank} could not exchange its results, {todo} {loss.said}".rstrip())
            how = f"signal {-failure.exitcode}" if failure.exitcode < 0 else f"exit status {failure.exitcode}"
            return RanksLost(f"{lost} rank {rank} ({how}), {todo}")
        return RanksLost(f"The ranks left without a word: {self._failed!r}.{where} Try ranks=1.")


def _cause(exitcode: int) -> int:
    """How little a rank's end explains why all ended: one that was killed comes first, since others left because of it.

    Last comes one that was asked to leave (SIGTERM): the agent asks those that are still there when one has failed.
    """
    if exitcode == -signal.SIGTERM:
        return 2
    return 0 if exitcode < 0 else 1


@contextmanager
def _quiet_elastic(logs: Path) -> Iterator[None]:
    """What torch's launch reports goes into a file; loggers and environment are afterwards as they were."""
    loggers = [logging.getLogger(name) for name in ("torch.distributed.elastic", "torchelastic-events-null")]
    propagated = [logger.propagate for logger in loggers]
    variable = os.environ.get(_SIGNALS)
    handler = logging.FileHandler(logs / "launch.log")  # opened now, as the folder may be gone when there is news
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, before in zip(loggers, propagated, strict=True):
            logger.removeHandler(handler)
            logger.propagate = before
        handler.close()
        os.environ.pop(_SIGNALS, None)
        if variable is not None:
            os.environ[_SIGNALS] = variable


@contextmanager
def _short_folder() -> Iterator[str]:
    """A folder of our own whose path is short enough for a socket in it.

    Raises:
        InputError: the paths of all places for it are too long.
    """
    places = [tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR"), str(Path.home())]
    longest = _LONGEST_ADDRESS - 30  # the rest is for the folder's name and the socket's
    short = [p for p in places if p and len(os.fsencode(p)) < longest and os.access(p, os.W_OK | os.X_OK)]
    if not short:
        raise InputError(
            f"Ranks are heard through a socket in a temporary folder, whose path is too long for one: {places[0]}. "
            "Let TMPDIR name a folder with a shorter path, or say ranks=1."
        )
    with tempfile.TemporaryDirectory(prefix="ranks-", dir=short[0]) as folder:
        yield folder


@contextmanager
def _log_folder(folder: Path) -> Iterator[Path]:
    """The folder for what is printed; it stays only where ranks were lost for good."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    except RanksLost:
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
