"""Everything that the emulator knows, in memory and on disk."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.dataproc import messages
from tests.servers.dataproc.faults import Faults
from tests.servers.dataproc.messages import Message
from tests.servers.dataproc.nodes import Nodes
from tests.servers.dataproc.objects import Objects
from tests.servers.dataproc.settings import Settings
from tests.servers.dataproc.store import Store


@dataclass
class ClusterEntry:
    """:param submitted: when its lifetime began, in seconds since 1970.
    :param idle_since: when its last job ended or it became ready; ``None`` while a job runs or it is not ready.
    """

    project: str
    region: str
    message: Message
    submitted: float
    idle_since: float | None = None

    @property
    def name(self) -> str:
        return str(self.message.cluster_name)

    @property
    def key(self) -> str:
        return f"projects/{self.project}/regions/{self.region}/clusters/{self.name}"

    @property
    def state(self) -> str:
        return messages.state(self.message)

    @property
    def folder_uri(self) -> str:
        """Where the service keeps what belongs to this cluster, in the staging bucket."""
        message = self.message
        return f"gs://{message.config.config_bucket}/google-cloud-dataproc-metainfo/{message.cluster_uuid}"


@dataclass
class JobEntry:
    """:param failures: when its driver failed before and was started again, in seconds since 1970.
    :param output_bytes: of one object of its output.
    """

    project: str
    region: str
    message: Message
    submitted: float
    output_bytes: int
    failures: list[float] = field(default_factory=list)
    operation: str = ""

    @property
    def id(self) -> str:
        return str(self.message.reference.job_id)

    @property
    def key(self) -> str:
        return f"projects/{self.project}/regions/{self.region}/jobs/{self.id}"

    @property
    def state(self) -> str:
        return messages.state(self.message)

    @property
    def active(self) -> bool:
        return self.state not in ("DONE", "ERROR", "CANCELLED")


@dataclass
class OperationEntry:
    """:param name: whole, ``projects/.../operations/...``.
    :param target: key of the cluster that it works on; of a job's operation the job.
    :param arguments: of the work to do, as JSON.
    :param began: in seconds since 1970.
    """

    name: str
    kind: str
    target: str
    metadata: dict[str, Any]
    arguments: dict[str, Any]
    began: float
    done: bool = False
    error: dict[str, Any] | None = None
    response: dict[str, Any] | None = None


class World:
    """:param folder: of the state; :attr:`jobs_folder` in it is where drivers work."""

    def __init__(self, folder: Path, nodes: Nodes, objects: Objects) -> None:
        self.store = Store(folder / "state.sqlite")
        self.jobs_folder = folder / "jobs"
        self.nodes, self.objects = nodes, objects
        self.settings, self.faults = Settings(), Faults()
        self.calls: Counter[str] = Counter()
        self.clusters: dict[str, ClusterEntry] = {}
        self.jobs: dict[str, JobEntry] = {}
        self.operations: dict[str, OperationEntry] = {}
        self.policies: dict[str, Message] = {}
        self.requests: dict[str, str] = {}
        self.tasks: dict[str, asyncio.Task[Any]] = {}
        self._load()

    def save_cluster(self, entry: ClusterEntry) -> None:
        self.clusters[entry.key] = entry
        self._put("cluster", entry.key, entry)

    def save_job(self, entry: JobEntry) -> None:
        self.jobs[entry.key] = entry
        self._put("job", entry.key, entry)

    def save_operation(self, entry: OperationEntry) -> None:
        self.operations[entry.name] = entry
        self.store.put("operation", entry.name, dataclasses.asdict(entry))

    def save_policy(self, key: str, message: Message) -> None:
        self.policies[key] = message
        self.store.put("policy", key, messages.render(message))

    def save_request(self, key: str, name: str) -> None:
        """What a request id led to."""
        self.requests[key] = name
        self.store.put("request", key, name)

    def save_settings(self, settings: Settings) -> None:
        self.settings = settings
        self.store.put("settings", "", dataclasses.asdict(settings))

    def remove(self, kind: str, key: str) -> None:
        kept: dict[str, dict[str, Any]] = {
            "cluster": self.clusters,
            "job": self.jobs,
            "operation": self.operations,
            "policy": self.policies,
        }
        kept[kind].pop(key, None)
        self.store.remove(kind, key)

    def forget(self) -> None:
        """Everything but the settings that :meth:`save_settings` is told anew."""
        self.store.clear()
        for kept in (self.clusters, self.jobs, self.operations, self.policies, self.requests):
            kept.clear()  # type: ignore[attr-defined]
        self.calls.clear()
        self.faults.remove()
        self.save_settings(Settings())

    def begin(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        """Work in the background; :attr:`tasks` has it until it is over."""
        task = asyncio.create_task(work, name=key)
        self.tasks[key] = task
        task.add_done_callback(lambda done: self.tasks.pop(key) if self.tasks.get(key) is done else None)

    async def end(self, *keys: str) -> None:
        """Cancel work and wait until it is over."""
        tasks = [task for key in keys if (task := self.tasks.get(key)) and task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def jobs_of(self, cluster: ClusterEntry) -> list[JobEntry]:
        uuid = cluster.message.cluster_uuid
        return [job for job in self.jobs.values() if job.message.placement.cluster_uuid == uuid]

    def _put(self, kind: str, key: str, entry: ClusterEntry | JobEntry) -> None:
        values = {each.name: getattr(entry, each.name) for each in dataclasses.fields(entry)}
        self.store.put(kind, key, {**values, "message": messages.render(entry.message)})

    def _load(self) -> None:
        def entry(kind: Any, made: Any, body: dict[str, Any]) -> Any:
            return made(**{**body, "message": messages.parse(kind, body["message"])})

        self.clusters = {k: entry(messages.Cluster, ClusterEntry, v) for k, v in self.store.all("cluster").items()}
        self.jobs = {k: entry(messages.Job, JobEntry, v) for k, v in self.store.all("job").items()}
        self.operations = {k: OperationEntry(**v) for k, v in self.store.all("operation").items()}
        policies = self.store.all("policy").items()
        self.policies = {k: messages.parse(messages.AutoscalingPolicy, v) for k, v in policies}
        self.requests = self.store.all("request")
        for settings in self.store.all("settings").values():
            self.settings = Settings().changed(settings)
