"""What the API server answers when it refuses or cannot, and what is said when there is no answer."""

from __future__ import annotations

from typing import Any

from dask_provider.hooks.kubernetes.objects import Object

#: answers that may be another one in a moment
PASSING = (0, 429, 500, 502, 503, 504)


class ApiError(Exception):
    """The API server refused, or could not do it.

    :param status: HTTP status; 0 when there was no answer.
    :param reason: one word for programs, such as ``NotFound``, ``AlreadyExists``, ``Conflict``, ``Forbidden``.
    :param message: for people.
    :param details: more for programs, as in the ``Status`` object.
    """

    def __init__(self, status: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(status, reason, message, details or {})
        self.status, self.reason, self.message, self.details = status, reason, message, details or {}

    def __str__(self) -> str:
        return f"{self.message} ({self.status} {self.reason})" if self.status else self.message

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks us to wait."""
        seconds = self.details.get("retryAfterSeconds")
        return min(60.0, float(seconds)) if seconds else None

    @property
    def passing(self) -> bool:
        """Whether a later try may well succeed."""
        return self.status in PASSING


class Unreachable(ApiError):
    """There was no answer; the message names the server."""

    def __init__(self, message: str, *, unsent: bool = False) -> None:
        super().__init__(0, "Unreachable", message)
        self.unsent = unsent  # nothing was asked yet

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message,), {"unsent": self.unsent}


class Untrusted(Unreachable):
    """The server's certificate is not the one that we were told to trust."""

    @property
    def passing(self) -> bool:
        return False


class Expired(ApiError):
    """The resource version is too old, or of another time: list again (410)."""

    @property
    def passing(self) -> bool:
        return False


class NotStarted(ApiError):
    """The container has not started yet, so it has no log (400)."""


def of_status(status: Object, code: int) -> ApiError:
    """The error that a ``Status`` object tells of."""
    code = status.get("code") or code
    message = status.get("message") or "no reason given"
    kind = ApiError
    if code == 410 or (code == 504 and "Too large resource version" in message):  # newer than all: etcd was restored
        kind = Expired
    elif code == 400 and "waiting to start" in message:
        kind = NotStarted
    return kind(code, status.get("reason") or "Unknown", message, status.get("details"))
