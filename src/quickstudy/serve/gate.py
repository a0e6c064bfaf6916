"""Floor 6: the door of the service, through which every request goes: who asks, how much, how fast, is it open.

A request's body is read here, whole, with a limit and a time-out, before anything is done with it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from typing import Any, TypeAlias

from quickstudy.serve.access import Access
from quickstudy.serve.errors import Refused
from quickstudy.serve.metrics import Metrics
from quickstudy.serve.settings import Limits

__all__ = ["Gate", "Rates", "State"]

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
_App: TypeAlias = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]

_LOG = logging.getLogger("quickstudy.serve")
_ALWAYS = ("/health", "/ready", "/metrics")  # answered while it stops, and however busy it is
_IMPORT = "/v1/tasks/import"
_SMALL = 64 * 1024  # bytes of a body that comes without a key, to an address that reads none
_LINGER = 5.0  # seconds for which the rest of a body that is too large is read, so that the client reads the answer
_PAGE = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; style-src 'self'; "
    "worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_NOTHING = "default-src 'none'; frame-ancestors 'none'; sandbox"


class State:
    """What the door and whoever stops the service both know."""

    def __init__(self) -> None:
        self.stopping = False
        self.hurry = False  # it has waited long enough for what is still being computed
        self.working = 0


class Rates:
    """A bucket of tokens for each owner, which fills steadily; a request takes one.

    Args:
        per_second: tokens that come; twice as many have room.
    """

    _MOST = 10_000  # owners that are remembered

    def __init__(self, per_second: int) -> None:
        self._rate = float(per_second)
        self._room = 2.0 * per_second
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, owner: str) -> None:
        """One request of an owner.

        Raises:
            Refused: there were too many.
        """
        time_ = time.monotonic()
        with self._lock:
            left, then = self._left.get(owner, (self._room, time_))
            left = min(self._room, left + (time_ - then) * self._rate)
            if left >= 1 and len(self._left) > self._MOST:
                self._left.clear()
            self._left[owner] = (left - 1 if left >= 1 else left, time_)
        if left < 1:
            raise Refused(
                429,
                f"Too many requests: {self._rate:.0f} a second are allowed in the long run. Send them more slowly.",
                headers={"Retry-After": "1"},
            )


class Gate:
    """Middleware of ASGI.

    Args:
        app: the service behind it.
        access: says whose request it is.
        limits: of the service.
        metrics: of the service.
        state: shared with whoever stops it.
        threads: in which the database is asked.
    """

    def __init__(
        self, app: _App, *, access: Access, limits: Limits, metrics: Metrics, state: State, threads: Executor
    ) -> None:
        self._app, self._access, self._limits = app, access, limits
        self._metrics, self._state, self._threads = metrics, state, threads
        self._rates = Rates(limits.requests_per_second)

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, answer = time.perf_counter(), _Answer(send, scope["path"])
        self._state.working += 1
        self._metrics.working.set(self._state.working)
        try:
            await self._let_in(scope, receive, answer)
        except Refused as error:
            await answer.refuse(error)
        except Exception:
            self._metrics.failures.inc()
            _LOG.exception("%s %s failed", scope["method"], scope["path"])
            await answer.refuse(Refused(500, "This should not happen. The service's log says more; please report it."))
        finally:
            self._state.working -= 1
            self._note(scope, answer, time.perf_counter() - began)

    async def _let_in(self, scope: MutableMapping[str, Any], receive: _Receive, answer: _Answer) -> None:
        path = scope["path"]
        if path not in _ALWAYS:
            if self._state.stopping:
                raise Refused(503, "The service stops. Ask again in a moment.", "stopping", {"Retry-After": "5"})
            if self._state.working > self._limits.waiting:
                raise Refused(503, "The service is busy. Ask again in a moment.", "busy", {"Retry-After": "1"})
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if path.startswith("/v1/"):
            loop = asyncio.get_running_loop()
            owner = await loop.run_in_executor(self._threads, self._access.owner, scope["method"], headers)
            self._rates.take(owner)
            scope.setdefault("state", {})["owner"] = owner
        body = await self._body(headers, receive, self._most(path))
        await self._app(scope, _replayed(body, receive), answer.send)

    def _most(self, path: str) -> int:
        """Bytes that a body may have: whoever shows no key fills no memory."""
        if not path.startswith("/v1/"):
            return min(_SMALL, self._limits.body_bytes)
        return self._limits.body_bytes + (self._limits.task_bytes if path == _IMPORT else 0)

    async def _body(self, headers: dict[str, str], receive: _Receive, most: int) -> bytes:
        declared = headers.get("content-length", "0")
        large = declared.isdigit() and int(declared) > most
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(_LINGER if large else self._limits.body_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "The connection ended before the body did.", "disconnected")
                    part, more = message.get("body", b""), message.get("more_body", False)
                    size += len(part)
                    if large or size > most:
                        large = True
                        parts.clear()
                        if size > 4 * most:
                            break
                        continue
                    parts.append(part)
        except TimeoutError as error:
            if not large:
                seconds = self._limits.body_seconds
                raise Refused(
                    408,
                    f"The body did not come within {seconds} seconds. Send it faster.",
                    None,
                    {"Connection": "close"},
                ) from error
        if large:
            raise Refused(
                413,
                f"The body is larger than {most:,} bytes, which is the most that is allowed. Send less at once.",
                headers={"Connection": "close"},
            )
        return b"".join(parts)

    def _note(self, scope: MutableMapping[str, Any], answer: _Answer, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD") else "other"
        self._metrics.working.set(self._state.working)
        self._metrics.requests.labels(method, route, str(answer.status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if answer.code:
            self._metrics.refused.labels(answer.code).inc()


class _Answer:
    """Sends what the service says, with the headers that every answer has."""

    def __init__(self, send: _Send, path: str) -> None:
        self._send, self._api = send, path.startswith("/v1/")
        self.status, self.code = 0, ""

    async def send(self, message: _Message) -> None:
        """As ASGI's ``send``."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message["headers"])
            there = {name.lower() for name, _ in headers}
            html = any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in headers)
            further = {
                b"x-content-type-options": b"nosniff",
                b"referrer-policy": b"no-referrer",
                b"content-security-policy": (_PAGE if html else _NOTHING).encode(),
                b"cross-origin-resource-policy": b"same-origin",
            }
            if self._api:
                further[b"cache-control"] = b"no-store"
            self.code = dict(headers).get(b"x-error", b"").decode()
            kept = [(name, value) for name, value in headers if name != b"x-error"]
            message = {**message, "headers": kept + [pair for pair in further.items() if pair[0] not in there]}
        await self._send(message)

    async def refuse(self, error: Refused) -> None:
        """Say why there is no answer, unless one was begun."""
        if self.status:
            return
        body = json.dumps(error.body(), ensure_ascii=False).encode("utf-8", "replace")
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [
            (name.lower().encode(), value.encode("latin-1", "replace")) for name, value in error.headers.items()
        ]
        headers.append((b"x-error", error.code.encode()))
        await self.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def _replayed(body: bytes, receive: _Receive) -> _Receive:
    """``receive`` of a request whose body was read already."""
    given = False

    async def again() -> _Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
