"""Errors as Google's APIs report them: a google.rpc.Status, in answers and in operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Name -> (google.rpc.Code, HTTP status).
CODES = {
    "CANCELLED": (1, 499),
    "UNKNOWN": (2, 500),
    "INVALID_ARGUMENT": (3, 400),
    "DEADLINE_EXCEEDED": (4, 504),
    "NOT_FOUND": (5, 404),
    "ALREADY_EXISTS": (6, 409),
    "PERMISSION_DENIED": (7, 403),
    "RESOURCE_EXHAUSTED": (8, 429),
    "FAILED_PRECONDITION": (9, 400),
    "ABORTED": (10, 409),
    "OUT_OF_RANGE": (11, 400),
    "UNIMPLEMENTED": (12, 501),
    "INTERNAL": (13, 500),
    "UNAVAILABLE": (14, 503),
    "DATA_LOSS": (15, 500),
    "UNAUTHENTICATED": (16, 401),
}


class ApiError(Exception):
    """A request is refused, or an operation fails.

    :param code: a name of :data:`CODES`.
    """

    def __init__(self, code: str, message: str, details: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, list(details)

    @property
    def http_status(self) -> int:
        return CODES[self.code][1]

    def answer(self) -> dict[str, Any]:
        """The body of the answer to a refused request."""
        error = {"code": self.http_status, "message": self.message, "status": self.code}
        return {"error": error | ({"details": self.details} if self.details else {})}

    def status(self) -> dict[str, Any]:
        """The ``error`` of a failed operation."""
        status: dict[str, Any] = {"code": CODES[self.code][0], "message": self.message}
        return status | ({"details": self.details} if self.details else {})


def invalid(message: str) -> ApiError:
    return ApiError("INVALID_ARGUMENT", message)


def not_found(kind: str, name: str) -> ApiError:
    return ApiError("NOT_FOUND", f"Not found: {kind} {name}")


def failed_precondition(message: str) -> ApiError:
    return ApiError("FAILED_PRECONDITION", message)


def several(errors: Sequence[str]) -> ApiError | None:
    """One error for everything that is wrong with a request."""
    if len(errors) > 1:
        return invalid("Multiple validation errors:\n" + "\n".join(f" - {error}" for error in errors))
    return invalid(errors[0]) if errors else None
