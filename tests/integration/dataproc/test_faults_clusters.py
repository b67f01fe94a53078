"""Clusters that Google refuses, or whose making is disturbed: each message says what helps, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from dask_provider.errors import ClusterFailed, InvalidInput
from dask_provider.hooks import hook_of
from dask_provider.hooks.dataproc import ends, failures

from tests.integration.dataproc.place import BUCKET, PlainDataproc
from tests.integration.place import FIRST, retry, until
from tests.servers.dataproc.clients import read_object

pytest_plugins = ["tests.servers.gcs", "tests.servers.dataproc.fixtures"]

ACCOUNT = "dask@acme-data.iam.gserviceaccount.com"
KEY = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"labels": {"Team": "etl"}}, "label key 'Team'"),
        ({"labels": {"team": "Data & Co"}}, "value 'Data & Co' of label 'team'"),
        ({"config": {"lifecycleConfig": {"idleDeleteTtl": "10s"}}}, "idle_delete_ttl must be from 300"),
        ({"config": {"workerConfig": {"numInstances": 1}}}, "1"),
        ({"config": {"masterConfig": {"machineTypeUri": "big"}}}, "Machine type 'big'"),
        ({"config": {"masterConfig": {"numberOfMachines": 3}}}, "numberOfMachines"),
    ],
)
async def test_what_only_dataproc_can_check(plain: PlainDataproc, overrides: dict[str, Any], said: str) -> None:
    """By the way that goes around our own checks; before there is any machine."""
    spec = plain.spec(workers=2, cluster_config_overrides=overrides)
    with pytest.raises(InvalidInput, match="what Dataproc takes; it says:") as refused:
        await hook_of(spec).create(spec, plain.owner(), FIRST)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "code", "said", "remedy"),
    [
        (
            {"service_account": ACCOUNT},
            "PERMISSION_DENIED",
            f"User not authorized to act as service account '{ACCOUNT}'.",
            "Service Account User",
        ),
        (
            {"kms_key": KEY},
            "PERMISSION_DENIED",
            f"Permission 'cloudkms.cryptoKeyVersions.useToEncrypt' denied on resource '{KEY}' (or it may not exist).",
            "CryptoKey Encrypter/Decrypter",
        ),
        (
            {"staging_bucket": BUCKET},
            "PERMISSION_DENIED",
            "dask@acme-data.iam does not have storage.buckets.get access to the Google Cloud Storage bucket.",
            "Storage Legacy Bucket Reader",
        ),
        ({}, "PERMISSION_DENIED", "Permission denied on resource project acme-dta.", "the project is there"),
        ({}, "UNAVAILABLE", "The zone 'z' does not have enough resources available.", "leave zone= out"),
    ],
)
async def test_a_missing_right_is_named_with_what_helps(
    plain: PlainDataproc, fields: dict[str, Any], code: str, said: str, remedy: str
) -> None:
    """Whether Dataproc says so at once or only while it makes the cluster; that one is deleted, as any that failed."""
    hook, spec = hook_of("dataproc"), plain.spec(**fields)
    if code == "PERMISSION_DENIED":
        plain.server.fault("refuse", method="clusters.create", code=code, message=said)
        with pytest.raises(ClusterFailed) as refused:
            await hook.create(spec, plain.owner(), FIRST)
        assert said in str(refused.value)
        assert remedy in str(refused.value)
    plain.server.fault("fail_operation", method="clusters.create", code=code, message=said)
    handle = await hook.create(spec, plain.owner(), FIRST)
    with pytest.raises(ClusterFailed) as failed:
        await plain.wait_ready(hook, handle)
    assert said in str(failed.value)
    assert remedy in str(failed.value)
    await plain.delete(handle)


@pytest.mark.parametrize("diagnosis", ["is there", "fails", "is refused", "takes long"])
async def test_a_failed_cluster_is_diagnosed_before_it_is_deleted(
    plain: PlainDataproc, monkeypatch: pytest.MonkeyPatch, diagnosis: str
) -> None:
    """The cause stays, whatever becomes of that: also told before, as a diagnosis may take its time."""
    hook, cause, method = hook_of("dataproc"), "Quota 'N2_CPUS' exceeded.", "clusters.diagnose"
    plain.server.fault("fail_operation", method="clusters.create", message=cause)
    if diagnosis == "fails":
        plain.server.fault("fail_operation", method=method, message="No agent answers.")
    elif diagnosis == "is refused":
        plain.server.fault("refuse", method=method, code="PERMISSION_DENIED")
    elif diagnosis == "takes long":
        plain.server.fault("slow", method=method, seconds=600)
        monkeypatch.setattr(failures, "DIAGNOSED_WITHIN", 1.5)
    handle = await hook.create(plain.spec(), plain.owner(), FIRST)
    told: list[str] = []

    async def wait() -> None:
        async for readiness in hook.wait_ready(handle):
            told.append(readiness.text)

    with pytest.raises(ClusterFailed, match=cause) as failed:
        await wait()
    assert cause in told[-1]
    last = str(failed.value).splitlines()[-1]
    assert plain.server.calls()[method] == 1
    await plain.delete(handle)
    if diagnosis == "is there":
        uri = last.rpartition(": ")[2]
        found = json.loads(gzip.decompress(read_object(plain.server, uri)))
        assert (found["cluster"]["clusterUuid"], found["cluster"]["status"]["state"]) == (handle.uid, "ERROR")
    else:
        said = {"fails": "No agent answers.", "is refused": "PERMISSION_DENIED", "takes long": "not there within"}
        assert said[diagnosis] in last
    assert ("/operations/" in last) == (diagnosis != "is refused")


async def test_a_time_to_live_that_is_none_is_not_asked_for(plain: PlainDataproc) -> None:
    spec = plain.spec(cluster_config_overrides={"config": {"lifecycleConfig": {"autoDeleteTtl": "ten"}}})
    with pytest.raises(InvalidInput, match=r"lifecycleConfig.autoDeleteTtl: 'ten' .* \"600s\""):
        await hook_of(spec).create(spec, plain.owner(), FIRST)
    assert "clusters.create" not in plain.server.calls()


@contextlib.asynccontextmanager
async def _storage(status: int, message: str) -> AsyncIterator[str]:
    """The URL of a Cloud Storage that answers everything so."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"error": {"code": status, "message": message}}, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "airflow@acme does not have storage.objects.create access to the Google Cloud Storage object."),
        (404, "The specified bucket does not exist."),
    ],
)
async def test_a_staging_that_cannot_be_written(
    plain: PlainDataproc, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    """No cluster is made then; and a job on one that is there is not submitted."""
    ready = await plain.ready(plain.spec())
    async with _storage(status, said) as url:
        monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_TESTS", plain.server.connection(**{"gcs.endpoint": url}))
        with pytest.raises(ClusterFailed, match="Storage Object Admin") as refused:
            await hook_of("dataproc").create(plain.spec(dask="image"), plain.owner("other"), FIRST)
        assert said in str(refused.value)
        with pytest.raises(ClusterFailed, match="Storage Object Admin") as refused:
            await plain.submit(ready, "print()")
        assert said in str(refused.value)
        assert plain.staging.partition("@")[2] in str(refused.value)
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_TESTS", plain.server.connection())
    assert [each["clusterName"] for each in plain.get("clusters")["clusters"]] == [ready.name]
    assert "jobs" not in plain.get("jobs")
    await plain.delete(ready)


@pytest.mark.parametrize("when", ["before Dataproc has it", "before its answer", "while it is made"])
async def test_a_create_that_is_killed_is_taken_up(plain: PlainDataproc, when: str) -> None:
    """The next try has one cluster: the same, if there was one."""
    hook = hook_of("dataproc")
    faults = {"before Dataproc has it": "refuse", "before its answer": "lose_answer"}
    if when in faults:
        plain.server.fault(faults[when], method="clusters.create", count=None)

    async def make() -> None:
        await plain.wait_ready(hook, await hook.create(plain.spec(), plain.owner(), FIRST))

    def there() -> list[str]:
        return [each["clusterUuid"] for each in plain.get("clusters").get("clusters", [])]

    with plain.server.settings(delays={"create": 3}):
        killed = asyncio.ensure_future(make())
        asked = "clusters.create" if when in faults else "clusters.get"
        await until(lambda: plain.server.calls().get(asked, 0) >= 2)
        killed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await killed
        plain.server.admin("DELETE", "faults")
        before = there()
        assert len(before) == (0 if when == "before Dataproc has it" else 1)
        second = await hook.create(plain.spec(), plain.owner(), retry(2))
        assert there() == [second.uid]
        assert second.uid in (before or [second.uid])
        await plain.delete(await plain.wait_ready(hook, second))


async def test_a_wait_outlives_the_api(plain: PlainDataproc) -> None:
    """It is killed and started anew while a deferred task waits for its cluster, and for its cluster's end."""
    hook = hook_of("dataproc")

    async def outlived(wait: Awaitable[Any]) -> Any:
        waiting = asyncio.ensure_future(wait)
        await asyncio.sleep(0.5)
        plain.server.kill()
        await asyncio.sleep(3)
        assert not waiting.done()
        plain.server.start_again()
        return await asyncio.wait_for(waiting, 60)

    with plain.server.settings(delays={"create": 4, "delete": 4}):
        handle = await hook.create(plain.spec(), plain.owner(), FIRST)
        ready = await outlived(plain.wait_ready(hook, handle))
        assert ready.uid == handle.uid
        assert await hook.delete(ready, "the test is over") == "deleting"
        assert await outlived(hook.wait_gone(ready, 60))


@pytest.mark.parametrize("delay", [0, 2])
async def test_a_deletion_that_fails_is_told(plain: PlainDataproc, monkeypatch: pytest.MonkeyPatch, delay: int) -> None:
    """Before anybody waits for it, or while one does; a second one is waited for, whatever became of the first."""
    monkeypatch.setattr(ends, "BEGUN_WITHIN", 2.0)
    hook, ready = hook_of("dataproc"), await plain.ready(plain.spec())
    assert not await hook.wait_gone(ready, 2), "nobody has asked for its end"
    plain.server.fault("fail_operation", method="clusters.delete", message="The subnetwork is in use.")
    with plain.server.settings(delays={"delete": delay}):
        assert await hook.delete(ready, "the test is over") == "deleting"
        with pytest.raises(
            ClusterFailed, match=r"given up deleting .*, which is ERROR again: The subnetwork is in use"
        ):
            await asyncio.wait_for(hook.wait_gone(ready, 300), 30)
        assert not await hook.wait_gone(ready, 0)
        await plain.delete(ready)
