"""How many workers are asked of Dataproc, and which go. Scheduler and workers are real, the test is Dataproc."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from dask_provider.runtime.dataproc_api import LIMITS, Refused, State, read
from dask_provider.runtime.dataproc_elastic import REREAD, Elastic, leaving
from distributed import Client, Scheduler, Worker

NAMES = ("etl-w-0", "etl-w-1", "etl-sw-a", "etl-sw-b")


@dataclass
class Said:
    """What Dataproc answers, and what it was asked for."""

    state: State
    quota: int = 100
    broken: str = ""
    lost: bool = False
    silent: str = ""
    asked: list[Any] = field(default_factory=list)

    def get(self) -> State:
        return self.state

    def add(self, secondary: int) -> str:
        self.asked.append(secondary)
        if self.broken:
            raise Refused(self.broken, "not now")
        if secondary > self.quota:
            raise Refused("INVALID_ARGUMENT", "Insufficient 'CPUS' quota.")
        self.state = replace(self.state, secondary=secondary)
        return "operations/1"

    def remove(self, names: Collection[str]) -> str:
        self.asked.append(set(names))
        if self.broken:
            raise Refused(self.broken, "not now", heard_maybe=self.lost)
        return "operations/2"

    def ended(self, operation: str) -> str | None:
        if self.silent:
            raise Refused(self.silent, "no operation of yours")
        return ""


@dataclass
class Cluster:
    """:param wish: what Dask would like, as the test says it."""

    scheduler: Scheduler
    client: Client
    workers: dict[str, Worker]

    def wish(self, count: int) -> None:
        self.scheduler.adaptive_target = lambda *args, **kwargs: count  # type: ignore[method-assign]

    def joined(self) -> set[str]:
        return {str(worker.name) for worker in self.scheduler.workers.values()}


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    async with Scheduler(port=0, **options) as scheduler:
        workers = [Worker(scheduler.address, name=name, nthreads=1, memory_limit="4 GB", **options) for name in NAMES]
        await asyncio.gather(*workers)
        async with Client(scheduler.address, asynchronous=True) as client:
            yield Cluster(scheduler, client, dict(zip(NAMES, workers, strict=True)))
        await asyncio.gather(*(worker.close() for worker in workers))


def state(secondary: int = 2, low: int = 2, high: int = 6, now: str = "RUNNING") -> State:
    return State(now, low, high, 2, secondary, NAMES[2:])


def elastic(cluster: Cluster, said: Said) -> Elastic:
    return Elastic(cluster.scheduler, said, patience=60)  # type: ignore[arg-type]


def test_what_dataproc_says_of_a_cluster() -> None:
    found = {
        "labels": {LIMITS: "2-10"},
        "status": {"state": "UPDATING"},
        "config": {
            "workerConfig": {"numInstances": 2, "instanceNames": ["etl-w-0", "etl-w-1"]},
            "secondaryWorkerConfig": {"numInstances": 3, "instanceNames": ["etl-sw-a"]},
        },
    }
    assert read(found) == State("UPDATING", 2, 10, 2, 3, ("etl-sw-a",))
    del found["config"]["secondaryWorkerConfig"]
    assert read(found).secondary == 0


async def test_it_grows_at_once_and_takes_what_the_quota_leaves(cluster: Cluster) -> None:
    said = Said(state(), quota=3)
    watch = elastic(cluster, said)
    cluster.wish(100)
    await watch.look(0)
    assert said.asked == [4, 3]  # high is 6, of which 2 are primary ones: then half of those that are missing
    await watch.look(1)
    assert said.asked == [4, 3, 4]
    await watch.look(2)
    assert said.asked == [4, 3, 4]  # not again and again


async def test_it_shrinks_when_dask_has_wanted_less_for_long(cluster: Cluster) -> None:
    said = Said(state())
    watch = elastic(cluster, said)
    for now, wish in ((0, 2), (50, 3), (59, 2), (61, 4), (62, 2), (121, 3)):
        cluster.wish(wish)
        await watch.look(now)
        assert said.asked == []
    # Held by one that goes: it is handed over before its machine is asked for.
    kept = await cluster.client.scatter("kept", workers=[cluster.workers["etl-sw-a"].address])
    await watch.look(122.5)
    assert said.asked == [{"etl-sw-b"}]  # one was too many all the time, and this one holds nothing
    assert watch.away == {"etl-sw-b"}
    said.state = replace(said.state, secondary=1, names=("etl-sw-a",))
    for now in (130, 191):
        cluster.wish(0)
        await watch.look(now)
    assert said.asked[1:] == [{"etl-sw-a"}]
    for now in (200, 300):  # another machine is there in its place: that would go on for ever
        await watch.look(now)
    assert len(said.asked) == 2
    assert cluster.joined() == {"etl-w-0", "etl-w-1"}
    assert await kept.result() == "kept"


async def test_who_works_or_holds_what_has_no_room_elsewhere_stays(cluster: Cluster) -> None:
    scheduler = cluster.scheduler
    own = {str(worker.name): worker for worker in scheduler.workers.values()}
    task = cluster.client.submit(asyncio.sleep, 1000, workers=[own["etl-sw-a"].address])
    while not own["etl-sw-a"].processing:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)
    assert leaving(scheduler, NAMES[2:], 2) == ["etl-sw-b"]
    own["etl-w-0"].nbytes = 6 * 10**9  # as if: of 16 GB in all, of which 12 GB would be left
    assert leaving(scheduler, NAMES[2:], 2) == ["etl-sw-b"]
    own["etl-w-0"].nbytes += 1
    assert leaving(scheduler, NAMES[2:], 2) == []
    own["etl-w-0"].nbytes = 0
    await task.cancel()


async def test_what_is_refused_or_under_way_waits(cluster: Cluster) -> None:
    said = Said(state(now="UPDATING"))
    watch = elastic(cluster, said)
    cluster.wish(6)
    await watch.look(0)
    assert said.asked == []
    said.state, said.broken = state(low=1, secondary=2), "PERMISSION_DENIED"
    watch = elastic(cluster, said)
    cluster.wish(0)
    await watch.look(0)
    await watch.look(60)
    assert said.asked == [{"etl-sw-a", "etl-sw-b"}]
    await watch.look(61)
    assert watch.away == set()  # so both come back
    assert len(said.asked) == 1


async def test_what_is_refused_again_and_again_is_asked_for_less_and_less(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, clock, asked_at = Said(state(), broken="FAILED_PRECONDITION"), SimpleNamespace(now=0.0), []
    monkeypatch.setattr("dask_provider.runtime.dataproc_elastic.time", SimpleNamespace(monotonic=lambda: clock.now))
    watch = elastic(cluster, said)
    cluster.wish(6)
    for clock.now in range(0, 260, 5):
        # Somebody is seen to change the cluster, and has soon done it.
        said.state = state(now="UPDATING" if clock.now == 225 else "RUNNING")
        said.broken = said.broken if clock.now < 225 else ""
        before = len(said.asked)
        await watch.look(clock.now)
        asked_at += [clock.now] * (len(said.asked) - before)
    assert asked_at[:5] == [0, 15, 45, 105, 240]


@pytest.mark.parametrize("why", ["PERMISSION_DENIED", "NOT_FOUND"])
async def test_who_is_to_go_stays_away_where_nobody_tells_of_the_operation(cluster: Cluster, why: str) -> None:
    said = Said(state(), silent=why)
    watch = elastic(cluster, said)
    cluster.wish(2)
    await watch.look(0)
    await watch.look(60)
    said.state = state(now="REPAIRING")
    for now in (63, 66):
        await watch.look(now)
        assert watch.away == {"etl-sw-a", "etl-sw-b"}
    said.state = replace(state(secondary=1), names=("etl-sw-b",))  # one of them is left
    await watch.look(69)
    assert watch.away == set()
    assert len(said.asked) == 1


async def test_who_is_to_go_stays_away_where_the_answer_is_lost(cluster: Cluster) -> None:
    said = Said(state(), broken="TimeoutError", lost=True)
    watch = elastic(cluster, said)
    cluster.wish(2)
    await watch.look(0)
    await watch.look(60)
    for now in (61, 61 + REREAD):
        await watch.look(now)
        assert watch.away == {"etl-sw-a", "etl-sw-b"}
        said.state = state(now="REPAIRING")  # it was heard
    said.state = state()
    await watch.look(62 + REREAD)
    assert watch.away == set()
    assert len(said.asked) == 1
