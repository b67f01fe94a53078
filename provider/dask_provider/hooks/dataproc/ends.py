"""The end of a cluster: asked for, and waited for."""

from __future__ import annotations

import asyncio
import time
import uuid

from dask_provider.errors import ClusterFailed
from dask_provider.handles import ClusterHandle
from dask_provider.hooks.dataproc import failures
from dask_provider.hooks.dataproc.client import ApiError, Client, Object
from dask_provider.hooks.pace import pause

#: seconds between looks at a cluster that starts or ends; the longer that takes, the less often: a share of the time
#: so far, and seconds at most
LOOK_EVERY, LOOK_SHARE, LOOK_LATEST = 1.0, 1 / 60, 5.0
#: seconds in which a cluster of which an earlier deletion failed may not look like one that is deleted again
BEGUN_WITHIN = 10.0
#: states that only somebody's request changes
SETTLED = ("RUNNING", "ERROR", "ERROR_DUE_TO_UPDATE", "STOPPED")


def until_next(since: float) -> float:
    """Seconds until the next look of one who waits since that time of the monotonic clock."""
    return pause(time.monotonic() - since, LOOK_EVERY, LOOK_SHARE, LOOK_LATEST)


async def delete(client: Client, found: Object) -> None:
    """Ask for the end of this very cluster; one that ends or is gone already is fine."""
    query = {"clusterUuid": found["clusterUuid"], "requestId": str(uuid.uuid4())}
    try:
        await client.call("DELETE", client.clusters(found["clusterName"]), query=query)
    except ApiError as error:
        if error.status == 404:
            return
        now = await client.find(client.clusters(found["clusterName"]))
        if now is not None and now["clusterUuid"] == found["clusterUuid"] and now["status"]["state"] != "DELETING":
            raise


async def is_gone(client: Client, handle: ClusterHandle, seconds: float) -> bool:
    """Whether this very cluster is gone, after at most ``seconds``. An outage within these is waited out.

    :raises ClusterFailed: Dataproc has begun to delete it and given up: it stays, and costs money. Two looks in a row
        must say so, as the first one may be older than another request to delete it.
    """
    since, deleting, settled = time.monotonic(), False, 0
    while True:
        client.patience = max(60.0, since + seconds - time.monotonic())
        found = await client.find(client.clusters(handle.name))
        if found is None or found["clusterUuid"] != handle.uid:
            return True
        state, waited = found["status"]["state"], time.monotonic() - since
        deleting = deleting or state == "DELETING"
        settled = settled + 1 if state in SETTLED else 0
        if settled > 1 and (deleting or (waited > BEGUN_WITHIN and _was_deleting(found))):
            raise ClusterFailed(_given_up(found, handle))
        if waited > seconds:
            return False
        await asyncio.sleep(until_next(since))


def _was_deleting(found: Object) -> bool:
    return any(each["state"] == "DELETING" for each in found.get("statusHistory") or ())


def _given_up(found: Object, handle: ClusterHandle) -> str:
    status = found["status"]
    look = f"gcloud dataproc operations list --cluster={handle.name} --region={handle.details['region']} may say why"
    why = failures.advised(str(status.get("detail") or look))
    said = f"Dataproc has given up deleting cluster {handle.name}, which is {status['state']} again: {why}"
    return f"{said}; it costs money until its lease ends it, {handle.expires}"
