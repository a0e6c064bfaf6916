"""Floor 4: what the process that starts ranks and the ranks say to each other.

    rank -> starter    Hello, then Told (rank 0 alone, which waits for Answered), then Ended
    starter -> rank    Job, Stop (Ctrl-C), Leave

They speak over a socket in the file system, in a folder that only its owner may enter. Where the connection ends, the
other side is gone: a rank whose starter died leaves at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from quickstudy.train.ranks import PeerLost

__all__ = ["Answered", "Ended", "Event", "Hello", "Job", "Leave", "Stop", "Told"]

Event: TypeAlias = Literal["step", "validation", "saving", "end", "episodes", "note", "warning"]


@dataclass(frozen=True)
class Job:
    """What the ranks are to do.

    Args:
        work: ``work(ranks, tell, *arguments)``, a function of a module.
        arguments: of it.
        device: the kind of device, ``"cpu"`` or ``"cuda"``.
        threads: of one operation on the CPU.
    """

    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    device: str
    threads: int


@dataclass(frozen=True)
class Hello:
    """A rank has begun.

    Args:
        rank: which one.
        start: how often the ranks were started again before.
    """

    rank: int
    start: int


@dataclass(frozen=True)
class Told:
    """Something that callbacks want to know.

    Args:
        event: the callback's method; ``"episodes"`` for the progress of a test, ``"note"`` for a sentence to show,
            ``"warning"`` for a warning: text, category, file, line.
        arguments: of it.
    """

    event: Event
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Answered:
    """Callbacks were told.

    Args:
        failed: one of them raised an error.
    """

    failed: bool


@dataclass(frozen=True)
class Ended:
    """How a rank's work ended.

    Args:
        value: what it gave, on rank 0.
        error: how it failed.
        lost: it failed because another rank was gone, or so it seemed.
    """

    value: Any = None
    error: BaseException | None = None
    lost: PeerLost | None = None


@dataclass(frozen=True)
class Stop:
    """End politely, after the step that is being done."""


@dataclass(frozen=True)
class Leave:
    """The process is to end.

    Args:
        status: its exit status; other than 0 for the ranks to be started again.
    """

    status: int = 0
