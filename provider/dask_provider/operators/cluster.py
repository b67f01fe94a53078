"""Create, scale and delete a cluster."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from dask_provider.clusters.base import ClusterSpec
from dask_provider.errors import ClusterFailed, InvalidInput
from dask_provider.handles import ClusterHandle
from dask_provider.hooks import hook_of
from dask_provider.hooks.base import GONE_WITHIN, NOT_OURS, TAKEN_OVER, ClusterHook, SpecChanged
from dask_provider.hooks.cost import Cost, sentence
from dask_provider.jobs import Bundle
from dask_provider.links import DaskDashboardLink
from dask_provider.operators.ahead import check_ahead
from dask_provider.operators.base import DaskOperator
from dask_provider.owner import Attempt, Owner
from dask_provider.sideloop import run_aside
from dask_provider.units import parse_seconds, parse_workers

#: seconds that the question for the cost of a cluster may take
COST_WITHIN = 30.0
#: seconds that a cluster of another spec has to be gone before its name is used again: machines take minutes
REPLACED_WITHIN = 600.0


def plan_of(spec: ClusterSpec, owner: Owner) -> Any:
    """What would be made of it; while it holds templates, which only a run can render, the spec itself."""
    hook = hook_of(spec)
    try:
        return hook.plan(spec, owner)
    except InvalidInput:
        return repr(spec)


async def create_cluster(hook: ClusterHook[Any], spec: ClusterSpec, owner: Owner, attempt: Attempt) -> ClusterHandle:
    """Create or adopt; the first try of a run replaces a leftover that was made from another spec."""
    try:
        return await hook.create(spec, owner, attempt)
    except SpecChanged as changed:
        if not attempt.fresh:
            raise
        said = await hook.delete(changed.handle, "replaced by a cluster of another spec", compare=True)
        if said != TAKEN_OVER and not await hook.wait_gone(changed.handle, REPLACED_WITHIN):
            raise ClusterFailed(f"cluster {changed.handle.name} of an older run does not go away") from changed
        return await hook.create(spec, owner, attempt)


async def until_ready(hook: ClusterHook[Any], handle: ClusterHandle, log: Any) -> AsyncIterator[ClusterHandle]:
    """The complete handle, once; progress goes to the log."""
    async for readiness in hook.wait_ready(handle):
        log.info("%s", readiness.text)
        if readiness.ready:
            yield readiness.handle


async def start_cluster(
    step: DaskOperator, spec: ClusterSpec, owner: Owner, bundle: Bundle | None = None
) -> tuple[ClusterHandle | None, ClusterHandle]:
    """The complete handle, or ``None`` when it is time to defer, and the handle as it was made.

    :param bundle: the job of a task that has a cluster of its own. Where a retry adopts one, the cluster was ready once
        and may have lost workers since: it is neither waited for nor, with the job that runs, given up.
    :raises ClusterFailed: naming the cause, when nothing of it is left.
    :raises Overtaken: when a newer try has the cluster.
    """
    hook, log, attempt = hook_of(spec), step.log, step.attempt()
    handle = await create_cluster(hook, spec, owner, attempt)
    ends = f", ends at the latest {handle.expires}" if handle.expires else ""
    log.info("cluster %s on %s, uid %s%s", handle.name, handle.place, handle.uid, ends)
    if step.ended:
        await remove(hook, handle, "its step was ended", log)
        raise ClusterFailed("the step was ended while its cluster was being made")
    if bundle is not None and not attempt.fresh and await hook.would_adopt(handle, bundle, attempt):
        log.info("an earlier try's job is there: its cluster is not waited for")
        return handle, handle
    try:
        return await step.first(until_ready(hook, handle, log), spec.place, hook.longest_sync), handle
    except ClusterFailed:
        await remove(hook, handle, "it did not become ready", log)
        raise


async def remove(hook: ClusterHook[Any], handle: ClusterHandle, why: str, log: Any) -> None:
    """Delete what was made in vain, and stay until nothing of it is left; the error that led here counts."""
    try:
        if await hook.delete(handle, why, compare=True) == "deleting":
            await hook.wait_gone(handle, GONE_WITHIN)
    except Exception:
        log.warning("cluster %s is left to its lease", handle.name, exc_info=True)


async def cost_of(hook: ClusterHook[Any], handle: ClusterHandle, log: Any) -> Cost | None:
    """What a cluster costs, asked while it ends: the place still knows it. Whatever goes wrong here, it ends."""
    try:
        return await asyncio.wait_for(hook.cost(handle), COST_WITHIN)
    except Exception:
        log.warning("what cluster %s has cost is unknown", handle.name, exc_info=True)
        return None


def tell(cost: Cost | None, handle: ClusterHandle, log: Any) -> dict[str, Any] | None:
    """What it has cost until now, also into the log."""
    if cost is None:
        return None
    total = cost.total(datetime.now(timezone.utc))
    log.info("cluster %s: %s", handle.name, sentence(total))
    return total


async def _wait_gone(hook: ClusterHook[Any], handle: ClusterHandle, seconds: float) -> AsyncIterator[bool]:
    yield await hook.wait_gone(handle, seconds)


def dashboard(handle: ClusterHandle) -> str:
    """For the end of a log line; nothing where the place has none to show."""
    return f"; dashboard {handle.dashboard_url}" if handle.dashboard_url else ""


class DaskCreateClusterOperator(DaskOperator):
    """Creates a cluster, or finds the one that an earlier try made, and waits until it is ready.

    Returns the cluster's handle. When it fails or is killed it removes what it has made: Airflow runs no teardown then.

    :param cluster: what is wanted; text fields are templated.
    :param owner_id: what the cluster is named after; default: the task. The block passes the group's id.
    :param skip_if_stored: destination of a store step (templated): when a complete result is there already, no cluster
        is made and the jobs that use the handle return that result.
    """

    template_fields: Sequence[str] = ("skip_if_stored",)
    operator_extra_links = (DaskDashboardLink(),)
    ui_color = "#fdf3e1"

    def __init__(
        self, *, cluster: ClusterSpec, owner_id: str | None = None, skip_if_stored: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(cluster, ClusterSpec):
            raise InvalidInput("cluster", cluster, "a spec such as LocalCluster(workers=2)")
        self.cluster = cluster
        self.owner_id = owner_id
        self.skip_if_stored = skip_if_stored

    def work(self) -> dict[str, Any]:
        spec, owner = self._rendered(self.cluster), self._owner(self.owner_id)
        if self.skip_if_stored:
            from dask_provider.results import find_stored

            if stored := find_stored(self.skip_if_stored):
                self.log.info("the result is stored at %s already: no cluster is made", self.skip_if_stored)
                there, labels = stored.to_dict(), owner.labels()
                return ClusterHandle(spec.place, owner.name, "none", labels, needed=False, stored=there).to_dict()
        check_ahead(self, self._context)
        ready, handle = run_aside(start_cluster(self, spec, owner))
        if ready is None:
            from dask_provider.triggers.cluster import DaskClusterTrigger

            trigger = DaskClusterTrigger(handle.to_dict(), self._key(), self._deadline)
            self._defer(trigger, "cluster_ready", cluster=handle.to_dict())
        return self._done(ready or handle)

    def cluster_ready(self, context: Any, cluster: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
        """Back from the triggerer."""
        self._check_event(event)
        if "failed" in event:
            handle = ClusterHandle.from_dict(cluster)
            run_aside(remove(hook_of(handle.place), handle, "it did not become ready", self.log))
            raise ClusterFailed(event["failed"])
        return self._done(ClusterHandle.from_dict(event["cluster"]))

    def _done(self, handle: ClusterHandle) -> dict[str, Any]:
        DaskDashboardLink.push(self._ti, handle.dashboard_url)
        self.log.info("ready: %s%s", handle.scheduler_address or handle.name, dashboard(handle))
        return handle.to_dict()

    async def _end(self, *, run_over: bool) -> None:
        spec = self._rendered(self.cluster)
        hook = hook_of(spec)
        handle = await hook.find(spec, self._owner(self.owner_id))
        if handle is not None and self._is_ours(handle):
            said = await hook.delete(handle, "its create step was ended", compare=True)
            self.log.info("cluster %s: %s", handle.name, said)

    def plan(self) -> dict[str, Any]:
        return {"create": plan_of(self.cluster, self._owner(self.owner_id))}


class DaskScaleClusterOperator(DaskOperator):
    """Asks for another number of workers; does not wait for them.

    :param cluster: handle of the cluster.
    :param workers: a number or ``(minimum, maximum)``.
    """

    template_fields: Sequence[str] = ("cluster", "workers")

    def __init__(self, *, cluster: Any, workers: int | str | tuple[int, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cluster = cluster
        self.workers = workers

    def work(self) -> None:
        handle = ClusterHandle.from_dict(self.cluster)
        low, high = parse_workers("workers", self.workers)
        if handle.needed:
            run_aside(hook_of(handle.place).scale(handle, low, high))
            self.log.info("cluster %s: between %s and %s workers are asked for", handle.name, low, high)

    def plan(self) -> dict[str, Any]:
        return {"scale": self.cluster, "workers": parse_workers("workers", self.workers)}


class DaskDeleteClusterOperator(DaskOperator):
    """Deletes a cluster and waits until nothing of it is left. Idempotent.

    When deferrable it waits in the triggerer where machines take minutes to go (Dataproc): nothing is lost if that
    fails, since the deletion was asked for before.

    In a block: ``with dask_cluster(..., default_args={"wait": 0})``. Returns what the cluster has cost, on places that
    have prices, see :meth:`dask_provider.hooks.cost.Cost.total`.

    :param cluster: handle of the cluster; ``None`` (its create step made none) is success.
    :param wait: seconds until it must be gone; the step fails when it is not, so that a leak is seen. 0 or ``None``: it
        asks for the deletion, which the place does by itself, and does not wait; only the reaper sees a leak then.
    """

    template_fields: Sequence[str] = ("cluster",)

    def __init__(self, *, cluster: Any, wait: float | None = 300.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cluster = cluster
        self.wait = parse_seconds("wait", wait) if wait else 0.0

    def work(self) -> dict[str, Any] | None:
        if self.cluster is None:
            self.log.info("no cluster was made")
            return None
        handle = ClusterHandle.from_dict(self.cluster)
        if not handle.needed:
            self.log.info("no cluster was needed: the result was stored before")
            return None
        began = time.time()
        asked = run_aside(self._delete(handle))
        if asked is None:
            return None
        gone, cost = asked
        if gone is not None:
            return self._done(handle, gone, began, cost)
        from dask_provider.triggers.cluster import DaskClusterGoneTrigger

        until = began + self.wait
        trigger = DaskClusterGoneTrigger(handle.to_dict(), self._key(), self._deadline, until)
        kwargs = {"cluster": handle.to_dict(), "began": began, "cost": None if cost is None else asdict(cost)}
        self._defer(trigger, "cluster_gone", until, **kwargs)
        return None

    async def _delete(self, handle: ClusterHandle) -> tuple[bool | None, Cost | None] | None:
        """Whether it is gone, ``None`` when it is time to defer, and what it costs. Nothing where there is nothing."""
        hook = hook_of(handle.place)
        said = await hook.delete(handle, "deleted by its run")
        self.log.info("cluster %s (uid %s): %s", handle.name, handle.uid, said)
        if said == "never existed":
            self.log.warning(
                "nothing of that name was ever made here, or its record was removed: what may run is left to its lease"
            )
        if said in (NOT_OURS, "never existed"):
            return None
        cost = await cost_of(hook, handle, self.log)
        if not self.wait:
            return False, cost
        if math.isinf(hook.longest_sync):  # it takes seconds: to come back from the triggerer would take longer
            return await hook.wait_gone(handle, self.wait), cost
        return await self.first(_wait_gone(hook, handle, self.wait), handle.place), cost

    def cluster_gone(
        self, context: Any, cluster: dict[str, Any], began: float, cost: dict[str, Any] | None, event: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Back from the triggerer."""
        self._check_event(event)
        if "failed" in event:
            raise ClusterFailed(event["failed"])
        known = None if cost is None else Cost(**cost)
        return self._done(ClusterHandle.from_dict(cluster), event["gone"], began, known)

    def _done(self, handle: ClusterHandle, gone: bool, began: float, cost: Cost | None) -> dict[str, Any] | None:
        if not self.wait:
            self.log.info("its end is not waited for")
        elif gone:
            self.log.info("nothing is left of it, after %.1f s", time.time() - began)
        else:
            raise ClusterFailed(
                f"cluster {handle.name} is still there after {self.wait:.0f} s; its lease ends {handle.expires}"
            )
        return tell(cost, handle, self.log)

    def plan(self) -> dict[str, Any]:
        return {"delete": self.cluster}
