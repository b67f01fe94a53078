"""The staged files of jobs: each is one object below ``[dask] staging``, which goes when the job is over.

Nobody needs it then: a later try stages its own, and one that goes on with a job needs its output alone. Results,
manifests and Dataproc's own objects stay.
"""

from __future__ import annotations

import asyncio
import logging

from dask_provider.hooks.dataproc import job_requests, requests, storage
from dask_provider.hooks.dataproc.client import ApiError, Client, Object
from dask_provider.jobs import Bundle, staged
from dask_provider.owner import Attempt, Owner

#: seconds for the removal of one: a job's end does not wait for a storage that is away
WITHIN = 10.0
#: removed at once
AT_ONCE = 10
_NAME = "job-"

logger = logging.getLogger(__name__)


async def stage(client: Client, bundle: Bundle, job_id: str, attempt: Attempt, job_json: bytes) -> str:
    """The URI of the job as one Python file.

    Of no other submission: who still follows an older job of the same name must not remove this one's.
    """
    content = job_requests.main_file(bundle, job_json)
    ticks = requests.attempt_labels(attempt)[requests.STARTED]
    uri = f"{_prefix(bundle.owner, job_id)}{ticks}-{job_requests.digest(content)}.py"
    await storage.write(client, uri, content)
    return uri


async def remove(client: Client, job: Object, seconds: float = WITHIN) -> None:
    """Remove what was staged for a job. Never raises for what it cannot: a lifecycle rule of the bucket remains."""
    uri = str((job.get("pysparkJob") or {}).get("mainPythonFileUri") or "")
    owner = (job.get("labels") or {}).get(job_requests.OWNER)
    job_id = job["reference"]["jobId"]
    if owner and f"/{owner}/{job_id}/{_NAME}" in uri:  # else it is not ours
        await discard(client, uri, seconds)


async def remove_all(client: Client, name: str, uid: str) -> None:
    """Those of a cluster's jobs. Never raises, either."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(job: Object) -> None:
        async with limit:
            await remove(client, job)

    try:
        jobs = await client.list(client.jobs(), "jobs", {"clusterName": name})
    except ApiError as error:
        logger.warning("cluster %s: what its jobs have staged cannot be listed: %s", name, error)
        return
    await asyncio.gather(*(one(job) for job in jobs if job["placement"].get("clusterUuid") == uid))


async def remove_unsubmitted(client: Client, owner: Owner, job_id: str) -> None:
    """What a try has staged that was killed before it had submitted."""
    try:
        blobs = await storage.found(client, _prefix(owner, job_id))
    except ApiError as error:
        logger.warning("job %s: what it has staged cannot be listed: %s", job_id, error)
        return
    for blob in blobs:
        await discard(client, blob.uri)


async def discard(client: Client, uri: str, seconds: float = WITHIN) -> None:
    """Remove one."""
    try:
        await asyncio.wait_for(storage.remove(client, uri), seconds)
    except (ApiError, asyncio.TimeoutError) as error:
        why = str(error) or "no answer"
        logger.warning("%s cannot be removed; a lifecycle rule of the bucket should: %s", uri, why)


def _prefix(owner: Owner, job_id: str) -> str:
    return f"{staged(storage.staging(), owner, job_id)}{_NAME}"
