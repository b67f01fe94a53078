"""Removes clusters whose run is over or whose lifetime is past: what neither teardown nor lease has ended yet.

Says what it would do; set the Airflow variable ``dask_reaper_delete`` to ``true`` to let it delete. Needs an explicit
``[dask] instance``, so that one Airflow never removes another's clusters.
"""

from __future__ import annotations

from datetime import datetime, timedelta

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

from dask_provider.clusters import LocalCluster
from dask_provider.operators import DaskReapClustersOperator

with DAG(
    "dask_reaper",
    description="Removes leaked Dask clusters",
    schedule=timedelta(minutes=15),
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["dask", "operations"],
) as dag:
    DaskReapClustersOperator(
        task_id="reap",
        places=[LocalCluster()],
        delete="{{ var.value.get('dask_reaper_delete', 'false') }}",
    )
