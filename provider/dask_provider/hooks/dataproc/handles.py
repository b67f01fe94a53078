"""What a cluster says of itself: whose it is, when it ends, and the handle by which it is found again."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta

from dask_provider.handles import ClusterHandle
from dask_provider.hooks.dataproc import costs, failures, requests, yarn
from dask_provider.hooks.dataproc.client import Client, Object
from dask_provider.owner import Owner

SCHEDULER_PORT = 8786


def owner_of(found: Object) -> Owner | None:
    """Whose it is, if it is one of ours."""
    text = ((found.get("config") or {}).get("gceClusterConfig") or {}).get("metadata", {}).get(requests.OWNER)
    try:
        return Owner.from_labels(json.loads(text)) if text else None
    except (ValueError, KeyError):
        return None


def handle_of(conn_id: str, client: Client, found: Object, operation: str | None = None) -> ClusterHandle:
    """:param operation: that makes the cluster, where it is known."""
    owner, config = owner_of(found), found["config"]
    assert owner is not None
    history = [*found.get("statusHistory", ()), found["status"]]
    created = min(each["stateStartTime"] for each in history)
    known = json.loads(config["gceClusterConfig"]["metadata"][requests.HANDLE])
    number, started = requests.attempt_of(found)
    return ClusterHandle(
        place="dataproc",
        name=found["clusterName"],
        uid=found["clusterUuid"],
        owner=owner.labels(),
        spec_hash=(found.get("labels") or {}).get(requests.SPEC, ""),
        min_workers=known["min_workers"],
        ready_timeout=known["ready_timeout"],
        scheduler_address=None if yarn.runs_on_yarn(found) else f"tcp://{found['clusterName']}-m:{SCHEDULER_PORT}",
        dashboard_url=failures.dashboard(found),
        created=_iso(created),
        expires=_expires(config.get("lifecycleConfig") or {}, created),
        attempt=number,
        started=started,
        details={
            "conn_id": conn_id,
            "project_id": client.project_id,
            "region": client.region,
            "operation": operation,
            "idle_timeout": known["idle_timeout"],
            "machines": costs.noted(found),
        },
    )


def _expires(lifecycle: Object, created: str) -> str | None:
    """When it is too old. Dataproc tells a moment, also where it was given a time to live."""
    if (moment := lifecycle.get("autoDeleteTime")) is not None:
        expires = datetime.fromisoformat(_iso(moment))
    elif (lifetime := lifecycle.get("autoDeleteTtl")) is not None:
        expires = datetime.fromisoformat(_iso(created)) + timedelta(seconds=float(lifetime.removesuffix("s")))
    else:
        return None
    return expires.isoformat(timespec="seconds")


def why_gone(handle: ClusterHandle) -> str:
    """Dataproc keeps no record of why it has deleted a cluster."""
    if handle.expires and time.time() >= datetime.fromisoformat(handle.expires).timestamp():
        return "max_lifetime is over"
    return f"it was deleted, by somebody or for idle_timeout: nothing to do for {handle.details['idle_timeout']:.0f} s"


def _iso(moment: str) -> str:
    """A time of Google as Python 3.10 reads it: no Z, six digits."""
    whole, _, fraction = moment.removesuffix("Z").partition(".")
    return f"{whole}.{fraction[:6]:0<6}+00:00" if fraction else f"{whole}+00:00"


def timestamp(moment: str) -> float:
    """Seconds since the epoch, of a time of Google."""
    return datetime.fromisoformat(_iso(moment)).timestamp()
