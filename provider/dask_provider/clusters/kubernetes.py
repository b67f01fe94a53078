"""A cluster on any Kubernetes that runs the Dask operator."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dask_provider.clusters import kubernetes_fields as fields
from dask_provider.clusters.base import LEAST_MEMORY, TemporaryClusterSpec
from dask_provider.clusters.checks import check_list, check_mapping, check_text, each
from dask_provider.errors import InvalidInput
from dask_provider.units import is_template, parse_count

DEFAULT_IMAGE = "ghcr.io/dask/dask:latest"
#: memory of a worker for each of its threads, of scheduler and of jobs, unless the spec says otherwise
DEFAULT_MEMORY = 2 * 2**30
#: where jobs have their files; by the name of the volume
JOB_MOUNTS = {"dask-bundle": "/dask-bundle", "dask-job": "/tmp/dask-job"}
#: the names by which the images of the Dask project take packages
EXTRA = {"pip": "EXTRA_PIP_PACKAGES", "conda": "EXTRA_CONDA_PACKAGES", "apt": "EXTRA_APT_PACKAGES"}
_SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
#: what the operator, or we, say ourselves
_OUR_ENV = ("DASK_SCHEDULER_ADDRESS", "DASK_WORKER_NAME")
_OUR_LABELS = re.compile(r"(dask-provider|dask\.org|kubernetes\.dask\.org)/.*|app\.kubernetes\.io/managed-by")
#: name of a group and of the longest cluster make a label's value of at most 63 characters
_GROUP_NAME = re.compile(r"(?!default$)[a-z]([-a-z0-9]{0,10}[a-z0-9])?")
#: fields of a worker group and the fields of the spec that they replace
_GROUP_FIELDS = {
    **{name: name for name in ("workers", "threads", "memory", "image", "node_selector", "tolerations", "affinity")},
    "env": "env",
    "resources": "worker_resources",
    "args": "worker_args",
}
#: fields that a manifest has words of its own for
_IN_MANIFEST = (
    *("threads", "memory", "image", "image_pull_policy", "image_pull_secrets", "service_account", "run_as_user"),
    *("worker_resources", "scheduler_resources", "worker_args", "node_selector", "tolerations", "affinity", "spot"),
    *("env_from", "volumes", "volume_mounts", "packages", "service_type", "node_port", "dashboard_node_port"),
    "worker_groups",
)


@dataclass(frozen=True, kw_only=True, repr=False)
class KubernetesCluster(TemporaryClusterSpec):
    """Scheduler, workers and jobs as pods, made by the Dask operator; a Job in the cluster is the lease.

    Resources are mappings, ``{"cpu": 1, "memory": "4 GiB", "nvidia.com/gpu": 1}``: requests and limits alike; or
    ``{"requests": {...}, "limits": {...}}``. Lists and mappings of Kubernetes (tolerations, volumes, ...) are written
    as in a manifest of a pod and hold for scheduler, workers and jobs.

    :param conn_id: Airflow connection of type ``kubernetes``; ``None``: the Kubernetes that Airflow runs in, or the
        current context of the kubeconfig file.
    :param namespace: where everything is made; ``None``: that of the connection.
    :param image: image of all pods. Python, dask and distributed must have the versions that the job was written
        for, so name a tag that does not move. ``None``: ``ghcr.io/dask/dask:latest``; with ``manifest`` that of its
        scheduler.
    :param image_pull_policy: ``Always``, ``IfNotPresent`` or ``Never``; ``None``: as Kubernetes decides by the tag.
    :param image_pull_secrets: names of Secrets with registry passwords.
    :param service_account: of scheduler, workers and jobs, for rights at a cloud; ``None``: the namespace's default,
        without a token for Kubernetes' own API.
    :param run_as_user: number of the user of all pods, without privileges: what namespaces with the Pod Security
        standard ``restricted`` demand. ``None``: the image's own.
    :param worker_resources: of each worker; what is not named follows from ``threads`` (one CPU each) and ``memory``
        (default 2 GiB for each thread).
    :param scheduler_resources: default one CPU and 2 GiB, also for what is not named.
    :param job_resources: of the pod of each job; defaults as for the scheduler.
    :param worker_args: further arguments of ``dask worker``, such as ``["--resources", "GPU=1"]``.
    :param node_selector: labels of the nodes to run on.
    :param tolerations: taints of nodes that do not matter.
    :param affinity: which nodes and neighbours are wanted.
    :param spot: labels of spot nodes, such as ``{"cloud.google.com/gke-spot": "true"}`` or
        ``{"eks.amazonaws.com/capacityType": "SPOT"}``: workers run on them (taints of the same names are tolerated),
        scheduler, lease and jobs on others. ``None``: nothing is said about it.
    :param labels: further labels of all objects.
    :param annotations: further annotations of all objects.
    :param env_from: Secrets and ConfigMaps whose entries become environment variables.
    :param volumes: volumes (persistentVolumeClaim, configMap, nfs, hostPath, csi, ...).
    :param volume_mounts: where they are mounted.
    :param packages: ``{"pip": [...], "conda": [...], "apt": [...]}``: installed when a container starts, if the image
        is one of the Dask project's or does as they do. Slow: an own image is better. Raise ``ready_timeout``.
    :param service_type: ``ClusterIP``, ``NodePort`` or ``LoadBalancer``, for Dask clients outside of Kubernetes.
    :param node_port: port of the scheduler on each node, 30000 to 32767; ``None``: Kubernetes chooses.
    :param dashboard_node_port: port of the dashboard on each node, likewise.
    :param worker_groups: further kinds of workers beside ``workers``, whose number must be fixed then. Mappings with
        ``name`` (at most 12 characters), ``workers``, and what differs of ``threads``, ``memory``, ``resources``,
        ``args``, ``image``, ``node_selector``, ``tolerations``, ``affinity`` and ``env`` (added to that of the spec).
    :param manifest_overrides: merged into the DaskCluster: mappings key by key, lists of named things (containers,
        env, ports, volumes) name by name, other lists as a whole; ``None`` removes.
    :param manifest: an own DaskCluster in YAML (text, path or URI) instead of all fields that describe pods and
        service. What is read from a path or URI is not rendered: it must hold no Jinja. Name, labels, lease, ``env``
        and ``tls`` are added. ``workers`` counts: its replicas must be equal or left out.
    """

    place: ClassVar[str] = "kubernetes"
    hook: ClassVar[str] = "dask_provider.hooks.kubernetes:KubernetesHook"

    conn_id: str | None = None
    namespace: str | None = None
    image: str | None = None
    image_pull_policy: str | None = None
    image_pull_secrets: Sequence[str] = ()
    service_account: str | None = None
    run_as_user: int | str | None = None
    worker_resources: Mapping[str, Any] = field(default_factory=dict)
    scheduler_resources: Mapping[str, Any] = field(default_factory=dict)
    job_resources: Mapping[str, Any] = field(default_factory=dict)
    worker_args: Sequence[str] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    affinity: Mapping[str, Any] = field(default_factory=dict)
    spot: Mapping[str, str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    env_from: Sequence[Mapping[str, Any]] = ()
    volumes: Sequence[Mapping[str, Any]] = ()
    volume_mounts: Sequence[Mapping[str, Any]] = ()
    packages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    service_type: str = "ClusterIP"
    node_port: int | str | None = None
    dashboard_node_port: int | str | None = None
    worker_groups: Sequence[Mapping[str, Any]] = ()
    manifest_overrides: Mapping[str, Any] = field(default_factory=dict)
    manifest: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_texts()
        self._check_pods()
        self._check_service()
        self._check_manifest()
        self._check_groups()

    # --- what follows from the fields ---

    @property
    def has_manifest_text(self) -> bool:
        """Whether ``manifest`` is the text itself, rather than where it is."""
        text = (self.manifest or "").strip()
        return "\n" in text or (text.startswith("{") and not is_template(text))

    @property
    def worker_quantities(self) -> fields.Resources:
        """Requests and limits of each worker."""
        memory = self.memory_bytes or DEFAULT_MEMORY * self.thread_count
        return with_defaults(self._field("worker_resources"), self.worker_resources, self.thread_count, memory)

    @property
    def scheduler_quantities(self) -> fields.Resources:
        """Requests and limits of the scheduler."""
        return with_defaults(self._field("scheduler_resources"), self.scheduler_resources, 1, DEFAULT_MEMORY)

    @property
    def job_quantities(self) -> fields.Resources:
        """Requests and limits of the pod of a job."""
        return with_defaults(self._field("job_resources"), self.job_resources, 1, DEFAULT_MEMORY)

    @property
    def dask_memory(self) -> int:
        """Bytes that a worker may use for the data of its tasks: its container's without what the process needs."""
        quantities = self.worker_quantities
        size = fields.quantity_bytes(quantities["limits"].get("memory") or quantities["requests"]["memory"])
        return max(size - LEAST_MEMORY, size // 2)

    @property
    def least_workers(self) -> int:
        """Workers that must have joined before a job starts: ``ready_workers``, and all of ``worker_groups``."""
        if self.min_ready_workers is not None:
            return self.ready_workers
        return self.ready_workers + sum(group.worker_range[0] for group in self.groups().values())

    @property
    def node_ports(self) -> tuple[int | None, int | None]:
        """Ports of scheduler and dashboard on each node, where they were chosen."""
        chosen = [None if port is None else int(port) for port in (self.node_port, self.dashboard_node_port)]
        return chosen[0], chosen[1]

    @property
    def pod_env(self) -> dict[str, str]:
        """Environment of scheduler, workers and jobs."""
        return {**self.env, **{EXTRA[kind]: " ".join(names) for kind, names in self.packages.items() if names}}

    def groups(self) -> dict[str, KubernetesCluster]:
        """The further worker groups by name, each as the spec with its own fields in it."""
        return {str(group["name"]): self._group(group) for group in self.worker_groups}

    # --- checks ---

    def _check_texts(self) -> None:
        for name, check in (
            ("namespace", fields.check_name),
            ("image", fields.check_image),
            ("service_account", fields.check_object_name),
        ):
            if getattr(self, name) is not None:
                check(self._field(name), getattr(self, name))
        if self.conn_id is not None and not (isinstance(self.conn_id, str) and self.conn_id):
            raise InvalidInput(self._field("conn_id"), self.conn_id, "the id of an Airflow connection")
        if self.image_pull_policy is not None:
            self._check_one_of("image_pull_policy", _PULL_POLICIES)
        each(fields.check_object_name, self._field("image_pull_secrets"), self.image_pull_secrets)
        if self.run_as_user is not None:
            self._check("run_as_user", parse_count)
        fields.check_labels(self._field("annotations"), self.annotations, annotations=True)
        fields.check_labels(self._field("labels"), self.labels)
        for name in ("labels", "annotations"):
            if taken := [key for key in getattr(self, name) if _OUR_LABELS.fullmatch(key)]:
                raise InvalidInput(self._field(name), taken[0], "keys that neither the provider nor the operator uses")

    def _check_pods(self) -> None:
        names = ("worker_resources", "scheduler_resources", "job_resources")
        parsed = {name: fields.parse_resources(self._field(name), getattr(self, name)) for name in names}
        if self.memory is not None and any(named.get("memory") for named in parsed["worker_resources"].values()):
            raise InvalidInput(self._field("memory"), self.memory, "memory in one of memory and worker_resources")
        fields.check_labels(self._field("node_selector"), self.node_selector)
        fields.check_tolerations(self._field("tolerations"), self.tolerations)
        fields.check_affinity(self._field("affinity"), self.affinity)
        if self.spot is not None:
            if not isinstance(self.spot, Mapping) or not self.spot:
                allowed = 'None, or labels of spot nodes, such as {"cloud.google.com/gke-spot": "true"}'
                raise InvalidInput(self._field("spot"), self.spot, allowed)
            fields.check_labels(self._field("spot"), self.spot)
        if taken := [name for name in self.env if name in _OUR_ENV]:
            raise InvalidInput(self._field("env"), taken[0], "other names: this one is set for each pod")
        fields.check_env_from(self._field("env_from"), self.env_from)
        mounts = self._field("volume_mounts"), self.volume_mounts
        fields.check_volumes(self._field("volumes"), self.volumes, *mounts, JOB_MOUNTS)
        for item in check_list(self._field("worker_args"), self.worker_args):
            if not isinstance(item, str):
                raise InvalidInput(self._field("worker_args"), item, "texts")
        self._check_packages()

    def _check_packages(self) -> None:
        name = self._field("packages")
        for kind, packages in check_mapping(name, self.packages).items():
            if kind not in EXTRA:
                raise InvalidInput(name, kind, f"the kinds {', '.join(EXTRA)}")
            for package in check_list(name, packages):
                plain = isinstance(package, str) and package and not re.search(r"\s", package)
                if not plain and not is_template(package):
                    raise InvalidInput(name, package, 'names without blanks, one an entry: "scikit-learn", "optuna>=4"')
            if packages and EXTRA[kind] in self.env:
                raise InvalidInput(name, packages, f"either packages[{kind!r}] or {EXTRA[kind]} in env")
        if self.packages.get("apt") and self.run_as_user is not None:
            raise InvalidInput(name, self.packages, "no apt packages with run_as_user: only root can install them")

    def _check_service(self) -> None:
        self._check_one_of("service_type", _SERVICE_TYPES)
        for name in ("node_port", "dashboard_node_port"):
            value = getattr(self, name)
            if value is None or is_template(value):
                continue
            if self.service_type != "NodePort" and not is_template(self.service_type):
                raise InvalidInput(self._field(name), value, 'None, or service_type="NodePort"')
            fields.parse_node_port(self._field(name), value)
        if self.node_port is not None and str(self.node_port) == str(self.dashboard_node_port):
            raise InvalidInput(self._field("dashboard_node_port"), self.node_port, "another port than node_port")

    def _check_manifest(self) -> None:
        overrides = check_mapping(self._field("manifest_overrides"), self.manifest_overrides)
        if not set(overrides) <= {"metadata", "spec"}:
            raise InvalidInput(self._field("manifest_overrides"), dict(overrides), "the keys metadata and spec")
        if self.manifest is None:
            return
        if not isinstance(self.manifest, str) or not self.manifest.strip():
            raise InvalidInput(self._field("manifest"), self.manifest, "a DaskCluster in YAML: text, path or URI")
        defaults = {f.name: _default(f) for f in dataclasses.fields(self)}
        for name in _IN_MANIFEST:
            value = getattr(self, name)
            if value != defaults[name] and value != []:  # a tuple that went through JSON
                raise InvalidInput(self._field(name), value, "nothing with manifest: say it there")

    def _check_groups(self) -> None:
        name = self._field("worker_groups")
        seen = set()
        for item in check_list(name, self.worker_groups):
            group = check_mapping(name, item)
            known = ("name", *_GROUP_FIELDS)
            if "name" not in group or "workers" not in group or not set(group) <= set(known):
                raise InvalidInput(name, dict(group), f"name, workers, and any of {', '.join(known[2:])}")
            allowed = 'names of at most 12 of a-z, 0-9 and "-", each once; "default" are those of workers'
            check_text(name, group["name"], _GROUP_NAME, allowed)
            if group["name"] in seen:
                raise InvalidInput(name, group["name"], allowed)
            seen.add(group["name"])
            self._group(group)
        pair = self.workers if isinstance(self.workers, list | tuple) else (self.workers,)
        if seen and len(set(pair)) > 1:
            # It asks the scheduler which worker to take away, of whatever group, and does not replace it there.
            allowed = "a fixed number with worker_groups: the operator takes away workers of any group"
            raise InvalidInput(self._field("workers"), self.workers, allowed)

    def _group(self, group: Mapping[str, Any]) -> KubernetesCluster:
        given = {_GROUP_FIELDS[name]: value for name, value in group.items() if name != "name"}
        if "env" in given:
            given["env"] = {**self.env, **check_mapping(self._field("worker_groups"), given["env"])}
        if "worker_resources" in given:
            given.setdefault("memory", None)
        try:
            return dataclasses.replace(self, **{"worker_groups": (), "min_ready_workers": None, **given})
        except InvalidInput as error:
            where = f"{self._field('worker_groups')}[{group['name']!r}]"
            said = error.field.partition(".")[2]
            for inside, field_name in _GROUP_FIELDS.items():
                said = re.sub(rf"^{field_name}\b", inside, said)
            raise InvalidInput(f"{where}.{said}", error.value, error.allowed) from None

    def _check_one_of(self, name: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if not is_template(value) and value not in allowed:
            raise InvalidInput(self._field(name), value, f"one of {', '.join(allowed)}")

    def __repr__(self) -> str:
        shown = copy.copy(self)
        for name in ("worker_groups", "manifest_overrides"):
            object.__setattr__(shown, name, _hidden(getattr(self, name)))
        if self.has_manifest_text:
            object.__setattr__(shown, "manifest", "***")
        return super(KubernetesCluster, shown).__repr__()


def with_defaults(name: str, given: Mapping[str, Any], cpus: int, memory: int) -> fields.Resources:
    """Resources as they were given, and CPU and memory for where that says nothing."""
    parsed = fields.parse_resources(name, given)
    least = {"cpu": str(cpus), "memory": fields.memory_quantity(memory)}
    if set(given) & {"requests", "limits"}:  # limits were chosen: only they count, also as requests
        return {"requests": {**least, **parsed["limits"], **parsed["requests"]}, "limits": parsed["limits"]}
    return {part: {**least, **parsed[part]} for part in ("requests", "limits")}


def _default(f: dataclasses.Field[Any]) -> Any:
    return f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default


def _hidden(value: Any) -> Any:
    """Without the values of environment variables, as a mapping (``env``) or as Kubernetes has them (``value``)."""
    if isinstance(value, Mapping):
        shown = {name: "***" if name == "value" else _hidden(item) for name, item in value.items()}
        if isinstance(value.get("env"), Mapping):
            shown["env"] = dict.fromkeys(sorted(value["env"]), "***")
        return shown
    if isinstance(value, list | tuple):
        return type(value)(map(_hidden, value))
    return value
