"""What lies below ``[dask] staging``: which try has a cluster, the scripts, and a storage that does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from dask_provider.errors import ClusterFailed
from dask_provider.handles import ClusterHandle
from dask_provider.hooks import hook_of
from dask_provider.hooks.base import TAKEN_OVER
from dask_provider.hooks.dataproc import attempts, clusters, jobs, scripts
from dask_provider.hooks.dataproc.client import Client
from dask_provider.operators import cluster as operators
from dask_provider.operators.base import END_WITHIN
from dask_provider.owner import Attempt

from tests.integration.dataproc.place import REGION, PlainDataproc
from tests.integration.place import FIRST, cleared, retry

pytest_plugins = ["tests.servers.gcs", "tests.servers.dataproc.fixtures"]


@contextlib.asynccontextmanager
async def _client() -> AsyncIterator[Client]:
    async with Client(await clusters.access_of("google_tests"), "dask-tests", REGION) as client:
        yield client


async def test_the_try_that_came_last_has_the_cluster(plain: PlainDataproc) -> None:
    """Also where the clock of the one before is ahead; and who writes late does not come last."""
    hook, spec, owner = hook_of("dataproc"), plain.spec(), plain.owner()

    async def leaves(older: ClusterHandle) -> bool:
        return await hook.delete(older, "by an older try", compare=True) == TAKEN_OVER

    with plain.server.settings(delays={"create": 5}):  # Dataproc changes no labels meanwhile
        first = await hook.create(spec, owner, Attempt(1, fresh=True, last=False, started=10))
        labelled = plain.get(f"clusters/{first.name}")
        second = await hook.create(spec, owner, retry(2))
        assert second.uid == first.uid
        assert await leaves(first)
        third = await hook.create(spec, owner, retry(3))
        assert await leaves(second)
        async with _client() as client:
            await attempts.take(client, labelled, Attempt(2, fresh=False, last=False, started=2.5))
        found = await hook.find(spec, owner)
        assert found is not None
        assert (found.attempt, found.started) == (3, 3)
        assert await hook.delete(third, "by the last", compare=True) == "deleting"
    assert await hook.wait_gone(third, 60)
    assert not plain.objects("attempts/")


async def test_scripts_are_no_older_than_the_day_of_their_cluster(
    plain: PlainDataproc, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, staged = plain.spec(dask="pypi", workers=(2, 4)), []
    async with _client() as client:
        for day in (1, 1, 2):
            now = datetime(2026, 11, day, 23, tzinfo=timezone.utc)
            monkeypatch.setattr(scripts, "datetime", SimpleNamespace(now=lambda zone, now=now: now.astimezone(zone)))
            staged.append(await scripts.staged(client, spec))
    assert staged[0].keys() == {"dask", "elastic"}
    assert staged[0] == staged[1]
    assert not set(staged[0].values()) & set(staged[2].values())
    assert {*staged[0].values(), *staged[2].values()} <= set(plain.objects("setup/"))


async def test_a_leftover_of_another_spec_may_take_its_time(
    plain: PlainDataproc, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook, owner = hook_of("dataproc"), plain.owner()
    old = await plain.ready(plain.spec(), "work")
    monkeypatch.setattr(operators, "GONE_WITHIN", 0.5)
    with plain.server.settings(delays={"delete": 3}):
        made = await operators.create_cluster(hook, plain.spec(idle_timeout="20 min"), owner, cleared(1, started=9))
    assert made.uid != old.uid
    await plain.delete(made)


async def test_a_name_that_is_taken_and_not_shown_ends_the_wait(
    plain: PlainDataproc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "ENDED_WITHIN", 1.5)
    plain.server.fault("refuse", method="clusters.create", code="ALREADY_EXISTS", count=None)
    with pytest.raises(ClusterFailed, match=f"there is a cluster {plain.owner().name}, and shows none"):
        await asyncio.wait_for(hook_of("dataproc").create(plain.spec(), plain.owner(), FIRST), 30)
    assert plain.server.calls()["clusters.create"] > 1


@contextlib.asynccontextmanager
async def _storage(plain: PlainDataproc, monkeypatch: pytest.MonkeyPatch, status: int | None) -> AsyncIterator[None]:
    """A Cloud Storage that refuses to list, or that never answers anything."""

    async def answer(_: web.Request) -> web.Response:
        if status is None:
            await asyncio.sleep(600)
        said = "airflow@acme does not have storage.objects.list access to the Google Cloud Storage bucket."
        return web.json_response({"error": {"code": status, "message": said}}, status=status or 500)

    app = web.Application()
    app.router.add_route("GET" if status else "*", "/{path:.*}", answer)
    async with TestServer(app, shutdown_timeout=0.1) as server:
        url = str(server.make_url("")).rstrip("/")
        with monkeypatch.context() as patched:
            patched.setenv("AIRFLOW_CONN_GOOGLE_TESTS", plain.server.connection(**{"gcs.endpoint": url}))
            yield


async def test_who_may_not_list_makes_no_cluster(plain: PlainDataproc, monkeypatch: pytest.MonkeyPatch) -> None:
    async with _storage(plain, monkeypatch, 403):
        with pytest.raises(ClusterFailed, match=r"storage\.objects\.list.*Storage Object Admin"):
            await hook_of("dataproc").create(plain.spec(), plain.owner(), FIRST)
    assert "clusters.create" not in plain.server.calls()


async def test_what_is_killed_ends_its_cluster_while_storage_does_not_answer(
    plain: PlainDataproc, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Within the time that a killed task has: a job step, whose run is over, and a create step."""
    hook, spec, owner = hook_of("dataproc"), plain.spec(), plain.owner("other")
    used, other = await asyncio.gather(plain.ready(spec), plain.ready(spec, "other"))
    job = await plain.submit(used, "print('never')")

    async def job_step() -> None:
        assert await hook.cancel(job) == "cancelled"
        assert await hook.delete(used, "the run is over", compare=True) == "deleting"

    async def create_step() -> None:
        found = await hook.find(spec, owner)
        assert found is not None
        assert await hook.delete(found, "its create step was ended", compare=True) == "deleting"

    monkeypatch.setattr(jobs, "TIDIED_WITHIN", 0.5)
    async with _storage(plain, monkeypatch, None):
        await asyncio.wait_for(job_step(), END_WITHIN)
        await asyncio.wait_for(create_step(), END_WITHIN)
        with caplog.at_level(logging.WARNING, "dask_provider"):
            assert await asyncio.wait_for(hook.wait_gone(used, 20), 25)
    assert f"cluster {used.name}: not all that was staged is removed" in caplog.text
    assert len(plain.programs()) == 1
    monkeypatch.setattr(jobs, "TIDIED_WITHIN", 30.0)
    for handle in (used, other):
        assert await hook.wait_gone(handle, 20)
