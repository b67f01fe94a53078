"""Clusters on Kubernetes: a Job is the lease, a DaskCluster and all else belong to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from importlib import resources
from typing import Any

from dask_provider.clusters.kubernetes import KubernetesCluster
from dask_provider.clusters.kubernetes_shown import without_values
from dask_provider.errors import ClusterFailed, ClusterGone, Overtaken
from dask_provider.handles import ClusterHandle
from dask_provider.hooks.base import GONE_WITHIN, TAKEN_OVER, ClusterHook, Readiness, SpecChanged
from dask_provider.hooks.kubernetes import causes, manifests, node_ports, times
from dask_provider.hooks.kubernetes import paths as api
from dask_provider.hooks.kubernetes.client import Client
from dask_provider.hooks.kubernetes.errors import ApiError
from dask_provider.hooks.kubernetes.objects import Object, attempt_notes, attempt_of, note, over
from dask_provider.hooks.kubernetes.own_manifest import check_content, parse_manifest
from dask_provider.hooks.kubernetes.preflight import check_staging, preflight
from dask_provider.hooks.kubernetes.questions import (
    REFUSED_WITHIN,
    access_of,
    annotate,
    cause_of,
    changes,
    create,
    delete_lease,
    end_orphan,
    ensure,
    find,
    left_of,
    workers_of,
)
from dask_provider.hooks.pace import pause
from dask_provider.owner import PLANNED, Attempt, Owner

#: seconds between looks at a cluster that starts or ends, and between questions why it is not ready
LOOK_EVERY, ASK_EVERY = 0.25, 1.5
#: they come less often the longer it takes: after such a share of the time so far, and seconds at most
LOOK_SHARE, LOOK_LATEST, ASK_SHARE, ASK_LATEST = 0.05, 2.0, 0.15, 10.0
#: seconds before the first question: by then most clusters of a warm node are ready, or nearly so
ASK_FIRST = 3.0
#: seconds between notes of what a cluster that ends still has
SAY_EVERY = 30.0
#: seconds that a cluster has to answer which was adopted when its time to become ready was over
ADOPTED = 60.0

logger = logging.getLogger(__name__)


class ClustersHook(ClusterHook[KubernetesCluster]):
    """All that concerns clusters; jobs are added in :mod:`dask_provider.hooks.kubernetes.jobs`."""

    place = "kubernetes"

    def plan(self, spec: KubernetesCluster, owner: Owner) -> dict[str, Any]:
        namespace = spec.namespace or "(of the connection)"
        if spec.manifest is not None:
            return {"namespace": namespace, "manifest": spec.manifest, "name": owner.name}
        cluster = manifests.dask_cluster(spec, owner, namespace=namespace)
        made = [manifests.lease(spec, owner, PLANNED, cluster, script="(the lease)"), cluster]
        made += manifests.worker_groups(spec, owner, namespace=namespace)
        return {"objects": [without_values(each) for each in made]}

    # --- making ---

    async def create(self, spec: KubernetesCluster, owner: Owner, attempt: Attempt) -> ClusterHandle:
        check_staging()
        manifest = await _read_manifest(spec)
        access = await access_of(spec.conn_id)
        namespace = spec.namespace or access.namespace or "default"
        cluster = manifests.dask_cluster(spec, owner, namespace=namespace, manifest=manifest)
        wanted = manifests.lease(spec, owner, attempt, cluster, script=_lease_script())
        made = None
        async with Client(access) as k:
            while (lease := await self._adopt(k, spec, namespace, wanted, attempt)) is None:
                groups = manifests.worker_groups(spec, owner, namespace=namespace)
                await preflight(k, namespace, wanted, cluster, groups)
                with changes():  # another try was faster: whose it is will be seen
                    lease = made = await k.create(api.jobs(namespace), wanted)
                    break
            try:
                await self._complete(k, spec, owner, namespace, lease, cluster)
            except Exception:
                if made is None:  # beside one that was adopted a job may run
                    raise
                handle = _handle(lease, spec.conn_id)
                try:
                    if await self.delete(handle, "it could not be completed", compare=True) == "deleting":
                        await self.wait_gone(handle, GONE_WITHIN)
                except (ApiError, ClusterFailed) as error:  # the first error counts
                    logger.warning("cluster %s is left to its lease: %s", owner.name, error)
                raise
        return _handle(lease, spec.conn_id)

    async def _adopt(
        self, k: Client, spec: KubernetesCluster, namespace: str, wanted: Object, attempt: Attempt
    ) -> Object | None:
        """The lease of an earlier try, with this attempt written on it; ``None`` once nothing of the name is left.

        :raises Overtaken: when it is a newer try's, also while that one's is being removed.
        """
        name, until = wanted["metadata"]["name"], time.monotonic() + GONE_WITHIN
        while True:
            found = await find(k, api.jobs(namespace, name))
            if found is None:
                left = await left_of(k, namespace, name, spec.groups())
                if not left:
                    return None
                await end_orphan(k, namespace, name, left)
            elif not _ours(found):
                raise ClusterFailed(f"there is a Job {name} in namespace {namespace} that is not ours: it stays")
            elif attempt.is_overtaken_by(*attempt_of(found)):
                raise Overtaken(f"cluster {name}", attempt.number, attempt_of(found)[0])
            elif over(found):
                left = {f"Job {name}": found}
            elif note(found, "spec-hash") != note(wanted, "spec-hash"):
                text = f"cluster {name} was made from another spec; delete it first"
                raise SpecChanged(text, _handle(found, spec.conn_id))
            else:
                left = {f"Job {name}": found}
                with changes():
                    return await annotate(k, found, attempt_notes(attempt), exact=True)
            if time.monotonic() > until:
                left |= await left_of(k, namespace, name, spec.groups())
                why = causes.not_gone(left) or ", ".join(left)
                raise ClusterFailed(f"an older cluster {name} is still being removed after {GONE_WITHIN:.0f} s: {why}")
            await asyncio.sleep(LOOK_EVERY)

    async def _complete(
        self, k: Client, spec: KubernetesCluster, owner: Owner, namespace: str, lease: Object, cluster: Object
    ) -> None:
        """Whatever belongs to the lease and is not there yet."""
        low, high = spec.worker_range
        if spec.tls:
            pem = await asyncio.to_thread(_certificates)
            secret = manifests.tls_secret(owner, pem, namespace=namespace)
            await ensure(k, api.secrets(namespace), manifests.owned(secret, lease))
        made = await create(k, api.daskclusters(namespace), manifests.owned(cluster, lease))
        if made["metadata"].get("ownerReferences", [{}])[0].get("uid") != lease["metadata"]["uid"]:
            name = made["metadata"]["name"]
            raise ClusterFailed(f"there is a DaskCluster {name} in namespace {namespace} that is not ours: it stays")
        if low != high:
            scaler = manifests.autoscaler(owner, namespace=namespace, low=low, high=high)
            await ensure(k, api.daskautoscalers(namespace), manifests.owned(scaler, lease))
        for group in manifests.worker_groups(spec, owner, namespace=namespace):
            await ensure(k, api.daskworkergroups(namespace), manifests.owned(group, lease))

    # --- waiting ---

    async def wait_ready(self, handle: ClusterHandle) -> AsyncIterator[Readiness]:
        began = times.seconds(handle.created or "")
        since = time.time()
        until, ask_at, said = began + handle.ready_timeout, since + ASK_FIRST, ""
        if until < time.time():  # one that was adopted: it gets a moment to answer
            until = time.time() + ADOPTED
        cause: causes.Cause | None = None
        async with self._open(handle) as k:
            while True:
                k.patience = max(30.0, until - time.time())  # an outage of the API server is waited out, as for jobs
                workers = await workers_of(k, handle)
                if workers is not None and workers >= handle.min_workers:
                    yield Readiness(f"{workers} workers joined", handle, ready=True)
                    return
                if time.time() > ask_at:
                    ask_at = time.time() + pause(time.time() - since, ASK_EVERY, ASK_SHARE, ASK_LATEST)
                    await self._check(k, handle)
                    cause = await cause_of(k, handle, age=time.time() - began)
                text = "the scheduler is starting"
                if workers is not None:
                    text = f"{workers} of {handle.min_workers} workers joined"
                if cause is not None:
                    text += f"; {cause.text}"
                if cause is not None and cause.fatal:
                    raise ClusterFailed(f"cluster {handle.name} cannot start: {cause.text}")
                if time.time() > until:
                    raise ClusterFailed(
                        f"cluster {handle.name} is not ready after {handle.ready_timeout:.0f} s: {text}"
                    )
                if text != said:
                    said = text
                    yield Readiness(text, handle)
                await asyncio.sleep(pause(time.time() - since, LOOK_EVERY, LOOK_SHARE, LOOK_LATEST))

    async def check(self, handle: ClusterHandle) -> None:
        async with self._open(handle) as k:
            await self._check(k, handle)

    async def _check(self, k: Client, handle: ClusterHandle) -> Object:
        """The lease.

        :raises ClusterGone: when it has ended, naming why.
        """
        namespace = handle.details["namespace"]
        lease = await find(k, api.jobs(namespace, handle.name))
        if lease is not None and lease["metadata"]["uid"] == handle.uid and not over(lease):
            return lease
        events = (await k.list(api.events(namespace), fields=f"involvedObject.uid={handle.uid}"))["items"]
        seen = {str(event.get("reason")) for event in events}
        idle = handle.details.get("idle_timeout", 0)
        reason = "it was deleted"
        if "DeadlineExceeded" in seen:
            reason = "max_lifetime is over"
        elif "Completed" in seen:
            reason = f"idle_timeout: nothing to do for {idle:.0f} s"
        raise ClusterGone(f"cluster {handle.name} is gone; {reason}")

    # --- changing ---

    async def scale(self, handle: ClusterHandle, low: int, high: int) -> None:
        namespace, name = handle.details["namespace"], handle.name
        async with self._open(handle) as k:
            lease = await self._check(k, handle)
            known = json.loads(note(lease, "handle") or "{}")
            if groups := known["groups"]:
                # The operator lets the scheduler choose whom to retire, of whatever group.
                raise ClusterFailed(f"cluster {name} has the worker groups {groups}: such a one cannot be scaled")
            known["min_workers"] = min(handle.min_workers, low)  # no job is to wait for more
            await annotate(k, lease, {"handle": json.dumps(known, sort_keys=True)})
            scaler = api.daskautoscalers(namespace, name)
            if low != high:
                bounds = {"spec": {"minimum": low, "maximum": high}}
                if await find(k, scaler) is not None:
                    await k.patch(scaler, bounds)
                else:
                    owner = Owner.from_labels(handle.owner)
                    made = manifests.autoscaler(owner, namespace=namespace, low=low, high=high)
                    await ensure(k, api.daskautoscalers(namespace), manifests.owned(made, lease))
                return
            with changes():  # it never was elastic
                await k.delete(scaler, propagation="Background")
            wanted = {"spec": {"worker": {"replicas": low}}}
            # Both: an autoscaler changes the group alone, and the operator copies only what changes in the cluster.
            await k.patch(api.daskclusters(namespace, name), wanted)
            await k.patch(api.daskworkergroups(namespace, f"{name}-default"), wanted)

    async def change_node_ports(
        self, handle: ClusterHandle, *, node_port: int | None = None, dashboard_node_port: int | None = None
    ) -> None:
        """Open scheduler or dashboard at another port of the nodes; ``None``: it stays.

        :raises InvalidInput: for a port that cannot be had, and a cluster without node ports.
        """
        chosen = zip(node_ports.FIELDS, (node_port, dashboard_node_port), strict=True)
        async with self._open(handle) as k:
            await self._check(k, handle)
            wanted = {port: at for port, at in chosen if at is not None}
            await node_ports.change(k, handle.details["namespace"], handle.name, wanted)

    async def extend(self, handle: ClusterHandle, seconds: float) -> None:
        async with self._open(handle) as k:
            await self._extend(k, handle, seconds)

    async def _extend(self, k: Client, handle: ClusterHandle, seconds: float) -> None:
        until, wanted = time.time() + seconds, manifests.select(cluster=handle.name, role="lease")
        for pod in (await k.list(api.pods(handle.details["namespace"]), labels=wanted))["items"]:
            # Another task of the block may need it longer.
            if until > float(note(pod, "extended-until") or 0):
                with changes():  # gone meanwhile: the next one starts to count anew
                    await annotate(k, pod, {"extended-until": f"{until:.0f}"})

    # --- the end ---

    async def delete(self, handle: ClusterHandle, reason: str, *, compare: bool = False) -> str:
        until = time.monotonic() + REFUSED_WITHIN
        async with self._open(handle) as k:
            while True:
                lease = await find(k, api.jobs(handle.details["namespace"], handle.name))
                if lease is None or lease["metadata"]["uid"] != handle.uid:
                    return "already gone"
                if "deletionTimestamp" in lease["metadata"]:
                    return "deleting"
                if compare and attempt_of(lease) != (handle.attempt, handle.started):
                    return TAKEN_OVER
                with changes(until):
                    await delete_lease(k, lease)
                    return "deleting"
                await asyncio.sleep(0.1)

    async def wait_gone(self, handle: ClusterHandle, seconds: float) -> bool:
        namespace, since = handle.details["namespace"], time.monotonic()
        until, say_at, groups = since + seconds, since + SAY_EVERY, handle.details.get("groups", ())
        async with self._open(handle) as k:
            while True:
                k.patience = max(30.0, until - time.monotonic())
                lease = await find(k, api.jobs(namespace, handle.name))
                if lease is not None and lease["metadata"]["uid"] != handle.uid:
                    return True  # a new one of the name is there already
                now = time.monotonic()
                speaks = now > min(say_at, until)
                # The lease goes last: while it is there nobody need look for the rest.
                left = await left_of(k, namespace, handle.name, groups) if lease is None or speaks else {}
                if lease is None and not left:
                    return True
                if lease is None:
                    await end_orphan(k, namespace, handle.name, left)
                if speaks:  # a pod goes only when its node says so
                    say_at = now + SAY_EVERY
                    there = [*left, *([f"Job {handle.name}"] if lease else [])]
                    logger.info("cluster %s: still there: %s", handle.name, ", ".join(there))
                if now > until:
                    why = causes.not_gone(left)
                    if why and all(each.startswith("Dask") for each in left):
                        raise ClusterFailed(f"all that cluster {handle.name} ran is gone; {why}")
                    return False
                await asyncio.sleep(pause(time.monotonic() - since, LOOK_EVERY, LOOK_SHARE, LOOK_LATEST))

    # --- finding ---

    async def find(self, spec: KubernetesCluster, owner: Owner) -> ClusterHandle | None:
        access = await access_of(spec.conn_id)
        namespace = spec.namespace or access.namespace or "default"
        async with Client(access) as k:
            lease = await find(k, api.jobs(namespace, owner.name))
        return _handle(lease, spec.conn_id) if lease is not None and _ours(lease) else None

    async def list(self, spec: KubernetesCluster, instance: str) -> list[ClusterHandle]:
        access = await access_of(spec.conn_id)
        namespace = spec.namespace or access.namespace or "default"
        async with Client(access) as k:
            wanted = manifests.select(instance=instance, role="lease")
            leases = (await k.list(api.jobs(namespace), labels=wanted))["items"]
        handles = [_handle(lease, spec.conn_id) for lease in leases]
        return [handle for handle in handles if handle.owner["instance"] == instance]

    @contextlib.asynccontextmanager
    async def _open(self, handle: ClusterHandle) -> AsyncIterator[Client]:
        async with Client(await access_of(handle.details.get("conn_id"))) as client:
            yield client


# --- what its objects say ---


def _handle(lease: Object, conn_id: str | None) -> ClusterHandle:
    meta, known = lease["metadata"], json.loads(note(lease, "handle") or "{}")
    lifetime = timedelta(seconds=lease["spec"]["activeDeadlineSeconds"])
    number, started = attempt_of(lease)
    namespace, name = meta["namespace"], meta["name"]
    details = {"conn_id": conn_id, "namespace": namespace, **{key: known[key] for key in ("idle_timeout", "groups")}}
    expires = datetime.fromtimestamp(times.seconds(meta["creationTimestamp"]), timezone.utc) + lifetime
    return ClusterHandle(
        place="kubernetes",
        name=name,
        uid=meta["uid"],
        owner=manifests.owner_of(lease).labels(),
        spec_hash=note(lease, "spec-hash") or "",
        min_workers=known["min_workers"],
        ready_timeout=known["ready_timeout"],
        scheduler_address=manifests.scheduler_address(name, namespace, tls=known["tls"]),
        dashboard_url=None,
        created=meta["creationTimestamp"],
        expires=expires.isoformat(timespec="seconds"),
        attempt=number,
        started=started,
        details=details,
    )


def _ours(made: Object) -> bool:
    return bool(note(made, "owner"))


def _lease_script() -> str:
    return (resources.files("dask_provider.runtime") / "lease.py").read_text()


def _certificates() -> dict[str, str]:
    from distributed.security import Security

    made = Security.temporary()
    return {"ca": str(made.tls_ca_file), "cert": str(made.tls_client_cert), "key": str(made.tls_client_key)}


async def _read_manifest(spec: KubernetesCluster) -> dict[str, Any] | None:
    """The user's own DaskCluster: text, or where the text is."""
    if spec.manifest is None:
        return None
    text = str(spec.manifest)
    if not spec.has_manifest_text:
        from asgiref.sync import sync_to_async

        from dask_provider.storage import read_bytes

        text = (await sync_to_async(read_bytes)("KubernetesCluster.manifest", text)).decode()
        check_content(text)
    return parse_manifest(text)
