"""Follows a job and shows its output in the task log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from dask_provider.handles import ClusterHandle, JobHandle
from dask_provider.hooks import hook_of
from dask_provider.hooks.base import TAKEN_OVER
from dask_provider.joblog import JobLog
from dask_provider.owner import TaskKey
from dask_provider.triggers.base import WaitTrigger


class DaskJobTrigger(WaitTrigger):
    """Fires ``{"outcome": …}``.

    :param job: record of the job.
    :param cluster: record of its cluster; ``None``: a job that has none.
    :param own_cluster: whether the task made the cluster for itself, so that it ends with the task.
    :param position: how far the task has shown the output.
    """

    def __init__(
        self,
        job: dict[str, Any],
        cluster: dict[str, Any] | None,
        own_cluster: bool,
        position: int,
        waiter: TaskKey,
        deadline: float | None,
    ) -> None:
        super().__init__(waiter, deadline)
        self.job, self.cluster, self.own_cluster, self.position = job, cluster, own_cluster, position

    def serialize(self) -> tuple[str, dict[str, Any]]:
        fields = ("job", "cluster", "own_cluster", "position", "waiter", "deadline")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in fields}

    async def wait(self) -> AsyncIterator[dict[str, Any]]:
        show = JobLog(self.log)
        job = JobHandle.from_dict(self.job)
        async for news in hook_of(job.place).watch(job, position=self.position, eager=False):
            show.show(news)
            if news.outcome is not None:
                yield {"outcome": news.outcome.to_dict()}

    async def end(self, *, run_over: bool) -> None:
        job = JobHandle.from_dict(self.job)
        hook = hook_of(job.place)
        said = "unknown"
        try:
            said = await hook.cancel(job)
            self.log.info("job %s: %s", job.job_id, said)
        finally:
            if self.cluster is not None and said != TAKEN_OVER and (self.own_cluster or run_over):
                cluster = ClusterHandle.from_dict(self.cluster)
                said = await hook.delete(cluster, "its task was ended", compare=True)
                self.log.info("cluster %s: %s", cluster.name, said)
