"""The instances of a cluster: their names, what they are told, and what they take from the quota."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Iterator

from tests.servers.dataproc.errors import ApiError, several
from tests.servers.dataproc.messages import InstanceGroup, Message, seconds
from tests.servers.dataproc.nodes import InitializationAction, Node
from tests.servers.dataproc.validation import single_node
from tests.servers.dataproc.world import ClusterEntry, World

COMPUTE = "https://www.googleapis.com/compute/v1/projects"
GROUPS = ("master", "worker", "secondary_worker")
_MACHINE_TYPE = "n1-standard-4"
_ACTION_SECONDS = 600.0


def fill(cluster: Message, project: str, region: str) -> None:
    """Complete what the user left open, as the service answers it."""
    config, gce = cluster.config, cluster.config.gce_cluster_config
    suffix = f"{region}-{project}"
    config.config_bucket = config.config_bucket or f"dataproc-staging-{suffix}"
    config.temp_bucket = config.temp_bucket or f"dataproc-temp-{suffix}"
    zone = gce.zone_uri.rsplit("/", 1)[-1] or f"{region}-a"
    gce.zone_uri = f"{COMPUTE}/{project}/zones/{zone}"
    config.software_config.image_version = config.software_config.image_version or "2.2-debian12"
    config.master_config.num_instances = config.master_config.num_instances or 1
    if not single_node(cluster):
        config.worker_config.num_instances = config.worker_config.num_instances or 2
    kinds = InstanceGroup.DESCRIPTOR.enum_types_by_name["Preemptibility"].values_by_name
    for name in GROUPS:
        group = getattr(config, f"{name}_config")
        if not config.HasField(f"{name}_config"):
            continue
        machine = group.machine_type_uri.rsplit("/", 1)[-1]
        machine = machine or config.worker_config.machine_type_uri.rsplit("/", 1)[-1] or _MACHINE_TYPE
        group.machine_type_uri = f"{COMPUTE}/{project}/zones/{zone}/machineTypes/{machine}"
        usual = "PREEMPTIBLE" if name == "secondary_worker" else "NON_PREEMPTIBLE"
        group.preemptibility = group.preemptibility or kinds[usual].number
        group.is_preemptible = group.preemptibility != kinds["NON_PREEMPTIBLE"].number
        del group.instance_names[:]
        group.instance_names.extend(more_names(cluster, name, group.num_instances))
    if config.endpoint_config.enable_http_port_access:
        gateway = f"https://{cluster.cluster_uuid[:8]}-dot-{region}.dataproc.googleusercontent.com"
        config.endpoint_config.http_ports["YARN ResourceManager"] = f"{gateway}/yarn/"
    cluster.labels["goog-dataproc-cluster-name"] = cluster.cluster_name
    cluster.labels["goog-dataproc-cluster-uuid"] = cluster.cluster_uuid
    cluster.labels["goog-dataproc-location"] = region


def more_names(cluster: Message, group: str, count: int) -> list[str]:
    """Names of further instances."""
    name, config = cluster.cluster_name, getattr(cluster.config, f"{group}_config")
    if group == "master":
        return [f"{name}-m"] if count == 1 else [f"{name}-m-{number}" for number in range(count)]
    if group == "worker":
        first = 1 + max((int(each.rsplit("-", 1)[-1]) for each in config.instance_names), default=-1)
        return [f"{name}-w-{number}" for number in range(first, first + count)]
    letters = string.ascii_lowercase + string.digits
    return [f"{name}-sw-{''.join(random.choices(letters, k=4))}" for _ in range(count)]


def nodes(entry: ClusterEntry) -> Iterator[Node]:
    """All instances of a cluster."""
    message, config = entry.message, entry.message.config
    actions = [
        InitializationAction(
            action.executable_file,
            seconds(action.execution_timeout) if action.HasField("execution_timeout") else _ACTION_SECONDS,
        )
        for action in config.initialization_actions
    ]
    master = config.master_config.instance_names[0]
    for name in GROUPS:
        group = getattr(config, f"{name}_config")
        role = "Master" if name == "master" else "Worker"
        metadata = {
            **config.gce_cluster_config.metadata,
            "dataproc-role": role,
            "dataproc-master": master,
            "dataproc-bucket": config.config_bucket,
            "dataproc-region": entry.region,
            "dataproc-cluster-name": message.cluster_name,
            "dataproc-cluster-uuid": message.cluster_uuid,
            "dataproc-worker-count": str(config.worker_config.num_instances),
        }
        for instance in group.instance_names:
            yield Node(
                project=entry.project,
                region=entry.region,
                zone=zone(message),
                cluster=message.cluster_name,
                cluster_uuid=message.cluster_uuid,
                name=instance,
                role=role,
                master=master,
                machine_type=group.machine_type_uri.rsplit("/", 1)[-1],
                preemptible=group.is_preemptible,
                metadata=metadata,
                actions=actions,
                properties=dict(config.software_config.properties),
            )


def zone(cluster: Message) -> str:
    return str(cluster.config.gce_cluster_config.zone_uri.rsplit("/", 1)[-1])


def check_quota(world: World, entry: ClusterEntry, workers: int = 0, secondary: int = 0) -> None:
    """:param workers: more of these than the cluster has; of a new one, all are counted.
    :raises ApiError: INVALID_ARGUMENT, as the service answers it, with what is available.
    """
    limits = world.settings.quota
    others = [each for each in world.clusters.values() if (each.project, each.region) == (entry.project, entry.region)]
    used, wanted = {"CPUS": 0, "INSTANCES": 0}, {"CPUS": 0, "INSTANCES": 0}
    for each in others:
        _add(
            used, each.message, {name: getattr(each.message.config, f"{name}_config").num_instances for name in GROUPS}
        )
    if entry in others:
        _add(wanted, entry.message, {"worker": workers, "secondary_worker": secondary})
    else:
        counts = {name: getattr(entry.message.config, f"{name}_config").num_instances for name in GROUPS}
        _add(wanted, entry.message, counts)
    errors = [
        f"Insufficient '{name}' quota. Requested {float(wanted[name])}, available {float(limits[name] - used[name])}."
        for name in wanted
        if name in limits and wanted[name] > limits[name] - used[name]
    ]
    if error := several(errors):
        raise ApiError("INVALID_ARGUMENT", error.message)


def _add(total: dict[str, int], cluster: Message, counts: dict[str, int]) -> None:
    for name, count in counts.items():
        total["INSTANCES"] += count
        total["CPUS"] += count * _cpus(getattr(cluster.config, f"{name}_config").machine_type_uri)


def _cpus(machine_type: str) -> int:
    """``n2-standard-4``, ``n2-custom-8-32768``; the small shared ones have two."""
    name = machine_type.rsplit("/", 1)[-1]
    found = re.search(r"custom-(\d+)-", name) or re.search(r"-(\d+)g?$", name)
    return int(found[1]) if found else 2
