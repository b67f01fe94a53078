"""A cluster on Kubernetes from its creation to the moment when nothing is left of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from dask_provider.errors import ClusterGone
from dask_provider.hooks import hook_of
from dask_provider.hooks.base import TAKEN_OVER, SpecChanged
from dask_provider.hooks.kubernetes import clusters
from dask_provider.hooks.kubernetes.errors import ApiError
from dask_provider.operators import DaskDeleteClusterOperator

from tests.integration.kubernetes.place import Namespace
from tests.integration.place import FIRST, an_orphan_leaves_the_cluster_alone, retry

SUM = """
    import os
    from distributed import Client
    with Client() as client:
        print("sum", sum(client.gather(client.map(lambda x: x * x, range(10)))))
    with open(os.environ["DASK_JOB_RESULTS"] + "answer.txt", "w") as file:
        file.write("285")
"""


async def test_an_orphan_of_an_older_try_leaves_the_cluster_of_a_newer_one_alone(place: Namespace) -> None:
    cluster = await an_orphan_leaves_the_cluster_alone(place, place.spec())
    assert await hook_of("kubernetes").delete(cluster, "by the newest", compare=True) == "deleting"
    assert await hook_of("kubernetes").wait_gone(cluster, 60)


async def refused(*_: object) -> None:
    raise ApiError(500, "InternalError", "no leader")


async def test_a_whole_life(place: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    hook, owner, spec = hook_of("kubernetes"), place.owner("cluster"), place.spec(workers=2)
    created = await hook.create(spec, owner, FIRST)
    first = await place.wait_ready(hook, created)
    assert first.uid == created.uid
    assert first.scheduler_address == f"tcp://{owner.name}-scheduler.{place.name}.svc:8786"
    owned = {key: item["metadata"] for key, item in place.objects().items() if key.startswith("DaskCluster/")}
    assert [meta["ownerReferences"][0]["uid"] for meta in owned.values()] == [first.uid]

    adopted = await hook.create(spec, owner, retry(2))
    assert (adopted.uid, adopted.attempt) == (first.uid, 2)
    with monkeypatch.context() as patch:
        patch.setattr(clusters, "create", refused)
        with pytest.raises(ApiError, match="no leader"):
            await hook.create(spec, owner, retry(2))
    await hook.check(first)  # a job may run beside it
    with pytest.raises(SpecChanged, match=first.name) as changed:
        await hook.create(replace(spec, threads=2), owner, retry(2))
    assert changed.value.handle.uid == first.uid

    job = await place.submit(first, SUM)
    (lease,) = place.pods(f"dask-provider/role=lease,dask-provider/cluster={first.name}")
    kept = float(lease["metadata"]["annotations"]["dask-provider/extended-until"]) - time.time()
    assert 60 < kept <= 121, "in whole seconds; nearly all of idle_timeout may be over when a job is submitted"
    told = await place.follow(job)
    assert told.outcome.succeeded, told.outcome
    assert "sum 285" in told.lines
    assert [message["kind"] for message in told.messages if message["kind"] != "place"][:2] == ["waiting", "started"]
    assert (told.outcome.manifest["files"], told.outcome.manifest["bytes"]) == (1, 3)
    again = await place.submit(first, SUM, attempt=retry(2))
    assert (again.adopted, again.job_id, again.attempt) == (True, job.job_id, 2)
    assert (await place.follow(again)).outcome == told.outcome

    assert await hook.delete(first, "by attempt 1", compare=True) == TAKEN_OVER
    assert await hook.delete(replace(first, uid="another"), "not this one") == "already gone"
    await hook.check(first)
    await place.delete(first)
    await place.assert_nothing_left(5)
    assert await hook.delete(first, "again") == "already gone"
    with pytest.raises(ClusterGone, match="deleted"):
        await place.submit(first, SUM, attempt=FIRST)


async def test_two_airflows_with_the_same_dag_and_run_never_meet(place: Namespace) -> None:
    hook, spec = hook_of("kubernetes"), place.spec()
    ours = await hook.create(spec, place.owner(instance="east"), FIRST)
    theirs = await hook.create(spec, place.owner(instance="west"), FIRST)
    assert ours.uid != theirs.uid
    assert [handle.uid for handle in await hook.list(spec, "east")] == [ours.uid]
    assert [handle.uid for handle in await hook.list(spec, "west")] == [theirs.uid]
    assert await hook.list(spec, "eas") == []
    await place.delete(ours)
    await hook.check(theirs)
    assert (await hook.find(spec, place.owner(instance="west"))).uid == theirs.uid
    assert await hook.find(spec, place.owner(instance="north")) is None
    await place.delete(theirs)


async def test_the_same_name_again_right_after_its_end(place: Namespace) -> None:
    """The operator swallows a cluster that comes while it still removes another one of the name."""
    hook, spec, owner = hook_of("kubernetes"), place.spec(), place.owner("cluster")
    first = await place.ready(spec)
    step = DaskDeleteClusterOperator(task_id="delete", cluster=first.to_dict(), wait=0)
    await asyncio.to_thread(step.work)
    lease = place.objects().get(f"Job/{first.name}")
    assert lease is not None, "it was not to wait"
    assert "deletionTimestamp" in lease["metadata"]
    second = await hook.create(spec, owner, FIRST)
    assert second.uid != first.uid
    with pytest.raises(ClusterGone):
        await hook.check(first)
    await place.wait_ready(hook, second)
    await place.delete(second)
