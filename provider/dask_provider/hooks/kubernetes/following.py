"""A job's news: the log of its pod, held against what Kubernetes says of its Job."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, ClassVar

from dask_provider.hooks.base import News
from dask_provider.hooks.kubernetes import causes, endings, manifests
from dask_provider.hooks.kubernetes import paths as api
from dask_provider.hooks.kubernetes.access import Access
from dask_provider.hooks.kubernetes.client import Client
from dask_provider.hooks.kubernetes.errors import ApiError, Unreachable
from dask_provider.hooks.kubernetes.feed import GRACE, Feed
from dask_provider.hooks.kubernetes.objects import Object, condition, newest, note
from dask_provider.hooks.kubernetes.questions import annotate, pods_of
from dask_provider.hooks.kubernetes.shared import warnings_of
from dask_provider.hooks.kubernetes.times import rfc3339
from dask_provider.outcomes import Outcome, read_outcome
from dask_provider.runtime import report

#: last lines of a plain program that a failure shows; a runtime reports its own
TAIL = 20
#: lines in one piece of news
BATCH = 500
#: seconds that the end of a log may stay behind the end of its Job, as when a node is lost
LATE = 10.0
#: seconds without a line after which the log of a container that has ended is read anew, from a second before the last
#: line: what the node stamped before that one, but wrote after it, would be lost
DRAIN = 0.3
#: seconds between notes of how far the log was shown, for the next triggerer; and so many for each job that is followed
#: here, where that is more: each note is a request, and news for the watch, so all together write five a second
NOTE_EVERY, NOTE_EACH = 20.0, 0.2
#: what the kubelet puts between the pieces of a line of more than 16 KiB
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|[+-]\d\d:\d\d) ")


async def follow(
    access: Access, namespace: str, job_id: str, position: int, *, eager: bool
) -> AsyncGenerator[News, None]:
    """News until the outcome.

    All who follow a job in a namespace share one watch of its Jobs and one of their pods. A log is one long request.

    :param position: time of the last line that was shown, nanoseconds since 1970.
    :param eager: for a task that does nothing else: only its own job is watched, and it hears sooner.
    """
    owner = job_id.rpartition("-")[0] if eager else None
    labels = manifests.select(owner=owner, role="job")
    feeds = [
        Feed.of(access.key, lambda: Client(access), path(namespace), labels, by=by)
        for path, by in ((api.jobs, None), (api.pods, "job-name"))
    ]
    async with Client(access) as k, feeds[0].subscribe(job_id) as jobs, feeds[1].subscribe(job_id) as pods:
        follower = _Follower(k, namespace, job_id, position, eager=eager)
        watching = [asyncio.ensure_future(each) for each in (follower.keep_up(jobs), follower.keep_up_pod(pods))]
        _Follower.alive += 1
        try:
            async for news in follower.news(watching):
                yield news
        finally:
            _Follower.alive -= 1
            for each in watching:
                each.cancel()
            await asyncio.wait(watching)


class _Follower:
    alive: ClassVar[int] = 0

    def __init__(self, k: Client, namespace: str, job_id: str, position: int, *, eager: bool) -> None:
        self._k, self._namespace, self._job_id = k, namespace, job_id
        self._position = position
        # Seconds between looks while a pod waits, of which the watch tells; for which lines are gathered.
        self._shortest, self._longest = (1.0, 5.0) if eager else (2.0, 10.0)
        self._gather = 0.2 if eager else 1.0
        self._eager = eager
        self._job: Object | None = None
        self._pod: Object | None = None
        self._known = asyncio.Event()
        self._pod_known = asyncio.Event()
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()  # the job's own container
        self._over_since: float | None = None
        self._runtime: Outcome | None = None
        self._plain = False
        self._main = ""  # name of the job's own container
        self._tail: deque[str] = deque(maxlen=TAIL)
        self._noted_at = time.monotonic()
        self._refused_since: float | None = None
        self._log_error: ApiError | None = None  # why the log was not read, the last time

    async def keep_up(self, updates: AsyncIterator[Object | None]) -> None:
        """The newest state of the Job."""
        try:
            async for job in updates:
                self._job = job
                if job is not None:  # not from the pod, to which webhooks may add others
                    self._main = job["spec"]["template"]["spec"]["containers"][0]["name"]
                over = job is None or condition(job, "Complete") or condition(job, "Failed")
                if over and self._over_since is None:
                    self._over_since = time.monotonic()
                self._known.set()
                self._changed.set()
        finally:
            self._known.set()
            self._changed.set()

    async def keep_up_pod(self, updates: AsyncIterator[Object | None]) -> None:
        """The newest state of its pod; one that is gone stays as it was last seen."""
        try:
            async for pod in updates:
                self._see(pod)
                self._pod_known.set()
                self._changed.set()
        finally:
            self._pod_known.set()
            self._changed.set()

    def _see(self, pod: Object | None) -> None:
        self._pod = pod or self._pod
        if self._pod is not None and "terminated" in _state(self._pod, self._main):
            self._ended.set()
        else:
            self._ended.clear()

    async def news(self, watching: Sequence[asyncio.Future[None]]) -> AsyncIterator[News]:
        """All that happens, then the outcome.

        :param watching: what keeps it up to date.
        """
        await self._known.wait()
        await self._pod_known.wait()
        if self._job is not None:
            # Kept there as well: a triggerer that was killed cannot say how far it came.
            self._position = max(self._position, int(note(self._job, "shown") or 0))
            self._plain = note(self._job, "plain") is not None
        pause, said, ask_at = self._shortest, "", time.monotonic() + self._shortest
        while True:
            self._changed.clear()
            for each in watching:
                if each.done():  # with what it raised: a right that was taken away
                    each.result()
            self._see(self._pod)
            end = endings.job_end(self._job, self._pod, runtime=self._runtime)
            read, seen, self._log_error = False, True, None
            if end is not None and not self._ended.is_set():
                seen = await self._look()  # one watch may be ahead of the other
            if self._pod is not None and _started(self._pod, self._main):
                async for news in self._log():
                    read = True
                    yield news
                if self._runtime is None:
                    self._runtime = self._last_words()
            if end is not None:
                if end.state != "succeeded" or self._log_error is not None:
                    seen = await self._look() and seen  # whoever ended it wrote last words meanwhile
                # A log may be gone with its node; a server that does not answer says nothing of the job.
                if not seen or isinstance(self._log_error, Unreachable):
                    await asyncio.sleep(self._longest)
                    continue
                self._runtime = self._runtime or self._last_words()
                end = endings.job_end(self._job, self._pod, runtime=self._runtime) or end
                yield News(position=self._position, outcome=await self._outcome(end))
                return
            if read:
                continue  # what it told may be all that was missing
            cause = await self._cause(ask=time.monotonic() > ask_at)
            if cause is not None and cause.fatal:
                await self._give_up()
                yield News(position=self._position, outcome=Outcome("failed", reason=cause.text))
                return
            if cause is not None and cause.text != said:
                said = cause.text
                yield News(messages=[{"kind": "place", "text": said}], position=self._position)
            pause = min(self._longest, pause * 1.3)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause)

    async def _look(self) -> bool:
        """Asks for the newest pod of the Job; when nobody can say now it stays as it was last seen, and ``False``."""
        try:
            found = await pods_of(self._k, {"metadata": {"namespace": self._namespace, "name": self._job_id}})
        except ApiError as error:
            self._bear(error)
            return False
        self._refused_since = None
        self._see(newest(found))
        return True

    def _bear(self, error: ApiError) -> None:
        """:raises ApiError: unless it passes: a server may be away for long, and knows nobody when it is new."""
        if error.passing:
            self._refused_since = None  # it counts from the first answer after an outage, not from its beginning
            return
        self._refused_since = self._refused_since or time.monotonic()
        if time.monotonic() - self._refused_since > GRACE:
            raise error

    async def _log(self) -> AsyncIterator[News]:
        """What the pod writes, until its log ends, breaks off, or is late.

        The node takes up to a second to end the log of a container that has: then what is left is read at once.
        """
        assert self._pod is not None
        since = rfc3339(self._position) if self._position else None
        name = self._pod["metadata"]["name"]
        follow = not self._ended.is_set()
        lines = self._k.log(self._namespace, name, container=self._main, since_time=since, follow=follow)
        ended = asyncio.ensure_future(self._ended.wait())
        batch: list[tuple[int, str]] = []
        shown, new = self._position, False
        coming: asyncio.Task[tuple[int, str]] | None = None
        try:
            while True:
                coming = coming or asyncio.ensure_future(lines.__anext__())
                drains = follow and ended.done()
                waiting = {coming, ended} if follow and not drains else {coming}
                timeout = DRAIN if drains else self._gather if batch else LATE
                await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    try:
                        stamp, line = coming.result()
                    except StopAsyncIteration:
                        break
                    except ApiError as error:
                        self._log_error = error
                        break
                    coming = None
                    # The API knows whole seconds only: the first ones were shown before. After them all are new, also
                    # one that is older than the one before: the node reads the program's two outputs side by side.
                    new = new or stamp > shown
                    if new and stamp:
                        batch.append((stamp, line))
                    if len(batch) < BATCH:
                        continue
                if batch:
                    yield await self._told(batch)
                    batch = []
                elif drains or self._is_late():
                    break
            if batch:
                yield await self._told(batch)
        finally:
            ended.cancel()
            if coming is not None:
                coming.cancel()
                await asyncio.wait({coming})
            await lines.aclose()

    def _is_late(self) -> bool:
        return self._over_since is not None and time.monotonic() - self._over_since > LATE

    async def _told(self, batch: list[tuple[int, str]]) -> News:
        lines: list[str] = []
        messages: list[dict[str, Any]] = []
        for _, line in batch:
            message = None if self._plain else parse(line)
            if message is None:
                lines.append(line)
                continue
            messages.append(message)
            if message["kind"] == "outcome":
                self._runtime = read_outcome(message, missing="")
        self._position = max(self._position, *(stamp for stamp, _ in batch))
        self._tail.extend(lines)
        now = time.monotonic()
        every = max(NOTE_EVERY, NOTE_EACH * _Follower.alive)
        if lines and not self._eager and now - self._noted_at > every and self._job is not None:
            self._noted_at = now
            with contextlib.suppress(ApiError):
                await annotate(self._k, self._job, {"shown": str(self._position)})
        return News(lines, messages, self._position)

    def _last_words(self) -> Outcome | None:
        return None if self._plain or self._pod is None else _last_words(self._pod, self._main)

    async def _outcome(self, end: endings.JobEnd) -> Outcome:
        if not self._plain:
            return endings.outcome(end, self._runtime)
        tail = [] if end.state == "succeeded" else await self._last_lines()
        return Outcome(end.state, reason=end.reason, exit_code=end.exit_code, tail=tail)

    async def _last_lines(self) -> list[str]:
        """The end of a plain program's output, also of what somebody else has shown."""
        lines: list[str] = []
        if self._pod is not None and len(self._tail) < TAIL:
            with contextlib.suppress(ApiError):  # the pod is gone
                name = self._pod["metadata"]["name"]
                read = self._k.log(self._namespace, name, container=self._main, tail_lines=TAIL)
                lines = [line async for stamp, line in read if stamp]  # not that the node has it no more
        return lines or list(self._tail)

    async def _cause(self, *, ask: bool) -> causes.Cause | None:
        """Why nothing runs yet, if nothing does.

        :param ask: also for events, which nobody has of a pod that has only just been made.
        """
        if self._job is None or (self._pod is not None and _started(self._pod, self._main)):
            return None
        events: list[Object] = []
        if ask:
            try:
                events = await warnings_of(self._k.access, self._namespace, self._shortest / 2 if self._eager else 5.0)
            except ApiError as error:
                self._bear(error)
                return None
            self._refused_since = None
        return causes.not_running(self._job, self._pod, events)

    async def _give_up(self) -> None:
        """A pod that cannot start is not left to wait, and no later try adopts its Job."""
        assert self._job is not None
        body = {"metadata": {"annotations": {"dask-provider/ending": "true"}}, "spec": {"activeDeadlineSeconds": 1}}
        with contextlib.suppress(ApiError):
            path, uid = api.jobs(self._namespace, self._job_id), self._job["metadata"]["uid"]
            await self._k.patch(path, body, uid=uid)


def parse(line: str) -> dict[str, Any] | None:
    """The runtime's message in a line, also in one that came in pieces with times between them."""
    message = report.parse(line)
    if message is None and line.startswith(report.PREFIX):
        message = report.parse(_STAMP.sub("", line))
    return message


def _container(pod: Object, name: str) -> Object:
    """The state of the job's own container; others may have been added to the pod."""
    statuses = pod["status"].get("containerStatuses") or []
    return next((status for status in statuses if status["name"] == name), {})


def _state(pod: Object, name: str) -> Object:
    return _container(pod, name).get("state") or {}


def _started(pod: Object, name: str) -> bool:
    return bool({"running", "terminated"} & set(_state(pod, name)))


def _last_words(pod: Object, name: str) -> Outcome | None:
    """What the runtime left in the pod's own status."""
    text = (_state(pod, name).get("terminated") or {}).get("message")
    with contextlib.suppress(ValueError):
        record = json.loads(text or "null")
        if isinstance(record, dict) and "state" in record:
            return read_outcome(record, missing="")
    return None
