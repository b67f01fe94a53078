"""Changes of a running cluster. Dataproc makes one at a time, and an elastic cluster asks for some by itself."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable

from dask_provider.errors import ClusterFailed, InvalidInput
from dask_provider.hooks.dataproc import requests
from dask_provider.hooks.dataproc.client import ApiError, Client, Object

#: states of a cluster that is being changed, and all in which it can work
CHANGING = ("UPDATING", "REPAIRING")
WORKING = ("RUNNING", *CHANGING, "ERROR_DUE_TO_UPDATE")
#: seconds that a change may take: machines are made, or end what they do
CHANGED_WITHIN = 900.0
#: seconds that containers of YARN have before their machine goes
DECOMMISSION = 3600.0
#: seconds between looks at a cluster that is being changed
LOOK_EVERY = 2.0


async def patiently(
    client: Client, name: str, request: Callable[[], Awaitable[Object]], seconds: float = CHANGED_WITHIN
) -> Object:
    """Do what is refused while a cluster is being changed, once it is not.

    :param request: what to do.
    :raises ApiError: the last refusal.
    """
    until, again = time.monotonic() + seconds, True
    while True:
        try:
            return await request()
        except ApiError as error:
            if error.reason != "FAILED_PRECONDITION" or time.monotonic() > until:
                raise
            changing = (await client.get(client.clusters(name)))["status"]["state"] in CHANGING
            if not (changing or again):
                raise
            again = changing  # one that has just been changed is asked once more
        await asyncio.sleep(LOOK_EVERY if changing else 0)


def most_workers(found: Object) -> int:
    """How many may ever come to a cluster, as it is now. Pure."""
    if limits := (found.get("labels") or {}).get(requests.LIMITS):
        return int(limits.partition("-")[2])
    groups = (found["config"].get(name) or {} for name in ("workerConfig", "secondaryWorkerConfig"))
    return sum(int(group.get("numInstances") or 0) for group in groups)


async def scale(client: Client, found: Object, low: int, high: int) -> None:
    """Another number of workers, or for an elastic cluster other limits, which its master reads soon."""
    name = found["clusterName"]
    is_elastic = requests.LIMITS in (found.get("labels") or {})
    primary = int((found["config"].get("workerConfig") or {}).get("numInstances") or 0)
    if low != high and not is_elastic:
        text = f"cluster {name} was made with a fixed number of workers: give one number, or make it with a pair"
        raise ClusterFailed(text)
    if is_elastic and low < primary:
        allowed = f"at least {primary}: so many it was made with, and those stay"
        raise InvalidInput("workers", low if low == high else (low, high), allowed)

    async def limit() -> Object:
        now = await client.get(client.clusters(name))
        query = {"updateMask": "labels", "requestId": str(uuid.uuid4())}
        labels = {**now["labels"], requests.LIMITS: requests.limits(low, high)}
        return await client.call("PATCH", client.clusters(name), query=query, body={"labels": labels})

    async def resize() -> Object:
        query = {
            "updateMask": "config.worker_config.num_instances",
            "gracefulDecommissionTimeout": requests.duration(DECOMMISSION),
            "requestId": str(uuid.uuid4()),
        }
        body = {"config": {"workerConfig": {"numInstances": low}}}
        return await client.call("PATCH", client.clusters(name), query=query, body=body)

    await patiently(client, name, limit if is_elastic else resize)
