"""What objects of Kubernetes say: plain JSON as the API server shows it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dask_provider.owner import Attempt

#: a Kubernetes object, or a part of one, as plain JSON
Object = dict[str, Any]
#: one that is only read
Seen = Mapping[str, Any]


def name_of(made: Seen) -> str:
    """Its name."""
    return str(made["metadata"]["name"])


def note(made: Seen, name: str) -> str | None:
    """An annotation of ours."""
    value: str | None = (made["metadata"].get("annotations") or {}).get(f"dask-provider/{name}")
    return value


def attempt_notes(attempt: Attempt) -> dict[str, str]:
    """What is written on a lease or a Job of the try that has it."""
    return {"attempt": str(attempt.number), "started": repr(attempt.started)}


def attempt_of(made: Seen) -> tuple[int, float]:
    """Number and start of the try that has it."""
    return int(note(made, "attempt") or 0), float(note(made, "started") or 0)


def component(made: Seen) -> str | None:
    """``scheduler`` or ``worker``, as the Dask operator labels them."""
    found = (made["metadata"].get("labels") or {}).get("dask.org/component")
    return None if found is None else str(found)


def conditions(made: Seen) -> Sequence[Seen]:
    """All of its conditions, true or not."""
    return (made.get("status") or {}).get("conditions") or []


def condition(made: Seen | None, kind: str) -> Seen | None:
    """A condition such as ``Complete`` or ``Failed``, if it is true."""
    found = conditions(made) if made is not None else []
    return next((each for each in found if each["type"] == kind and each["status"] == "True"), None)


def over(job: Seen) -> bool:
    """Whether a Job has ended, or is being removed."""
    return bool(condition(job, "Complete") or condition(job, "Failed") or "deletionTimestamp" in job["metadata"])


def newest(pods: Iterable[Object]) -> Object | None:
    """The one that was made last."""
    return max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)


def events_of(made: Seen, events: Sequence[Seen], *reasons: str) -> list[Seen]:
    """Events of this very object, oldest first."""
    meta = made["metadata"]
    ours = [
        event
        for event in events
        if event.get("reason") in reasons
        and event["involvedObject"].get("name") == meta["name"]
        and event["involvedObject"].get("uid") in (None, meta.get("uid"))
    ]
    return sorted(ours, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))


def memory_limit(pod: Seen, status: Seen) -> str:
    """The memory limit of a container in words, for the end of a sentence; nothing where it has none.

    :param status: of the container.
    """
    for container in (pod.get("spec") or {}).get("containers") or []:
        if container.get("name") == status.get("name"):
            memory = ((container.get("resources") or {}).get("limits") or {}).get("memory")
            return f" of {memory}" if memory else ""
    return ""
