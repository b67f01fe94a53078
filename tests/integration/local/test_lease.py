"""A cluster ends by itself, with nobody there to end it: idle too long, or too old. The cases run side by side."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path

import pytest
from dask_provider.clusters import LocalCluster
from dask_provider.errors import ClusterGone
from dask_provider.handles import ClusterHandle
from dask_provider.hooks import hook_of
from dask_provider.runtime.processes import alive
from dask_provider.runtime.records import read_record

from tests.integration.onehost import Host, until

#: what the keeper may be late by: it looks every second, and this machine may be busy
LATE = 15.0


async def ended(handle: ClusterHandle) -> tuple[float, str]:
    """When and why a cluster has ended by itself."""
    status = Path(handle.details["folder"], "status.json")
    read = await until(lambda: "ended" in status.read_text() and json.loads(status.read_text()), 60)
    return read["ended"], read["reason"]


async def assert_gone(host: Host, handle: ClusterHandle, reason: str) -> None:
    with pytest.raises(ClusterGone, match=reason):
        await host.submit(handle, "print(1)", task_id="too late")
    keeper = read_record(Path(handle.details["folder"], "keeper.json"))
    await until(lambda: not alive(keeper))  # its last word was written before its end
    assert await hook_of("local").delete(handle, "again") == "already gone"


async def idle(host: Host) -> None:
    """A job that never speaks to Dask is work all the same; idleness counts from its end."""
    handle = await host.ready(LocalCluster(workers=1, idle_timeout=8), "idle")
    told = await host.run(handle, "import time; time.sleep(12); print('slept')", task_id="idle")
    assert told.outcome.succeeded, told.outcome
    finished = datetime.fromisoformat(told.outcome.finished).timestamp()
    when, why = await ended(handle)
    assert why == "idle_timeout: nothing to do for 8 s"
    assert 7 < when - finished < 8 + LATE
    await assert_gone(host, handle, "idle_timeout")


async def idle_for_the_scheduler_only(host: Host) -> None:
    """Work on the workers counts too: here nobody but a plain Dask client is there."""
    from distributed import Client

    handle = await host.ready(LocalCluster(workers=1, idle_timeout=8), "busy")
    async with Client(handle.scheduler_address, asynchronous=True) as client:
        await client.submit(__import__("time").sleep, 12, pure=False)
        await hook_of("local").check(handle)
    assert (await ended(handle))[1].startswith("idle_timeout")


async def old(host: Host) -> None:
    """The lifetime counts from the creation; a busy machine may take most of it to start the four clusters."""
    handle = await host.ready(LocalCluster(workers=1, max_lifetime=60), "old")
    assert handle.expires > handle.created
    told = await host.run(handle, "import time; time.sleep(99)", task_id="old")
    assert told.outcome.state == "cancelled"
    when, why = await ended(handle)
    born = datetime.fromisoformat(handle.created).timestamp()
    assert why == "max_lifetime: 60 s are over"
    assert 59 < when - born < 60 + LATE
    await assert_gone(host, handle, "max_lifetime")


async def extended(host: Host) -> None:
    """Before a retry the lease is extended; afterwards it counts as before."""
    handle = await host.ready(LocalCluster(workers=1, idle_timeout=5), "extended")
    await hook_of("local").extend(handle, 10)
    extended = asyncio.get_running_loop().time()
    await ended(handle)
    assert 9 < asyncio.get_running_loop().time() - extended < 10 + LATE
    await hook_of("local").extend(handle, 10)  # too late is no error
    await assert_gone(host, handle, "idle_timeout")


async def test_leases(host: Host) -> None:
    await asyncio.gather(*(case(host) for case in (idle, idle_for_the_scheduler_only, old, extended)))
    await host.assert_nothing_runs()
