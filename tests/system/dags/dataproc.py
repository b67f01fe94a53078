"""The repository's DAGs for Dataproc, and some that fail or are killed; only for the Airflow that has an emulator."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

from dask_provider.clusters import DataprocCluster
from dask_provider.operators import DaskJobOperator
from dask_provider.task_groups import dask_cluster

JOBS = Path(__file__).resolve().parent.parent / "jobs"
PARAMS = {"witness": "/dev/null", "results": "", "seconds": 1, "gate": "/", "fail_times": 0}
ARGUMENTS = ["--witness", "{{ params.witness }}", "--seconds", "{{ params.seconds }}"]
ARGUMENTS += ["--gate", "{{ params.gate }}", "--fail-times", "{{ params.fail_times }}"]
JOB: dict[str, Any] = {"script": str(JOBS / "witness.py"), "arguments": ARGUMENTS}


def dag(name: str) -> DAG:
    defaults = {"retries": 1, "retry_delay": timedelta(seconds=1)}
    start = datetime(2024, 1, 1)
    return DAG(name, schedule=None, start_date=start, params=PARAMS, default_args=defaults)


if fields := json.loads(os.environ.get("DATAPROC_EVENTS_CLUSTER", "{}")):
    from dags.dask_dataproc_autoscale import dag as dask_dataproc_autoscale
    from dags.dask_dataproc_ephemeral import dag as dask_dataproc_ephemeral

    __all__ = ["dask_dataproc_autoscale", "dask_dataproc_ephemeral"]

    spec = DataprocCluster(**fields)
    for mode, deferrable in (("running", False), ("deferred", True)):
        with dag(f"dataproc_{mode}"), dask_cluster("etl", spec, deferrable=deferrable) as cluster:
            DaskJobOperator(task_id="run", cluster=cluster, deferrable=deferrable, **JOB)

    with dag("dataproc_once"), dask_cluster("etl", spec, deferrable=False) as cluster:
        DaskJobOperator(task_id="run", cluster=cluster, deferrable=False, retries=0, **JOB)

    broken = replace(spec, initialization_actions=[os.environ["DATAPROC_EVENTS_BROKEN_ACTION"]])
    with dag("dataproc_broken"), dask_cluster("etl", broken, retries=0) as cluster:
        DaskJobOperator(task_id="run", cluster=cluster, **JOB)
