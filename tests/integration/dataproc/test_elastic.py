"""Elastic clusters: machines come and go with Dask's own demand, and nothing of a job is lost by it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from dask_provider.errors import InvalidInput
from dask_provider.handles import ClusterHandle
from dask_provider.hooks import hook_of

from tests.integration.dataproc.place import Dataproc
from tests.integration.place import Followed, until

pytest_plugins = ["tests.servers.gcs"]

#: of the machines' account; nobody else has it
TOKEN = "token-of-the-tests"
#: Much to do until all machines are there. Then results that stay on workers until only the primary ones are left; each
#: shows by its value if it was computed twice. One secondary worker is at work while the others have nothing to do.
JOB = """
import os, time, uuid
from distributed import Client, Event, get_worker, wait

MOST = int(os.environ["MOST"])

def work(number):
    time.sleep(0.3)
    return get_worker().name, str(uuid.uuid4())

def stay():
    Event("go").wait()
    return get_worker().name

def names():
    return sorted(str(worker["name"]) for worker in client.scheduler_info(n_workers=-1)["workers"].values())

def until(reached):
    while not reached(names()):
        time.sleep(0.2)
    print(len(names()), "workers", flush=True)

with Client() as client:
    load = client.map(work, range(3000))
    until(lambda found: len(found) == MOST)
    client.cancel(load)
    futures = client.map(work, range(3000, 3000 + 8 * MOST))
    before = client.gather(futures)
    secondary = [name for name in names() if "-sw-" in name]
    print("held by secondary workers:", bool({name for name, _ in before} & set(secondary)), flush=True)
    busy = client.submit(stay, workers=[secondary[0]], pure=False)
    until(lambda found: len(found) == 3)
    time.sleep(10)
    print("the busy one stays:", secondary[0] in names(), flush=True)
    Event("go").set()
    print("it ended where it began:", busy.result() == secondary[0], flush=True)
    until(lambda found: len(found) == 2)
    print("nothing lost:", client.gather(futures) == before, flush=True)
"""
#: what a client may say that is closed while it still looks for a worker
NOISE = ("Future exception was never retrieved", "future: ", "TimeoutError")
KEPT = ["held by secondary workers: True", "the busy one stays: True", "it ended where it began: True"]


def elastic(place: Dataproc, high: int, **env: str) -> Any:
    """Two workers that stay, and up to ``high``; it is hasty, so that a test does not take minutes."""
    spec = place.spec()
    own = {
        "DASK_DATAPROC_ELASTIC__ENDPOINT": place.server.url,
        "DASK_DATAPROC_ELASTIC__PATIENCE": "4",
        "MOST": str(high),
        **env,
    }
    return place.spec(workers=(2, high), env={**spec.env, **own})


def machines(place: Dataproc, handle: ClusterHandle) -> tuple[str, int]:
    """State, and number of workers that Dataproc is to keep."""
    path = f"/v1/projects/dask-tests/regions/europe-west1/clusters/{handle.name}"
    found = place.server.request("GET", path, token=TOKEN)[1]
    groups = [found["config"][group] for group in ("workerConfig", "secondaryWorkerConfig")]
    return found["status"]["state"], sum(group.get("numInstances", 0) for group in groups)


def said(told: Followed) -> list[str]:
    """The program's own lines."""
    return [line for line in told.lines if not line.startswith(NOISE)]


@pytest.fixture
async def made(place: Dataproc) -> AsyncIterator[list[ClusterHandle]]:
    """Clusters that the test made."""
    handles: list[ClusterHandle] = []
    yield handles
    for handle in handles:
        await hook_of("dataproc").delete(handle, "the test is over")


async def test_machines_come_and_go_and_no_result_is_lost(place: Dataproc, made: list[ClusterHandle]) -> None:
    made.append(handle := await place.ready(elastic(place, 3)))
    assert machines(place, handle) == ("RUNNING", 2)
    for method in ("clusters.update", "clusters.repair"):
        place.server.fault("lose_answer", method=method)
    told = await place.follow(await place.submit(handle, JOB), 200)
    assert told.outcome.succeeded, (told.lines, told.outcome)
    assert said(told) == ["3 workers", KEPT[0], "3 workers", *KEPT[1:], "2 workers", "nothing lost: True"]
    await until(lambda: machines(place, handle) == ("RUNNING", 2), 20)
    # Each is asked for once more, as the same request; the machine may be gone by then.
    await until(lambda: [place.server.calls()[f"clusters.{name}"] for name in ("update", "repair")] == [2, 2], 20)
    kinds = [each["metadata"]["operationType"] for each in place.get("operations")["operations"]]
    assert sorted(kinds) == ["CREATE", "REPAIR", "UPDATE"]


@pytest.mark.whole
async def test_what_is_refused_is_had_later(place: Dataproc, made: list[ClusterHandle]) -> None:
    made.append(handle := await place.ready(elastic(place, 4)))
    with place.server.settings(quota={"INSTANCES": 4}):
        job = await place.submit(handle, JOB)
        # Two more are refused; one can be had. The job goes on.
        await until(lambda: machines(place, handle) == ("RUNNING", 3), 150)
        await until(lambda: place.server.calls()["clusters.update"] >= 3, 60)
    place.server.fault("refuse", method="clusters.update", code="UNAVAILABLE", count=1)
    told = await place.follow(job, 200)
    assert told.outcome.succeeded, (told.lines, told.outcome)
    assert said(told) == ["4 workers", KEPT[0], "3 workers", *KEPT[1:], "2 workers", "nothing lost: True"]


@pytest.mark.whole
async def test_limits_can_be_changed_and_what_is_not_removed_works_again(
    place: Dataproc, made: list[ClusterHandle]
) -> None:
    made.append(handle := await place.ready(elastic(place, 4)))
    hook = hook_of("dataproc")
    with pytest.raises(InvalidInput, match="at least 2"):
        await hook.scale(handle, 1, 4)
    await hook.scale(handle, 3, 3)
    with place.server.settings(token=TOKEN):
        await until(lambda: machines(place, handle) == ("RUNNING", 3), 150)
    number = place.server.fault("refuse", method="clusters.repair", code="FAILED_PRECONDITION", count=None)
    await hook.scale(handle, 2, 2)
    await until(lambda: place.server.calls().get("clusters.repair", 0) == 1, 60)
    script = "from distributed import Client\nwith Client() as client:\n    client.wait_for_workers(3, timeout=40)"
    told = await place.run(handle, script)
    assert told.outcome.succeeded, told.outcome
    place.server.admin("DELETE", f"faults/{number}")
    await until(lambda: machines(place, handle) == ("RUNNING", 2), 60)
