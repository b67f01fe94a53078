"""A delete step that waits for machines, in the worker and in the triggerer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from dask_provider.errors import ClusterFailed
from dask_provider.handles import ClusterHandle
from dask_provider.hooks.cost import Cost
from dask_provider.operators import DaskDeleteClusterOperator
from dask_provider.operators import cluster as operators
from dask_provider.triggers import cluster as triggers

try:
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:
    from airflow.exceptions import TaskDeferred

CLUSTER = ClusterHandle("dataproc", "dask-x", "u", {}, expires="2024-01-02T00:00:00+00:00")


class Place:
    """A cluster that takes its time to go.

    :param seconds: for the first who waits; then it is as ``ends`` says.
    """

    def __init__(self, seconds: float, ends: bool | Exception, longest_sync: float) -> None:
        self.longest_sync = longest_sync
        self._seconds, self._ends = seconds, ends
        self.waited: list[float] = []

    async def delete(self, *_: object) -> str:
        return "deleting"

    async def cost(self, _: ClusterHandle) -> Cost:
        return Cost(2.0, "USD", "2024-01-01T00:00:00Z", "by a table", until="2024-01-01T03:00:00Z")

    async def wait_gone(self, _: ClusterHandle, seconds: float) -> bool:
        self.waited.append(seconds)
        if len(self.waited) == 1:
            await asyncio.sleep(self._seconds)
        if isinstance(self._ends, Exception):
            raise self._ends
        return self._ends


class Instance:
    """The task instance."""

    dag_id, run_id, task_id, map_index, try_number, max_tries = "flights", "r", "delete", -1, 1, 0
    start_date = datetime.now(timezone.utc)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Place]:
    def place(seconds: float, ends: bool | Exception, longest_sync: float = 2.0) -> Place:
        made = Place(seconds, ends, longest_sync)
        for module in (operators, triggers):
            monkeypatch.setattr(module, "hook_of", lambda _: made)
        return made

    monkeypatch.setenv("AIRFLOW__DASK__SYNC_SECONDS", "0.2")
    return place


def delete(deferrable: bool) -> Any:
    """What the step returns, also when it has to come back for that."""

    def step() -> Any:
        made = DaskDeleteClusterOperator(task_id="delete", cluster=CLUSTER.to_dict(), deferrable=deferrable, wait=60)
        made._context = {"ti": Instance()}
        return made

    try:
        return step().work()
    except TaskDeferred as deferred:
        name, fields = deferred.trigger.serialize()
        assert name == f"{triggers.__name__}.DaskClusterGoneTrigger"

        async def event() -> Any:
            return [each async for each in triggers.DaskClusterGoneTrigger(**fields).wait()][-1]

        kwargs = {"event": asyncio.run(event()), **deferred.kwargs}
        return step().resume_execution(deferred.method_name, kwargs, {"ti": Instance()})


@pytest.mark.parametrize(
    ("deferrable", "seconds", "longest_sync", "waits"),
    [
        (True, 2.0, 2.0, 2),
        (True, 0.0, 2.0, 1),
        (True, 0.5, math.inf, 1),  # seconds: a deferral would take longer
        (False, 0.5, 2.0, 1),
    ],
)
def test_it_defers_where_machines_take_minutes(
    place: Callable[..., Place], deferrable: bool, seconds: float, longest_sync: float, waits: int
) -> None:
    made = place(seconds, True, longest_sync)
    assert delete(deferrable)["amount"] == 6.0
    assert len(made.waited) == waits
    assert made.waited[0] == 60
    assert 50 < made.waited[-1] <= 60, "together no longer than the step may"


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize(
    ("ends", "why"),
    [
        (False, "dask-x is still there after 60 s; its lease ends 2024-01-02"),
        (ClusterFailed("the operator does not answer"), "^the operator does not answer"),
    ],
)
def test_what_does_not_go_fails_the_step(
    place: Callable[..., Place], deferrable: bool, ends: bool | Exception, why: str
) -> None:
    place(1.0, ends)
    with pytest.raises(ClusterFailed, match=why):
        delete(deferrable)
