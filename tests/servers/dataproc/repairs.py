"""``clusters.repair``: deletes workers that are named. It is in the REST API only, and in no client library."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.servers.dataproc import messages, operations
from tests.servers.dataproc.building import decommission, ready, recreation
from tests.servers.dataproc.call import Call
from tests.servers.dataproc.clusters import find
from tests.servers.dataproc.errors import ApiError, failed_precondition, invalid
from tests.servers.dataproc.messages import ClusterStatus
from tests.servers.dataproc.operations import work
from tests.servers.dataproc.validation import check_decommission
from tests.servers.dataproc.world import ClusterEntry, OperationEntry, World

POOLS = {"PRIMARY_WORKER_POOL": "worker", "SECONDARY_WORKER_POOL": "secondary_worker"}
_FIELDS = {"clusterUuid", "requestId", "nodePools", "gracefulDecommissionTimeout", "parentOperationId", "cluster"}


async def repair(world: World, call: Call) -> dict[str, Any]:
    body = call.json()
    if unknown := sorted(set(body) - _FIELDS):
        raise invalid(f'Invalid JSON payload received. Unknown name "{unknown[0]}": Cannot find field.')
    call.query["requestId"] = str(body.get("requestId", ""))
    call.query["gracefulDecommissionTimeout"] = str(body.get("gracefulDecommissionTimeout", ""))
    if before := call.answered(world):
        return operations.shown(operations.get(world, before))
    entry = find(world, call, str(body.get("clusterUuid", "")))
    if "cluster" in body:
        raise ApiError("UNIMPLEMENTED", "Only workers can be repaired here.")
    timeout = call.duration("gracefulDecommissionTimeout")
    check_decommission(timeout)
    leaving = {POOLS[pool["id"]]: names for pool, names in _pools(entry, body.get("nodePools"))}
    if entry.state != "RUNNING":
        raise failed_precondition(
            f"Cluster '{entry.name}' must be RUNNING before it can be repaired; its state is {entry.state}."
        )
    messages.enter(entry.message, ClusterStatus, "REPAIRING")
    arguments = {"leaving": leaving, "timeout": timeout}
    return operations.shown(call.note(world, operations.begin(world, entry, "REPAIR", arguments)))


def _pools(entry: ClusterEntry, pools: Any) -> list[tuple[dict[str, Any], list[str]]]:
    """Each pool with the instances that are to go.

    :raises ApiError: INVALID_ARGUMENT.
    """
    if not isinstance(pools, list) or not pools:
        raise invalid("node_pools is required.")
    found = []
    for pool in pools:
        if pool.get("id") not in POOLS:
            raise invalid(f"Node pool '{pool.get('id')}' does not exist.")
        if pool.get("repairAction") != "DELETE":
            raise invalid(f"Repair action '{pool.get('repairAction')}' of node pool '{pool['id']}' is not DELETE.")
        group = getattr(entry.message.config, f"{POOLS[pool['id']]}_config")
        names = list(pool.get("instanceNames", ()))
        if strange := [name for name in names if name not in group.instance_names]:
            raise invalid(f"Instances {strange} do not belong to node pool '{pool['id']}'.")
        if pool["id"] == "PRIMARY_WORKER_POOL" and len(group.instance_names) - len(names) < 2:
            raise invalid("Cluster requires a minimum of 2 instances in worker_config.")
        found.append((pool, names))
    if len({pool["id"] for pool, _ in found}) < len(found):
        raise invalid("Node pools must be unique.")
    return found


@work("REPAIR")
async def delete_workers(world: World, operation: OperationEntry, entry: ClusterEntry) -> dict[str, Any]:
    for group, names in operation.arguments["leaving"].items():
        config = getattr(entry.message.config, f"{group}_config")
        await decommission(world, names, operation.arguments["timeout"])
        await world.end(*(recreation(name) for name in names))
        await asyncio.gather(*(world.nodes.stop(name) for name in names))
        kept = [name for name in config.instance_names if name not in names]
        del config.instance_names[:]
        config.instance_names.extend(kept)
        config.num_instances = len(kept)
        world.save_cluster(entry)
    return ready(world, entry)
