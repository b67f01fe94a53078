"""Jobs under which Dataproc changes, or whose task is killed: one job at any time, and nothing staged is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from dask_provider.errors import ClusterFailed, ClusterGone
from dask_provider.handles import ClusterHandle
from dask_provider.hooks import hook_of
from dask_provider.hooks.dataproc import storage
from dask_provider.hooks.dataproc.client import ApiError

from tests.integration.dataproc.place import PlainDataproc
from tests.integration.place import retry, until
from tests.servers.dataproc.clients import put_object

pytest_plugins = ["tests.servers.gcs", "tests.servers.dataproc.fixtures"]

#: never starts: no scheduler answers
WAITS = "print('never')"


@pytest.fixture
async def ready(plain: PlainDataproc) -> AsyncIterator[ClusterHandle]:
    handle = await plain.ready(plain.spec())
    yield handle
    hook = hook_of("dataproc")
    await hook.delete(handle, "the test is over")
    assert await hook.wait_gone(handle, 60)


def _active(plain: PlainDataproc) -> list[str]:
    return [job["reference"]["jobId"] for job in plain.get("jobs").get("jobs", []) if not job.get("done")]


async def test_a_cluster_that_somebody_deletes_ends_its_job(plain: PlainDataproc, ready: ClusterHandle) -> None:
    job = await plain.submit(ready, WAITS)
    assert len(plain.programs()) == 1
    told = asyncio.ensure_future(plain.follow(job))
    await until(lambda: plain.get(f"jobs/{job.job_id}")["status"]["state"] == "RUNNING")
    path = f"/v1/projects/dask-tests/regions/{ready.details['region']}/clusters/{ready.name}"
    plain.server.request("DELETE", path)
    outcome = (await told).outcome
    assert (outcome.state, "The cluster was deleted" in outcome.reason) == ("lost", True), outcome
    assert not plain.programs()
    with pytest.raises(ClusterGone, match="deleted, by somebody"):
        await hook_of("dataproc").check(ready)
    with pytest.raises(ClusterGone, match="deleted, by somebody"):
        await plain.submit(ready, WAITS, task_id="another")


@pytest.mark.parametrize("staged", ["nothing", "the program", "the job"])
async def test_a_try_that_was_killed_in_submit_leaves_no_second_job(
    plain: PlainDataproc, ready: ClusterHandle, staged: str
) -> None:
    """Killed before it had staged anything, before Dataproc had the job, and before it had the answer."""
    fault = {"the program": "refuse", "the job": "lose_answer"}.get(staged)
    if fault:
        plain.server.fault(fault, method="jobs.submit", count=None)
        killed = asyncio.ensure_future(plain.submit(ready, WAITS))
        await until(lambda: plain.server.calls().get("jobs.submit", 0) >= 2)
        killed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killed
        plain.server.admin("DELETE", "faults")
        assert len(plain.programs()) == 1
    # Dataproc's lists do not show it yet.
    with plain.server.settings(list_lag=3600):
        second = await plain.submit(ready, WAITS, attempt=retry(2))
    assert (second.adopted, second.job_id[-2:]) == ((True, "-1") if staged == "the job" else (False, "-2"))
    assert _active(plain) == [second.job_id]
    assert [uri.split("/")[-2] for uri in plain.programs()] == [second.job_id]
    assert await hook_of("dataproc").cancel(second) == "cancelled"
    assert not plain.programs(), "nobody may follow it any more"
    assert (await plain.follow(second)).outcome.state == "cancelled"


async def test_a_job_has_the_properties_of_the_spec(plain: PlainDataproc) -> None:
    """Also where another try has taken the cluster over."""
    spec = plain.spec(job_properties={"spark.driver.memory": "2g"})
    await plain.ready(spec)
    taken = await plain.ready(spec, attempt=retry(2))
    assert plain.notes()
    job = await plain.submit(taken, WAITS)
    properties = plain.get(f"jobs/{job.job_id}")["pysparkJob"]["properties"]
    assert (properties["spark.driver.memory"], properties["spark.submit.deployMode"]) == ("2g", "client")
    await plain.delete(taken)


async def test_what_is_too_new_for_a_list_is_found(plain: PlainDataproc, ready: ClusterHandle) -> None:
    """By whoever is to end it, and by a later try."""
    hook, owner = hook_of("dataproc"), plain.owner()
    with plain.server.settings(list_lag=3600):
        first = await plain.submit(ready, WAITS)
        found = await hook.find_job(ready, owner)
        assert found is not None
        assert found.job_id == first.job_id
        second = await plain.submit(ready, WAITS, attempt=retry(2))
        assert (second.job_id, second.adopted) == (first.job_id, True)
        # Another program: the older one is ended first.
        third = await plain.submit(ready, "print('another')", attempt=retry(3))
    assert (third.job_id[-2:], third.adopted) == ("-3", False)
    assert _active(plain) == [third.job_id]
    assert [uri.split("/")[-2] for uri in plain.programs()] == [third.job_id]


async def test_jobs_that_nobody_follows_leave_nothing_with_their_cluster(
    plain: PlainDataproc, ready: ClusterHandle
) -> None:
    """Worker and triggerer are gone; the cluster's end is what remains. Results stay."""
    jobs = [await plain.submit(ready, WAITS, task_id=f"work-{number}") for number in range(3)]
    assert len(plain.programs()) == 3
    results = [_put_result(plain, job.results) for job in jobs]
    await plain.delete(ready)
    assert not plain.programs()
    assert set(results) <= set(plain.objects())


def _put_result(plain: PlainDataproc, prefix: str) -> str:
    return put_object(plain.server, f"gs://{prefix.partition('@')[2]}job-of-the-user.txt", "285")


@pytest.mark.parametrize("answer", [{"code": "PERMISSION_DENIED"}, {"code": "NOT_FOUND"}])
async def test_a_job_that_is_refused_leaves_nothing(
    plain: PlainDataproc, ready: ClusterHandle, answer: dict[str, Any]
) -> None:
    plain.server.fault("refuse", method="jobs.submit", **answer)
    with pytest.raises(ClusterFailed, match=r"Dataproc Editor|takes no job"):
        await plain.submit(ready, WAITS)
    assert not plain.programs()
    assert (await plain.submit(ready, WAITS, attempt=retry(2))).attempt == 2


async def test_a_storage_that_is_away_ends_no_wait_and_hides_no_outcome(
    plain: PlainDataproc, ready: ClusterHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program cannot be removed: the job's end is told all the same, and the cluster's end makes up for it."""

    async def refused(*_: object) -> None:
        raise ApiError(403, "HTTP 403", "no storage.objects.delete")

    job = await plain.submit(ready, WAITS)
    with monkeypatch.context() as patched:
        patched.setattr(storage, "remove", refused)
        assert await hook_of("dataproc").cancel(job) == "cancelled"
        assert (await plain.follow(job)).outcome.state == "cancelled"
        assert len(plain.programs()) == 1
