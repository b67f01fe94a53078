"""Plain jobs on a real Kubernetes: no Dask, no lease; how they end is Kubernetes' own word."""

from __future__ import annotations

import asyncio
import json
import re
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dask_provider.clusters.kubernetes_job import KubernetesJob
from dask_provider.errors import InvalidInput, Overtaken
from dask_provider.handles import JobHandle
from dask_provider.hooks import hook_of
from dask_provider.hooks.base import TAKEN_OVER
from dask_provider.hooks.kubernetes import plain_jobs
from dask_provider.hooks.kubernetes.client import Client
from dask_provider.hooks.kubernetes.errors import ApiError, Unreachable
from dask_provider.hooks.kubernetes.rights import PLAIN, role_rules
from dask_provider.owner import Attempt

from tests.integration.kubernetes.place import Namespace, airflow_in
from tests.integration.place import FIRST, Followed, cleared, lines_of, retry, until
from tests.servers.kubernetes import DASK_IMAGE, KubernetesServer

HOOK = hook_of("kubernetes")
SMALL = {"requests": {"cpu": "20m", "memory": "30Mi"}, "limits": {"memory": "200Mi"}}


class Plain(Namespace):
    """A namespace in which Airflow has the rights for plain jobs only."""

    def job(self, code: str, **fields: Any) -> KubernetesJob:
        """Python code as a program."""
        volume = {"name": "shared", "hostPath": {"path": str(self.shared), "type": "Directory"}}
        defaults: dict[str, Any] = {
            "conn_id": "kubernetes_tests",
            "image": DASK_IMAGE,
            "cmd": ["python3", "-c"],
            "arguments": [textwrap.dedent(code)],
            "job_resources": SMALL,
            "volumes": [volume],
            "volume_mounts": [{"name": "shared", "mountPath": str(self.shared)}],
        }
        return KubernetesJob(**{**defaults, **fields})

    async def start(self, code: str, attempt: Attempt = FIRST, **fields: Any) -> JobHandle:
        return await plain_jobs.submit(self.job(code, **fields), self.owner(), attempt)

    async def told(self, code: str, **fields: Any) -> Followed:
        return await self.follow(await self.start(code, **fields), 120)

    async def remove_jobs(self) -> None:
        self.server.kubectl("delete", "jobs", "--all", "-n", self.name, "--cascade=foreground", "--wait=false")
        await self.assert_nothing_left()


@pytest.fixture
async def plain(kubernetes: KubernetesServer, namespace: str, tmp_path: Path) -> AsyncIterator[Plain]:
    async with airflow_in(kubernetes, namespace, tmp_path) as place:
        kubernetes.service_account(namespace, "airflow", role_rules(PLAIN))
        plain = Plain(place.server, place.name, place.shared)
        yield plain
        await plain.remove_jobs()


def works(plain: Plain, seconds: int) -> str:
    return f"""
        import time
        def say(word):
            print(word, flush=True)
            with open("{plain.shared}/witness", "a") as file:
                file.write(word + "\\n")
        say("starts")
        time.sleep({seconds})
        say("ends")
    """


def witness(plain: Plain) -> list[str]:
    return lines_of(plain.shared / "witness")


async def test_what_it_writes_and_what_it_is_told(plain: Plain) -> None:
    code = """
        import os
        print("colour", os.environ["COLOUR"], "job", os.environ["DASK_JOB_ID"])
        print('::dask-job:: {"kind": "outcome", "state": "failed"}')
        for n in range(1500):
            print("line", n)
    """
    told = await plain.told(code, env={"COLOUR": "red for $(DASK_JOB_ID)"}, keep_seconds=600)
    job_id = f"{plain.owner('work').name}-1"
    assert told.outcome.to_dict() == {"state": "succeeded", "reason": "", "exit_code": 0, "dask": {}, "tail": []}
    assert told.lines[:2] == [
        f"colour red for {job_id} job {job_id}",
        '::dask-job:: {"kind": "outcome", "state": "failed"}',
    ]
    assert told.lines[2:] == [f"line {n}" for n in range(1500)]
    made = plain.objects()[f"Job/{job_id}"]
    assert (made["spec"]["ttlSecondsAfterFinished"], made["spec"]["activeDeadlineSeconds"]) == (600, 86400)
    assert made["spec"]["backoffLimit"] == 0


@pytest.mark.parametrize(
    ("code", "fields", "words", "exit_code"),
    [
        ("print('so far'); raise SystemExit(3)", {}, "^its container ended with exit code 3$", 3),
        ("print('so far'); x = bytearray(10**9)", {}, "^OOMKilled: .*limit of 200Mi; set job_resources$", 137),
        ("import time; print('so far', flush=True); time.sleep(60)", {"active_deadline_seconds": 10}, "Deadline", None),
        (
            "",
            {"image": "localhost/no:1", "image_pull_policy": "Never"},
            "the image localhost/no:1 cannot be pulled",
            None,
        ),
        ("", {"service_account": "nobody"}, "service account does not exist", None),
        ("", {"cmd": ["/no/such/program"]}, "its program cannot be started", 128),
    ],
    ids=["exit", "memory", "deadline", "image", "account", "program"],
)
async def test_why_it_failed(
    plain: Plain, code: str, fields: dict[str, Any], words: str, exit_code: int | None
) -> None:
    told = await plain.told(code, **fields)
    assert told.outcome.state == "failed"
    assert re.search(words, told.outcome.reason), told.outcome
    assert exit_code is None or told.outcome.exit_code == exit_code
    assert told.outcome.tail == (["so far"] if code else [])


async def test_retries_and_clears(plain: Plain) -> None:
    first = await plain.start(works(plain, 60))
    await until(lambda: witness(plain) == ["starts"])

    second = await plain.start(works(plain, 60), retry(2))
    assert (second.adopted, second.job_id, second.attempt) == (True, first.job_id, 2)
    assert await HOOK.cancel(first) == TAKEN_OVER
    found = await plain_jobs.find(plain.job(""), plain.owner())
    assert found is not None
    assert found.attempt == 2

    fresh = await plain.start(works(plain, 2), cleared(3))
    assert not fresh.adopted
    assert (await plain.follow(fresh)).outcome.succeeded
    assert witness(plain) == ["starts", "starts", "ends"]
    assert (await plain.follow(second)).outcome.state == "cancelled"

    again = await plain.start(works(plain, 2), retry(4))
    assert again.adopted, "the worker was lost after it had succeeded"
    failed = await plain.start("raise SystemExit(3)", retry(5))
    assert (await plain.follow(failed)).outcome.exit_code == 3
    anew = await plain.start("raise SystemExit(3)", retry(6))
    assert not anew.adopted, "a failed job is started anew"
    assert await HOOK.cancel(anew) == "cancelled"
    assert (await plain.follow(anew)).outcome.state in ("failed", "cancelled")


async def test_an_orphan_of_an_older_try_leaves_the_job_of_a_newer_one_alone(plain: Plain) -> None:
    newer = await plain.start(works(plain, 60), attempt=retry(3))
    await until(lambda: witness(plain) == ["starts"])
    for older in (FIRST, retry(2)):  # one would end it, the other one adopt it
        with pytest.raises(Overtaken, match=rf"{newer.job_id} belongs to try 3, .* of try {older.number}: .*alone"):
            await plain.start(works(plain, 60), attempt=older)
    adopted = await plain.start(works(plain, 60), attempt=retry(4))
    assert (adopted.job_id, adopted.attempt) == (newer.job_id, 4), "it runs on"
    with pytest.raises(Overtaken, match="belongs to try 4"):
        await plain.start(works(plain, 60), attempt=retry(3))
    # The run is deleted and made anew: its first try is newer than all that is there.
    anew = await plain.start(works(plain, 1), attempt=cleared(1, started=5))
    assert not anew.adopted
    assert (await plain.follow(anew)).outcome.succeeded
    assert witness(plain) == ["starts", "starts", "ends"]


async def test_an_orphan_that_had_looked_before_the_newer_try_began(
    plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, newer = plain_jobs.take_over, []

    async def slow(*arguments: Any) -> Any:
        monkeypatch.setattr(plain_jobs, "take_over", looks)
        assert await looks(*arguments) is None
        newer.append(await plain.start(works(plain, 3), retry(2)))

    monkeypatch.setattr(plain_jobs, "take_over", slow)
    with pytest.raises(Overtaken, match="belongs to try 2"):
        await plain.start(works(plain, 60), FIRST)
    assert (await plain.follow(newer[0])).outcome.succeeded
    assert witness(plain).count("ends") == 1
    await until(lambda: [key for key in plain.objects() if key.startswith("Job/")] == [f"Job/{newer[0].job_id}"])


async def test_an_orphan_whose_successor_was_ended_by_a_third_try_that_was_killed(
    plain: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = plain_jobs.take_over

    async def slow(*arguments: Any) -> Any:
        monkeypatch.setattr(plain_jobs, "take_over", looks)
        assert await looks(*arguments) is None
        await plain.start(works(plain, 60), retry(2))
        k, namespace, owner = arguments[:3]
        assert await looks(k, namespace, owner, "another", cleared(3), f"{owner.name}-3") is None

    monkeypatch.setattr(plain_jobs, "take_over", slow)
    with pytest.raises(Overtaken, match="belongs to try 2"):
        await plain.start(works(plain, 1), FIRST)
    await asyncio.sleep(3)
    assert "ends" not in witness(plain)


async def test_killed_before_the_suspended_job_was_let_go(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    async def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(plain_jobs, "let_go", killed)
        with pytest.raises(KeyboardInterrupt):
            await plain.start(works(plain, 1))
    job = await plain.start(works(plain, 1), retry(2))
    assert job.adopted
    assert (await plain.follow(job)).outcome.succeeded
    assert witness(plain) == ["starts", "ends"]


async def test_a_server_that_cannot_for_a_moment(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    changes, troubles = Client.patch, [ApiError(409, "Conflict", "too many at once")]

    async def busy(*arguments: Any, **named: Any) -> Any:
        if troubles:
            raise troubles.pop()
        return await changes(*arguments, **named)

    monkeypatch.setattr(Client, "patch", busy)
    job = await plain.start(works(plain, 60))
    assert not troubles
    await until(lambda: witness(plain) == ["starts"])
    troubles += [ApiError(500, "InternalError", "no leader"), Unreachable("reset")]
    assert await HOOK.cancel(job) == "cancelled"
    assert (await plain.follow(job)).outcome.state == "cancelled"


async def test_two_tries_that_submit_at_once_start_one_job(plain: Plain) -> None:
    jobs = await asyncio.gather(*(plain.start(works(plain, 1), retry(1)) for _ in range(3)))
    assert {job.job_id for job in jobs} == {jobs[0].job_id}
    assert (await plain.follow(jobs[0])).outcome.succeeded
    assert witness(plain) == ["starts", "ends"]


@pytest.mark.parametrize("what", ["pod", "job"])
async def test_deleted_by_somebody(plain: Plain, what: str) -> None:
    job = await plain.start(works(plain, 60))
    following = asyncio.ensure_future(plain.follow(job))
    await until(lambda: witness(plain) == ["starts"])
    named = ["-l", f"job-name={job.job_id}"] if what == "pod" else [job.job_id]
    plain.server.kubectl("delete", what, "-n", plain.name, *named, "--wait=false")
    told = await following
    assert told.outcome.state == "lost", told.outcome
    assert "deleted" in told.outcome.reason


async def test_what_kubernetes_would_never_take(plain: Plain) -> None:
    with pytest.raises(InvalidInput, match=r"KubernetesJobOperator: .*spec\.volumes\[0\]"):
        await plain.start("", spec_schema={"volumes": [{"name": "In Capitals", "emptyDir": {}}]})
    assert not plain.objects()


async def test_it_goes_by_itself(plain: Plain) -> None:
    job = await plain.start("print('done')", keep_seconds=60)
    assert (await plain.follow(job)).outcome.succeeded
    spec = {"spec": {"ttlSecondsAfterFinished": 1}}  # the minute is over
    plain.server.kubectl("patch", "job", job.job_id, "-n", plain.name, "-p", json.dumps(spec))
    await plain.assert_nothing_left()
    assert (await plain.follow(job)).outcome.state == "lost", "unknown is never success"


async def test_two_outputs_at_once_and_a_second_watch(plain: Plain) -> None:
    """The node stamps lines of the two in any order; still each is shown once."""
    code = """
        import sys
        for n in range(2000):
            print("line", n, file=(sys.stdout, sys.stderr)[n % 2], flush=True)
        raise SystemExit(1)
    """
    job = await plain.start(code)
    told = await plain.follow(job, 120)
    assert sorted(told.lines) == sorted(f"line {n}" for n in range(2000))
    assert len(told.outcome.tail) == 20
    position = 0
    async for news in HOOK.watch(job, position=0, eager=True):
        position = news.position
    later = Followed()
    async for news in HOOK.watch(job, position=position, eager=False):
        later.add(news)
    assert later.lines == [], "all of it was shown before"
    assert len(later.outcome.tail) == 20, "but a failure shows the end of it again"
