"""Processes of a cluster and of a job, killed by SIGKILL: nothing is left, the cause is named, nothing succeeds."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest
from dask_provider.clusters import LocalCluster
from dask_provider.errors import ClusterFailed, ClusterGone
from dask_provider.handles import ClusterHandle
from dask_provider.hooks import hook_of

from tests.integration.onehost import FIRST, Followed, Host, lines_of, until

WORKS = """
    import sys, time
    from distributed import Client
    client = Client()
    print("started", flush=True)
    print("worked", sum(client.gather(client.map(lambda x: time.sleep(0.2) or x, range(int(sys.argv[1])), pure=False))))
"""


def record(handle: ClusterHandle, name: str) -> dict:
    return json.loads(Path(handle.details["folder"], name).read_text())


def workers(handle: ClusterHandle) -> list[int]:
    """Numbers of the worker processes (Dask's nannies); the scheduler is the first child."""
    return [child["pid"] for child in record(handle, "children.json")["children"][1:]]


async def test_keeper(host: Host) -> None:
    handle = await host.ready(LocalCluster(workers=2))
    job = await host.submit(handle, WORKS, arguments=("900",))
    output = Path(job.location, "output.log")
    await until(lambda: "started" in lines_of(output))
    os.kill(record(handle, "keeper.json")["pid"], signal.SIGKILL)
    children = record(handle, "children.json")["children"]
    await until(lambda: not any(psutil.pid_exists(child["pid"]) for child in children), 5)
    with pytest.raises(ClusterGone, match="keeper was killed"):
        await hook_of("local").check(handle)
    told = await host.follow(job)
    assert told.outcome.state == "lost", told.outcome
    assert "the scheduler no longer answers" in told.outcome.reason
    assert await hook_of("local").wait_gone(handle, 5)
    await host.assert_nothing_runs()


async def test_keeper_killed_and_the_cluster_deleted_before_its_job_has_noticed(host: Host) -> None:
    handle = await host.ready(LocalCluster(workers=1))
    job = await host.submit(handle, "import time; time.sleep(99)")
    await until(lambda: Path(job.location, "program.json").exists())
    os.kill(record(handle, "keeper.json")["pid"], signal.SIGKILL)
    assert await hook_of("local").wait_gone(handle, 10)
    await host.assert_nothing_runs(1)
    assert (await host.follow(job)).outcome.state in ("cancelled", "lost")


async def test_workers_are_replaced_and_the_job_goes_on(host: Host) -> None:
    handle = await host.ready(LocalCluster(workers=2))
    job = await host.submit(handle, WORKS, arguments=("100",))
    await until(lambda: "started" in lines_of(Path(job.location, "output.log")))
    nanny = psutil.Process(workers(handle)[0])
    os.kill(nanny.pid, signal.SIGKILL)
    replaced = await until(lambda: nanny.pid not in workers(handle) and workers(handle))
    assert len(replaced) == 2
    (worker,) = [c for c in psutil.Process(replaced[0]).children() if "resource_tracker" not in " ".join(c.cmdline())]
    os.kill(worker.pid, signal.SIGKILL)
    told = await host.follow(job)
    assert told.outcome.succeeded, told.outcome
    assert "worked 4950" in told.lines
    lost = [message for message in told.messages if message["kind"] == "worker_lost"]
    assert len(lost) == 2, told.messages
    assert told.outcome.dask["workers_lost"] == 2
    assert "worker-0 ended with status -9" in record(handle, "status.json")["problem"]


async def test_scheduler(host: Host) -> None:
    handle = await host.ready(LocalCluster(workers=1))
    job = await host.submit(handle, WORKS, arguments=("900",))
    await until(lambda: "started" in lines_of(Path(job.location, "output.log")))
    os.kill(record(handle, "children.json")["children"][0]["pid"], signal.SIGKILL)
    told = await host.follow(job)
    assert told.outcome.state in ("cancelled", "lost", "failed")
    await until(lambda: record(handle, "status.json")["state"] != "ready", 5)
    with pytest.raises(ClusterGone, match="the scheduler ended with status -9"):
        await hook_of("local").check(handle)
    await host.assert_nothing_runs()


TOO_LITTLE = {"DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "0.1"}


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        (LocalCluster(workers=1, memory="400 MiB", env=TOO_LITTLE), "exceeded 10% memory"),
        (LocalCluster(workers=1, env={"PYTHONPATH": "{broken}"}), "no dask for you"),
        (LocalCluster(workers=1, host="192.0.2.1"), "192.0.2.1|assign requested address"),
    ],
    ids=["too little memory", "dask cannot be imported", "no such address"],
)
async def test_a_cluster_that_cannot_start_says_why(host: Host, tmp_path: Path, spec: LocalCluster, cause: str) -> None:
    (tmp_path / "dask.py").write_text("raise ImportError('no dask for you')")
    spec = spec.rendered(lambda value: {"PYTHONPATH": str(tmp_path)} if value == {"PYTHONPATH": "{broken}"} else value)
    hook = hook_of(spec)
    handle = await hook.create(spec, host.owner(), FIRST)
    with pytest.raises(ClusterFailed, match=cause):
        await host.wait_ready(hook, handle)
    status = await until(lambda: "ended" in record(handle, "status.json") and record(handle, "status.json"), 10)
    assert status["ended"] - record(handle, "cluster.json")["created"] < 45
    await host.assert_nothing_runs()


async def test_runtime_and_program_of_a_job(host: Host) -> None:
    handle = await host.ready(LocalCluster(workers=1))
    job = await host.submit(handle, "import time; print('here', flush=True); time.sleep(99)")
    folder = Path(job.location)
    await until(lambda: "here" in lines_of(folder / "output.log"))
    program = psutil.Process(json.loads((folder / "program.json").read_text())["pid"])
    os.kill(json.loads((folder / "process.json").read_text())["pid"], signal.SIGKILL)
    told = await host.follow(job)
    assert (told.outcome.state, told.lines) == ("unknown", ["here"])
    assert "killed" in told.outcome.reason
    await until(lambda: not program.is_running() or program.status() == psutil.STATUS_ZOMBIE, 5)

    again: Followed = await host.run(handle, "import os; os.kill(os.getpid(), 9)", attempt=FIRST)
    assert (again.outcome.state, again.outcome.signal) == ("failed", "SIGKILL")
