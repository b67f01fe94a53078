"""A cluster from its creation to the moment when nothing is left of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace

import pytest
from dask_provider.clusters import LocalCluster
from dask_provider.errors import ClusterGone, Overtaken, WrongHost
from dask_provider.hooks import hook_of
from dask_provider.hooks.base import TAKEN_OVER, SpecChanged

from tests.integration.onehost import FIRST, Host, an_orphan_leaves_the_cluster_alone, cleared, retry

SPEC = LocalCluster(workers=2, memory="300 MiB")
SUM = """
    from distributed import Client
    with Client() as client:
        print("sum", sum(client.gather(client.map(lambda x: x * x, range(10)))))
"""


async def test_a_whole_life(host: Host) -> None:
    hook, owner = hook_of("local"), host.owner("cluster")
    created = await hook.create(SPEC, owner, FIRST)
    first = await host.wait_ready(hook, created)
    assert (first.uid, first.min_workers, created.scheduler_address) == (created.uid, 2, None)
    assert first.scheduler_address.startswith("tcp://127.0.0.1:")

    adopted = await hook.create(SPEC, owner, retry(2))
    assert (adopted.uid, adopted.attempt, adopted.scheduler_address) == (first.uid, 2, first.scheduler_address)
    with pytest.raises(SpecChanged, match=first.name) as changed:
        await hook.create(replace(SPEC, workers=1), owner, retry(2))
    assert changed.value.handle.uid == first.uid

    told = await host.run(first, SUM)
    assert told.outcome.succeeded, told.outcome
    assert "sum 285" in told.lines
    assert [message["kind"] for message in told.messages][:2] == ["waiting", "started"]
    assert told.messages[-1]["kind"] == "outcome"

    assert await hook.delete(first, "by attempt 1", compare=True) == TAKEN_OVER
    assert await hook.delete(replace(first, uid="another"), "not this one") == "already gone"
    await hook.check(first)
    assert host.processes()
    await host.delete(first)
    await host.assert_nothing_runs()
    assert await hook.delete(first, "again") == "already gone"
    unknown = {**first.details, "folder": first.details["folder"] + "-x"}
    assert await hook.delete(replace(first, details=unknown), "a third one") == "never existed"
    with pytest.raises(ClusterGone, match="deleted by the test"):
        await host.submit(first, SUM)

    second = await hook.create(SPEC, owner, cleared(1, started=3))
    assert second.uid != first.uid
    with pytest.raises(ClusterGone, match="replaced"):
        await hook.check(first)
    assert await hook.delete(first, "the old one") == "already gone"


async def test_two_airflows_with_the_same_dag_and_run_never_meet(host: Host) -> None:
    hook, spec = hook_of("local"), LocalCluster(workers=1)
    ours = await hook.create(spec, host.owner(instance="east"), FIRST)
    theirs = await hook.create(spec, host.owner(instance="west"), FIRST)
    assert ours.uid != theirs.uid
    assert [handle.uid for handle in await hook.list(spec, "east")] == [ours.uid]
    assert [handle.uid for handle in await hook.list(spec, "west")] == [theirs.uid]
    assert await hook.list(spec, "eas") == []
    await host.delete(ours)
    assert await hook.list(spec, "east") == []
    await hook.check(theirs)
    assert (await hook.find(spec, host.owner(instance="west"))).uid == theirs.uid
    assert await hook.find(spec, host.owner(instance="north")) is None


CREATE = """
import asyncio, sys
from dask_provider.clusters import LocalCluster
from dask_provider.hooks import hook_of
from dask_provider.owner import Attempt, Owner

hook = hook_of("local")
attempt = Attempt(1, fresh=True, last=False, started=1)
print("here", flush=True)
sys.stdin.readline()
print(asyncio.run(hook.create(LocalCluster(workers=1), Owner("tests", "flights", "run-1", "race"), attempt)).uid)
"""


async def test_an_orphan_of_an_older_try_leaves_the_cluster_of_a_newer_one_alone(host: Host) -> None:
    cluster = await an_orphan_leaves_the_cluster_alone(host, LocalCluster(workers=1))
    assert (await host.run(cluster, SUM)).outcome.succeeded
    assert await hook_of("local").delete(cluster, "by the newest", compare=True) == "deleting"
    assert await hook_of("local").wait_gone(cluster, 30)
    with pytest.raises(Overtaken):  # nor does it make one, now that the newer tries are done
        await hook_of("local").create(LocalCluster(workers=1), host.owner("orphan"), FIRST)
    await host.assert_nothing_runs()


async def test_two_processes_that_create_at_once_get_one_cluster(host: Host) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", CREATE], **pipes) for _ in range(2)]  # noqa: ASYNC220
    for process in both:
        assert process.stdout.readline() == "here\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    uids = {process.communicate(timeout=60)[0].strip() for process in both}
    assert len(uids) == 1
    assert uids == {handle.uid for handle in await hook_of("local").list(LocalCluster(), "tests")}
    keepers = [words for words in host.processes().values() if " keeper " in words]
    assert len(keepers) == 1, keepers


async def test_another_host_gets_a_clear_error(host: Host) -> None:
    handle = await hook_of("local").create(LocalCluster(workers=1), host.owner(), FIRST)
    there = replace(handle, details={**handle.details, "host": "elsewhere"})
    hook, bundle = hook_of("local"), host.bundle(host.owner(), SUM)
    calls = (hook.check(there), hook.delete(there, "x"), hook.submit(there, bundle, FIRST), hook.scale(there, 1, 1))
    for call in calls:
        with pytest.raises(WrongHost, match="elsewhere"):
            await call
    with pytest.raises(WrongHost, match="elsewhere"):
        async for _ in hook.wait_ready(there):
            pass


async def test_deleted_while_it_starts(host: Host) -> None:
    hook = hook_of("local")
    for wait in (0, 0.3, 1.2):
        handle = await hook.create(SPEC, host.owner(), FIRST)
        await asyncio.sleep(wait)
        await host.delete(handle)
        await host.assert_nothing_runs()
