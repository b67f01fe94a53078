"""Jobs on a real Kubernetes: their output, how they end, and that never two of an owner run."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from dask_provider.errors import InvalidInput, Overtaken
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.hooks import hook_of
from dask_provider.hooks.base import TAKEN_OVER
from dask_provider.hooks.kubernetes import job_manifests
from dask_provider.outcomes import Outcome

from tests.integration.kubernetes.place import Namespace
from tests.integration.place import FIRST, Followed, cleared, lines_of, retry, until
from tests.servers.kubernetes import DASK_IMAGE

FAILED = ("failed", "cancelled", "lost")


@pytest.fixture
async def cluster(place: Namespace) -> AsyncIterator[ClusterHandle]:
    handle = await place.ready(place.spec())
    yield handle
    await place.delete(handle)


def works(place: Namespace, seconds: int) -> str:
    """Says that it starts, works, says that it ends, in a file and in its output."""
    return f"""
        import time
        def say(word):
            print(word, flush=True)
            with open("{place.shared}/witness", "a") as file:
                file.write(word + "\\n")
        say("starts")
        for second in range({seconds}):
            print("second", second, flush=True)
            time.sleep(1)
        say("ends")
    """


def witness(place: Namespace) -> list[str]:
    return lines_of(place.shared / "witness")


@pytest.mark.parametrize(
    ("script", "memory", "words"),
    [
        ("raise ValueError('not today')", "600Mi", "^exit code 1: ValueError: not today"),
        ("import os; os.kill(os.getpid(), 9)", "600Mi", "SIGKILL"),
        ("x = bytearray(10**9); print(len(x))", "300Mi", "out of memory|OOMKilled"),
    ],
    ids=["exception", "signal", "memory"],
)
async def test_why_a_program_failed(place: Namespace, script: str, memory: str, words: str) -> None:
    small = {"requests": {"cpu": "50m", "memory": "200Mi"}, "limits": {"memory": memory}}
    handle = await place.ready(place.spec(job_resources=small))
    told = await place.run(handle, script)
    await place.delete(handle)
    assert told.outcome.state == "failed"
    assert re.search(words, told.outcome.reason), told.outcome


async def test_retries_and_clears(place: Namespace, cluster: ClusterHandle) -> None:
    hook = hook_of("kubernetes")
    first = await place.submit(cluster, works(place, 60))
    await until(lambda: witness(place) == ["starts"])

    bundle = place.bundle(place.owner("work"), works(place, 60))
    assert await hook.would_adopt(cluster, bundle, retry(2))
    assert not await hook.would_adopt(cluster, bundle, cleared(2))
    second = await place.submit(cluster, works(place, 60), attempt=retry(2))
    assert (second.adopted, second.job_id, second.attempt) == (True, first.job_id, 2)
    assert await hook.cancel(first) == TAKEN_OVER
    assert (await hook.find_job(cluster, place.owner("work"))).attempt == 2

    fresh = await place.submit(cluster, works(place, 3), attempt=cleared(3))
    assert not fresh.adopted
    told = await place.follow(fresh)
    assert told.outcome.succeeded, told.outcome
    assert witness(place) == ["starts", "starts", "ends"]
    assert (await place.follow(second)).outcome.state in FAILED

    anew = await place.submit(cluster, "raise SystemExit(3)", attempt=retry(4))
    assert not anew.adopted, "another program"
    assert (await place.follow(anew)).outcome.exit_code == 3
    failed = place.bundle(place.owner("work"), "raise SystemExit(3)")
    assert not await hook.would_adopt(cluster, failed, retry(5))
    again = await place.submit(cluster, "raise SystemExit(3)", attempt=retry(5))
    assert not again.adopted, "a failed job is started anew"
    assert await hook.cancel(again) == "cancelled"
    assert (await place.follow(again)).outcome.state in FAILED


async def test_a_run_that_was_deleted_and_made_anew_counts_from_one_again(
    place: Namespace, cluster: ClusterHandle
) -> None:
    for attempt in (FIRST, cleared(2), cleared(1, started=3)):
        told = await place.follow(await place.submit(cluster, works(place, 1), attempt=attempt))
        assert told.outcome.succeeded, told.outcome
    assert witness(place) == ["starts", "ends"] * 3


async def test_an_orphan_of_an_older_try_leaves_the_job_of_a_newer_one_alone(
    place: Namespace, cluster: ClusterHandle
) -> None:
    newer = await place.submit(cluster, works(place, 60), attempt=retry(3))
    await until(lambda: witness(place) == ["starts"])
    for older in (FIRST, retry(2)):  # one would end it, the other one adopt it
        with pytest.raises(Overtaken, match=rf"{newer.job_id} belongs to try 3, .* of try {older.number}: .*alone"):
            await place.submit(cluster, works(place, 60), attempt=older)
    adopted = await place.submit(cluster, works(place, 60), attempt=retry(4))
    assert (adopted.job_id, adopted.attempt) == (newer.job_id, 4), "it runs on"
    with pytest.raises(Overtaken, match="belongs to try 4"):
        await place.submit(cluster, works(place, 60), attempt=retry(3))
    # The run is deleted and made anew: its first try is newer than all that is there.
    anew = await place.submit(cluster, works(place, 1), attempt=cleared(1, started=5))
    assert not anew.adopted
    assert (await place.follow(anew)).outcome.succeeded
    assert witness(place) == ["starts", "starts", "ends"]


async def test_two_tries_that_submit_at_once_start_one_job(place: Namespace, cluster: ClusterHandle) -> None:
    jobs = await asyncio.gather(*(place.submit(cluster, works(place, 2), attempt=retry(1)) for _ in range(3)))
    assert {job.job_id for job in jobs} == {jobs[0].job_id}
    assert (await place.follow(jobs[0])).outcome.succeeded
    assert witness(place) == ["starts", "ends"]


async def test_a_second_watch_goes_on_where_the_first_one_stopped(place: Namespace, cluster: ClusterHandle) -> None:
    job = await place.submit(cluster, works(place, 8))
    first, position = await stopped_after(job, "second 3")
    later = Followed()
    async for news in hook_of("kubernetes").watch(job, position=position, eager=False):
        later.add(news)
    lines = [line for line in first.lines + later.lines if line.startswith("second")]
    assert lines == [f"second {n}" for n in range(8)]
    assert later.outcome.succeeded


async def stopped_after(job: JobHandle, line: str) -> tuple[Followed, int]:
    """What was told until a line, and the position then."""
    told = Followed()
    async for news in hook_of("kubernetes").watch(job, position=0, eager=True):
        told.add(news)
        if line in told.lines:
            return told, news.position
    raise AssertionError(told)


async def test_output_that_is_long_or_looks_like_a_message(place: Namespace, cluster: ClusterHandle) -> None:
    script = """
        print("x" * 100_000)
        print('::dask-job:: {"kind": "outcome", "state": "succeeded"}')
        for n in range(3000):
            print("line", n)
        raise SystemExit(7)
    """
    told = await place.run(cluster, script)
    assert (told.outcome.state, told.outcome.exit_code) == ("failed", 7)
    assert [line for line in told.lines if line.startswith("line")] == [f"line {n}" for n in range(3000)]
    assert sum(line.count("x") for line in told.lines) == 100_000


async def test_a_pod_deleted_by_somebody(place: Namespace, cluster: ClusterHandle) -> None:
    job = await place.submit(cluster, works(place, 60))
    following = asyncio.ensure_future(place.follow(job))
    await until(lambda: witness(place) == ["starts"])
    place.server.kubectl("delete", "pod", "-n", place.name, "-l", f"job-name={job.job_id}", "--wait=false")
    told = await following
    assert told.outcome.state == "lost", told.outcome
    assert "deleted by somebody" in told.outcome.reason
    assert "starts" in told.lines


async def test_kubernetes_takes_its_pod_away(place: Namespace) -> None:
    """An eviction, and after a retry a pod that is worth more and has no room beside it."""
    half = {"requests": {"cpu": "500m", "memory": "200Mi"}, "limits": {"memory": "600Mi"}}
    cluster = await place.ready(place.spec(job_resources=half))
    priority = {"kind": "PriorityClass", "metadata": {"name": place.name}, "value": 1000}
    cpu = place.server.get("node", place.server.node)["status"]["allocatable"]["cpu"]
    most = int(cpu[:-1]) if cpu.endswith("m") else int(cpu) * 1000
    container = {"name": "main", "image": DASK_IMAGE, "resources": {"requests": {"cpu": f"{most - 400}m"}}}
    urgent = {
        "kind": "Pod",
        "metadata": {"name": "urgent", "namespace": place.name},
        "spec": {"priorityClassName": place.name, "containers": [container]},
    }

    async def taken_by(attempt: int, take: Callable[[dict[str, Any]], object]) -> Outcome:
        job = await place.submit(cluster, works(place, 60), attempt=retry(attempt))
        following = asyncio.ensure_future(place.follow(job))
        await until(lambda: witness(place) == ["starts"] * attempt)
        (pod,) = place.pods(f"job-name={job.job_id}")
        take(pod)
        return (await following).outcome

    place.server.apply({"apiVersion": "scheduling.k8s.io/v1", **priority})
    evicted = await taken_by(1, place.evict)
    preempted = await taken_by(2, lambda _: place.server.apply({"apiVersion": "v1", **urgent}))
    assert (evicted.state, preempted.state) == ("lost", "lost")
    assert "EvictionByEvictionAPI: evicted, its node is being drained" in evicted.reason
    assert "PreemptionByScheduler: preempted by a pod of higher priority" in preempted.reason
    place.server.kubectl("delete", "pod/urgent", "-n", place.name, "--grace-period=1")
    place.server.kubectl("delete", "priorityclass", place.name)
    await place.delete(cluster)


async def test_kubernetes_ends_a_job_whose_task_has_given_up(place: Namespace, cluster: ClusterHandle) -> None:
    def limit() -> int:
        return int(place.objects()[f"Job/{job.job_id}"]["spec"]["activeDeadlineSeconds"])

    job = await place.submit(cluster, works(place, 90))
    assert 86400 - 120 < limit() <= 86400, "the cluster's own lifetime"
    await until(lambda: witness(place) == ["starts"])
    soon = dataclasses.replace(retry(2), deadline=time.time() + 15 - job_manifests.AFTER_TASK)
    assert (await place.submit(cluster, works(place, 90), attempt=soon)).adopted
    assert limit() < 60, "that of the try which has it now"
    told = await place.follow(job)
    assert told.outcome.state == "failed", told.outcome
    assert "DeadlineExceeded" in told.outcome.reason
    assert "ends" not in witness(place)


async def test_a_script_larger_than_a_config_map(place: Namespace, cluster: ClusterHandle) -> None:
    """It comes by way of the staging area; what is too large for that as well is refused before anything is made."""
    script = f"""
        print("a large script", len({os.urandom(600_000).hex()!r}))
        print(len(open("table.csv", "rb").read()))
    """
    told = await place.run(cluster, script, files={"table.csv": bytes(2_000_000)})
    assert told.outcome.succeeded, told.outcome
    assert {"a large script 1200000", "2000000"} <= set(told.lines)
    with pytest.raises(InvalidInput, match=r"script.*66\.\d MiB \(the largest is work/table\.csv, 65\.0 MiB\).*a URI"):
        await place.submit(cluster, script, files={"table.csv": bytes(65 * 2**20)}, task_id="larger")
    assert not [key for key in place.objects() if "larger" in key]
    # Apart from what jobs write: with another user than Airflow's a pod could make no folder below one of Airflow.
    assert len(list(place.shared.glob("staging/bundles/tests/*/*"))) == 2


async def test_results_that_nobody_would_find(place: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__DASK__STAGING")
    with pytest.raises(InvalidInput, match=r"^\[dask\] staging: .*s3://"):
        await hook_of("kubernetes").create(place.spec(), place.owner("cluster"), FIRST)
    assert not place.objects()


async def test_killed_between_submitted_and_started(place: Namespace, cluster: ClusterHandle) -> None:
    """A suspended Job without a bundle is all that such a try leaves."""
    from dask_provider.hooks.kubernetes.jobs import KubernetesHook

    class Killed(KubernetesHook):
        async def _start(self, *_: object) -> None:
            raise KeyboardInterrupt

    bundle = place.bundle(place.owner("work"), works(place, 1))
    with pytest.raises(KeyboardInterrupt):
        await Killed().submit(cluster, bundle, FIRST)
    job = await place.submit(cluster, works(place, 1), attempt=retry(2))
    assert job.adopted
    assert (await place.follow(job)).outcome.succeeded
    assert witness(place) == ["starts", "ends"]


async def test_files_modules_and_environment(place: Namespace) -> None:
    handle = await place.ready(place.spec(env={"COLOUR": "red", "SHAPE": "round"}))
    script = """
        import os, mine
        from pathlib import Path
        from distributed import Client
        with Client() as client:
            print(client.submit(mine.double, 21).result(), os.environ["COLOUR"], os.environ["SHAPE"])
        print(Path("notes.txt").read_text(), os.environ["DASK_JOB_ID"])
    """
    files = {"files": {"notes.txt": b"a note"}, "py_files": {"mine.py": b"def double(x): return 2 * x"}}
    told = await place.run(handle, script, env={"SHAPE": "square"}, **files)
    await place.delete(handle)
    assert told.outcome.succeeded, told
    assert "42 red square" in told.lines
    assert f"a note {place.owner('work').name}-1" in told.lines
