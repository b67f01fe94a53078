"""Clusters on Dataproc: Dataproc itself holds the lease, by idle and auto delete."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from datetime import datetime
from importlib import metadata
from typing import Any

from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.clusters.dataproc_fields import IDLE_SPAN
from dask_provider.errors import ClusterFailed, ClusterGone, InvalidInput
from dask_provider.handles import ClusterHandle
from dask_provider.hooks.base import TAKEN_OVER, ClusterHook, Readiness, SpecChanged
from dask_provider.hooks.cost import Cost
from dask_provider.hooks.dataproc import attempts, changes, costs, ends, failures, requests, scripts, storage, yarn
from dask_provider.hooks.dataproc.access import Access, load_access
from dask_provider.hooks.dataproc.client import ApiError, Client, Object
from dask_provider.hooks.dataproc.handles import handle_of, owner_of, timestamp, why_gone
from dask_provider.owner import PLANNED, Attempt, Owner

#: seconds that an older cluster of the same name has to be gone
ENDED_WITHIN = 600.0
#: states in which a cluster has no use any more
OVER = ("DELETING", "ERROR", "STOPPING", "STOPPED")
#: seconds that a change under way may keep a cluster from a longer time to live
EXTENDED_WITHIN = 120.0

logger = logging.getLogger(__name__)


class ClustersHook(ClusterHook[DataprocCluster]):
    """All that concerns clusters; jobs are added in :mod:`dask_provider.hooks.dataproc.jobs`."""

    place = "dataproc"
    longest_sync = 2.0

    def plan(self, spec: DataprocCluster, owner: Owner) -> dict[str, Any]:
        project_id = spec.project_id or "(of the connection)"
        where = {name: f"(staged)/{name}.sh" for name in ("nfs", "dask")} | {"elastic": "(staged)/elastic.pyz"}
        request = requests.cluster_request(
            spec, owner, PLANNED, project_id=project_id, scripts=where, bucket="(of the staging)", versions=versions()
        )
        shown = request["config"]["gceClusterConfig"]["metadata"]
        if "dask-env" in shown:
            shown["dask-env"] = "\n".join(f"{name}=***" for name in sorted(spec.env))
        return {"POST clusters": request}

    # --- making ---

    async def create(self, spec: DataprocCluster, owner: Owner, attempt: Attempt) -> ClusterHandle:
        storage.staging()  # what cannot be staged is not worth a cluster
        access = await access_of(spec.conn_id)
        async with Client(access, project_of(spec, access), spec.region) as client:
            try:
                await attempts.check_rights(client)
                since = time.monotonic()
                while (made := await self._made(client, spec, owner, attempt)) is None:
                    if time.monotonic() - since > ENDED_WITHIN:
                        text = f"Dataproc says that there is a cluster {owner.name}, and shows none"
                        raise ClusterFailed(f"{text}, after {ENDED_WITHIN:.0f} s")
                    # Somebody has just made one of the name: whose it is will be seen.
                    await asyncio.sleep(ends.until_next(since))
                return made
            except ApiError as error:
                raise failures.refused(spec, error) from None

    async def _made(
        self, client: Client, spec: DataprocCluster, owner: Owner, attempt: Attempt
    ) -> ClusterHandle | None:
        if (found := await self._adopt(client, spec, owner, attempt)) is not None:
            return replace(handle_of(spec.conn_id, client, found), attempt=attempt.number, started=attempt.started)
        request = requests.cluster_request(
            spec,
            owner,
            attempt,
            project_id=client.project_id,
            scripts=await scripts.staged(client, spec),
            bucket=storage.bucket(),
            versions=versions(),
        )
        await costs.estimate(client, spec, request)
        query = {"requestId": str(uuid.uuid4())}  # the same for all tries of this call
        try:
            operation = await client.call("POST", client.clusters(), query=query, body=request)
        except ApiError as error:
            if error.reason == "ALREADY_EXISTS":
                return None
            raise
        made = await client.find(client.clusters(owner.name))
        if made is None or made["clusterUuid"] != operation["metadata"].get("clusterUuid"):
            why = await failures.operation_error(client, operation["name"])
            raise ClusterFailed(f"cluster {owner.name} went away while it was being made: {why or 'nobody says why'}")
        return handle_of(spec.conn_id, client, made, operation["name"])

    async def _adopt(self, client: Client, spec: DataprocCluster, owner: Owner, attempt: Attempt) -> Object | None:
        """The cluster of an earlier try, with this attempt on it; ``None`` once there is none of the name.

        :raises Overtaken: when it is a newer try's, also while that one's is being removed.
        """
        since = time.monotonic()
        while (found := await client.find(client.clusters(owner.name))) is not None:
            state = found["status"]["state"]
            if owner_of(found) != owner:
                text = f"there is a cluster {owner.name} in project {client.project_id} that is not ours: it stays"
                raise ClusterFailed(text)
            found = await attempts.read(client, found)
            attempts.check_newest(found, attempt)
            if state not in OVER:
                if (found.get("labels") or {}).get(requests.SPEC) != spec.hash():
                    text = f"cluster {owner.name} was made from another spec; delete it first"
                    raise SpecChanged(text, handle_of(spec.conn_id, client, found))
                await attempts.take(client, found, attempt)
                return found
            if state != "DELETING":
                await ends.delete(client, found)
            if time.monotonic() - since > ENDED_WITHIN:
                raise ClusterFailed(f"an older cluster {owner.name} is still {state} after {ENDED_WITHIN:.0f} s")
            await asyncio.sleep(ends.until_next(since))
        return None

    # --- waiting ---

    async def wait_ready(self, handle: ClusterHandle) -> AsyncIterator[Readiness]:
        """Ready is what runs: the initialization action ends only when its own node's worker has joined.

        With the runtime ``yarn`` there is no Dask yet: each job brings it, and waits for it.
        """
        assert handle.created is not None
        until, said = datetime.fromisoformat(handle.created).timestamp() + handle.ready_timeout, ""
        since = time.monotonic()
        async with self._open(handle) as client:
            while True:
                client.patience = max(60.0, until - time.time())  # an outage is waited out
                try:
                    found = await self._check(client, handle)
                except ClusterGone:
                    raise
                except ClusterFailed as error:
                    yield Readiness(failures.announced(error), handle)
                    raise await failures.diagnosed(client, handle.name, error) from None
                state = found["status"]["state"]
                if state in changes.WORKING:
                    attempt = Attempt(handle.attempt, fresh=False, last=False, started=handle.started)
                    await attempts.label(client, found, attempt)
                    made = handle_of(handle.details["conn_id"], client, found, handle.details["operation"])
                    made = replace(made, attempt=handle.attempt, started=handle.started)  # whosever it is by now
                    what = "YARN; Dask comes with each job" if yarn.runs_on_yarn(found) else "Dask"
                    yield Readiness(f"{failures.machines(found)} run {what}", made, ready=True)
                    return
                text = f"the cluster is {state}"
                if time.time() > until:
                    raise ClusterFailed(
                        f"cluster {handle.name} is not ready after {handle.ready_timeout:.0f} s: {text}"
                    )
                if text != said:
                    said = text
                    yield Readiness(text, handle)
                await asyncio.sleep(ends.until_next(since))

    async def check(self, handle: ClusterHandle) -> None:
        async with self._open(handle) as client:
            await self._check(client, handle)

    async def _check(self, client: Client, handle: ClusterHandle) -> Object:
        """The cluster.

        :raises ClusterFailed: with the output of the script that failed.
        :raises ClusterGone: when it has ended, naming why as far as Dataproc tells.
        """
        found = await client.find(client.clusters(handle.name))
        if found is None or found["clusterUuid"] != handle.uid or found["status"]["state"] == "DELETING":
            why = await failures.operation_error(client, handle.details["operation"])
            raise ClusterGone(f"cluster {handle.name} is gone; {why or why_gone(handle)}")
        if found["status"]["state"] == "ERROR":
            raise await failures.explained(client, found, handle.details["operation"])
        if found["status"]["state"] in OVER:
            raise ClusterGone(f"cluster {handle.name} was stopped by somebody")
        return found

    # --- changing ---

    async def scale(self, handle: ClusterHandle, low: int, high: int) -> None:
        async with self._open(handle) as client:
            found = await self._check(client, handle)
            if yarn.runs_on_yarn(found):
                raise ClusterFailed(f"cluster {handle.name}: each job brings as many workers as the spec says")
            await changes.scale(client, found, low, high)

    async def extend(self, handle: ClusterHandle, seconds: float) -> None:
        """A longer time to live: Dataproc counts from the end of the last job."""
        async with self._open(handle) as client:
            found = await client.find(client.clusters(handle.name))
            if found is None or found["clusterUuid"] != handle.uid or found["status"]["state"] not in changes.WORKING:
                return
            lifecycle = found["config"].get("lifecycleConfig") or {}
            idle = float(lifecycle.get("idleDeleteTtl", "inf").removesuffix("s"))
            if (began := lifecycle.get("idleStartTime")) is not None:
                seconds += time.time() - timestamp(began)
            if seconds <= idle:
                return
            query = {"updateMask": "config.lifecycle_config.idle_delete_ttl", "requestId": str(uuid.uuid4())}
            longest = min(round(seconds), IDLE_SPAN[1])
            body = {"config": {"lifecycleConfig": {"idleDeleteTtl": requests.duration(longest)}}}

            def ask() -> Awaitable[Object]:
                return client.call("PATCH", client.clusters(handle.name), query=query, body=body)

            try:
                await changes.patiently(client, handle.name, ask, EXTENDED_WITHIN)
            except ApiError as error:  # a job that failed says why; this must not hide it
                logger.warning("cluster %s: its idle time cannot be extended: %s", handle.name, error)

    # --- the end ---

    async def delete(self, handle: ClusterHandle, reason: str, *, compare: bool = False) -> str:
        async with self._open(handle) as client:
            found = await client.find(client.clusters(handle.name))
            if found is None or found["clusterUuid"] != handle.uid:
                return "already gone"
            if compare and not attempts.belongs(await attempts.read_soon(client, found), handle):
                return TAKEN_OVER
            await ends.delete(client, found)
            return "deleting"

    async def wait_gone(self, handle: ClusterHandle, seconds: float) -> bool:
        async with self._open(handle) as client:
            return await ends.is_gone(client, handle, seconds)

    async def cost(self, handle: ClusterHandle) -> Cost:
        async with self._open(handle) as client:
            return await costs.cost(client, handle, await client.find(client.clusters(handle.name)))

    # --- finding ---

    async def find(self, spec: DataprocCluster, owner: Owner) -> ClusterHandle | None:
        access = await access_of(spec.conn_id)
        async with Client(access, project_of(spec, access), spec.region) as client:
            found = await client.find(client.clusters(owner.name))
            if found is None or owner_of(found) != owner:
                return None
            return handle_of(spec.conn_id, client, await attempts.read_soon(client, found))

    async def list(self, spec: DataprocCluster, instance: str) -> list[ClusterHandle]:
        access = await access_of(spec.conn_id)
        async with Client(access, project_of(spec, access), spec.region) as client:
            wanted = {"filter": f"labels.{requests.INSTANCE} = {requests.instance_label(instance)}"}
            clusters = await client.list(client.clusters(), "clusters", wanted)
            owned = [(each, owner_of(each)) for each in clusters]
            ours = [attempts.read_soon(client, each) for each, owner in owned if owner and owner.instance == instance]
            return [handle_of(spec.conn_id, client, each) for each in await asyncio.gather(*ours)]

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
