"""What the tests of ``local`` and ``existing`` share: real clusters and jobs below one state folder, what is left."""

from __future__ import annotations

import asyncio
import json
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from dask_provider.clusters import ClusterSpec
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.hooks import hook_of
from dask_provider.hooks.base import ClusterHook, News
from dask_provider.jobs import Bundle, Job, make_bundle
from dask_provider.outcomes import Outcome
from dask_provider.owner import Attempt, Owner

FIRST = Attempt(1, fresh=True, last=False)


def retry(number: int) -> Attempt:
    """An automatic retry: it adopts."""
    return Attempt(number, fresh=False, last=False)


@dataclass
class Followed:
    """All that ``watch`` told of a job."""

    lines: list[str] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    outcome: Outcome = field(default_factory=lambda: Outcome("unknown"))

    def add(self, news: News) -> None:
        self.lines += news.lines
        self.messages += news.messages
        self.outcome = news.outcome or self.outcome


class Host:
    """A state folder, and everything that runs because of it."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def owner(self, task_id: str = "work", instance: str = "tests") -> Owner:
        return Owner(instance, "flights", "run-1", task_id)

    def bundle(self, owner: Owner, script: str, **fields: Any) -> Bundle:
        program = {} if {"module", "call"} & set(fields) else {"script": ("work.py", textwrap.dedent(script).encode())}
        job = Job(**program, **{"performance_report": False, **fields})
        return make_bundle(job, owner, f"file://{self.state}/staging/")

    async def ready(self, spec: ClusterSpec, task_id: str = "cluster", attempt: int = 1) -> ClusterHandle:
        """Create a cluster and wait for it."""
        hook = hook_of(spec)
        return await self.wait_ready(hook, await hook.create(spec, self.owner(task_id), attempt))

    @staticmethod
    async def wait_ready(hook: ClusterHook[Any], handle: ClusterHandle) -> ClusterHandle:
        readiness = [readiness async for readiness in hook.wait_ready(handle)]
        assert readiness[-1].ready
        return readiness[-1].handle

    async def submit(
        self, handle: ClusterHandle, script: str, *, task_id: str = "work", attempt: Attempt = FIRST, **fields: Any
    ) -> JobHandle:
        bundle = self.bundle(self.owner(task_id), script, **fields)
        return await hook_of(handle.place).submit(handle, bundle, attempt)

    @staticmethod
    async def follow(job: JobHandle, seconds: float = 60) -> Followed:
        """Everything until the outcome."""
        told = Followed()

        async def watch() -> None:
            async for news in hook_of(job.place).watch(job, position=0, eager=True):
                told.add(news)

        await asyncio.wait_for(watch(), seconds)
        return told

    async def run(self, handle: ClusterHandle, script: str, **fields: Any) -> Followed:
        """Submit a job and follow it to its end."""
        return await self.follow(await self.submit(handle, script, **fields))

    async def delete(self, handle: ClusterHandle) -> None:
        hook = hook_of(handle.place)
        assert await hook.delete(handle, "deleted by the test") == "deleting"
        assert await hook.wait_gone(handle, 20)

    def processes(self) -> dict[int, str]:
        """What runs below the state folder, by number; this very process aside."""
        found = {}
        for process in psutil.process_iter():
            try:
                words, cwd = " ".join(process.cmdline()), process.cwd()
                gone = process.status() == psutil.STATUS_ZOMBIE
            except psutil.Error:
                continue
            if not gone and str(self.state) in f"{words} {cwd}":
                found[process.pid] = f"{words} (in {cwd})"
        return found

    async def assert_ended(self, job: JobHandle, seconds: float = 3) -> None:
        """Nothing of the job runs; its runtime may take a moment to leave after its last word."""
        await until(lambda: not [words for words in self.processes().values() if job.job_id in words], seconds)

    async def assert_nothing_runs(self, seconds: float = 5) -> None:
        deadline = time.monotonic() + seconds
        while left := self.processes():
            assert time.monotonic() < deadline, f"left after {seconds} s: {json.dumps(left, indent=1)}"
            await asyncio.sleep(0.1)

    async def finish(self) -> None:
        """Delete every cluster that a test has left, then look."""
        for record in self.state.glob("clusters/*/cluster.json"):
            hook = hook_of("local")
            for handle in await hook.list(None, json.loads(record.read_text())["owner"]["instance"]):
                await self.delete(handle)
        try:
            await self.assert_nothing_runs()
        finally:
            for number in self.processes():
                psutil.Process(number).kill()


async def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.05)
    return answer


def lines_of(path: Path) -> list[str]:
    """Lines that jobs have appended to a file so far."""
    return path.read_text().splitlines() if path.exists() else []


@asynccontextmanager
async def one_host(state: Path) -> AsyncIterator[Host]:
    """A host for a while; at the end nothing may run that belongs to it."""
    host = Host(state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__DASK__STATE_DIR", str(state))
        try:
            yield host
        finally:
            await host.finish()
