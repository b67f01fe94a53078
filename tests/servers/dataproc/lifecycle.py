"""Clusters end by themselves: idle too long, or too old."""

from __future__ import annotations

import asyncio
import time

from tests.servers.dataproc import clusters, instances
from tests.servers.dataproc.errors import ApiError
from tests.servers.dataproc.messages import Message, seconds
from tests.servers.dataproc.world import ClusterEntry, World

TASK = "lifecycle"
_TICK_SECONDS = 0.1


async def watch(world: World) -> None:
    """Until it is cancelled."""
    while True:
        for entry in list(world.clusters.values()):
            try:
                if await _due(world, entry, "delete"):
                    clusters.begin_delete(world, entry)
                elif entry.state == "RUNNING" and await _due(world, entry, "stop"):
                    clusters.begin_stop(world, entry)
            except ApiError:  # it is being deleted, or cannot be stopped
                continue
        await asyncio.sleep(_TICK_SECONDS)


async def _due(world: World, entry: ClusterEntry, what: str) -> bool:
    """Idle time counts only where a cluster can work; its age counts in every state, also in ERROR."""
    lifecycle: Message = entry.message.config.lifecycle_config
    now, scale = time.time(), world.settings.time_scale
    if entry.state == "DELETING":
        return False
    if lifecycle.HasField(f"idle_{what}_ttl") and entry.idle_since is not None:
        ttl = seconds(getattr(lifecycle, f"idle_{what}_ttl"))
        if entry.idle_since + ttl / scale <= now and not await _yarn_works(world, entry):
            return True
    ends = []
    if lifecycle.HasField(f"auto_{what}_ttl"):
        ends.append(entry.submitted + seconds(getattr(lifecycle, f"auto_{what}_ttl")) / scale)
    if lifecycle.HasField(f"auto_{what}_time"):
        end = seconds(getattr(lifecycle, f"auto_{what}_time"))
        ends.append(entry.submitted + (end - entry.submitted) / scale)
    return any(end <= now for end in ends)


async def _yarn_works(world: World, entry: ClusterEntry) -> bool:
    """YARN's applications count as jobs do, unless a property says otherwise; idle time begins anew after them."""
    properties = entry.message.config.software_config.properties
    if properties.get("dataproc:dataproc.cluster-ttl.consider-yarn-activity", "true").lower() == "false":
        return False
    for node in instances.nodes(entry):
        if await world.nodes.busy(node.name):
            entry.idle_since = time.time()
            world.save_cluster(entry)
            return True
    return False
