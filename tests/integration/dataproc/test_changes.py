"""What is asked of a cluster while it is being changed, and workers that are deleted by name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dask_provider.errors import ClusterFailed, InvalidInput
from dask_provider.hooks.dataproc import changes, requests
from dask_provider.hooks.dataproc.access import Access
from dask_provider.hooks.dataproc.client import ApiError, Client
from dask_provider.runtime import dataproc_api
from dask_provider.runtime.dataproc_api import Dataproc, Refused, State

from tests.servers.dataproc.clients import wait_for
from tests.servers.dataproc.server import DataprocServer

pytest_plugins = ["tests.servers.gcs", "tests.servers.dataproc.fixtures"]

REST = "/v1/projects/dask-tests/regions/europe-west1/clusters"


def shown(server: DataprocServer, name: str) -> Any:
    return server.request("GET", f"{REST}/{name}")[1]


def made(server: DataprocServer, name: str, secondary: int, labels: dict[str, str]) -> Any:
    """A cluster of two primary workers; nobody runs Dask there."""
    groups = {"workerConfig": {"numInstances": 2}, "secondaryWorkerConfig": {"numInstances": secondary}}
    status, answer = server.request("POST", REST, {"clusterName": name, "config": groups, "labels": labels})
    assert status == 200, answer
    wait_for(lambda: shown(server, name)["status"]["state"] == "RUNNING")
    return shown(server, name)


def client(server: DataprocServer) -> Client:
    return Client(Access("the test", "dask-tests", None, server.url), "dask-tests", "europe-west1")


def deletion(*names: str, pool: str = "SECONDARY_WORKER_POOL", **more: Any) -> dict[str, Any]:
    return {"nodePools": [{"id": pool, "instanceNames": list(names), "repairAction": "DELETE"}], **more}


async def test_other_limits_wait_for_the_end_of_a_change(empty_dataproc: DataprocServer) -> None:
    server = empty_dataproc
    found = made(server, "etl", 3, {requests.LIMITS: "2-5", "team": "etl"})
    names = found["config"]["secondaryWorkerConfig"]["instanceNames"]
    async with client(server) as c:
        path = f"{c.clusters('etl')}:repair"
        for wrong, said in (
            (deletion("etl-w-0"), "do not belong to node pool 'SECONDARY_WORKER_POOL'"),
            (deletion("etl-w-0", pool="PRIMARY_WORKER_POOL"), "a minimum of 2"),
            (deletion(names[0], pool="POOL"), "does not exist"),
            (deletion(names[0], gracefulDecommissionTimeout="2d"), "must end with 's'"),
        ):
            with pytest.raises(ApiError, match=said):
                await c.call("POST", path, body=wrong)
        with server.settings(delays={"repair": 2}):
            body = deletion(names[1], requestId="one", gracefulDecommissionTimeout="60s")
            first = await c.call("POST", path, body=body)
            assert (await c.call("POST", path, body=body))["name"] == first["name"]
            assert shown(server, "etl")["status"]["state"] == "REPAIRING"
            with pytest.raises(ApiError, match="FAILED_PRECONDITION"):
                await c.call("POST", path, body=deletion(names[0]))
            # Both wait for it, and one for the other; none takes anything of the other away.
            await asyncio.gather(changes.scale(c, found, 4, 6), changes.scale(c, found, 4, 6))
    wait_for(lambda: shown(server, "etl")["status"]["state"] == "RUNNING")
    found = shown(server, "etl")
    assert found["config"]["secondaryWorkerConfig"]["instanceNames"] == [names[0], names[2]]
    assert found["config"]["secondaryWorkerConfig"]["numInstances"] == 2
    assert (found["labels"][requests.LIMITS], found["labels"]["team"]) == ("4-6", "etl")
    assert server.calls()["clusters.update"] >= 4


async def test_who_cannot_be_scaled_so(empty_dataproc: DataprocServer) -> None:
    server = empty_dataproc
    fixed = made(server, "fixed", 0, {})
    async with client(server) as c:
        with pytest.raises(ClusterFailed, match="a fixed number of workers"):
            await changes.scale(c, fixed, 2, 4)
        await changes.scale(c, fixed, 3, 3)
        wait_for(lambda: shown(server, "fixed")["status"]["state"] == "RUNNING")
        assert shown(server, "fixed")["config"]["workerConfig"]["numInstances"] == 3
        elastic = made(server, "elastic", 0, {requests.LIMITS: "2-5"})
        with pytest.raises(InvalidInput, match="workers: 1 is not possible; allowed: at least 2"):
            await changes.scale(c, elastic, 1, 1)
        # What is refused for another reason is not asked for again and again.
        server.fault("refuse", method="clusters.update", code="FAILED_PRECONDITION", count=2)
        with pytest.raises(ApiError, match="FAILED_PRECONDITION"):
            await changes.scale(c, elastic, 2, 3)
        await changes.scale(c, elastic, 2, 3)
    assert shown(server, "elastic")["labels"][requests.LIMITS] == "2-3"


def test_what_the_master_asks_for(empty_dataproc: DataprocServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its account, and once more when an answer is lost: Dataproc does it once."""
    server, tells = empty_dataproc, {"project/project-id": "dask-tests"}
    tells["instance/attributes/dataproc-region"] = "europe-west1"
    tells["instance/attributes/dataproc-cluster-name"] = "etl"
    tells["instance/service-accounts/default/token"] = '{"access_token": "of-the-machines"}'
    monkeypatch.setattr(dataproc_api, "_metadata", tells.__getitem__)
    monkeypatch.setattr(dataproc_api, "AGAIN", (0.1, 0.1, None))
    made(server, "etl", 0, {requests.LIMITS: "2-5"})
    dataproc = Dataproc(server.url)

    def done(operation: str) -> str:
        wait_for(lambda: dataproc.ended(operation) is not None)
        return str(dataproc.ended(operation))

    with server.settings(token="of-the-machines", quota={"INSTANCES": 6}):
        assert dataproc.get() == State("RUNNING", 2, 5, 2, 0, ())
        with pytest.raises(Refused, match="INSTANCES") as refused:
            dataproc.add(4)
        assert (refused.value.is_quota, refused.value.heard_maybe) == (True, False)
        server.fault("lose_answer", method="clusters.update")
        assert done(dataproc.add(3)) == ""
        names = dataproc.get().names
        server.fault("lose_answer", method="clusters.repair")
        server.fault("refuse", method="clusters.repair")  # 503
        assert done(dataproc.remove(names[:2])) == ""
        assert dataproc.get() == State("RUNNING", 2, 5, 2, 1, names[2:])
        server.fault("refuse", method="clusters.repair", count=3)
        with pytest.raises(Refused, match="UNAVAILABLE") as refused:
            dataproc.remove(names[2:])
        assert refused.value.heard_maybe
        server.fault("fail_operation", method="clusters.update")
        assert "does not have enough resources" in done(dataproc.add(2))
        assert dataproc.get().state == "ERROR_DUE_TO_UPDATE"
        operations = server.request("GET", f"{REST[:-9]}/operations", token="of-the-machines")[1]["operations"]
    kinds = [each["metadata"]["operationType"] for each in operations]
    assert sorted(kinds) == ["CREATE", "REPAIR", "UPDATE", "UPDATE"]
