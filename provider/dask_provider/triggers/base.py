"""What both triggers share: whose task it is, when it must end, and what a cancelled trigger may end.

Airflow cancels a trigger when a user ends or clears the task, but also when the triggerer stops, when another one has
taken over, and after it has fired. So a trigger only ends things if it has not fired, the task is known not to be
deferred, and what it would end still belongs to its own attempt (the hook compares that).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from dask_provider._compat import BaseTrigger, TriggerEvent, run_is_over, task_state
from dask_provider.owner import TaskKey
from dask_provider.sideloop import DeadlinePassed, until

#: seconds before the first event: one that comes sooner can overtake the executor's word that the worker is done, and
#: a busy scheduler takes some seconds to hear that
FIRST_EVENT_AFTER = 5.0
#: said when a triggerer has taken over the wait
WAITING = "the triggerer waits on"
#: seconds that Airflow has to tell a task's state; the first question to a triggerer takes it 10 s of CPU
STATE_WITHIN = 60.0


class WaitTrigger(BaseTrigger):
    """Waits for one event, by an absolute deadline.

    A task that goes on (also one that runs again: its new attempt ends or adopts what the old one left) is left alone.

    :param waiter: whose wait it is.
    :param deadline: seconds since the epoch after which it fires ``{"timeout": True}``; ``None``: never.
    """

    #: states of the task in which nothing is ended
    spares: ClassVar[frozenset[str]] = frozenset({"deferred", "scheduled", "queued", "running", "up_for_retry"})

    def __init__(self, waiter: TaskKey, deadline: float | None) -> None:
        super().__init__()
        self.waiter = waiter
        self.deadline = deadline
        self._fired = False

    @abstractmethod
    def wait(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the event's payload once it is known."""

    @abstractmethod
    async def end(self, *, run_over: bool) -> None:
        """End what the task has started."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        loop = asyncio.get_running_loop()
        earliest = loop.time() + FIRST_EVENT_AFTER
        last = None if self.deadline is None else loop.time() + self.deadline - time.time()
        payload: dict[str, Any] = {"timeout": True}
        self.log.info("%s", WAITING)
        try:
            try:
                async with contextlib.aclosing(until(last, self.wait())) as payloads:
                    async for found in payloads:
                        payload = found
            except DeadlinePassed:
                pass
            except Exception as error:
                self.log.exception("the wait failed")
                payload = {"error": f"{type(error).__name__}: {error}"}
            await asyncio.sleep(max(0.0, earliest - loop.time()))
        except asyncio.CancelledError:
            if not self._fired:
                # Shielded: whoever cancelled does not wait for long, and may cancel again.
                await asyncio.shield(self._end_if_task_is_over())
            raise
        self._fired = True
        yield TriggerEvent(payload)

    async def _end_if_task_is_over(self) -> None:
        from asgiref.sync import sync_to_async

        try:
            key = (self.waiter["dag_id"], self.waiter["run_id"])
            asked = sync_to_async(task_state)(*key, self.waiter["task_id"], self.waiter["map_index"])
            state = await asyncio.wait_for(asked, STATE_WITHIN)
            if state in self.spares:
                return
            over = await asyncio.wait_for(sync_to_async(run_is_over)(*key), STATE_WITHIN)
        except Exception as error:  # noqa: BLE001  unknown means: end nothing
            self.log.warning("cannot tell what became of the task (%r); nothing is ended", error)
            return
        self.log.info("the task is %s now: what it started is ended", state)
        await self.end(run_over=over)
