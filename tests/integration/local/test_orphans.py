"""Steps whose process Airflow has lost sight of, beside the newer try of the same task, and what such a try may end."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from dask_provider import config
from dask_provider.clusters import LocalCluster
from dask_provider.errors import Overtaken
from dask_provider.hooks import hook_of
from dask_provider.operators import DaskCreateClusterOperator, DaskJobOperator
from dask_provider.owner import Attempt, Owner

from tests.integration.onehost import Host, cleared, until

try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG

SPEC = LocalCluster(workers=1)
LONG = "import time; time.sleep(99)"


class Instance:
    """A task instance; two tries are left after the first."""

    dag_id, run_id, task_id, map_index, max_tries = "flights", "run-1", "work", -1, 2

    def __init__(self, number: int, started: float) -> None:
        self.try_number, self.start_date = number, datetime.fromtimestamp(started, timezone.utc)

    def xcom_push(self, key: str, value: Any) -> None:
        """Nobody reads it."""


def step(number: int, started: float, kind: Any, of: LocalCluster = SPEC, **fields: Any) -> Any:
    """The step ``work`` of one try."""
    with DAG("flights", schedule=None, start_date=datetime(2024, 1, 1)):
        task = kind(task_id="work", cluster=of, retries=2, deferrable=False, **fields)
    task._context = {"ti": Instance(number, started)}
    return task


def owner() -> Owner:
    return Owner(config.instance(), "flights", "run-1", "work")


@pytest.mark.parametrize(("kind", "fields"), [(DaskCreateClusterOperator, {}), (DaskJobOperator, {"module": "this"})])
async def test_an_orphan_neither_takes_nor_ends_the_cluster(host: Host, kind: Any, fields: dict[str, Any]) -> None:
    hook = hook_of(SPEC)
    newer = await hook.create(SPEC, owner(), Attempt(2, fresh=False, last=False, started=200))
    orphan = step(1, 100, kind, **fields)
    with pytest.raises(Overtaken, match=rf"cluster {newer.name} belongs to try 2"):
        await asyncio.to_thread(orphan.execute, {"ti": Instance(1, 100)})
    await orphan._end(run_over=True)
    found = await hook.find(SPEC, owner())
    assert found is not None
    assert (found.uid, found.attempt, found.started) == (newer.uid, 2, 200)
    await hook.check(newer)
    await step(2, 200, kind, **fields)._end(run_over=True)
    assert await hook.wait_gone(newer, 30)


async def test_a_retry_goes_on_with_its_job_though_the_cluster_has_lost_workers(host: Host, tmp_path: Path) -> None:
    go, spec = tmp_path / "go", LocalCluster(workers=(2, 3), ready_timeout=45)
    program = tmp_path / "work.py"
    program.write_text(f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.1)")
    first, second = (step(n, n * 100, DaskJobOperator, of=spec, script=str(program)) for n in (1, 2))
    hook, bundle = hook_of(spec), first._bundle()
    cluster = await host.wait_ready(hook, await hook.create(spec, owner(), first.attempt()))
    job = await hook.submit(cluster, bundle, first.attempt())
    await until(lambda: Path(job.location, "program.json").exists())
    assert await hook.would_adopt(cluster, bundle, second.attempt())
    assert not await hook.would_adopt(cluster, bundle, cleared(2))
    status = Path(cluster.details["folder"], "status.json")
    await hook.scale(cluster, 1, 1)
    await until(lambda: json.loads(status.read_text())["workers"] == 1)
    ends = asyncio.create_task(asyncio.to_thread(second.execute, second._context))
    note = Path(job.location, "attempt.json")
    await until(lambda: ends.done() or json.loads(note.read_text())["attempt"] == 2, 60)
    go.touch()
    assert (await ends)["job_id"] == job.job_id
    assert await hook.wait_gone(cluster, 0)


async def test_a_killed_first_try_ends_what_a_run_has_left_that_was_deleted_and_made_anew(host: Host) -> None:
    hook = hook_of(SPEC)
    left = await host.wait_ready(hook, await hook.create(SPEC, owner(), cleared(3)))
    job = await hook.submit(left, host.bundle(owner(), LONG), cleared(3))
    await until(lambda: Path(job.location, "program.json").exists())
    await step(1, 500, DaskJobOperator, module="this")._end(run_over=True)
    assert (await host.follow(job)).outcome.state == "cancelled"
    assert await hook.wait_gone(left, 30)
