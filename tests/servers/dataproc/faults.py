"""What tests let go wrong. A fault strikes the calls that it matches, as often as it says."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tests.servers.dataproc.errors import CODES, ApiError, invalid

KINDS = {
    "refuse": "the request is answered with an error: storms of 429 and 503, missing permissions",
    "lose_answer": "the request is carried out, then the connection breaks",
    "fail_operation": "the operation begins and fails: stock-out",
    "fail_action": "an initialization action runs and ends with another exit code and output",
    "slow": "the operation takes so many seconds longer",
}
_MESSAGES = {
    "PERMISSION_DENIED": "Permission '{permission}' denied on resource '//dataproc.googleapis.com/{resource}' "
    "(or it may not exist).",
    "RESOURCE_EXHAUSTED": "Quota exceeded for quota metric 'Dataproc requests' of service 'dataproc.googleapis.com'.",
    "UNAVAILABLE": "The service is currently unavailable.",
}
_STOCK_OUT = (
    "The zone '{zone}' does not have enough resources available to fulfill the request.  "
    "Try a different zone, or try again later."
)
_numbers = itertools.count(1)


@dataclass
class Fault:
    """One thing that goes wrong.

    :param kind: of :data:`KINDS`.
    :param method: pattern of the methods that it strikes: ``clusters.create``, ``jobs.*``.
    :param target: pattern of the cluster, job, policy or operation in question; for ``fail_action`` of the instance.
    :param count: how often; ``None``: until it is removed.
    :param code: for ``refuse`` and ``fail_operation``: a name of google.rpc.Code.
    :param message: for these: instead of the usual one.
    :param seconds: for ``slow``.
    :param exit_code: for ``fail_action``.
    :param output: for ``fail_action``.
    """

    kind: str
    method: str = "*"
    target: str = "*"
    count: int | None = 1
    code: str = "UNAVAILABLE"
    message: str = ""
    seconds: float = 0.0
    exit_code: int = 1
    output: str = "initialization action failed by a test\n"
    number: int = dataclasses.field(default_factory=lambda: next(_numbers))

    def error(self, resource: str) -> ApiError:
        """For a request about this resource."""
        permission = f"dataproc.{self.method}" if "*" not in self.method else "dataproc.clusters.get"
        usual = _MESSAGES.get(self.code, f"{self.code} by a test")
        message = self.message or usual.format(permission=permission, resource=resource)
        details: list[dict[str, Any]] = []
        if self.code == "PERMISSION_DENIED":
            info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "IAM_PERMISSION_DENIED"}
            metadata = {"permission": permission, "resource": resource}
            details = [{**info, "domain": "dataproc.googleapis.com", "metadata": metadata}]
        return ApiError(self.code, message, details)

    def failure(self, zone: str) -> ApiError:
        """For an operation in this zone."""
        usual = _STOCK_OUT.format(zone=zone) if self.code == "UNAVAILABLE" else f"{self.code} by a test"
        return ApiError(self.code, self.message or usual)


class Faults:
    """Those that are switched on."""

    def __init__(self) -> None:
        self._all: list[Fault] = []

    def add(self, description: dict[str, Any]) -> Fault:
        """:raises ApiError: INVALID_ARGUMENT: a name or value that is none."""
        names = {field.name for field in dataclasses.fields(Fault)} - {"number"}
        if unknown := set(description) - names:
            raise invalid(f"unknown fields {sorted(unknown)} of a fault; there are {sorted(names)}")
        fault = Fault(**{"kind": "", **description})
        if fault.kind not in KINDS:
            raise invalid(f"kind: {fault.kind!r} is none of {sorted(KINDS)}")
        if fault.code not in CODES:
            raise invalid(f"code: {fault.code!r} is none of {sorted(CODES)}")
        self._all.append(fault)
        return fault

    def strike(self, kind: str, method: str, target: str) -> Fault | None:
        """The first that matches; it has struck once more by that."""
        for fault in self._all:
            if fault.kind == kind and fnmatchcase(method, fault.method) and fnmatchcase(target, fault.target):
                if fault.count is not None:
                    fault.count -= 1
                    if fault.count <= 0:
                        self._all.remove(fault)
                return fault
        return None

    def remove(self, number: int | None = None) -> None:
        """One, or all."""
        self._all = [fault for fault in self._all if number is not None and fault.number != number]

    def described(self) -> list[dict[str, Any]]:
        return [dataclasses.asdict(fault) for fault in self._all]
