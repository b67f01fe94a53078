"""Jobs on Dataproc: one PySpark job each, whose driver is our runtime."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from urllib.parse import quote

from dask_provider import config
from dask_provider.errors import ClusterFailed, ClusterGone, Overtaken
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.hooks.base import TAKEN_OVER, News
from dask_provider.hooks.dataproc import attempts, changes, failures, job_requests, programs, requests, storage, yarn
from dask_provider.hooks.dataproc.client import ApiError, Client, Object
from dask_provider.hooks.dataproc.clusters import ClustersHook, access_of
from dask_provider.hooks.dataproc.following import follow
from dask_provider.jobs import Bundle, staged
from dask_provider.owner import Attempt, Owner

#: seconds in which a job must be in a state that can be cancelled
CANCELLED_WITHIN = 3.0
#: seconds that an older job has to end
ENDED_WITHIN = 90.0
#: seconds for what was staged for a job that is cancelled, and for all that was for a cluster's that is gone
TIDIED_SOON, TIDIED_WITHIN = 1.0, 30.0
#: earlier tries whose job is looked for by its name
KNOWN = 5

logger = logging.getLogger(__name__)


class DataprocHook(ClustersHook):
    """Speaks to Dataproc in one region; a job's files are one object in the staging bucket."""

    async def submit(self, handle: ClusterHandle, bundle: Bundle, attempt: Attempt) -> JobHandle:
        job_id = bundle.job_id(attempt.number)
        async with self._open(handle) as client:
            adopted = await self._take_over(client, handle, bundle, attempt, job_id)
            if adopted is not None:
                return _job_handle(handle, bundle.owner, adopted, adopted=True)
            found = await self._check(client, handle)
            try:
                main = await self._stage(client, handle, bundle, attempt, found)
            except ApiError as error:
                text = f"job {job_id} cannot be put below {storage.staging()}: {failures.advised(str(error))}"
                raise ClusterFailed(text) from None
            request = job_requests.job_request(
                bundle,
                job_id,
                attempt,
                cluster=handle.name,
                main=main,
                python=requests.python(found),
                labels=_of_user(found),
                properties=requests.job_properties(found),
            )
            request["requestId"] = str(uuid.uuid4())  # the same for all tries of this call
            try:
                made = await changes.patiently(
                    client, handle.name, lambda: client.call("POST", f"{client.jobs()}:submit", body=request)
                )
            except ApiError as error:
                if error.reason != "ALREADY_EXISTS" and not error.passing:
                    await programs.discard(client, main)
                if error.reason == "ALREADY_EXISTS":
                    made = await client.get(client.jobs(job_id))
                    if not _same(made, bundle, attempt):
                        await programs.discard(client, main)
                        raise ClusterFailed(f"there is a job {job_id} at Dataproc that is not this try's") from None
                elif error.reason in ("NOT_FOUND", "FAILED_PRECONDITION"):
                    await self._check(client, handle)
                    raise ClusterGone(f"cluster {handle.name} takes no job: {error}") from None
                else:
                    text = f"Dataproc does not take job {job_id}: {failures.advised(str(error))}"
                    raise ClusterFailed(text) from None
            await self._settle(client, handle, bundle.owner, attempt, made)
        return _job_handle(handle, bundle.owner, made)

    async def would_adopt(self, handle: ClusterHandle, bundle: Bundle, attempt: Attempt) -> bool:
        async with self._open(handle) as client:
            found = await jobs_of(client, handle, bundle.owner, numbers=_earlier(attempt))
        return any(_can_adopt(job, bundle.spec_hash, attempt) for job in found)

    async def _stage(
        self, client: Client, handle: ClusterHandle, bundle: Bundle, attempt: Attempt, cluster: Object
    ) -> str:
        """The URI of the job as one Python file."""
        job_id = bundle.job_id(attempt.number)
        env, on_yarn, least = requests.environment(cluster), {}, handle.min_workers
        if yarn.runs_on_yarn(cluster):
            tags = [bundle.owner.name, f"{job_id}.{attempt.started * 1000:.0f}"]
            on_yarn["yarn"] = yarn.application(cluster, tags, requests.python(cluster), env)
        else:
            least = min(least, changes.most_workers(cluster))  # it may be scaled down
        job_json = bundle.job_json(
            job_id,
            scheduler=handle.scheduler_address,
            tls=None,
            min_workers=least,
            ready_timeout=handle.ready_timeout,
            activity_file=None,
            cluster_env=env,
            **on_yarn,
        )
        return await programs.stage(client, bundle, job_id, attempt, job_json)

    async def _take_over(
        self, client: Client, handle: ClusterHandle, bundle: Bundle, attempt: Attempt, job_id: str
    ) -> Object | None:
        """Adopt the job of an earlier try, or end all of them: at no time do two of one owner run.

        :raises Overtaken: when one belongs to a newer try; all are left as they are.
        """
        earlier = _earlier(attempt)
        found = await jobs_of(client, handle, bundle.owner, superseded=True, numbers=earlier)
        for old in found:
            _check_newest(old, attempt)
        there = {_id(old) for old in found}
        for lost in {bundle.job_id(number) for number in earlier} - there:
            await programs.remove_unsubmitted(client, bundle.owner, lost)
        for old in found:
            if _can_adopt(old, bundle.spec_hash, attempt):
                return await _note(client, old, requests.attempt_labels(attempt))
            # A name is Dataproc's for as long as it remembers the job: a run that was made anew counts from 1 again.
            await _end(client, old, forget=_id(old) == job_id)
        return None

    async def _settle(
        self, client: Client, handle: ClusterHandle, owner: Owner, attempt: Attempt, made: Object
    ) -> None:
        """Another try may have looked before this job was there, and made its own: one of the two sees the other now.

        :raises Overtaken: when that one is newer; this one is ended.
        """
        # Also those that were put aside: they may still run, or have been a newer try's.
        jobs = await jobs_of(client, handle, owner, superseded=True, numbers=(attempt.number + 1,))
        for other in [job for job in jobs if _id(job) != _id(made)]:
            try:
                _check_newest(other, attempt)
            except Overtaken:
                await _end(client, made, forget=False)
                raise
            await _end(client, other, forget=False)

    async def find_job(self, handle: ClusterHandle, owner: Owner) -> JobHandle | None:
        async with self._open(handle) as client:
            jobs = await jobs_of(client, handle, owner)
            latest = max((_number(job) for job in jobs), default=0)
            newer = await _named(client, handle, owner, range(latest + 1, latest + 3))
            jobs = [job for job in newer if not _superseded(job)][-1:] or jobs
        return _job_handle(handle, owner, jobs[0]) if jobs else None

    async def cancel(self, job: JobHandle) -> str:
        async with _client_of(job) as client:
            found = await client.find(client.jobs(job.job_id))
            if found is None or found.get("done"):
                return "already over"
            if requests.attempt_of(found) != (job.attempt, job.started):
                return TAKEN_OVER
            await _note(client, found, {job_requests.ENDING: job_requests.CANCELLED})
            until = time.monotonic() + CANCELLED_WITHIN
            while not await _cancel(client, found):  # one that is just starting cannot be: a moment later it can
                now = await client.find(client.jobs(job.job_id))
                if now is None or now.get("done"):
                    break
                if time.monotonic() > until:
                    raise ClusterFailed(f"Dataproc does not cancel job {job.job_id} in state {now['status']['state']}")
                await asyncio.sleep(0.3)
            # Perhaps nobody follows it to its end. The cluster's may come next, and no time is left: it tries again.
            await programs.remove(client, found, TIDIED_SOON)
            return "cancelled"

    async def wait_gone(self, handle: ClusterHandle, seconds: float) -> bool:
        """Then nothing is left, either, that was staged for it, or for those of its jobs whose end nobody has seen."""
        gone = await super().wait_gone(handle, seconds)
        if gone:
            try:
                await asyncio.wait_for(self._tidy_up(handle), TIDIED_WITHIN)
            except asyncio.TimeoutError:
                text = "cluster %s: not all that was staged is removed; a lifecycle rule of the bucket should do that"
                logger.warning(text, handle.name)
        return gone

    async def _tidy_up(self, handle: ClusterHandle) -> None:
        async with self._open(handle) as client:
            await attempts.forget(client, handle.uid)
            await programs.remove_all(client, handle.name, handle.uid)

    async def watch(self, job: JobHandle, *, position: int, eager: bool) -> AsyncIterator[News]:
        async with _client_of(job) as client:
            client.patience = math.inf  # an outage ends no wait: who waits has a deadline
            async with contextlib.aclosing(follow(client, job.job_id, position, eager)) as found:
                async for news in found:
                    yield news


# --- the jobs of an owner ---


async def jobs_of(
    client: Client, handle: ClusterHandle, owner: Owner, *, superseded: bool = False, numbers: Iterable[int] = ()
) -> list[Object]:
    """Those that count, newest first. Dataproc keeps jobs for long after their cluster.

    :param superseded: also those that a later try has put aside.
    :param numbers: of tries that may just have submitted one: a list does not show it at once, its name does.
    """
    wanted = {"clusterName": handle.name, "filter": f"labels.{job_requests.OWNER} = {owner.name}"}
    found = await client.list(client.jobs(), "jobs", wanted)
    listed = {_id(job) for job in found}
    found += await _named(
        client, handle, owner, [number for number in numbers if f"{owner.name}-{number}" not in listed]
    )
    ours = [job for job in found if job_requests.owned_by(job, owner) and (superseded or not _superseded(job))]
    return sorted(ours, key=lambda job: requests.attempt_of(job)[1], reverse=True)


async def _named(client: Client, handle: ClusterHandle, owner: Owner, numbers: Iterable[int]) -> list[Object]:
    """The jobs that these tries of the owner have started on the cluster, in this order."""
    found = await asyncio.gather(*(client.find(client.jobs(f"{owner.name}-{number}")) for number in numbers))
    there = [job for job in found if job is not None and job["placement"]["clusterName"] == handle.name]
    return [job for job in there if job_requests.owned_by(job, owner)]


def _superseded(job: Object) -> bool:
    return bool((job.get("labels") or {}).get(job_requests.ENDING) == job_requests.SUPERSEDED)


def _same(job: Object, bundle: Bundle, attempt: Attempt) -> bool:
    """Whether another process of this very try has submitted it."""
    mine = requests.attempt_labels(attempt) | {job_requests.SPEC: bundle.spec_hash}
    return mine.items() <= (job.get("labels") or {}).items()


def _id(job: Object) -> str:
    return str(job["reference"]["jobId"])


def _number(job: Object) -> int:
    """The attempt that started it."""
    return int(_id(job).rpartition("-")[2])


def _check_newest(job: Object, attempt: Attempt) -> None:
    """:raises Overtaken: when the job is a newer try's."""
    number, started = requests.attempt_of(job)
    if attempt.is_overtaken_by(number, started):
        raise Overtaken(f"job {_id(job)}", attempt.number, number)


def _earlier(attempt: Attempt) -> range:
    """Numbers of the tries whose job is looked for by its name."""
    return range(max(attempt.since, attempt.number - KNOWN, 1), attempt.number)


def _can_adopt(job: Object, spec_hash: str, attempt: Attempt) -> bool:
    """Whether it is an earlier try's, the same program, and runs or has succeeded."""
    labels = job.get("labels") or {}
    if attempt.fresh or _number(job) < attempt.since:
        return False
    if labels.get(job_requests.SPEC) != spec_hash or job_requests.ENDING in labels:
        return False
    return job["status"]["state"] == "DONE" or not job.get("done")


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
        found = await client.find(client.jobs(_id(job)))
    await programs.remove(client, job)
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
    number, started = requests.attempt_of(job)
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
