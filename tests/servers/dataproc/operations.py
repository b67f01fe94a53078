"""Long-running operations: begun by a request, worked on in the background, begun anew after a restart."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from tests.servers.dataproc import messages
from tests.servers.dataproc.errors import ApiError, failed_precondition, not_found
from tests.servers.dataproc.filters import label, select
from tests.servers.dataproc.messages import ClusterOperationMetadata, ClusterOperationStatus, ClusterStatus
from tests.servers.dataproc.world import ClusterEntry, OperationEntry, World

# Does an operation's work and gives its response. It may be called a second time after a restart.
Work = Callable[[World, OperationEntry, ClusterEntry], Awaitable[dict[str, Any]]]
WORK: dict[str, Work] = {}
# Where a cluster stands when its operation failed.
_FAILED = {"UPDATE": "ERROR_DUE_TO_UPDATE", "REPAIR": "ERROR_DUE_TO_UPDATE", "DIAGNOSE": ""}


def work(kind: str) -> Callable[[Work], Work]:
    """Marks what does the work of such operations."""

    def mark(function: Work) -> Work:
        WORK[kind] = function
        return function

    return mark


def begin(world: World, entry: ClusterEntry, kind: str, arguments: dict[str, Any] | None = None) -> OperationEntry:
    """Make an operation on a cluster, note it, and begin its work."""
    metadata = ClusterOperationMetadata(
        cluster_name=entry.name,
        cluster_uuid=entry.message.cluster_uuid,
        operation_type=kind,
        description=f"{kind.capitalize()} cluster",
        labels=dict(entry.message.labels),
    )
    messages.enter(metadata, ClusterOperationStatus, "PENDING")
    name = f"projects/{entry.project}/regions/{entry.region}/operations/{uuid.uuid4()}"
    made = OperationEntry(name, kind, entry.key, messages.packed(metadata), arguments or {}, time.time())
    with world.store.together():
        world.save_cluster(entry)
        world.save_operation(made)
    world.begin(name, _run(world, made))
    return made


def resume(world: World) -> None:
    """Begin anew what a restart interrupted. Operations of jobs end with their jobs."""
    for entry in list(world.operations.values()):
        if not entry.done and entry.kind in WORK:
            world.begin(entry.name, _run(world, entry))


async def supersede(world: World, entry: ClusterEntry) -> None:
    """End what still works on a cluster that is to be deleted.

    Such an operation ends without an error although its cluster never was ready: so it is reported of the service
    (apache/airflow#61947).
    """
    for each in unfinished(world, entry, "DELETE"):
        await world.end(each.name)
        finish(world, each, response=messages.packed(entry.message))


def unfinished(world: World, entry: ClusterEntry, *but: str) -> list[OperationEntry]:
    uuid_ = entry.message.cluster_uuid
    return [
        each
        for each in world.operations.values()
        if not each.done and each.kind not in but and each.metadata.get("clusterUuid") == uuid_
    ]


def finish(world: World, entry: OperationEntry, response: Any = None, error: ApiError | None = None) -> None:
    if entry.done:
        return
    _status(entry, "DONE")
    entry.done, entry.response, entry.error = True, response, error.status() if error else None
    world.save_operation(entry)


def shown(entry: OperationEntry) -> dict[str, Any]:
    """As the API answers it."""
    answer: dict[str, Any] = {"name": entry.name, "metadata": entry.metadata}
    if entry.done:
        answer |= {"done": True} | ({"error": entry.error} if entry.error else {"response": entry.response})
    return answer


def get(world: World, name: str) -> OperationEntry:
    if name not in world.operations:
        raise not_found("Operation", name)
    return world.operations[name]


def listed(world: World, parent: str, text: str) -> list[OperationEntry]:
    """Filter fields: ``clusterName``, ``status.state``, ``operationType`` and ``labels.[KEY]``; newest first."""
    here = [each for each in world.operations.values() if each.name.startswith(f"{parent}/operations/")]
    found = select(here, text, ("clusterName", "status.state", "operationType"), _field)
    return sorted(found, key=lambda each: -each.began)


def _field(entry: OperationEntry, field: str) -> set[str]:
    if field == "status.state":
        return {entry.metadata["status"]["state"], "NON_ACTIVE" if entry.done else "ACTIVE"}
    if field == "operationType":
        return {entry.kind}
    if field == "clusterName":
        return {entry.metadata.get("clusterName", "")}
    return label(entry.metadata.get("labels", {}), field)


async def cancel(world: World, name: str) -> None:
    """Only the making of a cluster can be cancelled here; it leaves a cluster in ERROR, which somebody must delete."""
    entry = get(world, name)
    if entry.done:
        raise failed_precondition(f"Operation {name} is done.")
    if entry.kind != "CREATE":
        raise ApiError("UNIMPLEMENTED", f"Operations of type {entry.kind} cannot be cancelled.")
    await world.end(name)
    _fail(world, entry, ApiError("CANCELLED", "The operation was cancelled."))


def delete(world: World, name: str) -> None:
    get(world, name)
    world.remove("operation", name)


async def _run(world: World, entry: OperationEntry) -> None:
    method = f"clusters.{entry.kind.lower()}"
    cluster = world.clusters.get(entry.target)
    if cluster is None or cluster.message.cluster_uuid != entry.metadata["clusterUuid"]:
        # Only a delete removes its cluster before it is noted as done.
        finish(world, entry, response={"@type": "type.googleapis.com/google.protobuf.Empty"})
        return
    if entry.metadata["status"]["state"] == "PENDING":
        _status(entry, "RUNNING")
        world.save_operation(entry)
    if entry.kind == "DELETE":
        await supersede(world, cluster)
    slow = world.faults.strike("slow", method, cluster.name)
    delay = world.settings.delays.get(entry.kind.lower(), 0.0) + (slow.seconds if slow else 0.0)
    # A restart takes nothing from the delay that is left.
    await asyncio.sleep(max(0.0, entry.began + delay - time.time()))
    try:
        if fault := world.faults.strike("fail_operation", method, cluster.name):
            zone = cluster.message.config.gce_cluster_config.zone_uri.partition("/v1/")[2]
            raise fault.failure(zone)
        response = await WORK[entry.kind](world, entry, cluster)
    except ApiError as error:
        _fail(world, entry, error)
    except Exception as error:  # noqa: BLE001 - whatever it was: the one who waits must learn it
        _fail(world, entry, ApiError("INTERNAL", f"{type(error).__name__}: {error}"))
    else:
        finish(world, entry, response=response)


def _fail(world: World, entry: OperationEntry, error: ApiError) -> None:
    cluster = world.clusters.get(entry.target)
    state = _FAILED.get(entry.kind, "ERROR")
    superseded = cluster and cluster.state == "DELETING" and entry.kind != "DELETE"
    if cluster and state and not superseded and cluster.message.cluster_uuid == entry.metadata["clusterUuid"]:
        messages.enter(cluster.message, ClusterStatus, state, detail=error.message)
        if state == "ERROR":
            cluster.idle_since = None
        world.save_cluster(cluster)
    finish(world, entry, error=error)


def _status(entry: OperationEntry, state: str) -> None:
    metadata = entry.metadata
    metadata.setdefault("statusHistory", []).append(metadata["status"])
    metadata["status"] = messages.render(ClusterOperationStatus(state=state, state_start_time=messages.timestamp()))
