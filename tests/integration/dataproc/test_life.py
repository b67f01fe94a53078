"""The life of clusters on Dataproc, with machines that really run Dask."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dask_provider.errors import ClusterGone
from dask_provider.hooks import hook_of
from dask_provider.hooks.base import TAKEN_OVER, SpecChanged
from dask_provider.hooks.dataproc import requests

from tests.integration.dataproc.place import Dataproc
from tests.integration.place import FIRST, an_orphan_leaves_the_cluster_alone, retry

pytest_plugins = ["tests.servers.gcs"]

SQUARES = """
import os, dask.distributed
with dask.distributed.Client() as client:
    total = sum(client.gather(client.map(lambda x: x * x, range(100))))
    workers = sorted(str(worker["name"]) for worker in client.scheduler_info(n_workers=-1)["workers"].values())
print("total", total, "on", *workers)
import fsspec
with fsspec.open(os.environ["DASK_JOB_RESULTS"] + "total.txt", "w") as file:
    file.write(str(total))
"""


async def test_a_whole_life(place: Dataproc) -> None:
    spec, hook = place.spec(), hook_of("dataproc")
    first = await hook.create(spec, place.owner("cluster"), FIRST)
    again = await hook.create(spec, place.owner("cluster"), retry(2))
    assert again.uid == first.uid
    with pytest.raises(SpecChanged):
        await hook.create(place.spec(threads=2), place.owner("cluster"), retry(2))
    ready = await place.wait_ready(hook, again)
    assert ready.scheduler_address == f"tcp://{first.name}-m:8786"

    job = await place.submit(ready, SQUARES)
    told = await place.follow(job)
    assert told.outcome.succeeded, (told.outcome, told.lines)
    assert f"total 328350 on {first.name}-w-0 {first.name}-w-1" in told.lines
    assert told.outcome.manifest is not None
    assert told.outcome.manifest["files"] == 1

    assert [each.uid for each in await hook.list(spec, "tests")] == [first.uid]
    assert await hook.list(spec, "another") == []
    assert await hook.delete(first, "by attempt 1", compare=True) == TAKEN_OVER
    assert await hook.delete(replace(first, uid="another"), "not this one") == "already gone"
    await place.delete(ready)
    assert await hook.delete(ready, "again") == "already gone"
    with pytest.raises(ClusterGone, match="it was deleted, by somebody or for idle_timeout"):
        await hook.check(ready)
    assert await hook.find(spec, place.owner("cluster")) is None


async def test_an_orphan_of_an_older_try_leaves_the_cluster_of_a_newer_one_alone(place: Dataproc) -> None:
    cluster = await an_orphan_leaves_the_cluster_alone(place, place.spec(workers=1))
    labels = place.get(f"clusters/{cluster.name}")["labels"]
    assert (labels["dask-provider-attempt"], labels["dask-provider-started"]) == ("1", str(5 * requests.TICKS))
    assert await hook_of("dataproc").delete(cluster, "by the newest", compare=True) == "deleting"
    assert await hook_of("dataproc").wait_gone(cluster, 60)
