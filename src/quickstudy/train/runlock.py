"""Floor 4: one process at a time works in a folder, and whoever comes second hears who that is.

The system's own lock (``flock``) ends with its process, however it dies, whatever process gets its number next. Some
file systems know no such locks, or keep them to one machine, so the file says besides who holds it: host, process, when
that process began, and a count that it raises every few seconds. A holder on this machine is alive if its process is;
one on another machine if its count rises while one looks. No clock of any machine is compared with another.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from quickstudy.errors import QuickstudyError
from quickstudy.files import storage_error

__all__ = ["Holder", "held_alone", "is_held", "taken_by", "try_lock"]

_BEAT = 5.0  # seconds between two counts
_PATIENCE = 20.0  # seconds in which a count has to rise: some beats, as a network's file system may keep one back
_GLANCE = 0.5  # seconds; who asks whether it is held (is_held) has the system's lock for a moment
_DIGITS = 12
_AS_IT_IS = getattr(os, "O_BINARY", 0)  # Windows would change the ends of lines
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as the file says.

    Args:
        process: its number.
        host: its machine's name.
        place: what its number counts in: this start of the machine, and its container.
        began: when the process began, as its system counts; "" where that is not known.
        since: when it took the lock, UTC, for people.
        token: drawn for this lock.
    """

    process: int
    host: str
    place: str
    began: str
    since: str
    token: str

    @staticmethod
    def this_process() -> Holder:
        """The process that asks."""
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        process = os.getpid()
        return Holder(process, platform.node(), _place(), _began(process), since, secrets.token_hex(4))

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"

    @property
    def is_here(self) -> bool:
        """Whether its number counts where this process's does, and can be asked for (on Windows it cannot)."""
        return self.place == _place() and os.name == "posix"

    @property
    def runs(self) -> bool:
        """Of a holder that is here: whether it is still that process, and not another one with its number."""
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except OSError:  # somebody else's
            pass
        return _began(self.process) == self.began


@contextmanager
def held_alone(path: Path, refuse: Callable[[str], QuickstudyError]) -> Iterator[None]:
    """While it lasts no other process holds the lock.

    Args:
        path: the lock's file, made where there is none.
        refuse: the holder in brackets, or "" where it has not said who it is -> what is raised.

    Raises:
        QuickstudyError: what ``refuse`` returns: another process holds it.
        StorageError: the file cannot be written.
    """
    file, granted = _opened(path)
    with file:
        holder, _ = _said(file)
        if granted is False or (holder is not None and _is_alive(file, holder, granted)):
            raise refuse("" if holder is None else f" ({holder})")
        mine = Holder.this_process()
        try:
            _say(file, mine)
        except OSError as error:
            raise storage_error(path, error) from error
        if granted is None:  # two may have come here at once: the last to write has it
            time.sleep(0.1)
            other, _ = _said(file)
            if other != mine:
                raise refuse("" if other is None else f" ({other})")
        over = threading.Event()
        beating = threading.Thread(target=_beat, args=(file, over, mine), name="lock of a folder", daemon=True)
        beating.start()
        try:
            yield
        finally:
            over.set()
            beating.join()
            try:
                if _said(file)[0] == mine:
                    file.truncate(0)
            except OSError:
                pass  # the folder is gone, or its disk: there is nothing to give back


def is_held(path: Path) -> bool:
    """Whether a process holds the lock, without waiting to see whether one on another machine is alive.

    Args:
        path: the lock's file; there may be none.
    """
    try:
        file = path.open("rb")
    except OSError:  # nobody ever held it
        return False
    with file:
        granted = _granted(file, shared=True)
        if granted is not None:
            return not granted
        return _may_live(_said(file)[0])


def taken_by(path: Path) -> Holder | None:
    """Who has taken a lock from this process since it got it, if anybody: one that stood still was taken for dead.

    Args:
        path: the lock's file.
    """
    try:
        with path.open("rb") as file:
            holder, _ = _said(file)
    except OSError:  # the folder is gone, or its disk, which is noticed elsewhere
        return None
    mine = holder is None or (holder.process == os.getpid() and holder.place == _place())
    return None if mine else holder


def try_lock(file: IO[str] | IO[bytes], *, shared: bool = False) -> bool:
    """Lock an open file until it is closed; False where another process holds it.

    Args:
        file: on a file system that knows locks; on systems without them it is as if nobody held it.
        shared: with others that ask so.
    """
    return _granted(file, shared=shared) is not False


# --- the system's lock --------------------------------------------------------------------------


def _granted(file: IO[str] | IO[bytes], *, shared: bool = False) -> bool | None:
    """Whether the system gave its lock; None where it knows none."""
    if fcntl is None:  # not a POSIX system
        return None
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


def _opened(path: Path) -> tuple[IO[bytes], bool | None]:
    """The file, locked where the system can; tried for a moment, unless one that may be alive has said its name."""
    until = time.monotonic() + _GLANCE
    while True:
        try:
            # Not in append mode: there, what is written to a place goes to the end.
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | _AS_IT_IS, 0o666), "r+b", buffering=0)
        except OSError as error:
            raise storage_error(path, error) from error
        granted = _granted(file)
        try:
            same = os.path.samestat(os.fstat(file.fileno()), os.stat(path))
        except OSError:
            same = False
        if not path.parent.is_dir():
            return file, granted
        if same and (granted is not False or time.monotonic() > until or _may_live(_said(file)[0])):
            return file, granted
        file.close()  # another process looks at it, or removed it in between
        time.sleep(0.02)


# --- what the file says -------------------------------------------------------------------------


def _said(file: IO[bytes]) -> tuple[Holder | None, bytes]:
    """The holder and its count; None where it says nothing that can be read."""
    try:
        file.seek(0)
        count, _, about = file.read(4096).partition(b"\n")
        return Holder(**json.loads(about)), count
    except (OSError, ValueError, TypeError):
        return None, b""


def _say(file: IO[bytes], holder: Holder) -> None:
    file.truncate(0)
    file.seek(0)
    file.write(b"0" * _DIGITS + b"\n" + json.dumps(asdict(holder)).encode() + b"\n")
    os.fsync(file.fileno())


def _may_live(holder: Holder | None) -> bool:
    """Whether there is one that is on another machine, or runs."""
    return holder is not None and (not holder.is_here or holder.runs)


def _is_alive(file: IO[bytes], holder: Holder, granted: bool | None) -> bool:
    if holder.is_here:
        return granted is None and holder.runs  # the system gave its lock: that process is dead
    _, count = _said(file)
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        time.sleep(_BEAT / 20)
        again, now = _said(file)
        if again != holder or now != count:
            return True
    return False


def _beat(file: IO[bytes], over: threading.Event, mine: Holder) -> None:
    count = 0
    while not over.wait(_BEAT):
        count += 1
        try:
            if _said(file)[0] not in (mine, None):
                return  # this process stood still for long, and another machine took it for dead
            file.seek(0)
            file.write(f"{count:0{_DIGITS}d}".encode())
            os.fsync(file.fileno())  # a network's file system may keep it back else
        except OSError:
            pass  # training will hear of it when it saves


def _place() -> str:
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {start} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return platform.node()


def _began(process: int) -> str:
    """Ticks from the machine's start to the process's; numbers of processes are given again, with another one."""
    try:
        about = Path(f"/proc/{process}/stat").read_text()
    except OSError:  # no such process, or not Linux
        return ""
    return about.rpartition(")")[2].split()[19]
