"""Statistics of a CSV file, on a Dask cluster that lives on Google Dataproc for this run only.

Needs what ``terraform/gcp`` makes: ``[dask] staging`` on Cloud Storage, and the Airflow variables ``gcp_project_id``,
``gcp_region``, ``dataproc_staging_bucket``, ``subnetwork_services_uri``, ``dataproc_runtime_sa_email`` and
``filestore_ip_address``. ``jobs/dask_yarn_example.py`` is in the staging bucket, below ``jobs/``.

Environment of Airflow, optional: ``DASK_DATAPROC_FIELDS``, JSON with further fields of DataprocCluster, such as
``{"kms_key": "projects/…"}``.
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
from dask_provider.clusters.dataproc_fields import Machines, NfsMount
from dask_provider.operators import DaskJobOperator
from dask_provider.task_groups import dask_cluster

BUCKET = "gs://{{ var.value.dataproc_staging_bucket }}"
# A run that was triggered without a logical date has no ds.
DAY = "{{ ds if ds is defined else dag_run.run_after | ds }}"
MACHINES = Machines("n2-standard-4", disk_gb=100, disk_type="pd-balanced")
FIELDS = json.loads(os.environ.get("DASK_DATAPROC_FIELDS", "{}"))
CLUSTER: dict[str, Any] = {
    "project_id": "{{ var.value.gcp_project_id }}",
    "region": "{{ var.value.gcp_region }}",
    "subnetwork": "{{ var.value.subnetwork_services_uri }}",
    "service_account": "{{ var.value.dataproc_runtime_sa_email }}",
    "staging_bucket": "{{ var.value.dataproc_staging_bucket }}",
    "tags": ["dataproc"],
    "labels": {"environment": "production", "component": "dask", "lifecycle": "ephemeral"},
    "master": MACHINES,
    "worker": MACHINES,
    "workers": 2,
    "nfs": NfsMount("{{ var.value.filestore_ip_address }}", "/export", mount_point="/mnt/shared"),
    "packages": ["pandas==2.3.3", "pyarrow==24.0.0"],
    "max_lifetime": "4h",
}

with (
    DAG(
        "dask_dataproc_ephemeral",
        description="Statistics of a CSV file, on a temporary Dask cluster on Dataproc",
        schedule=None,
        start_date=datetime(2024, 1, 1),
        catchup=False,
        params={
            "input": Param("data/sample_input.csv", type="string", description="CSV files, in the staging bucket"),
        },
        default_args={"owner": "data-platform", "retries": 1, "retry_delay": timedelta(minutes=5)},
        tags=["dask", "dataproc", "ephemeral"],
    ) as dag,
    dask_cluster("etl", DataprocCluster(**{**CLUSTER, **FIELDS})) as cluster,
):
    # One object, which is there as a whole or not at all: there is nothing to store afterwards.
    DaskJobOperator(
        task_id="run",
        cluster=cluster,
        script=f"{BUCKET}/jobs/dask_yarn_example.py",
        arguments=[
            *("--input", BUCKET + "/{{ params.input }}"),
            *("--output", f"{BUCKET}/output/{DAY}/results.csv"),
        ],
    )
