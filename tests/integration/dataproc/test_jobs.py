"""Jobs on Dataproc: adopted, ended and followed, and what breaks under them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import AsyncIterator

import pytest
from dask_provider.errors import Overtaken
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.hooks import hook_of

from tests.integration.dataproc.place import Dataproc
from tests.integration.place import FIRST, Followed, cleared, retry
from tests.servers.dataproc import processes

pytest_plugins = ["tests.servers.gcs"]

LINES = """
import sys, time
for number in range(int(sys.argv[1])):
    print("line", number, flush=True)
    time.sleep(0.1)
"""
SLOW = """
import time
from dask.distributed import Client

def slow(number):
    time.sleep(0.3)
    return number

with Client() as client:
    futures = client.map(slow, range(60), pure=False)
    print("begun", flush=True)
    print("total", sum(client.gather(futures)))
"""
FAILS = """
print("half of it")
raise ValueError("no such airport: XYZ")
"""


@pytest.fixture
async def ready(place: Dataproc) -> AsyncIterator[ClusterHandle]:
    """A cluster of one machine."""
    handle = await place.ready(place.spec(workers=1))
    yield handle
    await hook_of("dataproc").delete(handle, "the test is over")


async def test_the_whole_output_comes_once_and_in_order(place: Dataproc, ready: ClusterHandle) -> None:
    """Also for one who goes on where another one stopped, while the emulator is killed and started anew."""
    hook = hook_of("dataproc")
    job = await place.submit(ready, LINES, arguments=("60",))
    told, position = Followed(), 0
    news = hook.watch(job, position=0, eager=True)
    async for each in news:
        told.add(each)
        position = each.position
        if len(told.lines) > 5:
            break
    await news.aclose()
    place.server.kill()
    rest = asyncio.ensure_future(_follow(job, position, told))
    await asyncio.sleep(2)
    place.server.start_again()
    await asyncio.wait_for(rest, 60)
    assert told.outcome.succeeded, told.outcome
    assert told.lines == [f"line {number}" for number in range(60)]


async def _follow(job: JobHandle, position: int, told: Followed) -> None:
    async with contextlib.aclosing(hook_of("dataproc").watch(job, position=position, eager=False)) as news:
        async for each in news:
            told.add(each)


async def test_tries_adopt_end_and_overtake(place: Dataproc, ready: ClusterHandle) -> None:
    hook = hook_of("dataproc")
    first = await place.submit(ready, LINES, arguments=("600",))
    bundle = place.bundle(place.owner("work"), LINES, arguments=("600",))
    assert await hook.would_adopt(ready, bundle, retry(2))
    assert not await hook.would_adopt(ready, bundle, cleared(2))
    second = await place.submit(ready, LINES, arguments=("600",), attempt=retry(2))
    assert (second.job_id, second.adopted, second.attempt) == (first.job_id, True, 2)
    assert "another attempt" in await hook.cancel(first)
    with pytest.raises(Overtaken):
        await place.submit(ready, LINES, arguments=("600",), attempt=FIRST)
    found = await hook.find_job(ready, place.owner("work"))
    assert found is not None
    assert (found.job_id, found.attempt) == (first.job_id, 2)

    anew = await place.submit(ready, LINES, arguments=("600",), attempt=cleared(3))
    assert anew.job_id.endswith("-3")
    assert place.get(f"jobs/{first.job_id}")["status"]["state"] == "CANCELLED"
    assert await hook.cancel(anew) == "cancelled"
    told = await place.follow(anew)
    assert told.outcome.state == "cancelled", told.outcome
    assert await hook.cancel(anew) == "already over"
    assert not await hook.would_adopt(ready, bundle, dataclasses.replace(retry(4), since=3)), "cancelled"
    # A run that was deleted and made anew counts from 1 again, beside leftovers of higher numbers.
    again = await place.submit(ready, LINES, arguments=("1",), attempt=cleared(1, started=10))
    assert again.job_id == first.job_id
    assert (await place.follow(again)).lines == ["line 0"]


async def test_how_jobs_end(place: Dataproc, ready: ClusterHandle) -> None:
    """Failed by itself, killed on its machine, deleted, and one whose answer to submit was lost."""
    place.server.fault("lose_answer", method="jobs.submit")
    failed, killed, deleted = await asyncio.gather(
        place.submit(ready, FAILS, task_id="fails"),
        place.submit(ready, LINES, arguments=("600",), task_id="killed"),
        place.submit(ready, LINES, arguments=("600",), task_id="deleted"),
    )
    jobs = place.get("jobs")["jobs"]
    assert sorted(job["reference"]["jobId"] for job in jobs) == sorted(j.job_id for j in (failed, killed, deleted))
    told = await place.follow(failed)
    assert (told.outcome.state, told.outcome.exit_code) == ("failed", 1)
    assert "ValueError: no such airport: XYZ" in told.outcome.reason
    await _until_it_runs(killed)
    driver = f"{place.get(f'jobs/{killed.job_id}')['jobUuid']}-0"
    processes.send(processes.find("DATAPROC_DRIVER", driver), signal.SIGKILL)
    told = await place.follow(killed)
    assert (told.outcome.state, told.outcome.exit_code) == ("lost", None), told.outcome
    assert "did not report how it ended" in told.outcome.reason
    assert await hook_of("dataproc").cancel(deleted) == "cancelled"
    await place.follow(deleted)
    place.server.request("DELETE", f"/v1/projects/dask-tests/regions/europe-west1/jobs/{deleted.job_id}")
    told = await place.follow(deleted)
    assert (told.outcome.state, told.outcome.reason) == ("lost", "the job was deleted at Dataproc by somebody")


async def _until_it_runs(job: JobHandle) -> None:
    async with contextlib.aclosing(hook_of("dataproc").watch(job, position=0, eager=True)) as news:
        async for each in news:
            if each.lines:
                return


async def test_a_job_outlives_workers_that_google_takes_back(place: Dataproc) -> None:
    """While it computes on them: what they had is computed again by the others."""
    ready = await place.ready(place.spec(secondary_workers=1, min_ready_workers=3))
    job = await place.submit(ready, SLOW)
    told = asyncio.ensure_future(place.follow(job, 90))
    await _until_it_runs(job)
    await asyncio.sleep(1)
    config = place.get(f"clusters/{ready.name}")["config"]["secondaryWorkerConfig"]
    place.server.admin("POST", "preempt", {"instance": config["instanceNames"][0], "recreate": False})
    news = await told
    assert news.outcome.succeeded, (news.outcome, news.lines)
    assert "total 1770" in news.lines
    lost = [message["worker"] for message in news.messages if message["kind"] == "worker_lost"]
    assert lost == config["instanceNames"]
    await place.delete(ready)
