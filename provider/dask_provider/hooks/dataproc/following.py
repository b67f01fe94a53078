"""A job's news: the output of its driver, held against what Dataproc says of the job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from dask_provider.hooks.base import News
from dask_provider.hooks.dataproc import job_requests, programs, storage
from dask_provider.hooks.dataproc.client import Client, Object
from dask_provider.outcomes import Outcome, read_outcome, worse
from dask_provider.runtime import report

#: seconds between looks while a task waits in a worker, and the shortest and longest in the triggerer
EAGER, SHORTEST, LONGEST = 1.0, 1.0, 10.0
#: bytes of output in one piece of news
CHUNK = 256 * 1024
#: seconds that the end of a job's output may stay behind the job's end
LATE = 15.0
#: Dataproc's state of an ended job, and ours
STATES = {"DONE": "succeeded", "ERROR": "failed", "CANCELLED": "cancelled"}


async def follow(client: Client, job_id: str, position: int, eager: bool) -> AsyncGenerator[News, None]:
    """News until the outcome.

    :param position: bytes of output that were shown before.
    """
    pause, over_since, reader = SHORTEST, 0.0, _Output(client, position)
    seen: Object | None = None
    while True:
        job = await client.find(client.jobs(job_id))
        seen = job or seen
        # In this order: what an ended job wrote is all there when its end is known, or a moment later.
        heard = False
        if job is not None and (prefix := job.get("driverOutputResourceUri")):
            async for news in reader.news(prefix):
                heard = True
                yield news
        if job is None or job.get("done"):
            over_since = over_since or time.monotonic()
            late = time.monotonic() - over_since > LATE
            if job is None or reader.outcome is not None or late:
                if rest := reader.rest():
                    yield rest
                if seen is not None:
                    await programs.remove(client, seen)
                yield News(position=reader.position, outcome=verdict(job, reader.outcome))
                return
        pause = SHORTEST if heard else min(LONGEST, pause * 1.5)
        await asyncio.sleep(EAGER if eager or over_since else pause)


class _Output:
    """The driver's output: objects of which the last one grows until the next one begins."""

    def __init__(self, client: Client, position: int) -> None:
        self._client, self.position = client, position
        self._read, self._line = position, b""
        self.outcome: Outcome | None = None

    async def news(self, prefix: str) -> AsyncIterator[News]:
        """All whole lines that there are by now."""
        begins = 0
        for blob in await storage.found(self._client, f"{prefix}."):
            while begins <= self._read < begins + blob.size:
                content = await storage.read(self._client, blob.uri, self._read - begins, CHUNK)
                if not content:
                    break
                self._read += len(content)
                *lines, self._line = (self._line + content).split(b"\n")
                if lines:
                    yield self._told(lines)
            begins += blob.size

    def rest(self) -> News | None:
        """What the output ended with, if not with the end of a line."""
        lines, self._line = [self._line] if self._line else [], b""
        return self._told(lines) if lines else None

    def _told(self, lines: list[bytes]) -> News:
        shown: list[str] = []
        messages: list[dict[str, Any]] = []
        for line in lines:
            text = line.decode(errors="replace").rstrip("\r")
            message = report.parse(text)
            if message is None:
                shown.append(text)
                continue
            messages.append(message)
            if message["kind"] == "outcome":
                self.outcome = read_outcome(message, missing="")
        self.position = self._read - len(self._line)
        return News(shown, messages, self.position)


def verdict(job: Object | None, runtime: Outcome | None) -> Outcome:
    """What both say: the worse one counts. Pure.

    :param job: as Dataproc has it; ``None``: it knows of none.
    :param runtime: what the runtime has reported.
    """
    if job is None:
        return Outcome("lost", reason="the job was deleted at Dataproc by somebody")
    state = job["status"]["state"]
    said = str(job["status"].get("details") or "").strip() or state
    if (job.get("labels") or {}).get(job_requests.ENDING):
        return runtime if runtime and runtime.state == "cancelled" else Outcome("cancelled", reason="cancelled")
    if runtime is None:
        if state == "DONE":
            return Outcome("unknown", reason="Dataproc says DONE, the job itself did not report how it ended")
        reason = f"Dataproc says {state}: {said}; the job itself did not report how it ended"
        return Outcome("cancelled" if state == "CANCELLED" else "lost", reason=reason)
    if runtime.state != "succeeded":  # it knows best why; Dataproc sees no more than an exit code
        return runtime
    return worse(runtime, STATES.get(state, "unknown"), f"{state}: {said}")
