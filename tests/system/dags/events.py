"""DAGs of which the event tests kill, clear and delay parts. Each in two modes: waiting in a worker, and deferred."""

from __future__ import annotations

import shutil
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

try:
    from airflow.providers.standard.operators.python import PythonOperator
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.operators.python import PythonOperator

from dask_provider.clusters import LocalCluster
from dask_provider.operators import DaskJobOperator, DaskReapClustersOperator, DaskStoreResultsOperator
from dask_provider.task_groups import dask_cluster

JOBS = Path(__file__).resolve().parent.parent / "jobs"
PARAMS = {"witness": "/dev/null", "seconds": 1, "gate": "/", "fail_times": 0, "results": "", "source": "", "python": ""}
ARGUMENTS = ["--witness", "{{ params.witness }}", "--seconds", "{{ params.seconds }}"]
ARGUMENTS += ["--gate", "{{ params.gate }}", "--fail-times", "{{ params.fail_times }}"]
SMALL = LocalCluster(workers=1, idle_timeout=40)
JOB: dict[str, Any] = {"script": str(JOBS / "witness.py"), "arguments": ARGUMENTS}
MAPPED = [["--witness", "{{ params.witness }}" + n, *ARGUMENTS[2:]] for n in "01"]


def other_work() -> None:
    """Something else that a DAG does meanwhile."""
    time.sleep(15)


def forget(cluster: dict[str, Any]) -> None:
    """Somebody tidies up and takes the record of a running cluster with him."""
    shutil.rmtree(cluster["details"]["folder"], ignore_errors=True)  # it is still written to


def dag(name: str, **fields: Any) -> DAG:
    defaults = {"retries": 0, "retry_delay": timedelta(seconds=1)}
    return DAG(name, schedule=None, start_date=datetime(2024, 1, 1), params=PARAMS, default_args=defaults, **fields)


for mode, deferrable in (("running", False), ("deferred", True)):
    again = {"deferrable": deferrable, "retries": 1}

    with dag(f"block_{mode}"):
        with dask_cluster("etl", SMALL, deferrable=deferrable) as cluster:
            run = DaskJobOperator(task_id="run", cluster=cluster, deferrable=deferrable, **JOB)
        run.set_downstream(
            DaskStoreResultsOperator(task_id="store", source=run.output, destination="{{ params.results }}")
        )

    with dag(f"retry_{mode}"), dask_cluster("etl", SMALL, deferrable=deferrable) as cluster:
        DaskJobOperator(task_id="run", cluster=cluster, **again, **JOB)

    with dag(f"patient_{mode}"), dask_cluster("etl", SMALL, deferrable=deferrable) as cluster:
        # With the API server away a try is used up within seconds and does nothing: the delays must outlast that.
        patience = {"deferrable": deferrable, "retries": 2, "retry_delay": timedelta(seconds=60)}
        DaskJobOperator(task_id="run", cluster=cluster, **patience, **JOB)

    with dag(f"mapped_{mode}"), dask_cluster("etl", SMALL, deferrable=deferrable) as cluster:
        mapped = DaskJobOperator.partial(task_id="run", cluster=cluster, deferrable=deferrable, script=JOB["script"])
        mapped.expand(arguments=MAPPED)

    with dag(f"own_{mode}"):
        DaskJobOperator(task_id="run", cluster=SMALL, deferrable=deferrable, **JOB)

    with dag(f"timeout_{mode}"), dask_cluster("etl", SMALL, deferrable=deferrable) as cluster:
        limit = timedelta(seconds=25)
        DaskJobOperator(task_id="run", cluster=cluster, execution_timeout=limit, **again, **JOB)

    short = {"dagrun_timeout": timedelta(seconds=40)}
    with dag(f"dagrun_timeout_{mode}", **short), dask_cluster("etl", SMALL, deferrable=deferrable) as cluster:
        DaskJobOperator(task_id="run", cluster=cluster, deferrable=deferrable, **JOB)

    with dag(f"slow_create_{mode}"):
        slow = LocalCluster(workers=1, python=str(JOBS / "slow_python.sh"))
        with dask_cluster("etl", slow, deferrable=deferrable, retries=0) as cluster:
            DaskJobOperator(task_id="run", cluster=cluster, deferrable=deferrable, **JOB)

broken = LocalCluster(workers=1, python=str(JOBS / "broken_python.sh"))
with dag("setup_fails"), dask_cluster("etl", broken, retries=0) as cluster:
    DaskJobOperator(task_id="run", cluster=cluster, **JOB)

with dag("skip"):
    with dask_cluster("etl", SMALL, skip_if_stored="{{ params.results }}") as cluster:
        run = DaskJobOperator(task_id="run", cluster=cluster, **JOB)
    DaskStoreResultsOperator(task_id="store", source=run.output, destination="{{ params.results }}")

with dag("fan_out"):
    with dask_cluster("etl", SMALL, skip_if_stored="{{ params.results }}") as cluster:
        parts = DaskJobOperator.partial(task_id="part", cluster=cluster, script=JOB["script"])
        run = DaskJobOperator(task_id="run", cluster=cluster, **JOB)
        parts.expand(arguments=MAPPED) >> run
    DaskStoreResultsOperator(task_id="store", source=run.output, destination="{{ params.results }}")

with dag("store_alone"):
    places = {"source": "{{ params.source }}", "destination": "{{ params.results }}"}
    DaskStoreResultsOperator(task_id="store", retries=1, **places)

gated = LocalCluster(workers=1, python="{{ params.python }}", idle_timeout=40)
once_more = {"deferrable": False, "retries": 1, "retry_delay": timedelta(seconds=1)}
with dag("gated"), dask_cluster("etl", gated, **once_more) as cluster:
    DaskJobOperator(task_id="run", cluster=cluster, **JOB)

with dag("forgotten"):
    with dask_cluster("etl", SMALL) as cluster:
        run = DaskJobOperator(task_id="run", cluster=cluster, **JOB)
        run >> PythonOperator(task_id="forget", python_callable=forget, op_args=[cluster])
    DaskStoreResultsOperator(task_id="store", source=run.output, destination="{{ params.results }}")

with dag("short_idle"), dask_cluster("etl", LocalCluster(workers=1, idle_timeout=6)) as cluster:
    late = DaskJobOperator(task_id="run", cluster=cluster, retries=2, **JOB)
    PythonOperator(task_id="other_work", python_callable=other_work) >> late

with dag("look"):
    DaskReapClustersOperator(task_id="look", places=[LocalCluster()])

with dag("reap"):
    DaskReapClustersOperator(task_id="reap", places=[LocalCluster()], delete=True)

with dag("no_script"), dask_cluster("etl", SMALL) as cluster:
    DaskJobOperator(task_id="run", cluster=cluster, script="/no/such/{{ dag.dag_id }}.py")
