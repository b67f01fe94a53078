"""More workers and fewer, asked for or by Dask's own demand; what the workers hold is never lost."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import psutil
from dask_provider.clusters import LocalCluster
from dask_provider.handles import ClusterHandle
from dask_provider.hooks import hook_of

from tests.integration.onehost import Host, until


def workers(handle: ClusterHandle) -> int:
    return json.loads(Path(handle.details["folder"], "status.json").read_text())["workers"]


def nannies(host: Host) -> list[int]:
    """Worker processes that the keeper has started."""
    (keeper,) = [number for number, words in host.processes().items() if " keeper " in words]
    return [child.pid for child in psutil.Process(keeper).children()][1:]


async def test_fixed_up_and_down_without_losing_data(host: Host) -> None:
    from distributed import Client

    hook, handle = hook_of("local"), await host.ready(LocalCluster(workers=1))
    async with Client(handle.scheduler_address, asynchronous=True) as client:
        first = await client.scatter({"first": b"held by the first worker alone"})
        await hook.scale(handle, 3, 3)
        await until(lambda: len(nannies(host)) == 3)
        await hook.scale(handle, 1, 1)  # hardly started: nothing of the first one is lost
        await until(lambda: len(nannies(host)) == 1)
        assert await first["first"] == b"held by the first worker alone"
        await hook.scale(handle, 3, 3)
        await until(lambda: workers(handle) == 3)
        held = [client.submit(bytes, 100_000 + number, pure=False) for number in range(30)]
        await client.gather(client.map(len, held))
        holders = {address for where in (await client.who_has(held)).values() for address in where}
        assert len(holders) > 1, "or scaling down would prove nothing"
        await hook.scale(handle, 1, 1)
        await until(lambda: workers(handle) == 1)
        where = await client.who_has(held)
        assert all(len(addresses) == 1 for addresses in where.values()), where
        assert sum(await client.gather(client.map(len, held))) == 30 * 100_000 + 435
    await until(lambda: len(nannies(host)) == 1)


async def test_a_job_waits_for_no_more_workers_than_are_wanted_now(host: Host) -> None:
    handle = await host.ready(LocalCluster(workers=2, ready_timeout=30))
    assert handle.min_workers == 2
    await hook_of("local").scale(handle, 1, 1)
    await until(lambda: workers(handle) == 1)
    assert (await host.run(handle, "print('runs')")).outcome.succeeded


async def test_elastic_grows_under_load_and_shrinks_again(host: Host) -> None:
    from distributed import Client

    handle = await host.ready(LocalCluster(workers=(1, 3)))
    assert handle.min_workers == 1
    seen = [workers(handle)]

    async def watch() -> None:
        while True:
            seen.append(workers(handle))
            await asyncio.sleep(0.2)

    watching = asyncio.ensure_future(watch())
    async with Client(handle.scheduler_address, asynchronous=True) as client:
        slow = client.map(lambda number: time.sleep(0.5) or number, range(60), pure=False)
        await until(lambda: seen[-1] == 3, 60)
        assert sum(await client.gather(slow)) == 1770
        del slow
        await until(lambda: seen[-1] == 1, 60)
        await asyncio.sleep(3)
    watching.cancel()
    assert (min(seen), max(seen), seen[-1]) == (1, 3, 1), seen
