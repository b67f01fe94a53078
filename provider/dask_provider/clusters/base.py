"""The fields that every place shares, and how a spec is validated, rendered, hashed and shown."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from dask_provider.errors import InvalidInput
from dask_provider.units import is_template, parse_bytes, parse_count, parse_seconds, parse_workers

Self = TypeVar("Self", bound="ClusterSpec")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: what a Dask worker needs for itself; with less its nanny restarts it for ever
LEAST_MEMORY = 100 * 2**20


@dataclass(frozen=True, kw_only=True, repr=False)
class ClusterSpec:
    """What every cluster has, also one that somebody else runs.

    Text fields may hold Jinja; they are checked once they are rendered. The ``repr`` shows no value of ``env``.

    :param env: environment variables of the job and, on clusters that we make, of scheduler and workers.
    :param ready_timeout: seconds (or ``"5 min"``) until the scheduler answers and the minimum of workers has joined.
    :param min_ready_workers: workers that must have joined before a job starts; default: the minimum of ``workers``.
    :param tls: encrypt and authenticate Dask's own traffic.
    :raises InvalidInput: for a value that cannot be used.
    """

    #: name of the place, as in logs, handles and the entry point
    place: ClassVar[str]
    #: ``module:Class`` of the hook that speaks to the place; text, so that a DAG file imports no client library
    hook: ClassVar[str]

    env: Mapping[str, str] = field(default_factory=dict)
    ready_timeout: float | str | timedelta = 300
    min_ready_workers: int | str | None = None
    tls: bool = False

    def __new__(cls: type[Self], **fields: Any) -> Self:
        """Refuse what is no field with the words of every other mistake, instead of a ``TypeError``."""
        known = [f.name for f in dataclasses.fields(cls)]
        for name, value in fields.items():
            if name not in known:
                raise InvalidInput(f"{cls.__name__}.{name}", value, f"the fields {', '.join(known)}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        if not isinstance(self.env, Mapping):
            raise InvalidInput(self._field("env"), self.env, "a mapping of names to text values")
        for name, value in self.env.items():
            if not _ENV_NAME.fullmatch(str(name)) or not isinstance(value, str):
                raise InvalidInput(
                    self._field("env"), {name: value}, "names of letters, digits and _, with text values"
                )
        self._check("ready_timeout", parse_seconds)
        if self.min_ready_workers is not None:
            self._check("min_ready_workers", lambda name, value: parse_count(name, value, least=0))
        self._check_bool("tls")

    @property
    def ready_seconds(self) -> float:
        """``ready_timeout`` in seconds."""
        return parse_seconds(self._field("ready_timeout"), self.ready_timeout)

    @property
    def ready_workers(self) -> int:
        """Workers that must have joined before a job starts."""
        return (
            1
            if self.min_ready_workers is None
            else parse_count(self._field("min_ready_workers"), self.min_ready_workers, least=0)
        )

    def rendered(self: Self, render: Callable[[Any], Any]) -> Self:
        """A copy with every field passed through ``render`` (Airflow's template engine) and validated again."""

        def each(value: Any) -> Any:
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                return type(value)(**{f.name: each(getattr(value, f.name)) for f in dataclasses.fields(value)})
            return render(value)

        return type(self)(**{f.name: each(getattr(self, f.name)) for f in dataclasses.fields(self)})

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON values."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def hash(self) -> str:
        """Short digest of place and fields: equal specs, and only those, have the same one."""
        text = json.dumps([self.place, self.to_dict()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        shown = []
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.name == "env" and value:
                value = dict.fromkeys(sorted(value), "***")
            if value != _default(f):
                shown.append(f"{f.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def _field(self, name: str) -> str:
        return f"{type(self).__name__}.{name}"

    def _check(self, name: str, parse: Callable[[str, Any], Any]) -> None:
        value = getattr(self, name)
        if not is_template(value):
            parse(self._field(name), value)

    def _check_bool(self, name: str) -> None:
        if not isinstance(getattr(self, name), bool):
            raise InvalidInput(self._field(name), getattr(self, name), "True or False")


@dataclass(frozen=True, kw_only=True, repr=False)
class TemporaryClusterSpec(ClusterSpec):
    """A cluster that we make and remove.

    :param workers: number of workers, or ``(minimum, maximum)``: then it follows Dask's own demand.
    :param threads: threads of each worker; ``None``, where the place knows its machines: one for each CPU.
    :param memory: memory of each worker, ``"4 GiB"`` or bytes, at least 100 MiB; ``None``: what the place divides out
        by itself.
    :param idle_timeout: seconds (or ``"10 min"``) without work after which the place itself ends the cluster.
        Counted from the end of the last job; a running job is work, whatever it does.
    :param max_lifetime: seconds (or ``"24h"``) after which the place ends the cluster whatever it does.
    """

    workers: int | str | tuple[int | str, int | str] = 2
    threads: int | str | None = 1
    memory: int | str | None = None
    idle_timeout: float | str | timedelta = 600
    max_lifetime: float | str | timedelta = 86400

    def __post_init__(self) -> None:
        super().__post_init__()
        pair = self.workers if isinstance(self.workers, list | tuple) else (self.workers,)
        if not any(is_template(value) for value in pair):
            parse_workers(self._field("workers"), self.workers)
        self._check_threads()
        if self.memory is not None:
            self._check("memory", lambda name, value: parse_bytes(name, value, least=LEAST_MEMORY))
        self._check("idle_timeout", parse_seconds)
        self._check("max_lifetime", parse_seconds)
        if any(is_template(value) for value in (*pair, self.min_ready_workers)):
            return
        if self.ready_workers > self.most_workers:
            allowed = f"at most {self.most_workers}, as there are never more workers"
            raise InvalidInput(self._field("min_ready_workers"), self.min_ready_workers, allowed)

    @property
    def worker_range(self) -> tuple[int, int]:
        """Minimum and maximum of workers; equal for a fixed number."""
        return parse_workers(self._field("workers"), self.workers)

    @property
    def most_workers(self) -> int:
        """Workers that there are at most."""
        return self.worker_range[1]

    @property
    def ready_workers(self) -> int:
        if self.min_ready_workers is None:
            return self.worker_range[0]
        return super().ready_workers

    @property
    def thread_count(self) -> int:
        """Threads of each worker."""
        return parse_count(self._field("threads"), self.threads)

    @property
    def memory_bytes(self) -> int | None:
        """Memory of each worker in bytes, ``None`` when the place decides."""
        return None if self.memory is None else parse_bytes(self._field("memory"), self.memory)

    @property
    def idle_seconds(self) -> float:
        """``idle_timeout`` in seconds."""
        return parse_seconds(self._field("idle_timeout"), self.idle_timeout)

    @property
    def lifetime_seconds(self) -> float:
        """``max_lifetime`` in seconds."""
        return parse_seconds(self._field("max_lifetime"), self.max_lifetime)

    def _check_threads(self) -> None:
        self._check("threads", parse_count)


def _default(f: dataclasses.Field[Any]) -> Any:
    return f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
