"""DAGs on Kubernetes of which the event tests kill and clear parts; only for the Airflow that has a namespace."""

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

from dask_provider.clusters import KubernetesCluster
from dask_provider.operators import DaskJobOperator, KubernetesJobOperator
from dask_provider.task_groups import dask_cluster

JOBS = Path(__file__).resolve().parent.parent / "jobs"
PARAMS = {"witness": "/dev/null", "results": "", "seconds": 1, "gate": "/", "deadline": 3600}
ARGUMENTS = ["--witness", "{{ params.witness }}", "--seconds", "{{ params.seconds }}"]
ARGUMENTS += ["--gate", "{{ params.gate }}"]
JOB: dict[str, Any] = {"script": str(JOBS / "witness.py"), "arguments": ARGUMENTS}
PLAIN = ("conn_id", "namespace", "image", "job_resources", "volumes", "volume_mounts")
SOON = timedelta(seconds=1)


def dag(name: str) -> DAG:
    defaults = {"retries": 1, "retry_delay": SOON}
    start = datetime(2024, 1, 1)
    return DAG(name, schedule=None, start_date=start, params=PARAMS, default_args=defaults)


if fields := json.loads(os.environ.get("KUBERNETES_EVENTS_CLUSTER", "{}")):
    spec = KubernetesCluster(**fields, idle_timeout=30, ready_timeout=120)
    for mode, deferrable in (("running", False), ("deferred", True)):
        with dag(f"kubernetes_{mode}"), dask_cluster("etl", spec, deferrable=deferrable) as cluster:
            DaskJobOperator(task_id="run", cluster=cluster, deferrable=deferrable, **JOB)

        with dag(f"plain_{mode}"):
            command = ["python3", "-c", (JOBS / "plain.py").read_text(), "{{ params.witness }}", "{{ params.gate }}"]
            KubernetesJobOperator(
                task_id="run",
                cmd=command,
                active_deadline_seconds="{{ params.deadline }}",
                deferrable=deferrable,
                **{name: fields[name] for name in PLAIN},
            )

    patient = replace(spec, ready_timeout=600)
    with dag("kubernetes_patient"), dask_cluster("etl", patient, deferrable=True, retries=0) as cluster:
        DaskJobOperator(task_id="run", cluster=cluster, deferrable=True, retries=0, **JOB)

    # A job's start puts off the end of an idle cluster by ready_timeout.
    brief = replace(spec, idle_timeout=15, ready_timeout=60)
    with dag("kubernetes_brief"), dask_cluster("etl", brief, deferrable=True) as cluster:
        DaskJobOperator(task_id="run", cluster=cluster, deferrable=True, **JOB)
