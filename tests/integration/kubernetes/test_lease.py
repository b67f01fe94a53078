"""The lease: a cluster ends without Airflow and without the operator, and not while it is needed."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any

import pytest
from dask_provider.errors import ClusterFailed, ClusterGone
from dask_provider.handles import ClusterHandle
from dask_provider.hooks import hook_of

from tests.integration.kubernetes.place import Namespace
from tests.integration.place import FIRST, until

SLEEPS = "import time; print('here', flush=True); time.sleep({seconds})"


def clusters(place: Namespace) -> set[str]:
    return {key for key in place.objects() if key.startswith("DaskCluster/")}


def running(place: Namespace) -> list[str]:
    return [pod["metadata"]["name"] for pod in place.pods()]


def lease_pods(place: Namespace, handle: ClusterHandle) -> list[Any]:
    return place.pods(f"dask-provider/role=lease,dask-provider/cluster={handle.name}")


async def test_idle_and_lifetime(place: Namespace) -> None:
    """All at once; what each is to show takes its time."""
    hook = hook_of("kubernetes")
    specs = {
        "idle": place.spec(idle_timeout=6),
        "busy": place.spec(idle_timeout=15),
        "extended": place.spec(idle_timeout=15),
    }
    made = dict(zip(specs, await asyncio.gather(*(place.ready(s, name) for name, s in specs.items())), strict=True))
    began = time.time()
    old = await hook.create(place.spec(max_lifetime=15), place.owner("old"), FIRST)
    await hook.extend(made["extended"], 600)
    job = await place.submit(made["busy"], SLEEPS.format(seconds=25))
    (pod,) = lease_pods(place, made["busy"])
    place.evict(pod)  # it is replaced

    names = {name: handle.name for name, handle in made.items()}
    await until(lambda: f"DaskCluster/{names['idle']}" not in clusters(place), 60)
    with pytest.raises(ClusterGone, match="idle_timeout: nothing to do for 6 s"):
        await hook.check(made["idle"])
    await hook.check(made["extended"])
    await until(lambda: f"DaskCluster/{old.name}" not in clusters(place), 90)
    with pytest.raises(ClusterGone, match="max_lifetime"):
        await hook.check(old)
    assert (await place.follow(job)).outcome.succeeded, "a running job is work, whatever it does"
    assert time.time() - began > 20
    await until(lambda: f"DaskCluster/{names['busy']}" not in clusters(place), 400)
    await hook.check(made["extended"])
    expires = datetime.fromisoformat(made["extended"].expires).timestamp()
    assert expires == pytest.approx(began + 86400, abs=120)
    await place.delete(made["extended"])


async def test_with_the_operator_dead(place: Namespace) -> None:
    server = place.server
    await place.ready(place.spec(idle_timeout=8))
    server.control("kill", "operator")
    try:
        await until(lambda: not running(place), 90)
    finally:
        server.control("start", "operator")
    await until(lambda: not clusters(place), 60)
    assert not running(place), "the operator that is back brings nothing back"


@pytest.mark.whole
async def test_deleted_while_the_operator_is_dead(place: Namespace) -> None:
    hook, server = hook_of("kubernetes"), place.server
    handle = await place.ready(place.spec())
    server.control("kill", "operator")
    try:
        assert await hook.delete(handle, "deleted by the test") == "deleting"
        with pytest.raises(ClusterFailed, match="waits for the Dask operator, which does not answer"):
            await hook.wait_gone(handle, 30)
        assert not running(place)
    finally:
        server.control("start", "operator")
    assert await hook.wait_gone(handle, 60)


@pytest.mark.whole
async def test_the_node_is_lost_for_good(place: Namespace) -> None:
    """Its pods are forgotten with it. Another one takes its place: the lease goes on there, and ends the cluster."""
    server = place.server
    handle = await place.ready(place.spec(idle_timeout=20))
    (lost,) = lease_pods(place, handle)
    with server.node_away():
        server.kubectl("delete", "node", server.node)
        await until(lambda: lost["metadata"]["uid"] not in {pod["metadata"]["uid"] for pod in place.pods()}, 180)
        assert clusters(place) == {f"DaskCluster/{handle.name}"}
    await until(lambda: [pod["status"]["phase"] for pod in lease_pods(place, handle)] == ["Running"], 60)
    await hook_of("kubernetes").check(handle)
    await until(lambda: not clusters(place), 120)
    with pytest.raises(ClusterGone, match="idle_timeout: nothing to do for 20 s"):
        await hook_of("kubernetes").check(handle)
