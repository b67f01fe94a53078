"""Which try has a cluster. Its labels say so, but Dataproc changes them only when it runs, and takes its time.

So each try that takes a cluster over first leaves a note: a small object below ``[dask] staging`` that nobody
overwrites. The last note counts, by the clock of Cloud Storage, as those of workers differ; but for one that was late:
its try is overtaken by the one before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid

from dask_provider.errors import InvalidInput, Overtaken
from dask_provider.handles import ClusterHandle
from dask_provider.hooks.dataproc import requests, storage
from dask_provider.hooks.dataproc.client import ApiError, Client, Object
from dask_provider.owner import Attempt

#: seconds for the notes where a cluster is to end
WITHIN = 1.0

logger = logging.getLogger(__name__)


async def check_rights(client: Client) -> None:
    """Look for notes where there are none.

    :raises ApiError: a later try could not look for them, either.
    """
    await storage.found(client, _notes("none"))


async def read(client: Client, found: Object) -> Object:
    """The cluster with the labels of the try that has it."""
    try:
        blobs = await storage.found(client, _prefix(found))
    except InvalidInput:  # whoever only looks may have no staging; who makes clusters has one
        return found
    except ApiError as error:
        if error.status != 404:  # no bucket, no notes
            raise
        return found
    for blob in sorted(blobs, key=lambda each: each.created):
        started, _, number = blob.uri.rpartition("/")[2].partition("-")
        noted = {**found, "labels": {**_labels(found), requests.ATTEMPT: number, requests.STARTED: started}}
        if not _attempt(noted).is_overtaken_by(*requests.attempt_of(found)):
            found = noted
    return found


async def read_soon(client: Client, found: Object) -> Object:
    """Likewise, for whoever must not wait: without an answer within a second the labels alone count."""
    try:
        return await asyncio.wait_for(read(client, found), WITHIN)
    except (ApiError, asyncio.TimeoutError) as error:
        why = str(error) or "no answer"
        logger.warning("cluster %s: notes of later tries cannot be read: %s", found["clusterName"], why)
        return found


def check_newest(found: Object, attempt: Attempt) -> None:
    """:raises Overtaken: when the cluster, from :func:`read`, is a newer try's."""
    number, started = requests.attempt_of(found)
    if attempt.is_overtaken_by(number, started):
        raise Overtaken(f"cluster {found['clusterName']}", attempt.number, number)


def belongs(found: Object, handle: ClusterHandle) -> bool:
    """Whether the cluster, from :func:`read`, still is that of the handle's try."""
    return requests.attempt_of(found) == (handle.attempt, handle.started)


async def take(client: Client, found: Object, attempt: Attempt) -> None:
    """Write the attempt on the cluster, from :func:`read`: a note, and its labels if that is possible."""
    if requests.attempt_of(found) == (attempt.number, attempt.started):
        return
    started = requests.attempt_labels(attempt)[requests.STARTED]
    await storage.write(client, f"{_prefix(found)}{started}-{attempt.number}", str(attempt.number).encode())
    await label(client, found, attempt)


async def label(client: Client, found: Object, attempt: Attempt) -> None:
    """Write the attempt on the labels of a cluster that runs, unless a newer one stands there."""
    number, started = requests.attempt_of(found)
    same = (number, started) == (attempt.number, attempt.started)
    if same or attempt.is_overtaken_by(number, started) or found["status"]["state"] != "RUNNING":
        return
    labels = {**_labels(found), **requests.attempt_labels(attempt)}
    with contextlib.suppress(ApiError):  # another update is under way, say: the note counts
        query = {"updateMask": "labels", "requestId": str(uuid.uuid4())}
        await client.call("PATCH", client.clusters(found["clusterName"]), query=query, body={"labels": labels})


async def forget(client: Client, uid: str) -> None:
    """Remove the notes on a cluster that is gone; a lifecycle rule of the bucket does it where this cannot."""
    with contextlib.suppress(ApiError, InvalidInput):
        for blob in await storage.found(client, _notes(uid)):
            await storage.remove(client, blob.uri)


def _labels(found: Object) -> dict[str, str]:
    return found.get("labels") or {}


def _attempt(found: Object) -> Attempt:
    number, started = requests.attempt_of(found)
    return Attempt(number, fresh=False, last=False, started=started)


def _prefix(found: Object) -> str:
    return _notes(found["clusterUuid"])


def _notes(uid: str) -> str:
    return f"{storage.staging()}attempts/{uid}/"
