"""Floor 4: the life of one rank: it meets the others, does its work, says how that ended, and leaves when told to."""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Mapping
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any, TextIO

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from quickstudy.allocator import keep_large_blocks
from quickstudy.errors import RunError
from quickstudy.train.callbacks import EndEvent, StepEvent, ValidationEvent
from quickstudy.train.engine import Interrupted
from quickstudy.train.ranks import PeerLost, ProcessRanks, portable
from quickstudy.train.ranks_messages import Answered, Ended, Event, Hello, Job, Leave, Stop, Told

__all__ = ["CallbackFailed", "Relay", "Starter", "main", "store_of_start"]

# Longer than any step, any callback, and any night that a laptop sleeps: a rank that died is found by other means.
_PATIENCE = timedelta(days=2)
_MEETING = timedelta(minutes=10)  # for all to be started, on a machine however busy


class CallbackFailed(RunError):
    """A callback of the process that started the ranks raised an error, which that process knows."""


class Starter:
    """The process that started the ranks, as seen from one of them.

    Args:
        connection: to it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._answers: queue.SimpleQueue[Answered] = queue.SimpleQueue()
        self._leave: queue.SimpleQueue[Leave] = queue.SimpleQueue()
        self._stop = threading.Event()

    def listen(self) -> None:
        """Hear what it says from now on, in a thread; leave at once when it is gone."""
        threading.Thread(target=self._hear, daemon=True).start()

    def asked_to_stop(self) -> bool:
        """Whether Ctrl-C was pressed there."""
        return self._stop.is_set()

    def tell(self, event: Event, *arguments: Any) -> None:
        """Tell its callbacks, and wait until they have heard it.

        Raises:
            CallbackFailed: one of them raised an error.
        """
        self.send(Told(event, arguments))
        if self._answers.get().failed:
            raise CallbackFailed(f"A callback failed ({event}).")

    def warn(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """A warning of this process becomes one of that which started it; stands in for ``warnings.showwarning``."""
        del file, line
        self.tell("warning", str(message), category, filename, lineno)

    def send(self, message: object) -> None:
        """Say something to it."""
        with self._sending:
            self._connection.send(message)

    def wait_to_leave(self) -> int:
        """The exit status that it wants."""
        return self._leave.get().status

    def _hear(self) -> None:
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)  # it died, or wants no answer any more: not a failure that would be tried again
            if isinstance(message, Answered):
                self._answers.put(message)
            elif isinstance(message, Leave):
                self._leave.put(message)
            elif isinstance(message, Stop):
                self._stop.set()


class Relay:
    """A callback that tells those of the process that started the ranks.

    Args:
        starter: that process.
    """

    def __init__(self, starter: Starter) -> None:
        self._starter = starter

    def step(self, event: StepEvent) -> None:
        """After each step."""
        self._starter.tell("step", event)

    def validation(self, event: ValidationEvent) -> None:
        """After each validation."""
        self._starter.tell("validation", event)

    def saving(self, step: int) -> None:
        """Before a checkpoint."""
        self._starter.tell("saving", step)

    def end(self, event: EndEvent) -> None:
        """Once, at the end."""
        self._starter.tell("end", event)


def main(connection: Connection) -> None:
    """Do what the process at the other end of ``connection`` says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the starter's to hear
    connection.send(Hello(int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])))
    job = connection.recv()
    assert isinstance(job, Job)
    starter = Starter(connection)
    starter.listen()
    ended = _ended(job, starter)
    starter.send(ended)
    status = starter.wait_to_leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # whatever threads libraries have left behind


def _ended(job: Job, starter: Starter) -> Ended:
    keep_large_blocks()  # this process is nobody else's
    try:
        torch.set_num_threads(job.threads)
        _join(job.device)
        ranks = ProcessRanks(starter.asked_to_stop)
        if ranks.rank == 0:
            warnings.showwarning = starter.warn
        value = job.work(ranks, starter, *job.arguments)
        dist.destroy_process_group()
        return Ended(value if ranks.rank == 0 else None)
    # In what follows the group is not taken down: ranks that wait for this one hear that it is gone when the process
    # ends, and the starter has heard the reason by then.
    except PeerLost as lost:
        return Ended(lost=lost)
    except (Exception, Interrupted) as error:
        return Ended(error=portable(error))


def _join(device: str) -> None:
    """Meet the other ranks, over the loopback interface."""
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), "lo")
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = loopback
    environment = os.environ
    if device == "cuda":
        torch.cuda.set_device(int(environment["LOCAL_RANK"]))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
        store=store_of_start(environment),
        rank=int(environment["RANK"]),
        world_size=int(environment["WORLD_SIZE"]),
        timeout=_PATIENCE,
    )


def store_of_start(environment: Mapping[str, str]) -> PrefixStore:
    """Where the ranks of this start meet, in the store of the process that started them.

    What a rank that was killed left there would mislead those that are started after it: it is looked for elsewhere.
    """
    store = TCPStore(environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), timeout=_MEETING)
    return PrefixStore(f"start/{environment['TORCHELASTIC_RESTART_COUNT']}", store)
