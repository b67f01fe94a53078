"""What exists: small records of clusters and jobs that travel by XCom and trigger arguments. Never a secret."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dask_provider.errors import InvalidInput

T = TypeVar("T", bound="Record")


@dataclass(frozen=True)
class Record:
    """A frozen dataclass that travels as a plain mapping."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without fields that are ``None``."""
        shown = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in shown.items() if value is not None}

    @classmethod
    def from_dict(cls: type[T], record: object) -> T:
        """The record that :meth:`to_dict` made.

        :raises InvalidInput: when it is something else.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        if isinstance(record, cls):
            return record
        if not isinstance(record, Mapping) or not set(record) <= set(names):
            raise InvalidInput(
                cls.__name__, record, f"the record of an earlier step, with the fields {', '.join(names)}"
            )
        try:
            return cls(**record)
        except TypeError as error:
            raise InvalidInput(cls.__name__, dict(record), str(error)) from None


@dataclass(frozen=True)
class ClusterHandle(Record):
    """A cluster that exists.

    :param place: ``local``, ``existing``, ...
    :param name: deterministic name of its owner.
    :param uid: identity of this very cluster; another one of the same name has another.
    :param owner: labels of the owner.
    :param spec_hash: digest of the spec that made it.
    :param min_workers: workers that must have joined before a job starts.
    :param ready_timeout: seconds until it must be ready.
    :param scheduler_address: where Dask clients connect, ``None`` until it is ready.
    :param dashboard_url: Dask's own page, if any.
    :param created: when, ISO 8601 UTC.
    :param expires: when its lease ends at the latest, ISO 8601 UTC; ``None``: never made by us.
    :param attempt: try number of the task that made or adopted it last.
    :param started: when that try began, seconds since the epoch.
    :param details: what the place needs to find it again (host, state folder, connection id).
    :param needed: ``False`` when the result was already stored and no cluster was made.
    :param stored: the stored result then, as a store step reports it.
    """

    place: str
    name: str
    uid: str
    owner: dict[str, str]
    spec_hash: str = ""
    min_workers: int = 1
    ready_timeout: float = 300
    scheduler_address: str | None = None
    dashboard_url: str | None = None
    created: str | None = None
    expires: str | None = None
    attempt: int = 1
    started: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)
    needed: bool = True
    stored: dict[str, Any] | None = None


@dataclass(frozen=True)
class JobHandle(Record):
    """A job that was submitted.

    :param place: where it runs.
    :param job_id: deterministic name of its owner and the attempt that started it.
    :param location: where the place keeps its bundle, output and outcome.
    :param attempt: try number of the task that follows it now.
    :param results: URI prefix that the job writes to (``DASK_JOB_RESULTS``), ends with ``/``.
    :param manifest: URI of the list of what it wrote.
    :param adopted: whether an earlier attempt had started it.
    :param started: when the try that follows it now began, seconds since the epoch.
    """

    place: str
    job_id: str
    location: str
    attempt: int
    results: str
    manifest: str
    adopted: bool = False
    started: float = 0.0
