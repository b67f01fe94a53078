"""Jobs on Dataproc: one PySpark job each, whose driver is our runtime."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

from dask_provider import config
from dask_provider.errors import ClusterFailed, ClusterGone, Overtaken
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.hooks.base import TAKEN_OVER, News
from dask_provider.hooks.dataproc import job_requests, requests, storage
from dask_provider.hooks.dataproc.client import ApiError, Client, Object
from dask_provider.hooks.dataproc.clusters import ClustersHook, access_of
from dask_provider.hooks.dataproc.following import follow
from dask_provider.jobs import Bundle, staged
from dask_provider.owner import Attempt, Owner

#: seconds in which a job must be in a state that can be cancelled
CANCELLED_WITHIN = 3.0
#: seconds that an older job has to end
ENDED_WITHIN = 90.0


class DataprocHook(ClustersHook):
    """Speaks to Dataproc in one region; a job's files are one object in the staging bucket."""

    async def submit(self, handle: ClusterHandle, bundle: Bundle, attempt: Attempt) -> JobHandle:
        job_id = bundle.job_id(attempt.number)
        async with self._open(handle) as client:
            adopted = await self._take_over(client, handle, bundle, attempt, job_id)
            if adopted is not None:
                return _job_handle(handle, bundle.owner, adopted, adopted=True)
            found = await self._check(client, handle)
            main = await self._stage(client, handle, bundle, job_id, found)
            request = job_requests.job_request(
                bundle,
                job_id,
                attempt,
                cluster=handle.name,
                main=main,
                python=requests.python(found),
                labels=_of_user(found),
            )
            request["requestId"] = str(uuid.uuid4())  # the same for all tries of this call
            try:
                made = await client.call("POST", f"{client.jobs()}:submit", body=request)
            except ApiError as error:
                if error.reason == "ALREADY_EXISTS":
                    made = await client.get(client.jobs(job_id))
                    if not _same(made, bundle, attempt):
                        raise ClusterFailed(f"there is a job {job_id} at Dataproc that is not this try's") from None
                elif error.reason in ("NOT_FOUND", "FAILED_PRECONDITION"):
                    await self._check(client, handle)
                    raise ClusterGone(f"cluster {handle.name} takes no job: {error}") from None
                else:
                    raise ClusterFailed(f"Dataproc does not take job {job_id}: {error}") from None
            await self._settle(client, handle, bundle.owner, attempt, made)
        return _job_handle(handle, bundle.owner, made)

    async def _stage(self, client: Client, handle: ClusterHandle, bundle: Bundle, job_id: str, cluster: Object) -> str:
        """The URI of the job as one Python file."""
        content = job_requests.main_file(
            bundle,
            bundle.job_json(
                job_id,
                scheduler=handle.scheduler_address,
                tls=None,
                min_workers=handle.min_workers,
                ready_timeout=handle.ready_timeout,
                activity_file=None,
                cluster_env=requests.environment(cluster),
            ),
        )
        folder = staged(storage.staging(), bundle.owner, job_id)
        uri = f"{folder}job-{job_requests.digest(content)}.py"
        await storage.write(client, uri, content)
        return uri

    async def _take_over(
        self, client: Client, handle: ClusterHandle, bundle: Bundle, attempt: Attempt, job_id: str
    ) -> Object | None:
        """Adopt the job of an earlier try, or end all of them: at no time do two of one owner run.

        :raises Overtaken: when one belongs to a newer try; all are left as they are.
        """
        found = await jobs_of(client, handle, bundle.owner, superseded=True)
        for old in found:
            _check_newest(old, attempt)
        for old in found:
            may_adopt = _number(old) >= attempt.since and not attempt.fresh
            if may_adopt and _can_adopt(old, bundle.spec_hash):
                return await _note(client, old, job_requests.attempt_labels(attempt))
            # A name is Dataproc's for as long as it remembers the job: a run that was made anew counts from 1 again.
            await _end(client, old, forget=_id(old) == job_id)
        return None

    async def _settle(
        self, client: Client, handle: ClusterHandle, owner: Owner, attempt: Attempt, made: Object
    ) -> None:
        """Another try may have looked before this job was there, and made its own: one of the two sees the other now.

        :raises Overtaken: when that one is newer; this one is ended.
        """
        for other in [job for job in await jobs_of(client, handle, owner) if _id(job) != _id(made)]:
            try:
                _check_newest(other, attempt)
            except Overtaken:
                await _end(client, made, forget=False)
                raise
            await _end(client, other, forget=False)

    async def find_job(self, handle: ClusterHandle, owner: Owner) -> JobHandle | None:
        async with self._open(handle) as client:
            jobs = await jobs_of(client, handle, owner)
        return _job_handle(handle, owner, jobs[0]) if jobs else None

    async def cancel(self, job: JobHandle) -> str:
        async with _client_of(job) as client:
            found = await _get(client, job.job_id)
            if found is None or found.get("done"):
                return "already over"
            if job_requests.attempt_of(found) != (job.attempt, job.started):
                return TAKEN_OVER
            await _note(client, found, {job_requests.ENDING: job_requests.CANCELLED})
            until = time.monotonic() + CANCELLED_WITHIN
            while not await _cancel(client, found):  # one that is just starting cannot be: a moment later it can
                now = await _get(client, job.job_id)
                if now is None or now.get("done"):
                    break
                if time.monotonic() > until:
                    raise ClusterFailed(f"Dataproc does not cancel job {job.job_id} in state {now['status']['state']}")
                await asyncio.sleep(0.3)
            return "cancelled"

    async def watch(self, job: JobHandle, *, position: int, eager: bool) -> AsyncIterator[News]:
        async with _client_of(job) as client:
            client.patience = math.inf  # an outage ends no wait: who waits has a deadline
            async with contextlib.aclosing(follow(client, job.job_id, position, eager)) as found:
                async for news in found:
                    yield news


# --- the jobs of an owner ---


async def jobs_of(client: Client, handle: ClusterHandle, owner: Owner, *, superseded: bool = False) -> list[Object]:
    """Those that count, newest first. Dataproc keeps jobs for long after their cluster.

    :param superseded: also those that a later try has put aside.
    """
    wanted = {"clusterName": handle.name, "filter": f"labels.{job_requests.OWNER} = {owner.name}"}
    found = await client.list(client.jobs(), "jobs", wanted)
    ours = [job for job in found if job_requests.owned_by(job, owner) and (superseded or not _superseded(job))]
    return sorted(ours, key=lambda job: job_requests.attempt_of(job)[1], reverse=True)


def _superseded(job: Object) -> bool:
    return bool((job.get("labels") or {}).get(job_requests.ENDING) == job_requests.SUPERSEDED)


def _same(job: Object, bundle: Bundle, attempt: Attempt) -> bool:
    """Whether another process of this very try has submitted it."""
    mine = job_requests.attempt_labels(attempt) | {job_requests.SPEC: bundle.spec_hash}
    return mine.items() <= (job.get("labels") or {}).items()


def _id(job: Object) -> str:
    return str(job["reference"]["jobId"])


def _number(job: Object) -> int:
    """The attempt that started it."""
    return int(_id(job).rpartition("-")[2])


def _check_newest(job: Object, attempt: Attempt) -> None:
    """:raises Overtaken: when the job is a newer try's."""
    number, started = job_requests.attempt_of(job)
    if attempt.is_overtaken_by(number, started):
        raise Overtaken(_id(job), attempt.number, number)


def _can_adopt(job: Object, spec_hash: str) -> bool:
    """Whether it is the same program, and runs or has succeeded."""
    labels = job.get("labels") or {}
    if labels.get(job_requests.SPEC) != spec_hash or job_requests.ENDING in labels:
        return False
    return job["status"]["state"] == "DONE" or not job.get("done")


async def _get(client: Client, job_id: str) -> Object | None:
    try:
        return await client.get(client.jobs(job_id))
    except ApiError as error:
        if error.status == 404:
            return None
        raise


async def _note(client: Client, job: Object, labels: Mapping[str, str]) -> Object:
    """Write labels on a job, whatever its state."""
    wanted = {**(job.get("labels") or {}), **labels}
    query = {"updateMask": "labels"}
    return await client.call("PATCH", client.jobs(_id(job)), query=query, body={"labels": wanted})


async def _cancel(client: Client, job: Object) -> bool:
    """Ask it to end. ``False``: it is over, or between two states in which Dataproc cancels nothing."""
    try:
        await client.call("POST", f"{client.jobs(_id(job))}:cancel", body={})
    except ApiError as error:
        if error.reason not in ("FAILED_PRECONDITION", "NOT_FOUND"):
            raise
        return False
    return True


async def _end(client: Client, job: Object, *, forget: bool) -> None:
    """Put an older job aside, end what may still run of it, and wait for that.

    :param forget: whether its name is needed.
    """
    until = time.monotonic() + ENDED_WITHIN
    if not _superseded(job):
        job = await _note(client, job, {job_requests.ENDING: job_requests.SUPERSEDED})
    found: Object | None = job
    while found is not None and not found.get("done"):
        if not found["status"]["state"].startswith("CANCEL"):
            await _cancel(client, found)
        if time.monotonic() > until:
            raise ClusterFailed(f"job {_id(job)} of an earlier try does not end within {ENDED_WITHIN:.0f} s")
        await asyncio.sleep(0.5)
        found = await _get(client, _id(job))
    if forget and found is not None:
        try:
            await client.call("DELETE", client.jobs(_id(job)))
        except ApiError as error:
            if error.status != 404:
                raise


def _of_user(cluster: Object) -> dict[str, str]:
    labels = cluster.get("labels") or {}
    return {name: text for name, text in labels.items() if not name.startswith(("dask-provider-", "goog-"))}


def _job_handle(handle: ClusterHandle, owner: Owner, job: Object, *, adopted: bool = False) -> JobHandle:
    number, started = job_requests.attempt_of(job)
    folder = staged(config.staging(), owner, _id(job))
    details = handle.details
    where = f"{quote(details['conn_id'], safe='')}@{details['project_id']}/{details['region']}"
    return JobHandle(
        place="dataproc",
        job_id=_id(job),
        location=f"dataproc://{where}/{_id(job)}",
        attempt=number,
        results=f"{folder}results/",
        manifest=f"{folder}manifest.json",
        adopted=adopted,
        started=started,
    )


@contextlib.asynccontextmanager
async def _client_of(job: JobHandle) -> AsyncIterator[Client]:
    from urllib.parse import unquote

    conn_id, _, rest = job.location.removeprefix("dataproc://").partition("@")
    project_id, region, _ = rest.split("/", 2)
    async with Client(await access_of(unquote(conn_id)), project_id, region) as client:
        yield client
