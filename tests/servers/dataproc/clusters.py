"""The cluster methods of the API."""

from __future__ import annotations

import time
import uuid
from typing import Any

from tests.servers.dataproc import instances, messages, operations
from tests.servers.dataproc.call import Call
from tests.servers.dataproc.errors import ApiError, failed_precondition, invalid, not_found
from tests.servers.dataproc.filters import ACTIVE, INACTIVE, label, page, select
from tests.servers.dataproc.messages import Cluster, ClusterStatus, DiagnoseRequest
from tests.servers.dataproc.policies import policy_key
from tests.servers.dataproc.validation import (
    check_cluster,
    check_decommission,
    check_labels,
    check_lifecycle,
    single_node,
)
from tests.servers.dataproc.world import ClusterEntry, OperationEntry, World

# Output only: what a user gives here is ignored.
_OUTPUT_ONLY = ("status", "status_history", "cluster_uuid", "metrics")
_TIMES_TO_LIVE = ("idle_delete_ttl", "auto_delete_ttl", "auto_delete_time", "idle_stop_ttl", "auto_stop_ttl")
UPDATABLE = {
    "labels",
    "config.worker_config.num_instances",
    "config.secondary_worker_config.num_instances",
    "config.autoscaling_config.policy_uri",
    *(f"config.lifecycle_config.{name}" for name in (*_TIMES_TO_LIVE, "auto_stop_time")),
}


async def create(world: World, call: Call) -> dict[str, Any]:
    cluster = messages.parse(Cluster, call.body)
    if before := call.answered(world):
        return operations.shown(operations.get(world, before))
    for name in _OUTPUT_ONLY:
        cluster.ClearField(name)
    if cluster.project_id not in ("", call.project):
        raise invalid(f"Project '{cluster.project_id}' of the cluster is not '{call.project}' of the request.")
    cluster.project_id = call.project
    check_cluster(cluster, call.region)
    entry = ClusterEntry(call.project, call.region, cluster, time.time())
    if entry.key in world.clusters:
        raise ApiError("ALREADY_EXISTS", f"Already exists: Failed to create cluster: Cluster {entry.key}")
    if uri := cluster.config.autoscaling_config.policy_uri:
        policy_key(world, call.project, call.region, uri)
    await _check_storage(world, cluster)
    if before := call.answered(world):  # another request was faster, this one or another one
        return operations.shown(operations.get(world, before))
    if entry.key in world.clusters:
        raise ApiError("ALREADY_EXISTS", f"Already exists: Failed to create cluster: Cluster {entry.key}")
    cluster.cluster_uuid = str(uuid.uuid4())
    instances.fill(cluster, call.project, call.region)
    instances.check_quota(world, entry)
    if (lifecycle := cluster.config.lifecycle_config).HasField("auto_delete_ttl"):
        # Dataproc answers with the moment at which this ends.
        end = entry.submitted + messages.seconds(lifecycle.auto_delete_ttl)
        lifecycle.auto_delete_time.CopyFrom(messages.timestamp(end))
    messages.enter(cluster, ClusterStatus, "CREATING")
    return _begun(world, call, entry, "CREATE")


async def get(world: World, call: Call) -> dict[str, Any]:
    return messages.render(find(world, call).message, call.number_enums)


async def listed(world: World, call: Call) -> dict[str, Any]:
    here = [each for each in world.clusters.values() if (each.project, each.region) == (call.project, call.region)]
    found = select(here, call.query.get("filter", ""), ("status.state", "clusterName"), _field)
    found.sort(key=lambda each: each.name)
    shown, following = page(found, call.query.get("pageSize", ""), call.query.get("pageToken", ""))
    answer: dict[str, Any] = {}
    if shown:
        answer["clusters"] = [messages.render(each.message, call.number_enums) for each in shown]
    return answer | ({"nextPageToken": following} if following else {})


async def delete(world: World, call: Call) -> dict[str, Any]:
    if before := call.answered(world):
        return operations.shown(operations.get(world, before))
    entry = find(world, call, call.query.get("clusterUuid", ""))
    return operations.shown(call.note(world, begin_delete(world, entry)))


def begin_delete(world: World, entry: ClusterEntry) -> OperationEntry:
    """:raises ApiError: FAILED_PRECONDITION: it is being deleted."""
    if entry.state == "DELETING":
        raise failed_precondition(f"Cannot delete cluster '{entry.name}' when it has other pending delete operations.")
    messages.enter(entry.message, ClusterStatus, "DELETING")
    entry.idle_since = None
    return operations.begin(world, entry, "DELETE")


async def update(world: World, call: Call) -> dict[str, Any]:
    if before := call.answered(world):
        return operations.shown(operations.get(world, before))
    entry = find(world, call)
    wanted = messages.parse(Cluster, call.body)
    paths = call.mask()
    if unknown := [path for path in paths if path not in UPDATABLE]:
        raise invalid(f"update_mask: {unknown} cannot be updated; these can: {', '.join(sorted(UPDATABLE))}.")
    if not paths:
        raise invalid("update_mask is required.")
    timeout = call.duration("gracefulDecommissionTimeout")
    check_decommission(timeout)
    if entry.state != "RUNNING":
        raise failed_precondition(
            f"Cluster '{entry.name}' must be RUNNING before it can be updated; its state is {entry.state}."
        )
    _check_update(world, call, entry, wanted, paths)
    arguments = {"paths": paths, "wanted": messages.render(wanted), "timeout": timeout}
    messages.enter(entry.message, ClusterStatus, "UPDATING")
    return _begun(world, call, entry, "UPDATE", arguments)


async def stop(world: World, call: Call) -> dict[str, Any]:
    cluster_uuid = _identified(call)
    if before := call.answered(world):
        return operations.shown(operations.get(world, before))
    entry = find(world, call, cluster_uuid)
    return operations.shown(call.note(world, begin_stop(world, entry)))


def begin_stop(world: World, entry: ClusterEntry) -> OperationEntry:
    """:raises ApiError: FAILED_PRECONDITION: not running, or with what cannot be stopped."""
    config = entry.message.config
    if entry.state != "RUNNING":
        raise failed_precondition(f"Cluster '{entry.name}' cannot be stopped in state {entry.state}.")
    if config.secondary_worker_config.num_instances:
        raise failed_precondition(f"Cluster '{entry.name}' has secondary workers and cannot be stopped.")
    if any(getattr(config, f"{name}_config").disk_config.num_local_ssds for name in instances.GROUPS):
        raise failed_precondition(f"Cluster '{entry.name}' has local SSDs and cannot be stopped.")
    messages.enter(entry.message, ClusterStatus, "STOPPING")
    entry.idle_since = None
    return operations.begin(world, entry, "STOP")


async def start(world: World, call: Call) -> dict[str, Any]:
    cluster_uuid = _identified(call)
    if before := call.answered(world):
        return operations.shown(operations.get(world, before))
    entry = find(world, call, cluster_uuid)
    if entry.state != "STOPPED":
        raise failed_precondition(f"Cluster '{entry.name}' cannot be started in state {entry.state}.")
    messages.enter(entry.message, ClusterStatus, "STARTING")
    return _begun(world, call, entry, "START")


async def diagnose(world: World, call: Call) -> dict[str, Any]:
    entry = find(world, call)
    wanted = messages.parse(DiagnoseRequest, call.body)
    return operations.shown(operations.begin(world, entry, "DIAGNOSE", {"folder": wanted.tarball_gcs_dir}))


def find(world: World, call: Call, cluster_uuid: str = "") -> ClusterEntry:
    """:raises ApiError: NOT_FOUND, also where another uuid is meant."""
    key = f"projects/{call.project}/regions/{call.region}/clusters/{call.name}"
    entry = world.clusters.get(key)
    if entry is None or cluster_uuid not in ("", entry.message.cluster_uuid):
        raise not_found("Cluster", key)
    return entry


def _field(entry: ClusterEntry, field: str) -> set[str]:
    if field == "status.state":
        wide = {"ACTIVE"} if entry.state in ACTIVE else {"INACTIVE"} if entry.state in INACTIVE else set()
        return {entry.state} | wide
    return {entry.name} if field == "clusterName" else label(entry.message.labels, field)


def _identified(call: Call) -> str:
    """Request id and cluster uuid of a request that has them in its body; gives the uuid."""
    body = call.json()
    call.query["requestId"] = str(body.pop("requestId", body.pop("request_id", "")))
    cluster_uuid = str(body.pop("clusterUuid", body.pop("cluster_uuid", "")))
    if body:
        raise invalid(f'Invalid JSON payload received. Unknown name "{next(iter(body))}": Cannot find field.')
    return cluster_uuid


def _begun(
    world: World, call: Call, entry: ClusterEntry, kind: str, arguments: dict[str, Any] | None = None
) -> dict[str, Any]:
    return operations.shown(call.note(world, operations.begin(world, entry, kind, arguments)))


def _check_update(world: World, call: Call, entry: ClusterEntry, wanted: Any, paths: list[str]) -> None:
    now, then = entry.message.config, wanted.config
    more = {"worker": 0, "secondary_worker": 0}
    for group in more:
        if f"config.{group}_config.num_instances" in paths:
            count = getattr(then, f"{group}_config").num_instances
            if single_node(entry.message):
                raise failed_precondition(f"Cluster '{entry.name}' is a single node and cannot be resized.")
            minimum = 2 if group == "worker" else 0
            if count < minimum:
                raise invalid(f"Cluster requires a minimum of {minimum} instances in {group}_config, not {count}.")
            more[group] = max(0, count - getattr(now, f"{group}_config").num_instances)
    instances.check_quota(world, entry, more["worker"], more["secondary_worker"])
    if "labels" in paths:
        check_labels(wanted.labels)
    if uri := then.autoscaling_config.policy_uri:
        policy_key(world, call.project, call.region, uri)
    check_lifecycle(then.lifecycle_config)


async def _check_storage(world: World, cluster: Any) -> None:
    for bucket in (cluster.config.config_bucket, cluster.config.temp_bucket):
        if bucket and not await world.objects.has_bucket(bucket):
            raise invalid(f"Google Cloud Storage bucket does not exist '{bucket}'.")
    for action in cluster.config.initialization_actions:
        if not await world.objects.exists(action.executable_file):
            raise invalid(f"Google Cloud Storage object does not exist '{action.executable_file}'.")
