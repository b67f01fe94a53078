"""The job of flights_daily, unchanged, on a Dask cluster that lives on Kubernetes for this run only.

Needs a namespace as ``deploy/kubernetes`` makes it, ``[dask] staging`` at a place that pods and Airflow reach, and the
flights there as well: ``python -m dev.flights_data --output DIR``, then copy DIR to your object store.

Environment of Airflow, all optional: ``FLIGHTS_INPUT`` and ``FLIGHTS_RESULTS``, defaults of the params;
``DASK_KUBERNETES_FIELDS``, JSON with further fields of KubernetesCluster, such as ``{"service_account": "dask-jobs"}``.
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
    "workers": "{{ params.workers }}",
    "max_lifetime": "2h",
}

with DAG(
    "dask_kubernetes_ephemeral",
    description="Delays of flights from New York, on a temporary Dask cluster on Kubernetes",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    params={
        "conn_id": Param("kubernetes_default", type="string", description="Airflow connection of type kubernetes"),
        "namespace": Param("dask", type="string"),
        "image": Param(
            "ghcr.io/dask/dask:2026.8.0", type="string", description="with dask and the input's file system"
        ),
        "workers": Param(2, type="integer", minimum=1, maximum=100),
        # Without a default Airflow asks for them, before anything costs money.
        "input": Param(os.environ.get("FLIGHTS_INPUT"), type="string", description="URI of the flights, for pods"),
        "results": Param(os.environ.get("FLIGHTS_RESULTS"), type="string", description="where results are stored"),
        "day": Param("2013-01-01", type="string", format="date", description="first day"),
        "days": Param(31, type="integer", minimum=1, maximum=365, description="number of days"),
    },
    default_args={"retries": 1, "retry_delay": timedelta(seconds=30)},
    tags=["dask", "kubernetes"],
) as dag:
    with dask_cluster("etl", KubernetesCluster(**{**CLUSTER, **FIELDS})) as cluster:
        run = DaskJobOperator(
            task_id="run",
            cluster=cluster,
            script=str(JOBS / "flights.py"),
            arguments=["--input", "{{ params.input }}", "--day", "{{ params.day }}", "--days", "{{ params.days }}"],
        )
    DaskStoreResultsOperator(
        task_id="store",
        source=run.output,
        destination="{{ params.results }}/{{ run_id | replace(':', '-') | replace('+', '-') }}",
    )
