"""What is asked of the API server, by clusters and jobs alike."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping

from dask_provider.errors import ClusterFailed
from dask_provider.handles import ClusterHandle
from dask_provider.hooks.kubernetes import causes, node_ports
from dask_provider.hooks.kubernetes import paths as api
from dask_provider.hooks.kubernetes.access import Access
from dask_provider.hooks.kubernetes.client import Client
from dask_provider.hooks.kubernetes.connections import load_access
from dask_provider.hooks.kubernetes.errors import ApiError
from dask_provider.hooks.kubernetes.objects import Object, note

#: seconds for which a request to end something is repeated that the server could not take: a killed task has about five
REFUSED_WITHIN = 2.0


async def access_of(conn_id: str | None) -> Access:
    """Outside the event loop, which a connection of Airflow would block."""
    from asgiref.sync import sync_to_async

    access: Access = await sync_to_async(load_access)(conn_id)
    return access


async def find(k: Client, path: str) -> Object | None:
    """The object, or ``None``."""
    try:
        return await k.get(path)
    except ApiError as error:
        if error.status == 404:
            return None
        raise


async def create(k: Client, path: str, wanted: Object) -> Object:
    """Create it, or read the one that is there."""
    try:
        return await k.create(path, wanted)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
        return await k.get(f"{path}/{wanted['metadata']['name']}")


async def ensure(k: Client, path: str, wanted: Object) -> None:
    """Create it, unless it is there; it is not read, which for Secrets would be a right too many."""
    try:
        await k.create(path, wanted)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


async def delete_lease(k: Client, lease: Object) -> None:
    """Ask for the end of a lease and of all that belongs to it.

    :raises ApiError: 409 when it has changed since it was read.
    """
    meta = lease["metadata"]
    path, version = api.jobs(meta["namespace"], meta["name"]), meta["resourceVersion"]
    await k.delete(path, uid=meta["uid"], resource_version=version, propagation="Foreground")


@contextlib.contextmanager
def changes(until: float = 0.0) -> Iterator[None]:
    """Passes over what was changed, or went, since it was read: whoever comes this far looks again.

    :param until: monotonic time until which it also passes over trouble that may be gone in a moment. It may have been
        done all the same: only for what is asked of the object as it was read.
    """
    try:
        yield
    except ApiError as error:
        if error.status not in (404, 409) and not (error.passing and time.monotonic() < until):
            raise


async def annotate(k: Client, found: Object, notes: Mapping[str, str], *, exact: bool = False) -> Object:
    """Write on a Job or a pod; returns it as it is then.

    :param exact: only if it has not changed since it was read.
    """
    meta = found["metadata"]
    path = api.pods if "containers" in found["spec"] else api.jobs
    body = {"metadata": {"annotations": {f"dask-provider/{name}": value for name, value in notes.items()}}}
    version = meta["resourceVersion"] if exact else None
    return await k.patch(path(meta["namespace"], meta["name"]), body, uid=meta["uid"], resource_version=version)


async def pods_of(k: Client, job: Object) -> list[Object]:
    """The pods of a Job."""
    meta = job["metadata"]
    found: list[Object] = (await k.list(api.pods(meta["namespace"]), labels={"job-name": meta["name"]}))["items"]
    return found


async def left_of(k: Client, namespace: str, name: str, groups: Iterable[str]) -> dict[str, Object]:
    """What is there of a cluster beside its lease, by ``Kind name``.

    :param groups: its further worker groups; to list all that there are would take another right.
    :raises ClusterFailed: for what somebody else made under such a name.
    """
    labels = {"dask.org/cluster-name": name}
    cluster, default, deployments, services, pods, *further = await asyncio.gather(
        find(k, api.daskclusters(namespace, name)),
        find(k, api.daskworkergroups(namespace, f"{name}-default")),
        *(k.list(path(namespace), labels=labels) for path in (api.deployments, api.services, api.pods)),
        *(find(k, api.daskworkergroups(namespace, f"{name}-{group}")) for group in groups),
    )
    of_others: list[Object] = [cluster] if cluster is not None and not _belongs(cluster, name) else []
    of_others += [group for group in further if group is not None and not note(group, "owner")]
    if of_others:
        there = f"{of_others[0]['kind']} {of_others[0]['metadata']['name']}"
        raise ClusterFailed(f"there is a {there} in namespace {namespace} that is not ours: it stays")
    found = [("DaskCluster", cluster), *(("DaskWorkerGroup", group) for group in (default, *further))]
    for kind, listed in (("Deployment", deployments), ("Service", services), ("Pod", pods)):
        found += [(kind, item) for item in (listed or {})["items"]]
    return {f"{kind} {item['metadata']['name']}": item for kind, item in found if item is not None}


async def end_orphan(k: Client, namespace: str, name: str, left: Iterable[str]) -> None:
    """End the worker group that is left of a cluster which was deleted as soon as it was made.

    The operator makes the group, and only then looks for the cluster to own it; it never finds it and tries for ever.
    """
    if list(left) == [f"DaskWorkerGroup {name}-default"]:
        with changes():
            path = api.daskworkergroups(namespace, f"{name}-default")
            group = await k.get(path)
            if not group["metadata"].get("ownerReferences"):
                await k.delete(path, uid=group["metadata"]["uid"])


async def workers_of(k: Client, handle: ClusterHandle) -> int | None:
    """How many have joined, by the scheduler's own word; ``None`` while it does not answer."""
    try:
        # A page that every scheduler has; "api/v1" has to be turned on.
        seen = await k.proxy_get(
            handle.details["namespace"], f"{handle.name}-scheduler", "http-dashboard", "json/counts.json"
        )
    except ApiError:
        return None
    return int(seen["workers"])


async def cause_of(k: Client, handle: ClusterHandle, *, age: float) -> causes.Cause | None:
    """Why it is not ready."""
    namespace, labels = handle.details["namespace"], {"dask.org/cluster-name": handle.name}
    cluster, deployments, pods = await asyncio.gather(
        find(k, api.daskclusters(namespace, handle.name)),
        k.list(api.deployments(namespace), labels=labels),
        k.list(api.pods(namespace), labels=labels),
    )
    events: list[Object] = []
    if any(_waits(pod) for pod in pods["items"]):  # of others they say nothing more
        kinds = ("type=Warning", "reason=NotTriggerScaleUp")
        listed = await asyncio.gather(*(k.list(api.events(namespace), fields=kind) for kind in kinds))
        events = [event for each in listed for event in each["items"]]
    cause = causes.not_ready(cluster, deployments["items"], pods["items"], events, age=age)
    if cause is None and cluster is not None and deployments["items"] and age > causes.OPERATOR_SILENT:
        return node_ports.no_service(cluster, (await k.list(api.services(namespace)))["items"])
    if cause is not None and cause.pod is not None:
        lines = []
        with contextlib.suppress(ApiError):
            async for _, line in k.log(namespace, cause.pod, follow=False, tail_lines=10):
                lines.append(line)
        said = " | ".join(line for line in lines if line.strip())
        return causes.Cause(f"{cause.text}: {said or 'it wrote nothing'}", cause.fatal, cause.pod)
    return cause


def _waits(pod: Object) -> bool:
    """Whether something of it does not run yet, or again."""
    status = pod["status"]
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return status.get("phase") == "Pending" or any("waiting" in (each.get("state") or {}) for each in containers)


def _belongs(cluster: Object, name: str) -> bool:
    """Whether a DaskCluster is owned by a lease of that name."""
    references = cluster["metadata"].get("ownerReferences") or []
    return any(r["kind"] == "Job" and r["name"] == name for r in references)
