"""Floor 4: which of the ranks that somebody else has started are still there.

When nothing comes from another rank any more, torch says that something was not received in time, and not from whom. So
each rank answers, in a thread, whoever asks whether it is there, and a rank that misses something asks all others. One
that leaves, because it misses another, tells whom: it is not missed itself.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

__all__ = ["Called", "RollCall"]

_ANSWER = 5.0  # seconds in which a rank that is there answers
_LONGEST = 1 << 16  # bytes that anybody is listened to
_AT_ONCE = 32  # ranks that are asked at the same time


@dataclass(frozen=True)
class Called:
    """A rank, as the others know it.

    Args:
        name: in words.
        place: where it answers, address and port; None where it does not.
    """

    name: str
    place: tuple[str, int] | None


class RollCall:
    """Answers the other ranks, and asks them.

    Args:
        rank: which one this is.
        address: of this machine, at which others reach it; None: it answers nobody, and asks nobody.
    """

    def __init__(self, rank: int, address: str | None) -> None:
        self._rank, self._server = rank, None if address is None else _listening(address)
        self._missed_by_others: dict[int, set[int]] = {}
        self._others: dict[int, Called] = {}

    @property
    def place(self) -> tuple[str, int] | None:
        """Where this rank answers."""
        return None if self._server is None else self._server.getsockname()[:2]

    def begin(self, ranks: Sequence[Called]) -> None:
        """Answer from now on, until :meth:`end`.

        Args:
            ranks: all of them, this one too.
        """
        self._others = {rank: called for rank, called in enumerate(ranks) if rank != self._rank}
        if self._server is not None:
            threading.Thread(target=self._answer, args=(self._server,), daemon=True).start()

    def end(self) -> None:
        """Answer no more."""
        server, self._server = self._server, None
        if server is not None:
            # A last call, as a thread that waits for one does not notice that its socket is closed.
            try:
                with socket.create_connection(server.getsockname()[:2], timeout=_ANSWER) as last:
                    last.sendall(b"\n")
            except OSError:  # the network of this address is gone; the thread ends with the process
                pass
            server.close()

    def missing(self) -> str:
        """Who does not answer, as the end of "Nothing can be exchanged with"; empty where that cannot be known."""
        others = {rank: called.place for rank, called in self._others.items() if called.place is not None}
        if not others:
            return ""
        silent = {rank for rank, there in self._asked(others, {}).items() if not there}
        # Of those that left some said whom they had missed, which these do not say any more.
        told = set[int]().union(*(self._missed_by_others.get(rank, set()) for rank in silent))
        lost = sorted(told | {rank for rank in silent if rank not in self._missed_by_others})
        self._asked({rank: place for rank, place in others.items() if rank not in silent}, {"missed": lost})
        if not lost:
            return (
                "the other ranks in time, though all of them answer: a step takes longer than "
                "QUICKSTUDY_RANKS_TIMEOUT, or one of them is stuck"
            )
        return " and ".join(self._others[rank].name for rank in lost)

    def _asked(self, places: dict[int, tuple[str, int]], more: dict[str, list[int]]) -> dict[int, bool]:
        """Whether each answers."""
        question = json.dumps({"rank": self._rank} | more).encode() + b"\n"

        def ask(place: tuple[str, int]) -> bool:
            try:
                with socket.create_connection(place, timeout=_ANSWER) as connection:
                    connection.sendall(question)
                    return bool(connection.recv(1))
            except OSError:
                return False

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(places, pool.map(ask, places.values()), strict=True))

    def _answer(self, server: socket.socket) -> None:
        while self._server is not None:
            try:
                connection, _ = server.accept()
            except OSError:  # closed
                return
            with connection:
                try:
                    connection.settimeout(_ANSWER / 5)  # somebody else, who says nothing, shall keep nobody waiting
                    said = connection.makefile("rb").readline(_LONGEST)
                    connection.sendall(b"!")
                    self._note(json.loads(said))
                except (OSError, ValueError, RecursionError):
                    continue

    def _note(self, said: object) -> None:
        """Keep whom another rank missed."""
        rank, missed = (said.get("rank"), said.get("missed")) if isinstance(said, dict) else (None, None)
        if isinstance(rank, int) and rank in self._others and isinstance(missed, list):
            self._missed_by_others[rank] = {each for each in missed if isinstance(each, int) and each in self._others}


def _listening(address: str) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, 0), family=family)
    except OSError:  # no more than a name is lost by it
        return None
