"""Floor 6: the service as a process: it listens, and when it is told to stop it finishes what it accepted.

SIGTERM, Ctrl-C    new requests are refused (503), those that were accepted are answered, then it ends, status 0
once more          it ends at once
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any

import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from quickstudy.errors import RunError
from quickstudy.serve.app import create_app
from quickstudy.serve.batching import ANSWERS
from quickstudy.serve.brains import LEARNS
from quickstudy.serve.gate import State
from quickstudy.serve.service import Service
from quickstudy.serve.settings import Settings

__all__ = ["run_service"]

_GIVEN_UP = 2.0  # seconds in which who waits is told that it will not be answered
_PATIENCE = 2.0  # seconds for what is being computed for nobody
_GRACE = 0.3  # seconds for which it refuses in words before it stops listening


def run_service(settings: Settings, listening: Callable[[str], None]) -> None:
    """Serve until a signal says stop.

    Args:
        settings: see there.
        listening: is told the address, once it is open.

    Raises:
        InputError: the settings do not allow it to start.
        RunError: the address is taken, or the system refuses it.
        StorageError: the database cannot be opened.
    """
    listener = _listener(settings)
    try:
        app = create_app(replace(settings, loaded=_settle))
    except BaseException:
        listener.close()
        raise
    service: Service = app.state.service
    warnings.simplefilter("ignore")  # what libraries have to say of a user's examples is nothing for the log
    config = uvicorn.Config(
        app,
        http=type("Patient", (_Patient,), {"seconds": settings.limits.head_seconds}),
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="error",  # what is no request is nothing for the log
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=2,  # after `stop_seconds`, see `_Server.on_tick`
        h11_max_incomplete_event_size=64 * 1024,
    )
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    _Server(config, service.state, settings.limits.stop_seconds, lambda: listening(address)).run(sockets=[listener])
    _end_soon()


def _settle() -> None:
    """What is loaded stays: Python need not look through it again for what is garbage.

    There are some hundred thousand objects once torch and the learners are there. Looked through whole, which Python
    does now and then, they keep every request waiting, and half a second is long for fifty a second.
    """
    gc.collect()
    gc.freeze()


def _end_soon() -> None:
    """Wait a little for what is still being computed, and end without it: all that matters is in the database."""
    learning = [thread for thread in threading.enumerate() if thread.name.startswith((LEARNS, ANSWERS))]
    for thread in learning:
        thread.join(timeout=_PATIENCE)
    if any(thread.is_alive() for thread in learning):
        sys.stderr.flush()
        os._exit(0)  # the interpreter would wait for the thread


def _listener(settings: Settings) -> socket.socket:
    """A socket that listens, so that whoever starts two on one port hears of it before anything else is done."""
    listener = None
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host.strip("[]"), settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # The protocol is named, because asyncio turns delays off (TCP_NODELAY) only where it is.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(256)
    except (OSError, OverflowError, UnicodeError) as error:
        if listener is not None:
            listener.close()
        said = getattr(error, "strerror", None) or error
        raise RunError(
            f"Cannot listen on {settings.host}, port {settings.port}: {said}. Stop what uses it, or name another "
            "--port."
        ) from error
    return listener


class _Server(uvicorn.Server):
    """uvicorn's, but that a signal is a request to finish, and no failure."""

    def __init__(self, config: uvicorn.Config, state: State, seconds: float, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._state, self._seconds, self._asked, self._told = state, seconds, 0.0, started

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._told()

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del sig, frame
        if self._state.stopping:
            self.should_exit = self.force_exit = True
        self._state.stopping, self._asked = True, time.monotonic()

    @override
    async def on_tick(self, counter: int) -> bool:
        if self._state.stopping:
            waited = time.monotonic() - self._asked
            self._state.hurry = waited > self._seconds
            self.should_exit |= waited > self._seconds + _GIVEN_UP or (waited > _GRACE and self._state.working == 0)
        return await super().on_tick(counter)


class _Patient(H11Protocol):
    """Uvicorn's protocol, with a limit to the patience with who does not send a request's head, be it the first or not.

    Between two requests of a connection uvicorn waits itself, until the first byte.
    """

    seconds = 10.0
    _timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def _watch(self) -> None:
        if not self._waits:
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self._give_up)

    @property
    def _waits(self) -> bool:
        """No request has been understood that is not answered yet."""
        return self.cycle is None or self.cycle.response_complete

    def _give_up(self) -> None:
        if self._waits and not self.transport.is_closing():
            self.transport.close()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)
