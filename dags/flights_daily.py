"""A nightly Dask job on a cluster that lives only for the run: flights of 2013, joined and summed up.

Environment: ``FLIGHTS_INPUT`` (folder or URI of the lake), ``FLIGHTS_RESULTS`` (where stored results go).
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

try:
    from airflow.sdk import DAG, Param
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.models.param import Param

from dask_provider.clusters import LocalCluster
from dask_provider.operators import DaskJobOperator, DaskStoreResultsOperator
from dask_provider.task_groups import dask_cluster

HERE = Path(__file__).resolve().parent.parent
INPUT = os.environ.get("FLIGHTS_INPUT", str(HERE / ".demo" / "input"))
RESULTS = os.environ.get("FLIGHTS_RESULTS", str(HERE / ".demo" / "results" / "flights"))

with DAG(
    "flights_daily",
    description="Delays of flights from New York, by day, carrier and weather",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    params={
        "day": Param("2013-01-01", type="string", format="date", description="first day"),
        "days": Param(31, type="integer", minimum=1, maximum=365, description="number of days"),
    },
    default_args={"retries": 1, "retry_delay": timedelta(seconds=10)},
    tags=["dask", "demo"],
) as dag:
    with dask_cluster("etl", LocalCluster(workers=2)) as cluster:
        run = DaskJobOperator(
            task_id="run",
            cluster=cluster,
            script=str(HERE / "jobs" / "flights.py"),
            arguments=["--input", INPUT, "--day", "{{ params.day }}", "--days", "{{ params.days }}"],
        )
    DaskStoreResultsOperator(
        task_id="store",
        source=run.output,
        destination=RESULTS + "/{{ run_id | replace(':', '-') | replace('+', '-') }}",
        latest="latest",
    )
