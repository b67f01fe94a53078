"""The place ``kubernetes`` as a whole: clusters that we make, and those that somebody else made."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from dask_provider.clusters.existing_kubernetes import ExistingKubernetesCluster
from dask_provider.clusters.kubernetes import KubernetesCluster
from dask_provider.errors import ClusterFailed, ClusterGone, InvalidInput
from dask_provider.handles import ClusterHandle
from dask_provider.hooks.base import NOT_OURS
from dask_provider.hooks.kubernetes import jobs, manifests
from dask_provider.hooks.kubernetes import paths as api
from dask_provider.hooks.kubernetes.client import Client
from dask_provider.hooks.kubernetes.objects import Object
from dask_provider.hooks.kubernetes.own_manifest import check_service
from dask_provider.hooks.kubernetes.preflight import check_staging
from dask_provider.hooks.kubernetes.questions import access_of, find
from dask_provider.hooks.kubernetes.rights import EXISTING, check_rights
from dask_provider.owner import PLANNED, Attempt, Owner


class KubernetesHook(jobs.KubernetesHook):
    """Only looks at a cluster that somebody else made, and runs jobs beside it; they go when it goes."""

    def plan(self, spec: KubernetesCluster | ExistingKubernetesCluster, owner: Owner) -> dict[str, Any]:
        if isinstance(spec, KubernetesCluster):
            return super().plan(spec, owner)
        return {"use": f"DaskCluster {spec.name}", "namespace": spec.namespace, "min_workers": spec.ready_workers}

    async def create(
        self, spec: KubernetesCluster | ExistingKubernetesCluster, owner: Owner, attempt: Attempt
    ) -> ClusterHandle:
        if isinstance(spec, KubernetesCluster):
            return await super().create(spec, owner, attempt)
        check_staging()
        access = await access_of(spec.conn_id)
        namespace = spec.namespace or access.namespace or "default"
        async with Client(access) as k:
            await check_rights(k, namespace, EXISTING)
            cluster = await find(k, api.daskclusters(namespace, spec.name))
        if cluster is None or "deletionTimestamp" in cluster["metadata"]:
            allowed = f"a DaskCluster that is there: kubectl get daskclusters -n {namespace}"
            raise InvalidInput("ExistingKubernetesCluster.name", spec.name, allowed)
        check_service(f"ExistingKubernetesCluster.name: DaskCluster {spec.name}", cluster["spec"]["scheduler"])
        return _handle(spec, owner, namespace, cluster["metadata"]["uid"], attempt)

    async def _check(self, k: Client, handle: ClusterHandle) -> Object:
        """The owner of all that belongs to the cluster: its lease, or the DaskCluster of somebody else."""
        if not _foreign(handle):
            return await super()._check(k, handle)
        cluster = await find(k, api.daskclusters(handle.details["namespace"], handle.name))
        if cluster is None or cluster["metadata"]["uid"] != handle.uid or "deletionTimestamp" in cluster["metadata"]:
            raise ClusterGone(f"cluster {handle.name} is gone; whoever made it has deleted it")
        return cluster

    async def _for_job(self, k: Client, handle: ClusterHandle) -> tuple[Object, Object, dict[str, Any]]:
        if not _foreign(handle):
            return await super()._for_job(k, handle)
        cluster = await self._check(k, handle)
        # Its labels are for those who made it: a job that has them might be taken for a part of their release.
        like = {**cluster, "metadata": {name: cluster["metadata"][name] for name in ("name", "namespace")}}
        details = handle.details
        return cluster, like, {"resources": details["job_resources"], "deadline_seconds": details["job_deadline"]}

    async def scale(self, handle: ClusterHandle, low: int, high: int) -> None:
        _refuse(handle, "scale")
        await super().scale(handle, low, high)

    async def change_node_ports(
        self, handle: ClusterHandle, *, node_port: int | None = None, dashboard_node_port: int | None = None
    ) -> None:
        _refuse(handle, "change")
        await super().change_node_ports(handle, node_port=node_port, dashboard_node_port=dashboard_node_port)

    async def _extend(self, k: Client, handle: ClusterHandle, seconds: float) -> None:
        if not _foreign(handle):
            await super()._extend(k, handle, seconds)

    async def delete(self, handle: ClusterHandle, reason: str, *, compare: bool = False) -> str:
        return NOT_OURS if _foreign(handle) else await super().delete(handle, reason, compare=compare)

    async def wait_gone(self, handle: ClusterHandle, seconds: float) -> bool:
        return True if _foreign(handle) else await super().wait_gone(handle, seconds)

    async def find(self, spec: KubernetesCluster | ExistingKubernetesCluster, owner: Owner) -> ClusterHandle | None:
        if isinstance(spec, KubernetesCluster):
            return await super().find(spec, owner)
        namespace = spec.namespace or (await access_of(spec.conn_id)).namespace or "default"
        return _handle(spec, owner, namespace, "", PLANNED)  # enough to find its jobs by

    async def list(self, spec: KubernetesCluster | ExistingKubernetesCluster, instance: str) -> list[ClusterHandle]:
        return await super().list(spec, instance) if isinstance(spec, KubernetesCluster) else []


def _handle(spec: ExistingKubernetesCluster, owner: Owner, namespace: str, uid: str, attempt: Attempt) -> ClusterHandle:
    return ClusterHandle(
        place="kubernetes",
        name=spec.name,
        uid=uid,
        owner=owner.labels(),
        spec_hash=spec.hash(),
        min_workers=spec.ready_workers,
        ready_timeout=spec.ready_seconds,
        scheduler_address=manifests.scheduler_address(spec.name, namespace, tls=spec.tls),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        attempt=attempt.number,
        started=attempt.started,
        details={
            "conn_id": spec.conn_id,
            "namespace": namespace,
            "existing": True,
            "job_resources": spec.job_quantities,
            "job_deadline": spec.deadline,
        },
    )


def _foreign(handle: ClusterHandle) -> bool:
    return bool(handle.details.get("existing"))


def _refuse(handle: ClusterHandle, what: str) -> None:
    if _foreign(handle):
        raise ClusterFailed(f"{handle.name} is not ours to {what}; allowed: clusters that we create")
