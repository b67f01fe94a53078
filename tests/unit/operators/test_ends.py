"""What a job's task ends when it is ended itself: by its operator and, while it is deferred, by its trigger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from dask_provider.clusters import LocalCluster
from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.hooks.base import TAKEN_OVER
from dask_provider.hooks.cost import Cost
from dask_provider.operators import DaskJobOperator
from dask_provider.operators import job as operators
from dask_provider.outcomes import Outcome
from dask_provider.triggers import job as triggers

STARTED = datetime.fromisoformat("2024-01-01T00:00:00+00:00")
CLUSTER = ClusterHandle("local", "dask-x", "u", {}, started=STARTED.timestamp())
JOB = JobHandle("local", "dask-x-1", location="/", attempt=1, results="/", manifest="/", started=STARTED.timestamp())


class Place:
    """Says what it is told to, and notes what is deleted.

    :param said: of the job, by whoever cancels it.
    """

    def __init__(self, said: str | Exception) -> None:
        self.said = said
        self.deleted: list[tuple[str, bool]] = []

    async def find(self, *_: object) -> ClusterHandle:
        return CLUSTER

    async def find_job(self, *_: object) -> JobHandle:
        return JOB

    async def cancel(self, _: JobHandle) -> str:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said

    async def delete(self, cluster: ClusterHandle, reason: str, *, compare: bool = False) -> str:
        self.deleted.append((cluster.uid, compare))
        return "deleting"

    async def cost(self, _: ClusterHandle) -> Cost:
        return Cost(2.0, "USD", "2024-01-01T00:00:00Z", "by a table", until="2024-01-01T03:00:00Z")

    async def wait_gone(self, *_: object) -> bool:
        return True


class Instance:
    """The task instance."""

    dag_id, run_id, task_id, map_index, try_number, max_tries, start_date = "flights", "r", "run", -1, 1, 0, STARTED


def by_operator(own: bool) -> Any:
    cluster: Any = LocalCluster() if own else CLUSTER.to_dict()
    task = DaskJobOperator(task_id="run", cluster=cluster, module="work")
    task._context = {"ti": Instance()}
    return task._end


def by_trigger(own: bool) -> Any:
    waiter: Any = {"dag_id": "flights", "run_id": "r", "task_id": "run", "map_index": -1}
    return triggers.DaskJobTrigger(JOB.to_dict(), CLUSTER.to_dict(), own, 0, waiter, None).end


@pytest.mark.parametrize("ends", [by_operator, by_trigger])
@pytest.mark.parametrize(
    ("said", "own", "run_over", "deleted"),
    [
        ("cancelled", True, False, True),
        ("cancelled", False, False, False),  # the block's own step will delete it
        ("cancelled", False, True, True),
        (OSError("the server is away"), True, False, True),
        (OSError("the server is away"), False, False, False),
        (TAKEN_OVER, True, False, False),
        (TAKEN_OVER, False, True, False),
    ],
)
def test_its_cluster(
    monkeypatch: pytest.MonkeyPatch,
    ends: Callable[[bool], Any],
    said: str | Exception,
    own: bool,
    run_over: bool,
    deleted: bool,
) -> None:
    place = Place(said)
    for module in (operators, triggers):
        monkeypatch.setattr(module, "hook_of", lambda _: place)
    ended = ends(own)(run_over=run_over)
    if isinstance(said, Exception):
        with pytest.raises(OSError, match="away"):
            asyncio.run(ended)
    else:
        asyncio.run(ended)
    assert place.deleted == ([("u", True)] if deleted else []), "only if it is nobody else's by now"


@pytest.mark.parametrize("own", [True, False])
def test_what_a_cluster_of_its_own_has_cost(monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    monkeypatch.setattr(operators, "hook_of", lambda _: Place(""))
    cluster: Any = LocalCluster() if own else CLUSTER.to_dict()
    task = DaskJobOperator(task_id="run", cluster=cluster, module="work")
    task._context = {"ti": Instance()}
    returned = task._finish(JOB, CLUSTER, Outcome("succeeded"))
    assert returned["state"] == "succeeded"
    assert returned.get("cost", {}).get("amount") == (6.0 if own else None)
