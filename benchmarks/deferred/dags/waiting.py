"""A job that defers at once and does not end by itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.sdk import DAG
from dask_provider.clusters import LocalCluster
from dask_provider.operators import DaskJobOperator


def defer_at_once(context: Any) -> None:
    """Runs in the task's own process, just before the operator."""
    os.environ["AIRFLOW__DASK__SYNC_SECONDS"] = "0"


with DAG("waiting", schedule=None):
    DaskJobOperator(
        task_id="job",
        cluster=LocalCluster(workers=1, threads=1),
        script=str(Path(__file__).resolve().parent.parent / "long_job.py"),
        deferrable=True,
        pre_execute=defer_at_once,
    )
