"""How a job ended. Unknown is never success."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dask_provider.handles import Record

#: from best to worst; where the place and the runtime differ the worse one counts
STATES = ("succeeded", "cancelled", "failed", "lost", "unknown")


@dataclass(frozen=True)
class Outcome(Record):
    """How a job ended, as the runtime and the place saw it.

    :param state: one of :data:`STATES`. ``lost``: the cluster or the runtime went away; ``unknown``: nobody can tell.
    :param reason: why, in words, for people.
    :param exit_code: of the user's program.
    :param signal: name of the signal that ended it.
    :param started: ISO 8601 UTC.
    :param finished: ISO 8601 UTC.
    :param peak_memory: of the user's program and its children, bytes.
    :param dask: summary of the work (tasks done, workers lost, ...).
    :param result: what a callable returned (JSON), or a reference to the file that holds it.
    :param manifest: files, bytes and URI of what lies under the result prefix.
    :param report: URI of the performance report.
    :param tail: the last lines of the program's own output.
    """

    state: str
    reason: str = ""
    exit_code: int | None = None
    signal: str | None = None
    started: str | None = None
    finished: str | None = None
    peak_memory: int | None = None
    dask: dict[str, Any] = field(default_factory=dict)
    result: Any = None
    manifest: dict[str, Any] | None = None
    report: str | None = None
    tail: list[str] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        return self.state == "succeeded"


def read_outcome(record: Mapping[str, Any] | None, *, missing: str) -> Outcome:
    """The runtime's own record, or ``unknown`` when there is none or it is not one of ours.

    :param missing: the reason to give when the runtime left no record.
    """
    if record is None:
        return Outcome("unknown", reason=missing)
    if record.get("state") not in STATES:
        return Outcome("unknown", reason=f"the job reported the state {record.get('state')!r}, which nobody knows")
    known = Outcome.__dataclass_fields__
    return Outcome(**{name: value for name, value in record.items() if name in known})


def worse(runtime: Outcome, place_state: str, place_reason: str) -> Outcome:
    """The runtime's outcome held against the place's own verdict: the worse one counts and both are shown."""
    rank = {state: number for number, state in enumerate(STATES)}
    seen = place_state if place_state in rank else "unknown"
    if rank[seen] <= rank[runtime.state]:
        return runtime
    says = f"the place says {place_state} ({place_reason})"
    words = f"{says}, the job itself {runtime.state} ({runtime.reason or 'no reason'})"
    return Outcome(**{**runtime.__dict__, "state": seen, "reason": words})
