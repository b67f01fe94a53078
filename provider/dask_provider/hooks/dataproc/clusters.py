"""Clusters on Dataproc: Dataproc itself holds the lease, by idle and auto delete."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from importlib import metadata
from typing import Any

from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.clusters.dataproc_fields import IDLE_SPAN
from dask_provider.errors import ClusterFailed, ClusterGone, InvalidInput
from dask_provider.handles import ClusterHandle
from dask_provider.hooks.base import ClusterHook, Readiness, SpecChanged
from dask_provider.hooks.dataproc import failures, requests, scripts, storage
from dask_provider.hooks.dataproc.access import Access, load_access
from dask_provider.hooks.dataproc.client import ApiError, Client, Object
from dask_provider.owner import Owner

#: seconds that an older cluster of the same name has to be gone
ENDED_WITHIN = 600.0
#: seconds between looks at a cluster that starts or ends
LOOK_EVERY = 2.0
#: states in which a cluster has no use any more
OVER = ("DELETING", "ERROR", "STOPPING", "STOPPED")
SCHEDULER_PORT = 8786

logger = logging.getLogger(__name__)


class ClustersHook(ClusterHook[DataprocCluster]):
    """All that concerns clusters; jobs are added in :mod:`dask_provider.hooks.dataproc.jobs`."""

    place = "dataproc"

    def plan(self, spec: DataprocCluster, owner: Owner) -> dict[str, Any]:
        project_id = spec.project_id or "(of the connection)"
        where = {name: f"(staged)/{name}.sh" for name in ("nfs", "dask")}
        request = requests.cluster_request(
            spec, owner, 1, project_id=project_id, scripts=where, bucket="(of the staging)", versions=versions()
        )
        shown = request["config"]["gceClusterConfig"]["metadata"]
        if "dask-env" in shown:
            shown["dask-env"] = "\n".join(f"{name}=***" for name in sorted(spec.env))
        return {"POST clusters": request}

    # --- making ---

    async def create(self, spec: DataprocCluster, owner: Owner, attempt: int) -> ClusterHandle:
        storage.staging()  # what cannot be staged is not worth a cluster
        access = await access_of(spec.conn_id)
        async with Client(access, project_of(spec, access), spec.region) as client:
            try:
                while True:
                    if (made := await self._made(client, spec, owner, attempt)) is not None:
                        return made
                    await asyncio.sleep(LOOK_EVERY)  # somebody has just made one of the name: whose it is will be seen
            except ApiError as error:
                raise failures.refused(spec, error) from None

    async def _made(self, client: Client, spec: DataprocCluster, owner: Owner, attempt: int) -> ClusterHandle | None:
        if (found := await self._adopt(client, spec, owner, attempt)) is not None:
            # Not yet on it, perhaps: see _note_attempt.
            return replace(_handle(spec.conn_id, client, found), attempt=attempt)
        request = requests.cluster_request(
            spec,
            owner,
            attempt,
            project_id=client.project_id,
            scripts=await scripts.staged(client, spec),
            bucket=storage.bucket(),
            versions=versions(),
        )
        query = {"requestId": str(uuid.uuid4())}  # the same for all tries of this call
        try:
            operation = await client.call("POST", client.clusters(), query=query, body=request)
        except ApiError as error:
            if error.reason == "ALREADY_EXISTS":
                return None
            raise
        made = await _get(client, owner.name)
        if made is None or made["clusterUuid"] != operation["metadata"].get("clusterUuid"):
            why = await failures.operation_error(client, operation["name"])
            raise ClusterFailed(f"cluster {owner.name} went away while it was being made: {why or 'nobody says why'}")
        return _handle(spec.conn_id, client, made, operation["name"])

    async def _adopt(self, client: Client, spec: DataprocCluster, owner: Owner, attempt: int) -> Object | None:
        """The cluster of an earlier try, with this attempt on it; ``None`` once there is none of the name."""
        until = time.monotonic() + ENDED_WITHIN
        while (found := await _get(client, owner.name)) is not None:
            state = found["status"]["state"]
            if owner_of(found) != owner:
                text = f"there is a cluster {owner.name} in project {client.project_id} that is not ours: it stays"
                raise ClusterFailed(text)
            if state not in OVER:
                if (found.get("labels") or {}).get(requests.SPEC) != spec.hash():
                    text = f"cluster {owner.name} was made from another spec; delete it first"
                    raise SpecChanged(text, _handle(spec.conn_id, client, found))
                return await self._note_attempt(client, found, attempt)
            if state != "DELETING":
                await _delete(client, found)
            if time.monotonic() > until:
                raise ClusterFailed(f"an older cluster {owner.name} is still {state} after {ENDED_WITHIN:.0f} s")
            await asyncio.sleep(LOOK_EVERY)
        return None

    async def _note_attempt(self, client: Client, found: Object, attempt: int) -> Object:
        """Write the attempt on it. Dataproc changes labels of a running cluster only: later, while one starts."""
        if attempt_of(found) >= attempt or found["status"]["state"] != "RUNNING":
            return found
        labels = {**found["labels"], requests.ATTEMPT: str(attempt)}
        with contextlib.suppress(ApiError):  # another update is under way, say: the number is a safeguard, no lock
            query = {"updateMask": "labels", "requestId": str(uuid.uuid4())}
            await client.call("PATCH", client.clusters(found["clusterName"]), query=query, body={"labels": labels})
        return {**found, "labels": labels}

    # --- waiting ---

    async def wait_ready(self, handle: ClusterHandle) -> AsyncIterator[Readiness]:
        """Ready is what runs: the initialization action ends only when its own node's worker has joined."""
        assert handle.created is not None
        until, said = datetime.fromisoformat(handle.created).timestamp() + handle.ready_timeout, ""
        async with self._open(handle) as client:
            while True:
                client.patience = max(60.0, until - time.time())  # an outage is waited out
                found = await self._check(client, handle)
                state = found["status"]["state"]
                if state in ("RUNNING", "UPDATING"):
                    found = await self._note_attempt(client, found, handle.attempt)
                    made = _handle(handle.details["conn_id"], client, found, handle.details["operation"])
                    yield Readiness(f"{failures.machines(found)} run Dask", made, ready=True)
                    return
                text = f"the cluster is {state}"
                if time.time() > until:
                    raise ClusterFailed(
                        f"cluster {handle.name} is not ready after {handle.ready_timeout:.0f} s: {text}"
                    )
                if text != said:
                    said = text
                    yield Readiness(text, handle)
                await asyncio.sleep(LOOK_EVERY)

    async def check(self, handle: ClusterHandle) -> None:
        async with self._open(handle) as client:
            await self._check(client, handle)

    async def _check(self, client: Client, handle: ClusterHandle) -> Object:
        """The cluster.

        :raises ClusterFailed: with the output of the script that failed.
        :raises ClusterGone: when it has ended, naming why as far as Dataproc tells.
        """
        found = await _get(client, handle.name)
        if found is None or found["clusterUuid"] != handle.uid or found["status"]["state"] == "DELETING":
            why = await failures.operation_error(client, handle.details["operation"])
            raise ClusterGone(f"cluster {handle.name} is gone; {why or _why_gone(handle)}")
        if found["status"]["state"] == "ERROR":
            raise await failures.explained(client, found, handle.details["operation"])
        if found["status"]["state"] in OVER:
            raise ClusterGone(f"cluster {handle.name} was stopped by somebody")
        return found

    # --- changing ---

    async def scale(self, handle: ClusterHandle, low: int, high: int) -> None:
        if low != high:
            raise ClusterFailed(f"cluster {handle.name} cannot follow the demand: give one number of workers")
        async with self._open(handle) as client:
            await self._check(client, handle)
            query = {
                "updateMask": "config.worker_config.num_instances",
                "gracefulDecommissionTimeout": requests.duration(3600),
                "requestId": str(uuid.uuid4()),
            }
            body = {"config": {"workerConfig": {"numInstances": low}}}
            await client.call("PATCH", client.clusters(handle.name), query=query, body=body)

    async def extend(self, handle: ClusterHandle, seconds: float) -> None:
        """A longer time to live: Dataproc counts from the end of the last job."""
        async with self._open(handle) as client:
            found = await _get(client, handle.name)
            if found is None or found["clusterUuid"] != handle.uid or found["status"]["state"] != "RUNNING":
                return
            lifecycle = found["config"].get("lifecycleConfig") or {}
            idle = float(lifecycle.get("idleDeleteTtl", "inf").removesuffix("s"))
            if (began := lifecycle.get("idleStartTime")) is not None:
                seconds += time.time() - _timestamp(began)
            if seconds <= idle:
                return
            query = {"updateMask": "config.lifecycle_config.idle_delete_ttl", "requestId": str(uuid.uuid4())}
            longest = min(round(seconds), IDLE_SPAN[1])
            body = {"config": {"lifecycleConfig": {"idleDeleteTtl": requests.duration(longest)}}}
            try:
                await client.call("PATCH", client.clusters(handle.name), query=query, body=body)
            except ApiError as error:  # a job that failed says why; this must not hide it
                logger.warning("cluster %s: its idle time cannot be extended: %s", handle.name, error)

    # --- the end ---

    async def delete(self, handle: ClusterHandle, reason: str, *, attempt: int | None = None) -> str:
        async with self._open(handle) as client:
            found = await _get(client, handle.name)
            if found is None or found["clusterUuid"] != handle.uid:
                return "already gone"
            if attempt is not None and attempt_of(found) > attempt:
                return f"left to attempt {attempt_of(found)}, which has taken it over"
            await _delete(client, found)
            return "deleting"

    async def wait_gone(self, handle: ClusterHandle, seconds: float) -> bool:
        until = time.monotonic() + seconds
        async with self._open(handle) as client:
            while True:
                found = await _get(client, handle.name)
                if found is None or found["clusterUuid"] != handle.uid:
                    return True
                if time.monotonic() > until:
                    return False
                await asyncio.sleep(LOOK_EVERY)

    # --- finding ---

    async def find(self, spec: DataprocCluster, owner: Owner) -> ClusterHandle | None:
        access = await access_of(spec.conn_id)
        async with Client(access, project_of(spec, access), spec.region) as client:
            found = await _get(client, owner.name)
            ours = found is not None and owner_of(found) == owner
            return _handle(spec.conn_id, client, found) if found is not None and ours else None

    async def list(self, spec: DataprocCluster, instance: str) -> list[ClusterHandle]:
        access = await access_of(spec.conn_id)
        async with Client(access, project_of(spec, access), spec.region) as client:
            wanted = {"filter": f"labels.{requests.INSTANCE} = {requests.instance_label(instance)}"}
            clusters = await client.list(client.clusters(), "clusters", wanted)
            owned = [(each, owner_of(each)) for each in clusters]
            return [
                _handle(spec.conn_id, client, each) for each, owner in owned if owner and owner.instance == instance
            ]

    @contextlib.asynccontextmanager
    async def _open(self, handle: ClusterHandle) -> AsyncIterator[Client]:
        details = handle.details
        async with Client(await access_of(details["conn_id"]), details["project_id"], details["region"]) as client:
            yield client


def versions() -> dict[str, str]:
    """What Airflow has: what it pickles and what it reads fits the machines then."""
    return {name: metadata.version(name) for name in ("dask", "gcsfs")}


async def access_of(conn_id: str) -> Access:
    """Outside the event loop, which a connection of Airflow would block."""
    from asgiref.sync import sync_to_async

    access: Access = await sync_to_async(load_access)(conn_id)
    return access


def project_of(spec: DataprocCluster, access: Access) -> str:
    """:raises InvalidInput: when neither spec nor connection name a project."""
    project_id = spec.project_id or access.project_id
    if not project_id:
        allowed = f"a project id, here or as the project of {access.source}"
        raise InvalidInput("DataprocCluster.project_id", None, allowed)
    return project_id


async def _get(client: Client, name: str) -> Object | None:
    try:
        return await client.get(client.clusters(name))
    except ApiError as error:
        if error.status == 404:
            return None
        raise


async def _delete(client: Client, found: Object) -> None:
    """Ask for the end of this very cluster; one that ends or is gone already is fine."""
    query = {"clusterUuid": found["clusterUuid"], "requestId": str(uuid.uuid4())}
    try:
        await client.call("DELETE", client.clusters(found["clusterName"]), query=query)
    except ApiError as error:
        if error.status == 404:
            return
        now = await _get(client, found["clusterName"])
        if now is not None and now["clusterUuid"] == found["clusterUuid"] and now["status"]["state"] != "DELETING":
            raise


# --- what a cluster says ---


def owner_of(found: Object) -> Owner | None:
    """Whose it is, if it is one of ours."""
    text = ((found.get("config") or {}).get("gceClusterConfig") or {}).get("metadata", {}).get(requests.OWNER)
    try:
        return Owner.from_labels(json.loads(text)) if text else None
    except (ValueError, KeyError):
        return None


def attempt_of(found: Object) -> int:
    """The try that has it."""
    return int((found.get("labels") or {}).get(requests.ATTEMPT) or 0)


def _handle(conn_id: str, client: Client, found: Object, operation: str | None = None) -> ClusterHandle:
    owner, config = owner_of(found), found["config"]
    assert owner is not None
    history = [*found.get("statusHistory", ()), found["status"]]
    created = min(each["stateStartTime"] for each in history)
    known = json.loads(config["gceClusterConfig"]["metadata"][requests.HANDLE])
    return ClusterHandle(
        place="dataproc",
        name=found["clusterName"],
        uid=found["clusterUuid"],
        owner=owner.labels(),
        spec_hash=(found.get("labels") or {}).get(requests.SPEC, ""),
        min_workers=known["min_workers"],
        ready_timeout=known["ready_timeout"],
        scheduler_address=f"tcp://{found['clusterName']}-m:{SCHEDULER_PORT}",
        dashboard_url=failures.dashboard(found),
        created=_iso(created),
        expires=_expires(config.get("lifecycleConfig") or {}, created),
        attempt=attempt_of(found),
        details={
            "conn_id": conn_id,
            "project_id": client.project_id,
            "region": client.region,
            "operation": operation,
            "idle_timeout": known["idle_timeout"],
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


def _why_gone(handle: ClusterHandle) -> str:
    """Dataproc keeps no record of why it has deleted a cluster."""
    if handle.expires and time.time() >= datetime.fromisoformat(handle.expires).timestamp():
        return "max_lifetime is over"
    return f"it was deleted, by somebody or for idle_timeout: nothing to do for {handle.details['idle_timeout']:.0f} s"


def _iso(moment: str) -> str:
    """A time of Google as Python 3.10 reads it: no Z, six digits."""
    whole, _, fraction = moment.removesuffix("Z").partition(".")
    return f"{whole}.{fraction[:6]:0<6}+00:00" if fraction else f"{whole}+00:00"


def _timestamp(moment: str) -> float:
    return datetime.fromisoformat(_iso(moment)).timestamp()
