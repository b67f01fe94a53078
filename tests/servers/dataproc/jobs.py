"""The job methods of the API, and the life of a job."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from typing import Any

from tests.servers.dataproc import messages, operations
from tests.servers.dataproc.agent import Driver
from tests.servers.dataproc.call import Call
from tests.servers.dataproc.errors import ApiError, failed_precondition, invalid, not_found
from tests.servers.dataproc.filters import label, page, select
from tests.servers.dataproc.messages import Job, JobMetadata, JobStatus
from tests.servers.dataproc.validation import check_job, check_labels
from tests.servers.dataproc.world import ClusterEntry, JobEntry, OperationEntry, World

_ACCEPTING = ("RUNNING", "UPDATING", "ERROR_DUE_TO_UPDATE")
_CANCELLABLE = ("PENDING", "RUNNING")
_ACTIVE_FILTER = {True: "ACTIVE", False: "NON_ACTIVE"}
_HOUR = 3600.0


async def submit(world: World, call: Call) -> dict[str, Any]:
    return messages.render(_submitted(world, call).message, call.number_enums)


async def submit_as_operation(world: World, call: Call) -> dict[str, Any]:
    return operations.shown(operations.get(world, _submitted(world, call, as_operation=True).operation))


async def get(world: World, call: Call) -> dict[str, Any]:
    return messages.render(find(world, call).message, call.number_enums)


async def listed(world: World, call: Call) -> dict[str, Any]:
    text, matcher = call.query.get("filter", ""), call.query.get("jobStateMatcher", "ALL")
    states = {"0": "ALL", "1": "ACTIVE", "2": "NON_ACTIVE"}
    if not text and states.get(matcher, matcher) in ("ACTIVE", "NON_ACTIVE"):
        text = f"status.state = {states.get(matcher, matcher)}"
    cluster = call.query.get("clusterName", "")
    here = [each for each in world.jobs.values() if (each.project, each.region) == (call.project, call.region)]
    here = [each for each in here if each.submitted + world.settings.list_lag <= time.time()]
    here = [each for each in here if cluster in ("", each.message.placement.cluster_name)]
    found = select(here, text, ("status.state", "insertTime"), _field)
    found.sort(key=lambda each: -each.submitted)
    shown, following = page(found, call.query.get("pageSize", ""), call.query.get("pageToken", ""))
    answer: dict[str, Any] = {}
    if shown:
        answer["jobs"] = [messages.render(each.message, call.number_enums) for each in shown]
    return answer | ({"nextPageToken": following} if following else {})


async def update(world: World, call: Call) -> dict[str, Any]:
    entry = find(world, call)
    wanted = messages.parse(Job, call.body)
    if call.mask() != ["labels"]:
        raise invalid("update_mask: only labels can be updated.")
    check_labels(wanted.labels)
    entry.message.labels.clear()
    entry.message.labels.update(wanted.labels)
    world.save_job(entry)
    return messages.render(entry.message, call.number_enums)


async def cancel(world: World, call: Call) -> dict[str, Any]:
    entry = find(world, call)
    if entry.state not in _CANCELLABLE:
        raise failed_precondition(
            f"Cannot cancel jobId '{entry.id}' in projectId '{entry.project}' in state: '{entry.state}'; "
            f"cancellable states: '[{', '.join(_CANCELLABLE)}]'"
        )
    if entry.state == "PENDING":
        await world.end(entry.key)
        _finish(world, entry, "CANCELLED")
    else:
        _enter(world, entry, "CANCEL_PENDING")
    return messages.render(entry.message, call.number_enums)


async def delete(world: World, call: Call) -> dict[str, Any]:
    entry = find(world, call)
    if entry.active:
        raise failed_precondition(f"Cannot delete active job '{entry.id}' in state {entry.state}.")
    world.remove("job", entry.key)
    return {}


def find(world: World, call: Call) -> JobEntry:
    key = f"projects/{call.project}/regions/{call.region}/jobs/{call.name}"
    if key not in world.jobs:
        raise not_found("Job", key)
    return world.jobs[key]


def resume(world: World) -> None:
    """After a restart: drivers that run or have ended meanwhile are found again."""
    for entry in list(world.jobs.values()):
        if entry.active:
            world.begin(entry.key, _run(world, entry))


async def abandon(world: World, cluster: ClusterEntry, reason: str) -> None:
    """The jobs that still run on a cluster fail."""
    for entry in [job for job in world.jobs_of(cluster) if job.active]:
        await world.end(entry.key)
        await Driver(world, cluster, entry).end(signal.SIGKILL)
        _finish(world, entry, "ERROR", reason)


def note_idle(world: World, cluster: ClusterEntry) -> None:
    """A cluster that can work is idle while it has no job that is not over."""
    lifecycle = cluster.message.config.lifecycle_config
    if cluster.state not in _ACCEPTING or any(job.active for job in world.jobs_of(cluster)):
        cluster.idle_since = None
        lifecycle.ClearField("idle_start_time")
    elif cluster.idle_since is None:
        cluster.idle_since = time.time()
        if lifecycle.HasField("idle_delete_ttl") or lifecycle.HasField("idle_stop_ttl"):
            lifecycle.idle_start_time.CopyFrom(messages.timestamp(cluster.idle_since))
    world.save_cluster(cluster)


def _field(entry: JobEntry, field: str) -> set[str]:
    if field == "status.state":
        return {_ACTIVE_FILTER[entry.active]}
    if field == "insertTime":
        return {messages.timestamp(entry.submitted).ToJsonString()}
    return label(entry.message.labels, field)


def _submitted(world: World, call: Call, as_operation: bool = False) -> JobEntry:
    content = call.json()
    call.query["requestId"] = str(content.pop("requestId", content.pop("request_id", "")))
    job = messages.parse(Job, content.pop("job", {}))
    if content:
        raise invalid(f'Invalid JSON payload received. Unknown name "{next(iter(content))}": Cannot find field.')
    if (before := call.answered(world)) and before in world.jobs:
        return world.jobs[before]
    check_job(job)
    if job.reference.project_id not in ("", call.project):
        raise invalid(f"Project '{job.reference.project_id}' of the job is not '{call.project}' of the request.")
    entry = _entry(world, call, job)
    if as_operation:
        name = f"projects/{call.project}/regions/{call.region}/operations/{uuid.uuid4()}"
        metadata = JobMetadata(job_id=entry.id, status=job.status, operation_type="SUBMIT")
        metadata.start_time.CopyFrom(messages.timestamp())
        world.save_operation(OperationEntry(name, "JOB", entry.key, messages.packed(metadata), {}, time.time()))
        entry.operation = name
    with world.store.together():
        world.save_job(entry)
        call.remember(world, entry.key)
    world.begin(entry.key, _run(world, entry))
    return entry


def _entry(world: World, call: Call, job: messages.Message) -> JobEntry:
    key = f"projects/{call.project}/regions/{call.region}/clusters/{job.placement.cluster_name}"
    cluster = world.clusters.get(key)
    if cluster is None:
        raise not_found("Cluster", key)
    job.reference.project_id = call.project
    job.reference.job_id = job.reference.job_id or str(uuid.uuid4())
    entry = JobEntry(call.project, call.region, job, time.time(), world.settings.output_bytes)
    if entry.key in world.jobs:
        raise ApiError("ALREADY_EXISTS", f"Already exists: Failed to submit job: Job {entry.key}")
    if cluster.state not in _ACCEPTING:
        raise failed_precondition(f"Cluster '{cluster.name}' cannot accept jobs in state {cluster.state}.")
    if job.WhichOneof("type_job") != "pyspark_job":
        raise ApiError("UNIMPLEMENTED", f"This emulator runs pyspark jobs only, not {job.WhichOneof('type_job')}.")
    job.placement.cluster_uuid, job.job_uuid = cluster.message.cluster_uuid, str(uuid.uuid4())
    folder = f"{cluster.folder_uri}/jobs/{job.reference.job_id}/"
    job.driver_control_files_uri, job.driver_output_resource_uri = folder, f"{folder}driveroutput"
    del job.status_history[:]
    job.ClearField("status")
    job.ClearField("done")
    messages.enter(job, JobStatus, "PENDING")
    cluster.idle_since = None
    cluster.message.config.lifecycle_config.ClearField("idle_start_time")
    world.save_cluster(cluster)
    return entry


async def _run(world: World, entry: JobEntry) -> None:
    """From its submission to its end, beginning where it stands."""
    try:
        await _attempts(world, entry)
    except Exception as error:  # noqa: BLE001 - a job whose end nobody learns would be waited for for ever
        _finish(world, entry, "ERROR", f"The emulator failed: {type(error).__name__}: {error}")


async def _attempts(world: World, entry: JobEntry) -> None:
    cluster = _clusters_of(world, entry)[0]
    if entry.state == "PENDING":
        slow = world.faults.strike("slow", "jobs.submit", entry.id)
        delay = world.settings.delays.get("submit", 0.0) + (slow.seconds if slow else 0.0)
        await asyncio.sleep(max(0.0, entry.submitted + delay - time.time()))
    while True:
        driver = Driver(world, cluster, entry)
        try:
            if entry.state in ("PENDING", "ATTEMPT_FAILURE"):
                await driver.stage()
                _enter(world, entry, "SETUP_DONE")
            if entry.state == "SETUP_DONE":
                await driver.start()
                _enter(world, entry, "RUNNING")
            code = await _followed(world, entry, driver)
        except FileNotFoundError as error:
            return _finish(world, entry, "ERROR", f"File not found: {error}")
        except OSError as error:
            return _finish(world, entry, "ERROR", f"Task not found: {error}")
        if code is None:
            return _finish(world, entry, "CANCELLED")
        if code == 0:
            return _finish(world, entry, "DONE")
        details = (
            "Google Cloud Dataproc Agent reports job failure. If logs are available, they can be found at:\n"
            f"{entry.message.driver_output_resource_uri}.*"
        )
        if not _again(entry):
            return _finish(world, entry, "ERROR", details)
        entry.failures.append(time.time())
        _enter(world, entry, "ATTEMPT_FAILURE", details)


async def _followed(world: World, entry: JobEntry, driver: Driver) -> int | None:
    """The driver's exit code, or ``None`` when it was cancelled.

    :raises ProcessLookupError: it is lost.
    """
    uploaded = 0.0
    while (code := await driver.exit_code()) is None:
        if entry.state in ("CANCEL_PENDING", "CANCEL_STARTED"):
            _enter(world, entry, "CANCEL_STARTED")
            await driver.end(signal.SIGTERM)
            until = time.monotonic() + world.settings.kill_seconds
            while not await driver.gone():
                if time.monotonic() > until:
                    await driver.end(signal.SIGKILL)
                await asyncio.sleep(0.05)
            break
        if time.monotonic() - uploaded >= world.settings.output_seconds:
            await driver.upload()
            uploaded = time.monotonic()
        await asyncio.sleep(0.1)
    await driver.upload(tries=20)
    return None if entry.state in ("CANCEL_PENDING", "CANCEL_STARTED") else code


def _clusters_of(world: World, entry: JobEntry) -> list[ClusterEntry]:
    uuid_ = entry.message.placement.cluster_uuid
    return [each for each in world.clusters.values() if each.message.cluster_uuid == uuid_]


def _again(entry: JobEntry) -> bool:
    """Whether a driver that failed is started once more."""
    scheduling = entry.message.scheduling
    lately = [when for when in entry.failures if when > time.time() - _HOUR]
    total = scheduling.max_failures_total or len(entry.failures) + 1
    return len(lately) < scheduling.max_failures_per_hour and len(entry.failures) < total


def _enter(world: World, entry: JobEntry, state: str, details: str = "") -> None:
    messages.enter(entry.message, JobStatus, state, details=details)
    world.save_job(entry)
    if operation := world.operations.get(entry.operation):
        operation.metadata["status"] = messages.render(entry.message.status)
        world.save_operation(operation)


def _finish(world: World, entry: JobEntry, state: str, details: str = "") -> None:
    entry.message.done = True
    _enter(world, entry, state, details)
    if operation := world.operations.get(entry.operation):
        operation.done = True
        if state == "DONE":
            operation.response = messages.packed(entry.message)
        else:
            code = "CANCELLED" if state == "CANCELLED" else "ABORTED"
            operation.error = ApiError(code, details or f"Job {entry.id} is {state}.").status()
        world.save_operation(operation)
    for cluster in _clusters_of(world, entry):
        note_idle(world, cluster)
