"""What the tests of ``local`` and ``existing`` share: real clusters and jobs below one state folder, what is left."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from dask_provider.handles import JobHandle
from dask_provider.hooks import hook_of

from tests.integration.place import (
    FIRST,
    Followed,
    Place,
    an_orphan_leaves_the_cluster_alone,
    cleared,
    lines_of,
    retry,
    until,
)

__all__ = [
    "FIRST",
    "Followed",
    "Host",
    "an_orphan_leaves_the_cluster_alone",
    "cleared",
    "lines_of",
    "one_host",
    "retry",
    "until",
]


class Host(Place):
    """A state folder, and everything that runs because of it."""

    def __init__(self, state: Path) -> None:
        super().__init__(f"file://{state}/staging/")
        self.state = state

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

    async def assert_ended(self, job: JobHandle, seconds: float = 10) -> None:
        """Nothing of the job runs; its runtime may take a moment to leave after its last word."""
        await until(lambda: not [words for words in self.processes().values() if job.job_id in words], seconds)

    async def assert_nothing_runs(self, seconds: float = 15) -> None:
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
