"""Every night the Parquet files of the day before, on a Dask cluster on Google Dataproc that grows and shrinks.

``workers=(2, 10)`` is all that it takes: while the job runs, the number of machines follows what Dask asks for.

Needs the same as dask_dataproc_ephemeral, and reads the same environment. ``jobs/dask_large_scale_processing.py`` is in
the staging bucket, below ``jobs/``, and the files of a day are below ``large-data/YYYY-MM-DD/``.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from typing import Any

try:
    from airflow.sdk import DAG, Param
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.models.param import Param

from dask_provider.clusters import DataprocCluster
from dask_provider.clusters.dataproc_fields import Machines
from dask_provider.operators import DaskJobOperator
from dask_provider.task_groups import dask_cluster

BUCKET = "gs://{{ var.value.dataproc_staging_bucket }}"
# The last day that was over when the run was due. For a nightly run {{ ds }} is that day in Airflow 2 only.
DUE = "(data_interval_end | default(dag_run.run_after, true))"
DAY = "{{ params.day or (" + DUE + " - macros.timedelta(seconds=1)) | ds }}"
LEAST, MOST = 2, 10
FIELDS = json.loads(os.environ.get("DASK_DATAPROC_FIELDS", "{}"))
CLUSTER: dict[str, Any] = {
    "project_id": "{{ var.value.gcp_project_id }}",
    "region": "{{ var.value.gcp_region }}",
    "subnetwork": "{{ var.value.subnetwork_services_uri }}",
    "service_account": "{{ var.value.dataproc_runtime_sa_email }}",
    "staging_bucket": "{{ var.value.dataproc_staging_bucket }}",
    "tags": ["dataproc", "autoscale"],
    "labels": {"environment": "production", "component": "dask", "scaling": "auto"},
    "master": Machines("n2-highmem-4", disk_gb=100, disk_type="pd-ssd"),
    "worker": Machines("n2-standard-8", disk_gb=200, disk_type="pd-balanced"),
    "workers": (LEAST, MOST),
    "preemptibility": "NON_PREEMPTIBLE",  # SPOT costs a fraction, and Google may take such machines away
    "packages": ["pandas==2.3.3", "pyarrow==24.0.0"],
    "idle_timeout": "30 min",  # longer than what passes before the job is tried again
    "max_lifetime": "8h",
}

with (
    DAG(
        "dask_dataproc_autoscale",
        description="Features of a day's Parquet files, on a Dask cluster on Dataproc that follows the demand",
        schedule="@daily",
        start_date=datetime(2024, 1, 1),
        catchup=False,
        params={
            "day": Param(None, type=["null", "string"], format="date", description="empty: the day before the run's"),
        },
        default_args={"owner": "data-platform", "retries": 1, "retry_delay": timedelta(minutes=10)},
        tags=["dask", "dataproc", "autoscale", "production"],
    ) as dag,
    dask_cluster("etl", DataprocCluster(**{**CLUSTER, **FIELDS})) as cluster,
):
    # All workers write at once, straight to where it stays; _summary.json comes last and says that all is there.
    DaskJobOperator(
        task_id="run",
        cluster=cluster,
        script=f"{BUCKET}/jobs/dask_large_scale_processing.py",
        arguments=[
            *("--input-pattern", f"{BUCKET}/large-data/{DAY}/*.parquet"),
            *("--output-path", f"{BUCKET}/processed/{DAY}/"),
            *("--min-workers", str(LEAST)),
            *("--max-workers", str(MOST)),
            *("--adaptive-scaling", "true"),
        ],
    )
