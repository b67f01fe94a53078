"""Parts of the machinery that are killed while a cluster is made, scaled or used."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from dask_provider.errors import ClusterFailed, ClusterGone
from dask_provider.hooks import hook_of

from tests.integration.kubernetes.place import Namespace
from tests.integration.place import FIRST, Followed, retry, until

COUNTS = """
    import time
    from distributed import Client
    with Client() as client:
        print("starts", flush=True)
        for n in range({seconds}):
            print("second", n, client.submit(lambda x: x + 1, n, pure=False).result(), flush=True)
            time.sleep(1)
"""


def counted(told: Followed) -> list[int]:
    return [int(line.split()[1]) for line in told.lines if line.startswith("second")]


async def test_operator_killed_while_a_cluster_is_made_and_scaled(place: Namespace) -> None:
    hook, server = hook_of("kubernetes"), place.server
    server.control("kill", "operator")
    try:
        handle = await hook.create(place.spec(), place.owner("cluster"), FIRST)
        said = ""
        async for readiness in hook.wait_ready(replace(handle, ready_timeout=600)):
            said = readiness.text
            if "operator" in said:
                break
        assert "the Dask operator has not noticed the cluster" in said
    finally:
        server.control("start", "operator")
    ready = await place.wait_ready(hook, handle)
    server.control("kill", "operator")
    try:
        await hook.scale(ready, 2, 2)
    finally:
        server.control("start", "operator")
    await place.wait_ready(hook, replace(ready, min_workers=2))
    await hook.scale(ready, 1, 2)
    assert "DaskAutoscaler/" + ready.name in place.objects()
    await hook.scale(ready, 1, 1)
    await until(lambda: len(place.pods("dask.org/component=worker")) == 1, 60)
    assert "DaskAutoscaler/" + ready.name not in place.objects()
    await place.delete(ready)


async def test_api_server_killed_while_a_job_is_followed(place: Namespace) -> None:
    hook, server = hook_of("kubernetes"), place.server
    handle = await place.ready(place.spec())
    job = await place.submit(handle, COUNTS.format(seconds=15))
    told = Followed()

    async def follow() -> None:
        async for news in hook.watch(job, position=0, eager=False):
            told.add(news)

    following = asyncio.ensure_future(follow())
    await until(lambda: 2 in counted(told), 60)
    server.control("kill", "apiserver")
    await asyncio.sleep(3)
    server.control("start", "apiserver")
    await asyncio.wait_for(following, 120)
    assert told.outcome.succeeded, told.outcome
    assert counted(told) == list(range(15)), "each line once, none lost"
    server.wait_ready()
    await place.delete(handle)


async def test_workers_are_replaced_and_the_job_goes_on(place: Namespace) -> None:
    handle = await place.ready(place.spec(workers=2))
    job = await place.submit(handle, COUNTS.format(seconds=12))
    following = asyncio.ensure_future(place.follow(job, 120))
    await until(lambda: _log(place, job.job_id).count("second") > 1, 60)
    worker = place.pods("dask.org/component=worker")[0]["metadata"]["name"]
    place.server.kubectl("delete", "pod", worker, "-n", place.name, "--wait=false", "--grace-period=0", "--force")
    told = await following
    assert told.outcome.succeeded, told.outcome
    assert counted(told) == list(range(12))
    assert [message for message in told.messages if message["kind"] == "worker_lost"]
    await place.delete(handle)


async def test_a_scheduler_that_is_lost_ends_the_job(place: Namespace) -> None:
    handle = await place.ready(place.spec())
    job = await place.submit(handle, COUNTS.format(seconds=600))
    following = asyncio.ensure_future(place.follow(job, 150))
    await until(lambda: "second" in _log(place, job.job_id), 60)
    pods = "dask.org/component=scheduler"
    place.server.kubectl("delete", "pod", "-l", pods, "-n", place.name, "--wait=false", "--grace-period=0", "--force")
    told = await following
    assert told.outcome.state == "lost", told.outcome
    assert "the scheduler" in told.outcome.reason, told.outcome
    await place.delete(handle)


async def test_two_processes_that_create_at_once_get_one_cluster(place: Namespace) -> None:
    hook, spec, owner = hook_of("kubernetes"), place.spec(), place.owner("cluster")
    handles = await asyncio.gather(*(hook.create(spec, owner, FIRST) for _ in range(3)))
    assert len({handle.uid for handle in handles}) == 1
    await place.delete(handles[0])


async def test_killed_half_way_through_making_it(place: Namespace) -> None:
    """Only the lease is there; the next try completes it, or the lease ends by itself."""
    from dask_provider.hooks.kubernetes import KubernetesHook

    class Killed(KubernetesHook):
        async def _complete(self, *_: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await Killed().create(place.spec(), place.owner("cluster"), FIRST)
    assert {key.partition("/")[0] for key in place.objects()} <= {"Job", "Pod"}
    handle = await place.ready(place.spec(), attempt=retry(2))
    assert handle.attempt == 2
    await place.delete(handle)


async def test_a_failure_half_way_through_making_it_leaves_nothing(place: Namespace) -> None:
    from dask_provider.hooks.kubernetes import KubernetesHook

    class Fails(KubernetesHook):
        async def _complete(self, *_: object) -> None:
            await asyncio.sleep(2)  # the lease changes meanwhile
            raise ClusterFailed("this is why")

    with pytest.raises(ClusterFailed, match=r"^this is why$"):
        await Fails().create(place.spec(), place.owner("cluster"), FIRST)
    await place.assert_nothing_left()


async def test_tls(place: Namespace) -> None:
    handle = await place.ready(place.spec(tls=True, workers=2, idle_timeout=120))
    assert handle.scheduler_address.startswith("tls://")
    told = await place.run(handle, COUNTS.format(seconds=2))
    assert told.outcome.succeeded, told.outcome
    plain = handle.scheduler_address.replace("tls://", "tcp://")
    script = f"""
        from distributed import Client
        from distributed.security import Security
        try:
            Client("{plain}", timeout=5, security=Security(require_encryption=False))
        except OSError as error:
            print("refused", type(error).__name__)
    """
    refused = await place.run(handle, script, task_id="plain")
    assert any(line.startswith("refused") for line in refused.lines), refused
    assert not [key for key, item in place.objects().items() if "PRIVATE KEY" in str(item) and "Secret/" not in key]
    await hook_of("kubernetes").scale(handle, 3, 3)
    await place.wait_ready(hook_of("kubernetes"), replace(handle, min_workers=3))
    await hook_of("kubernetes").scale(handle, 1, 1)  # here the operator has to speak to the scheduler
    await until(lambda: len(place.pods("dask.org/component=worker")) == 1, 60)
    later = await place.run(handle, COUNTS.format(seconds=1), task_id="later")
    assert later.outcome.succeeded, "it does not wait for workers that are not wanted any more"
    await place.delete(handle)


async def test_a_deleted_cluster_fails_those_who_wait_for_it(place: Namespace) -> None:
    hook = hook_of("kubernetes")
    handle = await hook.create(place.spec(), place.owner("cluster"), FIRST)
    assert await hook.delete(handle, "deleted by the test") == "deleting"
    with pytest.raises((ClusterGone, ClusterFailed), match="deleted"):
        async for _ in hook.wait_ready(handle):
            pass
    assert await hook.wait_gone(handle, 60)


def _log(place: Namespace, job_id: str) -> str:
    return place.server.kubectl("logs", f"job/{job_id}", "-n", place.name, check=False)
