"""What the API accepts of names, labels, durations and cluster configurations.

Rules come from the API's reference unless a comment says otherwise; all that is wrong with a cluster is said at once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping

from tests.servers.dataproc.errors import invalid, several
from tests.servers.dataproc.messages import InstanceGroup, Message, seconds

DAY = 86400.0
# Letters of other alphabets count too, as for every label of Google Cloud.
_LABEL_KEY = re.compile(r"(?![A-Z])[^\W\d_](?:(?![A-Z])[\w-]){0,62}")
_LABEL_VALUE = re.compile(r"(?:(?![A-Z])[\w-]){0,63}")
_CLUSTER_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,49}[a-z0-9])?")
_REQUEST_ID = re.compile(r"[a-zA-Z0-9_-]{1,40}")
_JOB_ID = re.compile(r"[a-zA-Z0-9_-]{1,100}")
_POLICY_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{1,48}[a-zA-Z0-9]")
_MACHINE = re.compile(r"[a-z][a-z0-9]*-[a-z0-9-]+")
_DISKS = ("pd-standard", "pd-balanced", "pd-ssd", "hyperdisk-balanced")
_SECONDARY = ("PREEMPTIBILITY_UNSPECIFIED", "NON_PREEMPTIBLE", "PREEMPTIBLE", "SPOT")
# What stands before the colon of a cluster property; each names a configuration file.
_PREFIXES = {"dataproc", "distcp", "pig", "mapred", "core", "hdfs", "hive", "yarn", "capacity-scheduler", "spark"} | {
    *("flink", "flink-log4j", "hadoop-env", "hadoop-log4j", "hbase", "hbase-env", "hbase-log4j", "hive-log4j2"),
    *("hudi", "mapred-env", "pig-log4j", "presto", "presto-jvm", "solr", "spark-env", "spark-log4j", "trino"),
    *("trino-jvm", "yarn-env", "zeppelin", "zeppelin-env", "zookeeper", "knox", "ranger", "tez"),
}


def check_request_id(request_id: str) -> None:
    if request_id and not _REQUEST_ID.fullmatch(request_id):
        raise invalid(
            f"Invalid request ID '{request_id}': only letters, numbers, underscores and hyphens, at most 40 characters."
        )


def check_cluster(cluster: Message, region: str) -> None:
    """:raises ApiError: INVALID_ARGUMENT."""
    if error := several(list(_cluster_errors(cluster, region))):
        raise error


def check_labels(labels: Mapping[str, str]) -> None:
    if error := several(list(_label_errors(labels))):
        raise error


def check_lifecycle(lifecycle: Message) -> None:
    if error := several(list(_lifecycle_errors(lifecycle))):
        raise error


def check_job(job: Message) -> None:
    errors = list(_label_errors(job.labels))
    job_id = job.reference.job_id
    if job_id and not _JOB_ID.fullmatch(job_id):
        errors.append(
            f"Invalid job ID '{job_id}': only letters, numbers, underscores and hyphens, at most 100 characters."
        )
    if not job.placement.cluster_name:
        errors.append("Job placement must name a cluster.")
    if not job.WhichOneof("type_job"):
        errors.append("Job must have a type.")
    elif job.WhichOneof("type_job") == "pyspark_job":
        main = job.pyspark_job.main_python_file_uri
        if not main.endswith(".py"):
            errors.append(f"main_python_file_uri '{main}' must be the URI of a .py file.")
    if not 0 <= job.scheduling.max_failures_per_hour <= 10:
        errors.append("max_failures_per_hour must be from 0 to 10.")
    if not 0 <= job.scheduling.max_failures_total <= 240:
        errors.append("max_failures_total must be from 0 to 240.")
    if error := several(errors):
        raise error


def check_policy(policy: Message) -> None:
    errors = list(_label_errors(policy.labels))
    if not _POLICY_ID.fullmatch(policy.id):
        errors.append(
            f"Invalid policy id '{policy.id}': 3 to 50 letters, numbers, underscores and hyphens; "
            "it cannot begin or end with underscore or hyphen."
        )
    if not policy.HasField("basic_algorithm") or not policy.basic_algorithm.HasField("yarn_config"):
        errors.append("basic_algorithm.yarn_config is required.")
    algorithm, yarn = policy.basic_algorithm, policy.basic_algorithm.yarn_config
    if algorithm.HasField("cooldown_period"):
        errors += _bounds("cooldown_period", seconds(algorithm.cooldown_period), 120, DAY)
    errors += _bounds("graceful_decommission_timeout", seconds(yarn.graceful_decommission_timeout), 0, DAY)
    for name in ("scale_up", "scale_down"):
        for field in (f"{name}_factor", f"{name}_min_worker_fraction"):
            if not 0 <= getattr(yarn, field) <= 1:
                errors.append(f"{field} must be from 0.0 to 1.0.")
    primary, secondary = policy.worker_config, policy.secondary_worker_config
    if primary.max_instances < max(2, primary.min_instances) or primary.min_instances == 1 or primary.min_instances < 0:
        errors.append("worker_config: min_instances must be from 2 to max_instances.")
    if not 0 <= secondary.min_instances <= secondary.max_instances:
        errors.append("secondary_worker_config: min_instances must be from 0 to max_instances.")
    if error := several(errors):
        raise error


def check_decommission(timeout: float) -> None:
    if errors := _bounds("graceful_decommission_timeout", timeout, 0, DAY):
        raise invalid(errors[0])


def single_node(cluster: Message) -> bool:
    """Asked for without workers: by its type, or by the property that stood for it before."""
    properties = cluster.config.software_config.properties
    allowed = properties.get("dataproc:dataproc.allow.zero.workers", "").lower() == "true"
    kind = cluster.config.DESCRIPTOR.enum_types_by_name["ClusterType"].values_by_name["SINGLE_NODE"].number
    return bool(allowed or cluster.config.cluster_type == kind)


def _cluster_errors(cluster: Message, region: str) -> Iterator[str]:
    name, config = cluster.cluster_name, cluster.config
    if not _CLUSTER_NAME.fullmatch(name):
        yield f"Cluster name '{name}' must match pattern (?:[a-z](?:[-a-z0-9]{{0,49}}[a-z0-9])?)"
    if cluster.HasField("virtual_cluster_config"):
        yield "Clusters on GKE are not part of this emulator."
    yield from _label_errors(cluster.labels)
    yield from _groups(cluster)
    gce = config.gce_cluster_config
    if gce.network_uri and gce.subnetwork_uri:
        yield "network_uri and subnetwork_uri cannot both be given."
    zone = gce.zone_uri.rsplit("/", 1)[-1]
    if zone and region != "global" and not zone.startswith(f"{region}-"):
        yield f"Zone '{gce.zone_uri}' must be within region '{region}'."
    if gce.service_account and not re.fullmatch(r"[^@\s]+@[^@\s]+", gce.service_account):
        yield f"Service account '{gce.service_account}' is no e-mail address."
    for action in config.initialization_actions:
        if not re.fullmatch(r"gs://[^/]+/.+", action.executable_file):
            yield f"Initialization action '{action.executable_file}' must be a Cloud Storage URI."
        if action.HasField("execution_timeout") and seconds(action.execution_timeout) <= 0:
            yield f"The timeout of initialization action '{action.executable_file}' must be positive."
    for key in config.software_config.properties:
        prefix, colon, rest = key.partition(":")
        if not colon or not rest:
            yield f"Property '{key}' must have the form prefix:property."
        elif prefix not in _PREFIXES:  # that it is no prefix is documented, that the service refuses it is not
            yield f"Property '{key}' has the unknown prefix '{prefix}'."
    yield from _lifecycle_errors(config.lifecycle_config)


def _groups(cluster: Message) -> Iterator[str]:
    master, workers, secondary = (
        getattr(cluster.config, f"{name}_config") for name in ("master", "worker", "secondary_worker")
    )
    if master.num_instances not in (0, 1, 3):
        yield f"Number of masters must be 1 or 3, not {master.num_instances}."
    if single_node(cluster):
        if workers.num_instances or secondary.num_instances:
            yield "A single node cluster cannot have workers."
    elif workers.num_instances == 1 or workers.num_instances < 0:
        yield f"Cluster requires a minimum of 2 workers, not {workers.num_instances}."
    if workers.min_num_instances > workers.num_instances:
        yield "min_num_instances cannot exceed num_instances."
    if secondary.num_instances < 0:
        yield f"Number of secondary workers cannot be {secondary.num_instances}."
    for label, group in (("master", master), ("worker", workers), ("secondary worker", secondary)):
        kinds = InstanceGroup.DESCRIPTOR.enum_types_by_name["Preemptibility"].values_by_number
        kind = kinds[group.preemptibility].name if group.preemptibility in kinds else str(group.preemptibility)
        if kind not in (_SECONDARY if group is secondary else _SECONDARY[:2]):
            yield f"Preemptibility {kind} is not allowed for {label} instances."
        machine = group.machine_type_uri.rsplit("/", 1)[-1]
        if machine and not _MACHINE.fullmatch(machine):
            yield f"Machine type '{group.machine_type_uri}' of {label} instances does not exist."
        disk = group.disk_config
        if disk.boot_disk_type and disk.boot_disk_type.rsplit("/", 1)[-1] not in _DISKS:
            yield f"Boot disk type '{disk.boot_disk_type}' of {label} instances must be one of {', '.join(_DISKS)}."
        if disk.boot_disk_size_gb and disk.boot_disk_size_gb < 10:
            yield f"Boot disk size of {label} instances must be at least 10 GB, not {disk.boot_disk_size_gb}."


def _label_errors(labels: Mapping[str, str]) -> Iterator[str]:
    if len(labels) > 32:
        yield f"No more than 32 labels are allowed, not {len(labels)}."
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            yield f"Invalid label key '{key}': 1 to 63 lowercase letters, numbers, underscores and hyphens."
        if not _LABEL_VALUE.fullmatch(value):
            yield f"Invalid value '{value}' of label '{key}': up to 63 of what a key may have."


def _lifecycle_errors(lifecycle: Message) -> Iterator[str]:
    for field, minimum in (("idle_delete_ttl", 300), ("auto_delete_ttl", 600)):
        for name in (field, field.replace("delete", "stop")):
            if lifecycle.HasField(name):
                yield from _bounds(name, seconds(getattr(lifecycle, name)), minimum, 14 * DAY)
    for name in ("auto_delete_time", "auto_stop_time"):
        if lifecycle.HasField(name):
            # A second more: the request took its time.
            yield from _bounds(name, seconds(getattr(lifecycle, name)) - time.time() + 1, 600, 14 * DAY + 1)


def _bounds(name: str, value: float, minimum: float, maximum: float) -> list[str]:
    if minimum <= value <= maximum:
        return []
    return [f"{name} must be from {minimum:g} to {maximum:g} seconds, not {value:g}."]
