"""In the scheduler of an elastic cluster on Dataproc: has Dataproc make and remove machines as Dask has work for them.

A preload of the scheduler on the master, so it lives as long as the cluster, also with all of Airflow gone. ``dask.sh``
puts it there.

Given a smaller number, Dataproc itself chooses the machines that go, and may take one that works. Those that it is
asked to delete by name (``clusters.repair``) are these and no others. So the primary workers stay; secondary workers
are added by number, and removed by name once their workers have been retired.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from .dataproc_api import Dataproc, Refused, State

if TYPE_CHECKING:
    from distributed import Scheduler
    from distributed.scheduler import WorkerState

#: seconds between looks at Dask, at what Dataproc is doing, and at a cluster to which nothing happens
EVERY, POLL, REREAD = 1.0, 3.0, 20.0
#: seconds for which Dask must want fewer workers
PATIENCE = 60.0
#: states of a cluster that somebody changes
CHANGING = ("UPDATING", "REPAIRING")
#: seconds until what was refused is tried again: at first, and at most
PAUSE, LONGEST_PAUSE = 15.0, 600.0
#: how many times the memory of all results must be left
ROOM = 2
logger = logging.getLogger("distributed.dataproc_elastic")  # so it is in the scheduler's log


class Backoff:
    """When something that was refused is tried again."""

    def __init__(self) -> None:
        self._pause, self._until = PAUSE, -math.inf

    def is_over(self, now: float) -> bool:
        """Whether it may be tried."""
        return now >= self._until

    def refused(self, why: str, *, soon: bool = False) -> None:
        """It went wrong; ``soon`` where it is seen that somebody else changes the cluster, which will be over."""
        pause = PAUSE if soon else self._pause
        logger.warning("%s; trying again in %.0f s", why, pause)
        self._until = time.monotonic() + pause
        if not soon:
            self._pause = min(LONGEST_PAUSE, self._pause * 2)

    def done(self) -> None:
        """It went well."""
        self._pause = PAUSE


class Elastic:
    """The number of workers of one cluster.

    :param patience: seconds for which Dask must want fewer.
    """

    def __init__(self, scheduler: Scheduler, dataproc: Dataproc, patience: float = PATIENCE) -> None:
        #: names of those whose machines go: their workers shall not come back
        self.away: set[str] = set()
        self._scheduler, self._dataproc, self._patience = scheduler, dataproc, patience
        self._reading, self._growing, self._shrinking = Backoff(), Backoff(), Backoff()
        self._state: State | None = None
        self._read_at = self._fewer_since = self._unsure_until = -math.inf
        self._surplus = 0
        self._operation, self._doing = "", self._growing

    async def keep(self) -> None:
        """Look and adjust, for ever: nothing that goes wrong here ends the scheduler."""
        while True:
            if self._reading.is_over(now := time.monotonic()):
                try:
                    await self.look(now)
                    self._reading.done()
                except Refused as refused:
                    self._reading.refused(f"Dataproc does not say how the cluster is: {refused}")
                except Exception as error:
                    logger.exception("an error of our own")
                    self._reading.refused(f"the number of workers stays as it is: {error}")
            await asyncio.sleep(POLL if self._operation or self.away else EVERY)

    async def look(self, now: float) -> None:
        """One look.

        :raises Refused: Dataproc does not say how the cluster is.
        """
        if self._operation and not await self._is_over():
            return
        if self.away and (now < self._unsure_until or (await asyncio.to_thread(self._dataproc.get)).state in CHANGING):
            return  # they may go
        self.away.clear()  # who was to go and is still there works again
        if self._state is None or now - self._read_at >= REREAD:
            self._state, self._read_at = await asyncio.to_thread(self._dataproc.get), now
        have = self._state.primary + self._state.secondary
        wanted = min(self._state.high, max(self._state.low, self._scheduler.adaptive_target()))
        surplus = self._lasting(now, have - wanted)
        doing = self._growing if wanted > have else self._shrinking
        if (wanted <= have and not leaving(self._scheduler, self._state.names, surplus)) or not doing.is_over(now):
            return
        # As it is now: somebody may have changed it, or be changing it.
        self._state, self._read_at = await asyncio.to_thread(self._dataproc.get), now
        if self._state.state != "RUNNING":
            doing.refused(f"the cluster is {self._state.state}", soon=self._state.state in CHANGING)
        elif have != self._state.primary + self._state.secondary:
            return
        elif wanted > have:
            await self._grow(wanted - have)
        elif names := leaving(self._scheduler, self._state.names, surplus):
            await self._shrink(names, now)

    def _lasting(self, now: float, surplus: int) -> int:
        """How many have been too many for as long as patience says."""
        if surplus <= 0:
            self._surplus = 0
            return 0
        if not self._surplus:
            self._fewer_since, self._surplus = now, surplus
        self._surplus = min(self._surplus, surplus)
        return self._surplus if now - self._fewer_since >= self._patience else 0

    async def _is_over(self) -> bool:
        """Whether what Dataproc was asked for is done, or has failed."""
        try:
            error = await asyncio.to_thread(self._dataproc.ended, self._operation)
        except Refused as refused:
            if refused.reason not in ("PERMISSION_DENIED", "NOT_FOUND"):
                raise
            # Nobody tells how it ends; but as long as the cluster is changed, who is to go shall not come back.
            if (await asyncio.to_thread(self._dataproc.get)).state in CHANGING:
                return False
            error = str(refused)
        if error is None:
            return False
        before, self._operation, self._state, self._surplus = self._state, "", None, 0
        if error:
            self._doing.refused(f"Dataproc could not do it: {error}")
        elif self._doing is self._shrinking and before and await self._number() >= before.secondary:
            self._shrinking.refused("Dataproc has made others in place of the workers that went")
        else:
            self._doing.done()
        return True

    async def _number(self) -> int:
        return (await asyncio.to_thread(self._dataproc.get)).secondary

    async def _grow(self, more: int) -> None:
        assert self._state is not None
        there = self._state.secondary
        while True:
            try:
                self._operation = await asyncio.to_thread(self._dataproc.add, there + more)
                break
            except Refused as refused:
                if not refused.is_quota or more == 1:
                    self._growing.refused(f"{more} more workers cannot be had: {refused}")
                    return
                more //= 2  # some of them, then
        self._doing = self._growing
        logger.info("%d more workers: %d in all", more, self._state.primary + there + more)

    async def _shrink(self, names: list[str], now: float) -> None:
        self.away = set(names)
        # From here on they are given no task, so none can begin to work.
        gone = await self._scheduler.retire_workers(names=names, remove=True, close_workers=False)
        self.away = {str(worker["name"]) for worker in gone.values()}
        if not self.away:
            self._shrinking.refused(f"{', '.join(names)} cannot hand over their results")
            return
        try:
            self._operation = await asyncio.to_thread(self._dataproc.remove, self.away)
        except Refused as refused:
            if refused.heard_maybe:  # the cluster's state will tell
                self._unsure_until = now + REREAD
                self._shrinking.refused(f"nobody says whether {', '.join(names)} go: {refused}")
            else:
                self.away.clear()
                self._shrinking.refused(f"{', '.join(names)} stay: {refused}")
            return
        self._doing = self._shrinking
        logger.info("nothing to do for %s: they go", ", ".join(sorted(self.away)))


def leaving(scheduler: Scheduler, names: Collection[str], count: int) -> list[str]:
    """Which of these can go: those that do nothing and hold little, as long as there is room for all results.

    One that is just starting is not among them: it may have a task in the next moment.
    """
    workers: list[WorkerState] = list(scheduler.workers.values())
    data, room = sum(each.nbytes for each in workers), sum(each.memory_limit for each in workers)
    idle = [each for each in workers if str(each.name) in names and not _is_needed(each)]
    for plugin in list(scheduler.plugins.values()):  # such as shuffles, whose data is nobody's result yet
        idle = plugin.valid_workers_downscaling(scheduler, idle)
    found: list[str] = []
    for each in sorted(idle, key=lambda worker: worker.nbytes)[:count]:
        room -= each.memory_limit
        if data and room < ROOM * data:
            break
        found.append(str(each.name))
    return found


def _is_needed(worker: WorkerState) -> bool:
    return bool(worker.processing or worker.long_running or worker.actors) or worker.status.name != "running"


_tasks: set[asyncio.Task[None]] = set()


async def dask_setup(scheduler: Scheduler) -> None:
    """Called by the scheduler when it has started."""
    import dask.config
    from distributed.http.utils import RequestHandler

    patience = float(dask.config.get("dataproc-elastic.patience", PATIENCE))
    elastic = Elastic(scheduler, Dataproc(dask.config.get("dataproc-elastic.endpoint", None)), patience)

    class Away(RequestHandler):
        """Answers what machines ask whose worker was retired: the names of those that go."""

        def get(self) -> None:
            self.set_header("Content-Type", "application/json")
            self.write(json.dumps(sorted(elastic.away)))

    scheduler.http_application.add_handlers(".*$", [("/dask-elastic/away", Away, {"dask_server": scheduler})])
    _tasks.add(asyncio.create_task(elastic.keep()))


async def dask_teardown(scheduler: Scheduler) -> None:
    """Called by the scheduler when it ends."""
    for task in _tasks:
        task.cancel()
