"""The chain in its modes, and Airflow's own floor: four tasks in a row that do nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, chain, task
from dask_provider.clusters import LocalCluster
from dask_provider.operators import (
    DaskCreateClusterOperator,
    DaskDeleteClusterOperator,
    DaskJobOperator,
    DaskStoreResultsOperator,
)

SCRIPT = Path(__file__).resolve().parent.parent / "job.py"
WORKERS = int(os.environ.get("BENCHMARK_WORKERS", "2"))
CLUSTER = LocalCluster(workers=WORKERS, min_ready_workers=WORKERS, threads=1)


def defer_at_once(context: Any) -> None:
    """Runs in the task's own process, just before the operator."""
    os.environ["AIRFLOW__DASK__SYNC_SECONDS"] = "0"


with DAG("floor", schedule=None):

    @task
    def nothing() -> None:
        pass

    chain(*(nothing.override(task_id=step)() for step in ("create", "job", "store", "delete")))

MODES: dict[str, dict[str, Any]] = {
    "running": {"deferrable": False},
    "deferrable": {"deferrable": True},
    "deferred": {"deferrable": True, "pre_execute": defer_at_once},
}
for mode, fields in MODES.items():
    with DAG(mode, schedule=None, params={"results": ""}):
        create = DaskCreateClusterOperator(task_id="create", cluster=CLUSTER, **fields)
        job = DaskJobOperator(task_id="job", cluster=create.output, script=str(SCRIPT), **fields)
        store = DaskStoreResultsOperator(
            task_id="store", source=job.output, destination="{{ params.results }}/{{ run_id }}/"
        )
        delete = DaskDeleteClusterOperator(task_id="delete", cluster=create.output)
        chain(create, job, store, delete)
