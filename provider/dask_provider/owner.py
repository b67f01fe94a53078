"""Whose a cluster or job is. The owner gives every deterministic name and label."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TypedDict

#: seconds by which clocks of workers differ, at most
SKEW = 300.0


@dataclass(frozen=True)
class Owner:
    """Identity of a cluster or job: the same on every try, worker and triggerer.

    :param instance: ``[dask] instance`` of this Airflow; two Airflows that share a place differ in it.
    :param task_id: task id, or the id of the group that owns a shared cluster. For one of many things that a task works
        on: what it is called, a slash, and all that tells it from others (no id of Airflow has a slash).
    :param map_index: index of a mapped task or group, -1 when not mapped.
    """

    instance: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    @property
    def name(self) -> str:
        """Deterministic name: at most 50 characters of ``[a-z0-9-]``, starts with a letter, unique by its digest."""
        text = "\0".join([self.instance, self.dag_id, self.run_id, self.task_id, str(self.map_index)])
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        return f"dask-{_slug(self.dag_id)}-{_slug(self.task_id.partition('/')[0])}-{digest}"

    def labels(self) -> dict[str, str]:
        """The identity as plain text fields, for records and labels."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_labels(cls, labels: Mapping[str, str]) -> Owner:
        """The owner that :meth:`labels` described.

        :raises KeyError: when a field is missing.
        """
        return cls(labels["instance"], labels["dag_id"], labels["run_id"], labels["task_id"], int(labels["map_index"]))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:16].strip("-") or "x"


class TaskKey(TypedDict):
    """Which task instance waits: plain data for a trigger."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


@dataclass(frozen=True)
class Attempt:
    """Which try of a task asks, and what that says about older work of the same owner.

    :param number: Airflow's try number; written on cluster and job at the place.
    :param fresh: first try ever or first after a clear: leftovers are ended. Otherwise an automatic retry: a running
        or succeeded job is adopted.
    :param last: no automatic retry follows this try.
    :param since: the first try since the task was last cleared; what older ones left is never adopted.
    :param started: when the try began, seconds since the epoch; written beside the number.
    :param deadline: when its ``execution_timeout`` is over, seconds since the epoch; ``None``: never.
    """

    number: int
    fresh: bool
    last: bool
    since: int = 1
    started: float = field(kw_only=True)
    deadline: float | None = field(default=None, kw_only=True)

    @classmethod
    def of(
        cls, try_number: int, max_tries: int, retries: int, *, started: float, deadline: float | None = None
    ) -> Attempt:
        """From the numbers of a task instance. ``max_tries`` grows by ``retries + 1`` with every clear."""
        since = max_tries - retries + 1
        first, last = try_number == since, try_number > max_tries
        return cls(try_number, first, last, since, started=started, deadline=deadline)

    def is_overtaken_by(self, number: int, started: float) -> bool:
        """Whether a cluster or job that this try finds is a newer one's: then this process is an orphan, and leaves it.

        Airflow starts the next try while a process lives that it has lost sight of. Neither sign is enough: a run that
        was deleted and made anew counts its tries from 1, beside leftovers and orphans of higher numbers; and clocks
        of workers differ, by more than what lies between two tries that fail at once. So one of a lower number is newer
        if it began later by more than clocks differ.

        :param number: of the try that is written on it.
        :param started: when that one began.
        """
        return started > self.started + (0 if number >= self.number else SKEW)


#: stands for a try where nothing is made
PLANNED = Attempt(1, fresh=True, last=False, started=0.0)
