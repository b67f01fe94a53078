"""What is asked of YARN: one application with Dask's scheduler and its workers, as skein wants it. Pure."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: the services of the application; their containers are ``dask.worker_0`` and so on, and so are Dask's names of workers
SCHEDULER, WORKER = "dask.scheduler", "dask.worker"
#: keys by which who started it and the scheduler's container talk; the first two as dask-yarn has them
ADDRESS, DASHBOARD, STATUS, WANTED, EXTENDED = (
    "dask.scheduler",
    "dask.dashboard",
    "dask.status",
    "dask.wanted",
    "dask.extended-until",
)
#: what every container finds beside itself
ARCHIVE, SETTINGS = "dask_job_runtime.pyz", "application.json"
#: MiB of a worker's container that are not Dask's: its nanny lives there too, and YARN kills who passes the limit
NANNY = 100
#: MiB of the container of skein's application master
MASTER = 512
# YARN refuses other tags; it keeps them in lower case.
_TAG = re.compile(r"[!-~]{1,100}")


@dataclass(frozen=True, kw_only=True)
class YarnSpec:
    """A Dask cluster on YARN.

    :param python: on every node, the program of an environment with dask, distributed and skein.
    :param workers: fewest and most; equal for a fixed number. More than the fewest come and go with the load.
    :param worker_vcores: also the threads of a worker.
    :param worker_memory: MiB of a worker's container, of which 100 are not Dask's.
    :param scheduler_memory: MiB of the scheduler's container.
    :param tags: whose application it is; found again by :func:`.yarn.find`.
    :param idle_timeout: seconds without work or client after which the application ends by itself.
    :param start_timeout: seconds for which starting counts as work.
    :param max_lifetime: seconds after which the ResourceManager ends it, whatever it does.
    :param tls: Dask's connections are encrypted, by a certificate for this application alone.
    :param host: what scheduler and workers listen on, instead of the node's address.
    :param env: environment of the workers, and of the scheduler's Dask.
    :raises ValueError: naming the field, the value and what is allowed.
    """

    python: str
    workers: tuple[int, int]
    name: str = "dask"
    queue: str = "default"
    worker_vcores: int = 1
    worker_memory: int = 2048
    scheduler_vcores: int = 1
    scheduler_memory: int = 2048
    tags: tuple[str, ...] = ()
    idle_timeout: float = 600
    start_timeout: float = 900
    max_lifetime: float = 86400
    tls: bool = True
    host: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check("python", self.python.startswith("/"), "an absolute path")
        check_workers(self.workers)
        for name, least in (("worker_memory", 2 * NANNY), ("scheduler_memory", 256)):
            self._check(name, _whole(getattr(self, name), least), f"a whole number of MiB, {least} or more")
        for name in ("worker_vcores", "scheduler_vcores"):
            self._check(name, _whole(getattr(self, name), 1), "a whole number, 1 or more")
        for name in ("idle_timeout", "start_timeout", "max_lifetime"):
            self._check(name, getattr(self, name) > 0, "seconds, more than 0")
        for name in ("name", "queue"):
            self._check(name, bool(getattr(self, name).strip()), "a name")
        self._check("tags", all(map(_TAG.fullmatch, self.tags)), "printable ASCII without blanks, up to 100 characters")

    def _check(self, name: str, fine: bool, allowed: str) -> None:
        if not fine:
            raise ValueError(f"{name}: {getattr(self, name)!r} is not possible; allowed: {allowed}")

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> YarnSpec:
        """From JSON.

        :raises ValueError: unknown, missing or impossible fields.
        """
        names = {known.name for known in dataclasses.fields(cls)}
        if unknown := sorted(set(record) - names):
            raise ValueError(f"{unknown[0]}: no such field; allowed: {', '.join(sorted(names))}")
        if missing := sorted({"python", "workers"} - set(record)):
            raise ValueError(f"{missing[0]}: is missing")
        lists = {name: tuple(record[name]) for name in ("workers", "tags") if name in record}
        return cls(**{**record, **lists})

    def settings(self) -> dict[str, Any]:
        """What scheduler and workers read where they run."""
        names = ("workers", "idle_timeout", "start_timeout", "tls", "host")
        return {name: getattr(self, name) for name in names} | {"env": dict(self.env)}

    def application(self, archive: str, settings: str, certificate: str, key: str) -> dict[str, Any]:
        """The application for ``skein.ApplicationSpec.from_dict``.

        :param archive: path of the runtime as one file.
        :param settings: path of :meth:`settings` as JSON.
        :param certificate: path of a certificate made for this application alone, in PEM format; ``key`` of its key.
        """
        files = {ARCHIVE: {"source": archive, "type": "FILE"}, SETTINGS: {"source": settings, "type": "FILE"}}

        def service(role: str, instances: int, memory: int, vcores: int, **more: Any) -> dict[str, Any]:
            return {
                "instances": instances,
                "resources": {"memory": memory, "vcores": vcores},
                "files": files,
                "env": {"PYTHONUNBUFFERED": "1"},
                "script": f"exec {shlex.quote(self.python)} {ARCHIVE} yarn {role}",
                **more,
            }

        return {
            "name": self.name,
            "queue": self.queue,
            "tags": list(self.tags),
            "max_attempts": 1,  # a second application master would find none of the containers of the first
            "master": {
                "resources": {"memory": MASTER, "vcores": 1},
                "security": {"cert_file": {"source": certificate}, "key_file": {"source": key}},
                # Without it the application's own web page fails on Java 17.
                "env": {"JAVA_TOOL_OPTIONS": "--add-opens=java.base/java.util=ALL-UNNAMED"},
            },
            "services": {
                SCHEDULER: service("scheduler", 1, self.scheduler_memory, self.scheduler_vcores, max_restarts=0),
                # Restarted without limit, by YARN under a new name: the scheduler's keeper judges when it is hopeless.
                WORKER: service(
                    "worker",
                    self.workers[0],
                    self.worker_memory,
                    self.worker_vcores,
                    max_restarts=-1,
                    depends=[SCHEDULER],
                ),
            },
        }


def check_workers(workers: tuple[int, int]) -> None:
    """:raises ValueError: this is no fewest and most."""
    fine = len(workers) == 2 and _whole(workers[0], 0) and _whole(workers[1], max(1, workers[0]))
    if not fine:
        allowed = "two whole numbers, the fewest (0 or more) and the most (1 or more, not below the fewest)"
        raise ValueError(f"workers: {workers!r} is not possible; allowed: {allowed}")


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
