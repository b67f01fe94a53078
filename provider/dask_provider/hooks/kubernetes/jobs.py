"""Jobs on Kubernetes: one Job each, beside the cluster that it belongs to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from dask_provider.errors import ClusterFailed, Overtaken
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.hooks.base import TAKEN_OVER, News
from dask_provider.hooks.kubernetes import bundles, endings, job_manifests, manifests
from dask_provider.hooks.kubernetes import paths as api
from dask_provider.hooks.kubernetes.client import Client
from dask_provider.hooks.kubernetes.clusters import ClustersHook
from dask_provider.hooks.kubernetes.errors import ApiError
from dask_provider.hooks.kubernetes.following import follow
from dask_provider.hooks.kubernetes.objects import Object, attempt_notes, attempt_of, name_of, newest, note, over
from dask_provider.hooks.kubernetes.preflight import check_staging
from dask_provider.hooks.kubernetes.questions import (
    REFUSED_WITHIN,
    access_of,
    changes,
    create,
    ensure,
    find,
    pods_of,
)
from dask_provider.hooks.kubernetes.times import seconds
from dask_provider.jobs import Bundle
from dask_provider.owner import Attempt, Owner
from dask_provider.storage import split_connection

#: seconds that an older job has to end
ENDED_WITHIN = 60.0
#: seconds for which a cluster is not idle, at least, while the pod of a job is being made
SLOW_START = 60.0


class KubernetesHook(ClustersHook):
    """Speaks to one API server; a job is a Job, its bundle a ConfigMap and perhaps files in the staging area."""

    async def submit(self, handle: ClusterHandle, bundle: Bundle, attempt: Attempt) -> JobHandle:
        check_staging()
        namespace = handle.details["namespace"]
        job_id = bundle.job_id(attempt.number)
        async with self._open(handle) as k:
            adopted = await take_over(k, namespace, bundle.owner, bundle.spec_hash, attempt, job_id)
            if adopted is not None:
                await self._start(k, handle, adopted, bundle, attempt)
                return _job_handle(handle, adopted, adopted=True)
            belongs_to, like, limits = await self._for_job(k, handle)
            known = json.loads(note(belongs_to, "handle") or "{}")
            handle = replace(handle, min_workers=known.get("min_workers", handle.min_workers))  # it may be scaled down
            wanted = job_manifests.job(like, bundle, job_id, attempt, now=time.time(), **limits)
            await self._bundled(handle, wanted, bundle)  # now, since it may be refused
            # Whatever idle_timeout is: nearly all of it may be over, and a node or an image may have to come first.
            await self._extend(k, handle, max(SLOW_START, handle.ready_timeout))
            made = await create_job(k, namespace, manifests.owned(wanted, belongs_to), bundle.owner, attempt)
            await self._start(k, handle, made, bundle, attempt)
        return _job_handle(handle, made)

    async def would_adopt(self, handle: ClusterHandle, bundle: Bundle, attempt: Attempt) -> bool:
        async with self._open(handle) as k:
            for job in await jobs_of(k, handle.details["namespace"], bundle.owner):
                if await _can_adopt(k, job, bundle.spec_hash, attempt):
                    return True
        return False

    async def _for_job(self, k: Client, handle: ClusterHandle) -> tuple[Object, Object, dict[str, Any]]:
        """Whom a new job belongs to, the DaskCluster that its pod is like, ``resources`` and ``deadline_seconds``.

        :raises ClusterGone: when the cluster has ended, naming why.
        """
        lease = await self._check(k, handle)
        cluster = await k.get(api.daskclusters(handle.details["namespace"], handle.name))
        resources = json.loads(note(lease, "handle") or "{}")["job_resources"]
        ends = seconds(lease["metadata"]["creationTimestamp"]) + lease["spec"]["activeDeadlineSeconds"]
        return lease, cluster, {"resources": resources, "deadline_seconds": ends - time.time()}

    async def _start(self, k: Client, handle: ClusterHandle, job: Object, bundle: Bundle, attempt: Attempt) -> None:
        """Give a suspended Job its bundle and let it go."""
        if job["spec"].get("suspend"):
            content = await self._bundled(handle, job, bundle)
            await ensure(k, api.configmaps(handle.details["namespace"]), manifests.owned(content, job))
            await let_go(k, job, attempt)

    async def _bundled(self, handle: ClusterHandle, job: Object, bundle: Bundle) -> Object:
        """The ConfigMap of a Job, once what it does not hold is in the staging area.

        :raises InvalidInput: all of it is too large, or the staging area takes nothing.
        """
        uris = await asyncio.to_thread(bundles.in_staging, bundle, bundles.mounted(job))
        content = bundles.config_map(job, bundle, self._job_json(handle, bundle, name_of(job), uris))
        await asyncio.to_thread(bundles.stage, bundle, uris)
        return content

    def _job_json(self, handle: ClusterHandle, bundle: Bundle, job_id: str, uris: Mapping[str, str]) -> bytes:
        # The pod has the cluster's environment and certificates already.
        return bundle.job_json(
            job_id,
            scheduler=handle.scheduler_address,
            tls=None,
            min_workers=handle.min_workers,
            ready_timeout=handle.ready_timeout,
            activity_file=None,
            cluster_env={},
            fetch={path: split_connection(uri)[1] for path, uri in uris.items()},
        )

    async def find_job(self, handle: ClusterHandle, owner: Owner) -> JobHandle | None:
        async with self._open(handle) as k:
            jobs = await jobs_of(k, handle.details["namespace"], owner)
        return _job_handle(handle, jobs[0]) if jobs else None

    async def cancel(self, job: JobHandle) -> str:
        conn_id, namespace = _where(job)
        until = time.monotonic() + REFUSED_WITHIN
        async with Client(await access_of(conn_id)) as k:
            while True:
                found = await find(k, api.jobs(namespace, job.job_id))
                if found is None:
                    return "already over"
                if attempt_of(found) != (job.attempt, job.started):
                    return TAKEN_OVER
                if over(found):
                    return "already over"
                with changes(until):
                    await _ask_to_end(k, found, "ending")
                    return "cancelled"
                await asyncio.sleep(0.1)

    async def watch(self, job: JobHandle, *, position: int, eager: bool) -> AsyncIterator[News]:
        conn_id, namespace = _where(job)
        access = await access_of(conn_id)
        async with contextlib.aclosing(follow(access, namespace, job.job_id, position, eager=eager)) as found:
            async for news in found:
                yield news


# --- the Jobs of an owner ---


async def take_over(
    k: Client, namespace: str, owner: Owner, spec_hash: str, attempt: Attempt, job_id: str
) -> Object | None:
    """Adopt the Job of an earlier try, or end all of them: at no time do two of one owner run.

    :param job_id: the name that a new one is to have.
    :raises Overtaken: when one belongs to a newer try; all are left as they are.
    """
    found = await jobs_of(k, namespace, owner, superseded=True)
    for old in found:
        _check_newest(old, attempt)
    for old in found:
        needed = name_of(old) == job_id  # a run that was deleted and made anew counts its tries from 1 again
        if note(old, "superseded") is not None:
            await _end(k, old, gone=needed)  # whoever began that may not have come to its end
            continue
        if await _can_adopt(k, old, spec_hash, attempt):
            with changes():  # by whoever ends it, perhaps: then it is no longer to be had
                return await _adopt(k, old, attempt)
            return await take_over(k, namespace, owner, spec_hash, attempt, job_id)
        await _end(k, old, gone=needed)
    return None


async def create_job(k: Client, namespace: str, wanted: Object, owner: Owner, attempt: Attempt) -> Object:
    """Create the Job, or read the one that another process of this try has just made.

    Nothing of a suspended one runs until this has looked for others, and ended them.

    :raises ClusterFailed: when the name is somebody else's.
    :raises Overtaken: when a newer try has made one meanwhile; this one is deleted again.
    """
    made = await create(k, api.jobs(namespace), wanted)
    if note(made, "owner") is None or manifests.owner_of(made) != owner:
        raise ClusterFailed(f"there is a Job {name_of(made)} in namespace {namespace} that is not ours: it stays")
    # Another try may have looked before this Job was there, and made its own since: one of the two sees the other now.
    listed = await jobs_of(k, namespace, owner, superseded=True)  # one that is put aside may still run
    made = next((job for job in listed if job["metadata"]["uid"] == made["metadata"]["uid"]), made)  # as it is by now
    try:
        for job in listed:
            _check_newest(job, attempt)
    except Overtaken:
        if attempt_of(made) == (attempt.number, attempt.started):
            with changes():
                await k.delete(api.jobs(namespace, name_of(made)), uid=made["metadata"]["uid"])
        raise
    for other in listed:
        if name_of(other) != name_of(made):
            await _end(k, other, gone=False)
    return made


async def let_go(k: Client, job: Object, attempt: Attempt) -> None:
    """Let a suspended Job run; one that was cancelled meanwhile is gone, and stays so.

    :raises Overtaken: when a newer try has ended it.
    """
    meta, until = job["metadata"], time.monotonic() + ENDED_WITHIN
    path = api.jobs(meta["namespace"], meta["name"])
    while True:
        try:
            # Not by its version: its controller notes that it is suspended. Who ends it deletes it (see _ask_to_end),
            # and who adopts it wants it to run.
            await k.patch(path, {"spec": {"suspend": False}}, uid=meta["uid"])
            return
        except ApiError as error:
            if error.status not in (404, 409):
                raise
            found = await find(k, path)
            if found is None or found["metadata"]["uid"] != meta["uid"] or not found["spec"].get("suspend"):
                break
            if time.monotonic() > until:
                raise
        await asyncio.sleep(0.1)  # too many changed it at once, or what admits it could not keep up
    for other in await jobs_of(k, meta["namespace"], manifests.owner_of(job), superseded=True):
        _check_newest(other, attempt)


async def jobs_of(k: Client, namespace: str, owner: Owner, *, superseded: bool = False) -> list[Object]:
    """Those that count, newest first.

    :param superseded: also those that a later try has ended.
    """
    selector = manifests.select(instance=owner.instance, owner=owner.name, role="job")
    found = (await k.list(api.jobs(namespace), labels=selector))["items"]
    counted = [job for job in found if superseded or note(job, "superseded") is None]
    ours = [job for job in counted if manifests.owner_of(job) == owner]
    return sorted(ours, key=_number, reverse=True)


def _number(job: Object) -> int:
    """The attempt that started it."""
    return int(name_of(job).rpartition("-")[2])


def _check_newest(job: Object, attempt: Attempt) -> None:
    """:raises Overtaken: when the Job is a newer try's."""
    number, started = attempt_of(job)
    if attempt.is_overtaken_by(number, started):
        raise Overtaken(f"job {name_of(job)}", attempt.number, number)


async def _can_adopt(k: Client, job: Object, spec_hash: str, attempt: Attempt) -> bool:
    """Whether it is an earlier try's, the same program, and runs or has succeeded."""
    if attempt.fresh or _number(job) < attempt.since:
        return False
    if note(job, "spec-hash") != spec_hash or note(job, "ending") is not None:
        return False
    # The Job's own word comes a moment after its pod's.
    end = endings.job_end(job, newest(await pods_of(k, job)))
    return end is None or end.state == "succeeded"


async def _adopt(k: Client, job: Object, attempt: Attempt) -> Object:
    """Write the attempt on it, and its deadline.

    :raises ApiError: 409 when it has changed since it was read.
    """
    meta = job["metadata"]
    notes = {f"dask-provider/{name}": text for name, text in attempt_notes(attempt).items()}
    body: Object = {"metadata": {"annotations": notes}}
    limit = job_manifests.seconds_of_adopted(job, attempt, time.time())
    if limit is not None and not over(job):
        body["spec"] = {"activeDeadlineSeconds": limit}
    version = meta["resourceVersion"]
    return await k.patch(api.jobs(meta["namespace"], meta["name"]), body, uid=meta["uid"], resource_version=version)


async def _ask_to_end(k: Client, job: Object, why: str) -> None:
    """Kubernetes ends its pod with SIGTERM; the Job itself, and what it says, stays."""
    meta = job["metadata"]
    if job["spec"].get("suspend"):  # no deadline counts for it: it would wait for ever, and has nothing to say
        path, version = api.jobs(meta["namespace"], meta["name"]), meta["resourceVersion"]
        await k.delete(path, uid=meta["uid"], resource_version=version, propagation="Background")
        return
    body = {"metadata": {"annotations": {f"dask-provider/{why}": "true"}}, "spec": {"activeDeadlineSeconds": 1}}
    await k.patch(api.jobs(meta["namespace"], meta["name"]), body, resource_version=meta["resourceVersion"])


async def _end(k: Client, job: Object, *, gone: bool) -> None:
    """End what may still run of an older job, and wait for it; nobody is to find it again.

    :param gone: whether its name is needed.
    """
    meta, until = job["metadata"], time.monotonic() + ENDED_WITHIN
    path = api.jobs(meta["namespace"], meta["name"])
    while True:
        found = await find(k, path)
        if found is None or found["metadata"]["uid"] != meta["uid"]:
            return
        running = [pod for pod in await pods_of(k, job) if pod["status"].get("phase") not in ("Succeeded", "Failed")]
        # Until the Job itself says that it is over its controller may still make a pod.
        stopped = not running and (over(found) or found["spec"].get("suspend"))
        if stopped and not gone and note(found, "superseded") is not None:
            return
        with changes():
            if gone and "deletionTimestamp" not in found["metadata"]:
                await k.delete(path, uid=meta["uid"])
            elif not gone and note(found, "superseded") is None:
                await _ask_to_end(k, found, "superseded")
        if time.monotonic() > until:
            raise ClusterFailed(f"job {meta['name']} of an earlier try does not end within {ENDED_WITHIN:.0f} s")
        await asyncio.sleep(0.3)


def _job_handle(handle: ClusterHandle, job: Object, *, adopted: bool = False) -> JobHandle:
    return job_handle(handle.details.get("conn_id"), job, adopted=adopted)


def job_handle(conn_id: str | None, job: Object, *, adopted: bool = False) -> JobHandle:
    """The record of a Job."""
    meta, (number, started) = job["metadata"], attempt_of(job)
    return JobHandle(
        place="kubernetes",
        job_id=meta["name"],
        location=f"kubernetes://{conn_id + '@' if conn_id else ''}{meta['namespace']}/{meta['name']}",
        attempt=number,
        results=note(job, "results") or "",
        manifest=note(job, "manifest") or "",
        adopted=adopted,
        started=started,
    )


def _where(job: JobHandle) -> tuple[str | None, str]:
    """Connection id and namespace."""
    authority = job.location.removeprefix("kubernetes://").partition("/")[0]
    conn_id, _, namespace = authority.rpartition("@")
    return conn_id or None, namespace
