"""A cluster on Google Dataproc."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

from dask_provider.clusters import dataproc_fields as fields
from dask_provider.clusters.base import TemporaryClusterSpec
from dask_provider.clusters.checks import check_list, check_mapping, check_text
from dask_provider.errors import InvalidInput
from dask_provider.units import is_template, parse_count, parse_seconds

RUNTIMES = ("standalone", "yarn")
#: where Dask comes from, unless it is the URI of a wheelhouse
SOURCES = ("pypi", "image", "google")
#: what we, or Dataproc, say ourselves
_OUR_METADATA = re.compile(r"dask-.*|dataproc-.*|startup-script.*|enable-oslogin")
_WHEELS = re.compile(r"gs://[^/\s]+(/\S*)?")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?==\S+")

#: the machines and numbers of some common kinds of work: fields of a spec
SIZES: Mapping[str, Mapping[str, Any]] = {
    "small_etl": {"workers": 2, "worker": "n2-standard-2", "master": "n2-standard-2"},
    "medium_etl": {"workers": 4, "worker": "n2-standard-4", "master": "n2-standard-4"},
    "large_etl": {"workers": 8, "worker": "n2-standard-8", "master": "n2-standard-4"},
    "ml_training": {"workers": 6, "worker": "n2-highmem-4", "master": "n2-highmem-4"},
    "interactive": {"workers": 2, "worker": "n2-standard-4", "master": "n2-standard-4"},
}


@dataclass(frozen=True, kw_only=True, repr=False)
class DataprocCluster(TemporaryClusterSpec):
    """Machines of Google Dataproc, with a Dask scheduler on the master and one Dask worker on each worker machine.

    Dataproc itself ends the cluster when it is idle (``idle_timeout``, 5 min to 14 days) or too old
    (``max_lifetime``, 10 min to 14 days). Machines are given as a type (``"n2-standard-4"``) or as
    :class:`~dask_provider.clusters.dataproc_fields.Machines`.

    :param conn_id: Airflow connection of type ``google_cloud_platform``.
    :param project_id: Google project; ``None``: that of the connection.
    :param region: such as ``europe-west1``.
    :param zone: ``None``: Dataproc chooses one of the region with room.
    :param workers: worker machines: at least 2, or 1: then the master is all there is, and works itself. Or
        ``(minimum, maximum)``: the minimum stays, and further ones are secondary workers, which come and go with Dask's
        own demand (``standalone``) or as ``autoscaling_policy`` says (``yarn``).
    :param secondary_workers: further, cheaper ones. Dataproc makes them when it can, and takes them away: no job waits
        for them, unless ``min_ready_workers`` says so. 0 where ``workers`` is a pair.
    :param preemptibility: of the secondary workers: ``SPOT``, ``PREEMPTIBLE`` or ``NON_PREEMPTIBLE``.
    :param threads: threads of each Dask worker; ``None``: one for each virtual CPU.
    :param memory: memory of each Dask worker; ``None``: what the machine has.
    :param master: its machine.
    :param worker: machine of each worker.
    :param secondary_worker: machine of each secondary worker, of the type of ``worker``: only its disks may be
        others. ``None``: as ``worker``.
    :param image_version: such as ``2.2-debian12``.
    :param image: URI of a custom image, instead.
    :param runtime: ``standalone``: scheduler and workers are services of the machines. ``yarn``: each job starts them
        on YARN, ``workers`` of them (secondary machines are room for more, up to one each), and ends them; ``memory``
        must be given then.
    :param autoscaling_policy: name or URI of a policy by which Dataproc changes the number of workers, with
        ``runtime="yarn"``: it looks at the memory of YARN alone.
    :param dask: where Dask comes from: ``pypi``, ``image`` (it is in the image), ``google`` (Google's public
        initialization action), or a wheelhouse for machines without internet: ``gs://bucket/wheels/``.
    :param packages: further Python packages, pinned: ``["pandas==2.3.3"]``. Dask and gcsfs come by themselves, in the
        versions that Airflow has.
    :param initialization_actions: URIs of further scripts, run before Dask starts.
    :param setup_timeout: seconds (or ``"20 min"``) that each script may take.
    :param subnetwork: name or URI; ``None``: the default network.
    :param internal_ip_only: whether machines have no public address.
    :param service_account: e-mail address of the account that the machines run as.
    :param tags: network tags of the machines.
    :param labels: further labels of cluster and jobs.
    :param kms_key: key that encrypts disks and job arguments.
    :param staging_bucket: bucket of Dataproc's own files; ``None``: that of ``[dask] staging``.
    :param temp_bucket: bucket of Dataproc's short-lived files; ``None``: as ``staging_bucket``.
    :param shielded: whether the machines start with secure boot, vTPM and integrity monitoring.
    :param component_gateway: whether Dask's dashboard and the others are reachable through Google's gateway.
    :param logging: whether logs of the machines go to Cloud Logging.
    :param monitoring: whether their metrics go to Cloud Monitoring.
    :param nfs: a file system that all machines mount.
    :param properties: of daemons: ``{"spark:spark.driver.memory": "8g"}``.
    :param job_properties: of Spark, for every job: ``{"spark.driver.memory": "8g"}``. They stand in the metadata of the
        machines: no secrets.
    :param metadata: further metadata of the machines, for scripts.
    :param max_cost: what the cluster may cost in all of its ``max_lifetime``, in the currency of ``[dask]
        dataproc_prices``: a spec that could cost more, or nobody knows what, is refused before anything is made.
    :param cluster_config_overrides: merged into the request: ``{"config": {...}, "labels": {...}}`` in the words of
        the REST API; ``None`` removes.
    """

    place: ClassVar[str] = "dataproc"
    hook: ClassVar[str] = "dask_provider.hooks.dataproc:DataprocHook"

    ready_timeout: float | str | timedelta = 1800
    conn_id: str = "google_cloud_default"
    project_id: str | None = None
    region: str
    zone: str | None = None
    secondary_workers: int | str = 0
    preemptibility: str = "SPOT"
    threads: int | str | None = None
    master: str | Mapping[str, Any] | fields.Machines = "n2-standard-4"
    worker: str | Mapping[str, Any] | fields.Machines = "n2-standard-4"
    secondary_worker: str | Mapping[str, Any] | fields.Machines | None = None
    image_version: str = "2.2-debian12"
    image: str | None = None
    runtime: str = "standalone"
    autoscaling_policy: str | None = None
    dask: str = "pypi"
    packages: Sequence[str] = ()
    initialization_actions: Sequence[str] = ()
    setup_timeout: float | str = 1200
    subnetwork: str | None = None
    internal_ip_only: bool = True
    service_account: str | None = None
    tags: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    kms_key: str | None = None
    staging_bucket: str | None = None
    temp_bucket: str | None = None
    shielded: bool = False
    component_gateway: bool = True
    logging: bool = True
    monitoring: bool = True
    nfs: Mapping[str, str] | fields.NfsMount | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    job_properties: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    max_cost: float | str | None = None
    cluster_config_overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, (pattern, allowed) in fields.TEXTS.items():
            if (value := getattr(self, name)) is not None or name == "region":
                check_text(self._field(name), value, pattern, allowed)
        if not (isinstance(self.conn_id, str) and self.conn_id):
            raise InvalidInput(self._field("conn_id"), self.conn_id, "the id of an Airflow connection")
        for name in ("internal_ip_only", "shielded", "component_gateway", "logging", "monitoring"):
            self._check_bool(name)
        for name in ("master", "worker", "secondary_worker"):
            if getattr(self, name) is not None:
                fields.machines(self._field(name), getattr(self, name))
        if self.tls and self.runtime == "standalone":
            allowed = 'False: there are no certificates on Dataproc, but with runtime="yarn"'
            raise InvalidInput(self._field("tls"), True, allowed)
        if self.max_cost is not None:
            self._check("max_cost", fields.check_amount)
        self._check_secondary_type()
        self._check_counts()
        self._check_times()
        self._check_setup()
        self._check_policy()
        fields.check_labels(self._field("labels"), self.labels)
        fields.check_tags(self._field("tags"), self.tags)
        fields.check_properties(self._field("properties"), self.properties)
        fields.check_job_properties(self._field("job_properties"), self.job_properties)
        overrides = check_mapping(self._field("cluster_config_overrides"), self.cluster_config_overrides)
        if not set(overrides) <= {"config", "labels"}:
            raise InvalidInput(self._field("cluster_config_overrides"), dict(overrides), "the keys config and labels")

    # --- what follows from the fields ---

    @classmethod
    def sized(cls, size: str, **given: Any) -> DataprocCluster:
        """A spec with the machines and numbers of a common kind of work; what is given replaces them.

        :param size: ``small_etl`` (up to 10 GB of data), ``medium_etl`` (up to 100 GB), ``large_etl`` (up to 1 TB),
            ``ml_training`` (much memory) or ``interactive``.
        """
        if size not in SIZES:
            raise InvalidInput("size", size, f"one of {', '.join(SIZES)}")
        return cls(**{**SIZES[size], **given})

    @property
    def secondary_count(self) -> int:
        """Number of secondary workers."""
        return parse_count(self._field("secondary_workers"), self.secondary_workers, least=0)

    @property
    def elastic(self) -> bool:
        """Whether the number of machines follows Dask's own demand."""
        low, high = self.worker_range
        return low < high and self.runtime == "standalone"

    @property
    def single_node(self) -> bool:
        """Whether the master is all there is."""
        return self.worker_range[1] == 1

    @property
    def ready_workers(self) -> int:
        if self.min_ready_workers is not None:
            return super().ready_workers
        return self.worker_range[0]  # Dataproc makes secondary ones when it can, also after the cluster is there

    @property
    def most_workers(self) -> int:
        return self.worker_range[1] + self.secondary_count

    @property
    def thread_count(self) -> int:
        if self.threads is not None:
            return super().thread_count
        return self._count_cpus("worker", self.worker_machines)

    @property
    def master_machines(self) -> fields.Machines:
        """The master's machine."""
        return fields.machines(self._field("master"), self.master)

    @property
    def worker_machines(self) -> fields.Machines:
        """Machine of each worker."""
        return fields.machines(self._field("worker"), self.worker)

    @property
    def secondary_machines(self) -> fields.Machines:
        """Machine of each secondary worker."""
        if self.secondary_worker is None:
            return self.worker_machines
        return fields.machines(self._field("secondary_worker"), self.secondary_worker)

    @property
    def nfs_mount(self) -> fields.NfsMount | None:
        """What all machines mount."""
        return fields.NfsMount(**self.nfs) if isinstance(self.nfs, Mapping) else self.nfs

    @property
    def setup_seconds(self) -> float:
        """``setup_timeout`` in seconds."""
        return parse_seconds(self._field("setup_timeout"), self.setup_timeout)

    # --- checks ---

    def _count_cpus(self, name: str, machines: fields.Machines) -> int:
        if machines.cpus is None:
            allowed = 'a type that names its CPUs, like "n2-standard-4", or threads=… beside it'
            raise InvalidInput(self._field(name), machines.machine_type, allowed)
        return machines.cpus

    def _check_threads(self) -> None:
        if self.threads is not None:
            super()._check_threads()
        elif not is_template(self.worker_machines.machine_type):
            _ = self.thread_count

    def _check_secondary_type(self) -> None:
        given, primary = self.secondary_machines.machine_type, self.worker_machines.machine_type
        if not (is_template(given) or is_template(primary)) and given != primary:
            allowed = f"{primary}, the type of worker: Dataproc gives secondary workers no other, only other disks"
            raise InvalidInput(self._field("secondary_worker.machine_type"), given, allowed)

    def _check_counts(self) -> None:
        """The numbers of machines that Dataproc takes."""
        self._check("secondary_workers", lambda name, value: parse_count(name, value, least=0))
        pair = self.workers if isinstance(self.workers, list | tuple) else (self.workers,)
        if not any(is_template(value) for value in pair):
            self._check_range()
        if not is_template(self.preemptibility) and self.preemptibility not in fields.PREEMPTIBILITY:
            allowed = f"one of {', '.join(fields.PREEMPTIBILITY)}"
            raise InvalidInput(self._field("preemptibility"), self.preemptibility, allowed)

    def _check_range(self) -> None:
        secondary = 0 if is_template(self.secondary_workers) else self.secondary_count
        if self.single_node and secondary:
            raise InvalidInput(self._field("secondary_workers"), self.secondary_workers, "0 with workers=1")
        low, high = self.worker_range
        if low == high or is_template(self.runtime):
            return
        if low < 2:
            raise InvalidInput(self._field("workers"), self.workers, "a minimum of at least 2 workers")
        if secondary:
            allowed = "0 where workers is a pair: all beyond its minimum are secondary workers"
            raise InvalidInput(self._field("secondary_workers"), self.secondary_workers, allowed)
        if self.runtime == "standalone" and not is_template(self.min_ready_workers) and self.ready_workers > low:
            allowed = f"at most {low}, the minimum of workers: more come only once there is work for them"
            raise InvalidInput(self._field("min_ready_workers"), self.min_ready_workers, allowed)
        if self.dask == "google":
            allowed = "one number with dask='google': its script knows nothing of the demand"
            raise InvalidInput(self._field("workers"), self.workers, allowed)
        if self.runtime == "yarn" and self.autoscaling_policy is None:
            allowed = 'one number with runtime="yarn", or autoscaling_policy=… beside it, which makes the machines'
            raise InvalidInput(self._field("workers"), self.workers, allowed)

    def _check_policy(self) -> None:
        if self.autoscaling_policy is not None and not is_template(self.runtime) and self.runtime != "yarn":
            allowed = 'nothing with runtime="standalone": a policy looks at YARN alone; workers=(2, 10) follows Dask'
            raise InvalidInput(self._field("autoscaling_policy"), self.autoscaling_policy, allowed)

    def _check_times(self) -> None:
        spans = (
            ("idle_timeout", "idle_seconds", fields.IDLE_SPAN),
            ("max_lifetime", "lifetime_seconds", fields.LIFETIME_SPAN),
        )
        for name, seconds, span in spans:
            if not is_template(getattr(self, name)):
                fields.check_span(self._field(name), getattr(self, name), getattr(self, seconds), span)
        self._check("setup_timeout", parse_seconds)

    def _check_setup(self) -> None:
        """What is put onto the machines."""
        if wrong := [name for name, text in self.env.items() if re.search(r"['\x00-\x1f]", text)]:
            raise InvalidInput(self._field("env"), wrong[0], "values of one line without single quotes")
        if not is_template(self.runtime) and self.runtime not in RUNTIMES:
            raise InvalidInput(self._field("runtime"), self.runtime, f"one of {', '.join(RUNTIMES)}")
        if self.dask not in SOURCES:
            allowed = f'one of {", ".join(SOURCES)}, or a wheelhouse like "gs://bucket/wheels/"'
            check_text(self._field("dask"), self.dask, _WHEELS, allowed)
        for package in check_list(self._field("packages"), self.packages):
            check_text(self._field("packages"), package, _PACKAGE, 'pinned packages, one an entry: "dask-ml==2025.1.0"')
        if self.runtime == "yarn" and self.dask == "google":
            allowed = "pypi, image or a wheelhouse with runtime='yarn': Google's script has a Dask of 2022 for it"
            raise InvalidInput(self._field("dask"), self.dask, allowed)
        if self.runtime == "yarn" and self.memory is None:
            allowed = 'a size like "4 GiB" with runtime="yarn": YARN is asked for it'
            raise InvalidInput(self._field("memory"), None, allowed)
        if self.packages and self.dask in ("image", "google"):
            allowed = f"none with dask={self.dask!r}: nothing is installed then"
            raise InvalidInput(self._field("packages"), self.packages, allowed)
        if self.dask == "google":
            for name in ("threads", "memory", "env"):
                if getattr(self, name):
                    allowed = "nothing with dask='google': its script starts workers as it likes"
                    raise InvalidInput(self._field(name), getattr(self, name), allowed)
        fields.check_scripts(self._field("initialization_actions"), self.initialization_actions)
        for key, text in check_mapping(self._field("metadata"), self.metadata).items():
            if _OUR_METADATA.fullmatch(key) or not isinstance(text, str):
                allowed = 'texts, with keys that do not begin with "dask-", "dataproc-" or "startup-script"'
                raise InvalidInput(self._field("metadata"), {key: text}, allowed)
        if isinstance(self.nfs, Mapping):
            known = ("server", "export", "mount_point")
            if not {"server", "export"} <= set(self.nfs) <= set(known):
                raise InvalidInput(self._field("nfs"), dict(self.nfs), f"NfsMount({', '.join(known)})")
        elif not (self.nfs is None or isinstance(self.nfs, fields.NfsMount)):
            raise InvalidInput(self._field("nfs"), self.nfs, "NfsMount(server, export, mount_point)")
        _ = self.nfs_mount
