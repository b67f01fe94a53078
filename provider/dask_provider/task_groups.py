"""``with dask_cluster("etl", spec) as cluster:``, a cluster that lives for the tasks inside; ``for_each_file(...)``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from dask_provider._compat import EmptyOperator, TaskGroup, XComArg, counts_deferred
from dask_provider.clusters.base import ClusterSpec
from dask_provider.errors import InvalidInput
from dask_provider.operators.cluster import DaskCreateClusterOperator, DaskDeleteClusterOperator
from dask_provider.units import parse_count


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
            deferrable=self._deferrable,
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


class for_each_file(TaskGroup):
    """One job for each input file whose output is missing; so a rerun does only the rest.

    Three tasks: ``find`` lists inputs and outputs, ``run`` is mapped over what is to be done, ``summary`` tells "97
    done before, 2 ran, 1 failed: ..." and fails if an output is missing. What the fields of the operator hold of these
    words is filled in for each file: ``{input}``, ``{output}``, ``{name}``, ``{stem}``; other braces stay.

    The job writes one file to the path that ``{output}`` stands for, which is below ``_temporary/`` beside the outputs.
    Once the job has succeeded, it gets its name in one step. So an output that is there is complete, and nothing but
    its existence says so.

    ``before >> files >> after`` works with the object; ``files.summary`` is what the summary returns.

    :param group_id: id of the group.
    :param inputs: path or URI with ``*``, ``?``, ``[...]`` or ``**``, such as ``s3://connection@bucket/in/*.csv``; the
        job gets it without the connection. Templated.
    :param output: path or URI with ``{stem}`` or ``{name}`` of the input, and ``{folder}``, its folder below the first
        pattern. Templated.
    :param operator: ``KubernetesJobOperator`` (the default), or ``DaskJobOperator`` with a script or module.
    :param parallelism: at most so many jobs at a time.
    :param limit: at most so many files in one run; the others are left to the next one, which is no failure. Without
        it, more than Airflow's ``[core] max_map_length`` (1024) are refused.
    :param may_be_empty: that no file matches is no mistake.
    :param fields: of the operator.
    """

    def __init__(
        self,
        group_id: str,
        *,
        inputs: str,
        output: str,
        operator: Any = None,
        parallelism: int = 10,
        limit: int | str | None = None,
        may_be_empty: bool = False,
        **fields: Any,
    ) -> None:
        from dask_provider.operators.files import FindFilesOperator, SumUpFilesOperator

        super().__init__(group_id)
        operator = _operator_of_files(operator, fields)
        if fields.get("deferrable") is not False and "pool" not in fields and not counts_deferred():
            if fields.get("deferrable"):
                allowed = "False, or with pool=... one that counts deferred tasks: else this Airflow starts all at once"
                raise InvalidInput("deferrable", True, allowed)
            fields["deferrable"] = False
        with self:
            find = FindFilesOperator(
                task_id="find", inputs=inputs, outputs=output, limit=limit, may_be_empty=may_be_empty
            )
            run = operator.partial(
                task_id="run",
                max_active_tis_per_dagrun=parse_count("parallelism", parallelism),
                map_index_template="{{ task.file['input'] }}",
                trigger_rule="all_success",
                **fields,
            ).expand(file=find.output)
            summary = SumUpFilesOperator(
                task_id="summary", find_id=find.task_id, run_id=run.task_id, trigger_rule="all_done"
            )
            run.set_downstream(summary)
            find.set_downstream(summary)
        self.summary = summary.output


def _operator_of_files(operator: Any, fields: dict[str, Any]) -> Any:
    """The operator class, with fields that it would refuse only when the first file is at its turn."""
    from dask_provider.operators import DaskJobOperator, KubernetesJobOperator

    operator = operator or KubernetesJobOperator
    if operator is KubernetesJobOperator:
        from dask_provider.clusters.kubernetes_job import KubernetesJob
        from dask_provider.operators.kubernetes_job import FIELDS

        given = {name: value for name, value in fields.items() if name in FIELDS}
        if not any(hasattr(value, "resolve") for value in given.values()):
            KubernetesJob(**given)
    elif operator is not DaskJobOperator:
        raise InvalidInput("operator", operator, "KubernetesJobOperator or DaskJobOperator")
    elif fields.get("python_callable") is not None:
        allowed = "a script or module, which takes {input} and {output} as arguments"
        raise InvalidInput("python_callable", fields["python_callable"], allowed)
    if "{output}" not in repr([fields.get(name) for name in ("cmd", "arguments", "env", "spec_schema")]):
        named = "arguments" if operator is DaskJobOperator else "cmd, arguments, env or spec_schema"
        raise InvalidInput(named, fields.get("arguments"), "{output} in one of them: the path that the job writes to")
    return operator
