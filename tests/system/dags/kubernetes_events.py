"""DAGs on Kubernetes of which the event tests kill and clear parts; only for the Airflow that has a namespace."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from pathlib import Path

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

from dask_provider.clusters import KubernetesCluster
from dask_provider.operators import DaskJobOperator
from dask_provider.task_groups import dask_cluster

SCRIPT = str(Path(__file__).resolve().parent.parent / "jobs" / "witness.py")
PARAMS = {"witness": "/dev/null", "seconds": 1, "fail_times": 0, "results": ""}
ARGUMENTS = ["--witness", "{{ params.witness }}", "--seconds", "{{ params.seconds }}"]
ARGUMENTS += ["--fail-times", "{{ params.fail_times }}"]

if fields := os.environ.get("KUBERNETES_EVENTS_CLUSTER"):
    spec = KubernetesCluster(**json.loads(fields), idle_timeout=30, ready_timeout=120)
    for mode, deferrable in (("running", False), ("deferred", True)):
        defaults = {"retries": 1, "retry_delay": timedelta(seconds=1)}
        with (
            DAG(
                f"kubernetes_{mode}",
                schedule=None,
                start_date=datetime(2024, 1, 1),
                params=PARAMS,
                default_args=defaults,
            ),
            dask_cluster("etl", spec, deferrable=deferrable) as cluster,
        ):
            DaskJobOperator(
                task_id="run", cluster=cluster, script=SCRIPT, arguments=ARGUMENTS, deferrable=deferrable, retries=1
            )
