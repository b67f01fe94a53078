"""One Kubernetes job for each CSV file that has no Parquet file yet; a rerun does only the rest.

The image is that of ``deploy/images/preprocess``. Needs no Dask and no Dask operator.

Environment of Airflow, all optional: ``PREPROCESS_INPUT`` and ``PREPROCESS_OUTPUT``, defaults of the params;
``PREPROCESS_FIELDS``, JSON with further fields of KubernetesJobOperator, such as ``{"service_account": "files"}``.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta

try:
    from airflow.sdk import DAG, Param
except ImportError:  # Airflow 2
    from airflow import DAG
    from airflow.models.param import Param

from dask_provider.task_groups import for_each_file

JOB = {
    "conn_id": "{{ params.conn_id }}",
    "namespace": "{{ params.namespace }}",
    "image": "{{ params.image }}",
    "cmd": ["python", "-m", "preprocess", "{input}", "{output}"],
    "job_resources": {"cpu": 1, "memory": "1 GiB"},
    "active_deadline_seconds": "1h",
}

with DAG(
    "preprocess_files",
    description="Clean CSV files and write them as Parquet, one Kubernetes job each",
    schedule=None,
    start_date=datetime(2024, 1, 1),
    catchup=False,
    max_active_runs=1,  # two runs at once would both work on what is missing
    params={
        "conn_id": Param("kubernetes_default", type="string", description="Airflow connection of type kubernetes"),
        "namespace": Param("dask", type="string"),
        "image": Param("preprocess:1", type="string", description="made of deploy/images/preprocess"),
        # Without a default Airflow asks for them, before anything costs money.
        "input": Param(os.environ.get("PREPROCESS_INPUT"), type="string", description="folder of the CSV files"),
        "output": Param(os.environ.get("PREPROCESS_OUTPUT"), type="string", description="folder of the Parquet files"),
    },
    default_args={"retries": 1, "retry_delay": timedelta(seconds=30)},
    tags=["kubernetes", "files"],
) as dag:
    for_each_file(
        "preprocess",
        inputs="{{ params.input }}/*.csv",
        output="{{ params.output }}/{stem}.parquet",
        parallelism=10,
        **{**JOB, **json.loads(os.environ.get("PREPROCESS_FIELDS", "{}"))},
    )
