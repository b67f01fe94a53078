"""A job that defers at once and does not end by itself, by the operator of either side."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG

NAMESPACE = os.environ["BENCHMARK_NAMESPACE"]
COMMAND = ["sleep", "infinity"]


def defer_at_once(context: Any) -> None:
    """Runs in the task's own process, just before the operator."""
    os.environ["AIRFLOW__DASK__SYNC_SECONDS"] = "0"


with DAG("waits", schedule=None):
    if os.environ["BENCHMARK_SIDE"] == "ours":
        from dask_provider.operators import KubernetesJobOperator

        KubernetesJobOperator(
            task_id="job",
            conn_id="ours",
            namespace=NAMESPACE,
            image="localhost/none:1",
            cmd=COMMAND,
            deferrable=True,
            pre_execute=defer_at_once,
        )
    else:
        from airflow.providers.cncf.kubernetes.operators import job as peers

        peers.KubernetesJobOperator(
            task_id="job",
            kubernetes_conn_id="peers",
            namespace=NAMESPACE,
            name="waits",
            image="localhost/none:1",
            cmds=COMMAND,
            wait_until_job_complete=True,
            job_poll_interval=float(os.environ["BENCHMARK_POLL"]),
            deferrable=True,
        )
