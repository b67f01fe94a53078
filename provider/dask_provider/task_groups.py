"""``with dask_cluster("etl", spec) as cluster:`` - a cluster that lives for the tasks inside."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from dask_provider._compat import EmptyOperator, TaskGroup, XComArg
from dask_provider.clusters.base import ClusterSpec
from dask_provider.operators.cluster import DaskCreateClusterOperator, DaskDeleteClusterOperator


class dask_cluster(TaskGroup):
    """A task group with a cluster: made before the tasks inside, deleted after them, whatever became of them.

    Inside may be anything: plain and mapped tasks, nested and mapped groups. Put store steps after the block: results
    outlive the cluster, and clearing a store step then never pays for a new one. ``before >> block >> after`` works
    with the block object; ``after`` does not wait for the deletion.

    Not Airflow's own ``with teardown:``: that leaves mapped tasks unwired, and the cluster is deleted under them.

    :param group_id: id of the group; the cluster is named after it.
    :param spec: what is wanted.
    :param skip_if_stored: destination of the store step that follows (templated): when a complete result is there, no
        cluster is made and the jobs inside return that result.
    :param deferrable: see :class:`~dask_provider.operators.base.DaskOperator`.
    :param retries: of creating; deleting has at least three.
    :param retry_delay: of both.
    """

    def __init__(
        self,
        group_id: str,
        spec: ClusterSpec,
        *,
        skip_if_stored: str | None = None,
        deferrable: bool | None = None,
        retries: int = 1,
        retry_delay: timedelta = timedelta(seconds=15),
        **kwargs: Any,
    ) -> None:
        super().__init__(group_id, **kwargs)
        self._spec = spec
        self._skip_if_stored = skip_if_stored
        self._deferrable = deferrable
        self._retries = retries
        self._retry_delay = retry_delay

    def __enter__(self) -> XComArg:
        super().__enter__()
        # All that a DAG's default_args could spoil is set here.
        common: dict[str, Any] = {
            "retry_delay": self._retry_delay,
            "depends_on_past": False,
            "wait_for_downstream": False,  # would set depends_on_past
        }
        self._create = DaskCreateClusterOperator(
            task_id="create_cluster",
            cluster=self._spec,
            owner_id=self.group_id,
            trigger_rule="all_success",
            skip_if_stored=self._skip_if_stored,
            deferrable=self._deferrable,
            retries=self._retries,
            **common,
        )
        self._delete = DaskDeleteClusterOperator(
            task_id="delete_cluster",
            cluster=self._create.output,
            retries=max(3, self._retries),
            **common,
        )
        self._done = EmptyOperator(task_id="work_done", trigger_rule="none_failed", **common)
        return self._create.output

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        work = [task for task in self.iter_tasks() if task not in (self._create, self._delete, self._done)]
        # A teardown that may fail the run is what Airflow judges the run by, instead of the work before it. So the work
        # has an end of its own: a failed job makes it "upstream failed", and the run red.
        inside = {task.task_id for task in work}
        ends = [task for task in work if not inside & task.downstream_task_ids]
        self._done.set_upstream(ends or [self._create])
        for task in work:
            if not inside & task.upstream_task_ids:
                task.set_upstream(self._create)
            # Every task, not only the last ones: Airflow 2 may start a teardown before indirect ones are done.
            task.set_downstream(self._delete)
        self._create.set_downstream(self._delete)
        self._delete.as_teardown(setups=self._create, on_failure_fail_dagrun=True)
