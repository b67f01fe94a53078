"""The block wires every task itself, and nothing of a DAG's ``default_args`` can spoil that."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from dask_provider._compat import BaseOperator, TaskGroup
from dask_provider.clusters import LocalCluster
from dask_provider.operators import DaskJobOperator
from dask_provider.task_groups import dask_cluster

try:
    from airflow.sdk import DAG, task_group
except ImportError:
    from airflow import DAG
    from airflow.decorators import task_group

try:
    from airflow.providers.standard.operators.empty import EmptyOperator
except ImportError:
    from airflow.operators.empty import EmptyOperator

CREATE, DELETE, DONE = "etl.create_cluster", "etl.delete_cluster", "etl.work_done"


def dag(**fields: Any) -> Any:
    return DAG("flights", schedule=None, start_date=datetime(2024, 1, 1), **fields)


def job(task_id: str, cluster: Any, **fields: Any) -> DaskJobOperator:
    return DaskJobOperator(task_id=task_id, cluster=cluster, script="/jobs/work.py", **fields)


def upstream(dag: Any) -> dict[str, set[str]]:
    return {task.task_id: set(task.upstream_task_ids) for task in dag.tasks}


def test_plain_tasks() -> None:
    with dag() as flights, dask_cluster("etl", LocalCluster()) as cluster:
        first, second, apart = job("first", cluster), EmptyOperator(task_id="second"), EmptyOperator(task_id="apart")
        first >> second
    assert upstream(flights) == {
        CREATE: set(),
        "etl.first": {CREATE},
        "etl.second": {"etl.first"},
        "etl.apart": {CREATE},
        DONE: {"etl.second", "etl.apart"},
        DELETE: {CREATE, "etl.first", "etl.second", "etl.apart"},
    }
    assert apart.trigger_rule == "all_success"


def test_setup_and_teardown() -> None:
    with dag() as flights, dask_cluster("etl", LocalCluster()) as cluster:
        job("run", cluster)
    create, delete = flights.get_task(CREATE), flights.get_task(DELETE)
    assert (create.is_setup, delete.is_teardown, delete.on_failure_fail_dagrun) == (True, True, True)
    assert delete.trigger_rule == "all_done_setup_success"
    assert delete.retries >= 3
    assert create.owner_id == "etl", "the cluster is named after the block"
    assert not flights.get_task(DONE).is_teardown


def test_the_job_depends_on_create_by_using_its_handle_alone() -> None:
    with dag() as flights:
        with dask_cluster("etl", LocalCluster()) as cluster:
            job("inside", cluster)
        job("outside", cluster)
    assert upstream(flights)["outside"] == {CREATE}


def test_nested_groups_mapped_tasks_and_mapped_groups() -> None:
    with dag() as flights, dask_cluster("etl", LocalCluster()) as cluster:
        with TaskGroup("inner"):
            a, b = job("a", cluster), EmptyOperator(task_id="b")
            a >> b
            with TaskGroup("innermost"):
                EmptyOperator(task_id="c")
        DaskJobOperator.partial(task_id="mapped", cluster=cluster, script="/jobs/work.py").expand(
            arguments=[["1"], ["2"]]
        )

        @task_group
        def days(day: str) -> None:
            job("run", cluster, arguments=[day]) >> EmptyOperator(task_id="after")

        days.expand(day=["1", "2"])
    wired = upstream(flights)
    work = set(wired) - {CREATE, DELETE, DONE}
    assert work == {
        "etl.inner.a",
        "etl.inner.b",
        "etl.inner.innermost.c",
        "etl.mapped",
        "etl.days.run",
        "etl.days.after",
    }
    assert wired[DELETE] == work | {CREATE}, "every task, or the cluster is deleted under it"
    for root in ("etl.inner.a", "etl.inner.innermost.c", "etl.mapped", "etl.days.run"):
        assert CREATE in wired[root]
    assert wired["etl.inner.b"] == {"etl.inner.a"}
    assert wired[DONE] == {"etl.inner.b", "etl.inner.innermost.c", "etl.mapped", "etl.days.after"}


def test_before_block_after() -> None:
    with dag() as flights:
        before, after = EmptyOperator(task_id="before"), EmptyOperator(task_id="after")
        block = dask_cluster("etl", LocalCluster())
        with block as cluster:
            job("run", cluster)
        before >> block >> after
    wired = upstream(flights)
    assert wired[CREATE] == {"before"}
    assert wired["etl.run"] == {CREATE}
    assert wired["after"] == {DONE}, "it waits for the work and not for the deletion"


def test_an_empty_block_still_ends_its_cluster() -> None:
    with dag() as flights, dask_cluster("etl", LocalCluster()):
        pass
    assert upstream(flights) == {CREATE: set(), DONE: {CREATE}, DELETE: {CREATE}}


def test_two_blocks_in_one_dag_are_two_clusters() -> None:
    with dag() as flights:
        for name in ("one", "two"):
            with dask_cluster(name, LocalCluster()) as cluster:
                job("run", cluster)
    assert [flights.get_task(f"{name}.create_cluster").owner_id for name in ("one", "two")] == ["one", "two"]
    assert upstream(flights)["two.delete_cluster"] == {"two.create_cluster", "two.run"}


def test_default_args_cannot_spoil_creating_and_deleting() -> None:
    spoilt = {
        "retries": 0,
        "retry_delay": timedelta(hours=5),
        "depends_on_past": True,
        "wait_for_downstream": True,
        "trigger_rule": "one_failed",
    }
    with dag(default_args=spoilt) as flights, dask_cluster("etl", LocalCluster()) as cluster:
        job("run", cluster)
    assert flights.get_task("etl.run").depends_on_past, "or this test would prove nothing"
    for task_id, retries in ((CREATE, 1), (DELETE, 3), (DONE, 0)):
        task: BaseOperator = flights.get_task(task_id)
        assert task.retries >= retries
        assert task.retry_delay <= timedelta(minutes=1), task_id
        assert not task.depends_on_past, task_id
        assert not task.wait_for_downstream, task_id
        assert task.trigger_rule != "one_failed", task_id


def test_settings_of_the_block_reach_its_tasks() -> None:
    spec = LocalCluster(workers="{{ params.workers }}")
    block = {"skip_if_stored": "/lake/{{ ds }}", "deferrable": True, "retries": 5, "tooltip": "flights"}
    with dag() as flights, dask_cluster("etl", spec, **block, retry_delay=timedelta(seconds=3)) as cluster:
        job("run", cluster)
    create, delete = flights.get_task(CREATE), flights.get_task(DELETE)
    assert (create.cluster, create.skip_if_stored, create.deferrable) == (spec, "/lake/{{ ds }}", True)
    assert (create.retries, delete.retries, delete.retry_delay) == (5, 5, timedelta(seconds=3))
    assert delete.deferrable


def test_a_block_need_not_wait_for_its_end() -> None:
    with dag() as flights, dask_cluster("etl", LocalCluster(), default_args={"wait": 0}) as cluster:
        job("run", cluster)
    assert flights.get_task(DELETE).wait == 0


def test_a_block_of_a_dag_that_fails_to_parse_says_why() -> None:
    with pytest.raises(ZeroDivisionError), dag(), dask_cluster("etl", LocalCluster()):
        print(1 / 0)
