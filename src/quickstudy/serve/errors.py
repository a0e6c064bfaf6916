"""Floor 6: what the service refuses, as HTTP says it."""

from __future__ import annotations

from collections.abc import Mapping

from quickstudy.errors import QuickstudyError

__all__ = ["Refused"]

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    409: "conflict",
    411: "length_required",
    412: "changed",
    413: "too_large",
    415: "unsupported_type",
    422: "invalid",
    429: "too_many",
    500: "internal",
    503: "unavailable",
}


class Refused(QuickstudyError):
    """A request that is not answered.

    Args:
        status: of HTTP.
        message: one sentence or two: what, why, what to do.
        code: a word for programs; by default that of the status.
        headers: to be sent with it.
    """

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.code = code or _CODES.get(status, "error")
        self.headers = dict(headers or {})

    def body(self) -> dict[str, dict[str, str]]:
        """As it is sent."""
        return {"error": {"code": self.code, "message": self.message}}
