"""Clusters on Dataproc that cannot be, or end before their time; each says why, and nothing is left."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from dask_provider.errors import ClusterFailed, ClusterGone, InvalidInput
from dask_provider.hooks import hook_of
from dask_provider.hooks.dataproc.clusters import ClustersHook

from tests.integration.dataproc.place import Dataproc
from tests.integration.place import FIRST, cleared, retry

pytest_plugins = ["tests.servers.gcs"]

LONG = "import time; print('begun', flush=True); time.sleep(600)"


async def _cause(place: Dataproc, name: str, **fields: Any) -> str:
    """Why a cluster does not become ready; it is deleted then."""
    hook = hook_of("dataproc")
    handle = await hook.create(place.spec(workers=1, **fields), place.owner(name), FIRST)
    try:
        await place.wait_ready(hook, handle)
    except ClusterFailed as error:
        return str(error)
    finally:
        await hook.delete(handle, "it did not become ready")
        assert await hook.wait_gone(handle, 60)
    return "it became ready"


async def test_what_a_script_wrote_is_told(place: Dataproc) -> None:
    """Ours, on a machine where Dask cannot come up; and one that Dataproc only says failed."""
    place.server.fault("fail_action", target="dask-flights-fault-*", exit_code=7, output="disk full\n")
    old = {"config": {"gceClusterConfig": {"metadata": {"dask-version": "2020.12.0"}}}}
    ours, stand_in = await asyncio.gather(_cause(place, "old", cluster_config_overrides=old), _cause(place, "fault"))
    assert "metadata dask-version: 2020.12.0 is wanted" in ours, ours
    assert "failed to start" in stand_in
    assert "disk full" in stand_in


async def test_what_dataproc_has_no_room_for(place: Dataproc) -> None:
    with (
        place.server.settings(quota={"CPUS": 3}),
        pytest.raises(ClusterFailed, match=r"Insufficient 'CPUS' quota.*fewer or smaller"),
    ):
        await hook_of("dataproc").create(place.spec(), place.owner("quota"), FIRST)
    no_room = "The zone does not have enough resources"
    place.server.fault("fail_operation", method="clusters.create", code="UNAVAILABLE", message=no_room)
    assert no_room in await _cause(place, "stock-out")


async def test_what_is_refused_names_what_is_missing(place: Dataproc, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = hook_of("dataproc")
    said = "Required 'compute.subnetworks.use' permission for 'services'"
    place.server.fault("refuse", method="clusters.create", code="PERMISSION_DENIED", message=said)
    with pytest.raises(ClusterFailed, match=said):
        await hook.create(place.spec(), place.owner("rights"), FIRST)
    with (
        place.server.settings(projects=["acme-data"]),
        pytest.raises(ClusterFailed, match=r"project dask-tests.*see that the project is there"),
    ):
        await hook.create(place.spec(), place.owner("project"), FIRST)
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_TESTS", place.server.connection(project=""))
    with pytest.raises(InvalidInput, match=r"project_id.*connection google_tests"):
        await hook.create(place.spec(), place.owner("project"), FIRST)
    monkeypatch.setenv("AIRFLOW__DASK__STAGING", "s3://bucket/staging/")
    with pytest.raises(InvalidInput, match=r"staging.*gs://"):
        await hook.create(place.spec(), place.owner("staging"), FIRST)


async def test_a_cluster_of_somebody_else_stays(place: Dataproc) -> None:
    name = place.owner("taken").name
    path = "/v1/projects/dask-tests/regions/europe-west1/clusters"
    alone = {"softwareConfig": {"properties": {"dataproc:dataproc.allow.zero.workers": "true"}}}
    status, answer = place.server.request("POST", path, {"clusterName": name, "config": alone})
    assert status == 200, answer
    with pytest.raises(ClusterFailed, match="not ours: it stays"):
        await hook_of("dataproc").create(place.spec(), place.owner("taken"), FIRST)
    assert await hook_of("dataproc").find(place.spec(), place.owner("taken")) is None
    place.server.request("DELETE", f"{path}/{name}")


async def test_lost_answers_and_storms_make_no_second_cluster(place: Dataproc) -> None:
    hook = hook_of("dataproc")
    place.server.fault("lose_answer", method="clusters.create")
    place.server.fault("refuse", method="clusters.get", code="UNAVAILABLE", count=2)
    with place.server.settings(delays={"delete": 3}):
        first = await hook.create(place.spec(workers=1), place.owner("lost"), FIRST)
        assert [each["clusterName"] for each in place.get("clusters")["clusters"]] == [first.name]
        assert await hook.delete(first, "again, at once") == "deleting"
        # One of the same name waits until the older one is gone.
        second = await hook.create(place.spec(workers=1), place.owner("lost"), retry(2))
        assert second.uid != first.uid
        with pytest.raises(ClusterGone):
            await hook.check(first)
        await place.delete(second)


async def test_a_failed_one_of_an_earlier_try_is_replaced(place: Dataproc, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = hook_of("dataproc")
    place.server.fault("fail_action", target="dask-flights-failed-*", exit_code=7, output="disk full\n")
    first = await hook.create(place.spec(workers=1), place.owner("failed"), FIRST)
    with pytest.raises(ClusterFailed, match="disk full"):
        await place.wait_ready(hook, first)
    second = await hook.create(place.spec(workers=1), place.owner("failed"), retry(2))
    assert second.uid != first.uid
    await place.delete(await place.wait_ready(hook, second))


@pytest.mark.whole
async def test_dataproc_itself_ends_what_is_idle_or_old(place: Dataproc) -> None:
    """With no word from us; a running job is work; ``extend`` gives an idle one more time."""
    hook = hook_of("dataproc")
    assert isinstance(hook, ClustersHook)
    with place.server.settings(time_scale=60):
        idle, busy, more = await asyncio.gather(
            place.ready(place.spec(workers=1, idle_timeout="5 min"), "idle"),
            place.ready(place.spec(workers=1, idle_timeout="5 min", max_lifetime="2h"), "busy"),
            place.ready(place.spec(workers=1, idle_timeout="5 min"), "more"),
        )
        job = await place.submit(busy, LONG)
        await hook.extend(more, 7200)
        began = time.monotonic()
        assert await hook.wait_gone(idle, 30)
        with pytest.raises(ClusterGone, match="idle_timeout"):
            await place.submit(idle, LONG, task_id="late", attempt=cleared(1))
        await hook.check(more)
        await place.delete(more)
        while time.monotonic() - began < 10:
            await hook.check(busy)
            await asyncio.sleep(1)
    with place.server.settings(time_scale=1200):  # its two hours are over, then
        assert await hook.wait_gone(busy, 60), "max_lifetime ends it whatever it does"
    told = await place.follow(job)
    assert told.outcome.state == "lost", told.outcome
