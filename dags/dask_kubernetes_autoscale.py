"""Two jobs share a Dask cluster on Kubernetes whose number of workers follows the demand: the two halves of a year.

``workers=(1, 8)`` is all that it takes: the job starts with one worker, and the Dask operator asks the scheduler every
few seconds how many it wants. A step that knows better is DaskScaleClusterOperator.

Needs the same as dask_kubernetes_ephemeral, and reads the same environment.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from pathlib import Path

try:
    from airflow.sdk import DAG, Param
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.models.param import Param

from dask_provider.clusters import KubernetesCluster
from dask_provider.operators import DaskJobOperator, DaskStoreResultsOperator
from dask_provider.task_groups import dask_cluster

JOBS = Path(__file__).resolve().parent.parent / "jobs"
FIELDS = json.loads(os.environ.get("DASK_KUBERNETES_FIELDS", "{}"))
CLUSTER = {
    "conn_id": "{{ params.conn_id }}",
    "namespace": "{{ params.namespace }}",
    "image": "{{ params.image }}",
    "workers": ("{{ params.least }}", "{{ params.most }}"),
    "max_lifetime": "2h",
}

with DAG(
    "dask_kubernetes_autoscale",
    description="Delays of flights from New York in two halves, on a Dask cluster that grows and shrinks",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    params={
        "conn_id": Param("kubernetes_default", type="string", description="Airflow connection of type kubernetes"),
        "namespace": Param("dask", type="string"),
        "image": Param(
            "ghcr.io/dask/dask:2026.8.0", type="string", description="with dask and the input's file system"
        ),
        "least": Param(1, type="integer", minimum=1, description="workers at least"),
        "most": Param(8, type="integer", minimum=1, description="workers at most"),
        "input": Param(os.environ.get("FLIGHTS_INPUT"), type="string", description="URI of the flights, for pods"),
        "results": Param(os.environ.get("FLIGHTS_RESULTS"), type="string", description="where results are stored"),
        "days": Param(181, type="integer", minimum=1, maximum=184, description="number of days of each half"),
    },
    default_args={"retries": 1, "retry_delay": timedelta(seconds=30)},
    tags=["dask", "kubernetes"],
) as dag:
    with dask_cluster("etl", KubernetesCluster(**{**CLUSTER, **FIELDS})) as cluster:
        halves = DaskJobOperator.partial(task_id="half", cluster=cluster, script=str(JOBS / "flights.py")).expand(
            arguments=[
                ["--input", "{{ params.input }}", "--days", "{{ params.days }}", "--day", day]
                for day in ("2013-01-01", "2013-07-01")
            ]
        )
    DaskStoreResultsOperator.partial(
        task_id="store",
        destination="{{ params.results }}/{{ run_id | replace(':', '-') | replace('+', '-') }}/{{ ti.map_index }}",
    ).expand(source=halves.output)
