"""What the tests of all places share: real clusters and jobs of one place, and what is told of them."""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from dask_provider.clusters import ClusterSpec
from dask_provider.errors import Overtaken
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.hooks import hook_of
from dask_provider.hooks.base import TAKEN_OVER, ClusterHook, News
from dask_provider.jobs import Bundle, Job, make_bundle
from dask_provider.outcomes import Outcome
from dask_provider.owner import Attempt, Owner

FIRST = Attempt(1, fresh=True, last=False, started=1)


def retry(number: int) -> Attempt:
    """An automatic retry: it adopts."""
    return Attempt(number, fresh=False, last=False, started=number)


def cleared(number: int, *, started: float | None = None) -> Attempt:
    """The first try after a clear, or of a run that was made anew: it ends leftovers."""
    return Attempt(number, fresh=True, last=False, since=number, started=number if started is None else started)


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


class Place:
    """Where clusters are made, and what is asked of them.

    :param staging: URI prefix of results, ends with ``/``.
    """

    def __init__(self, staging: str) -> None:
        self.staging = staging

    def owner(self, task_id: str = "work", instance: str = "tests") -> Owner:
        return Owner(instance, "flights", "run-1", task_id)

    def bundle(self, owner: Owner, script: str, **fields: Any) -> Bundle:
        program = {} if {"module", "call"} & set(fields) else {"script": ("work.py", textwrap.dedent(script).encode())}
        job = Job(**program, **{"performance_report": False, **fields})
        return make_bundle(job, owner, self.staging)

    async def ready(self, spec: ClusterSpec, task_id: str = "cluster", attempt: Attempt = FIRST) -> ClusterHandle:
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
    async def follow(job: JobHandle, seconds: float = 180) -> Followed:
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
        assert await hook.wait_gone(handle, 60)


async def an_orphan_leaves_the_cluster_alone(place: Place, spec: ClusterSpec) -> ClusterHandle:
    """The cluster of a newer try, which an older one has made and still waits for; two tries of a run made anew.

    :returns: the cluster, ready, as the newest try has it.
    """
    hook, owner = hook_of(spec), place.owner("orphan")
    orphan = await hook.create(spec, owner, FIRST)
    newer = await hook.create(spec, owner, retry(3))
    assert (newer.uid, newer.attempt, newer.started) == (orphan.uid, 3, 3)
    for older in (FIRST, retry(2)):
        told = rf"cluster {newer.name} belongs to try 3, .* of try {older.number}: .*alone"
        with pytest.raises(Overtaken, match=told):
            await hook.create(spec, owner, older)
    assert await hook.delete(orphan, "by the orphan, while it starts", compare=True) == TAKEN_OVER
    waited_for = await place.wait_ready(hook, orphan)
    assert await hook.delete(waited_for, "by the orphan, as it is ready", compare=True) == TAKEN_OVER
    newer = await place.wait_ready(hook, newer)
    found = await hook.find(spec, owner)
    assert found is not None
    assert (found.uid, found.attempt, found.started) == (newer.uid, 3, 3)
    # The run is deleted and made anew: its tries are newer, whatever their numbers.
    anew = await hook.create(spec, owner, cleared(1, started=5))
    assert (anew.uid, anew.attempt) == (newer.uid, 1)
    assert await hook.delete(newer, "by the orphan", compare=True) == TAKEN_OVER
    await hook.check(anew)
    return await place.wait_ready(hook, anew)


async def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.05)
    return answer


def lines_of(path: Path) -> list[str]:
    """Lines that jobs have appended to a file so far."""
    return path.read_text().splitlines() if path.exists() else []
