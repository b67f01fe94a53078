"""Our side of the chain: waiting in the worker, as `deferrable=True` comes, and with every wait in the triggerer.

`asking`: the delete step asks for the deletion and does not wait for it, as that of the peers.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from airflow.sdk import DAG
from dask_provider.clusters import KubernetesCluster
from dask_provider.operators import DaskJobOperator, DaskStoreResultsOperator
from dask_provider.task_groups import dask_cluster

FIELDS = json.loads(os.environ["BENCHMARK_FIELDS"])
SCRIPT = Path(os.environ["BENCHMARK_SHARED"]) / "job.py"


def defer_at_once(context: Any) -> None:
    """Runs in the task's own process, just before the operator."""
    os.environ["AIRFLOW__DASK__SYNC_SECONDS"] = "0"


ASK: dict[str, Any] = {"wait": 0}
MODES: dict[str, tuple[bool, dict[str, Any]]] = {
    "running": (False, {}),
    "deferrable": (True, {}),
    "deferred": (True, {"pre_execute": defer_at_once}),
    "asking-running": (False, ASK),
    "asking-deferrable": (True, ASK),
}

for mode, (deferrable, common) in MODES.items():
    with DAG(f"ours-{mode}", schedule=None, params={"name": "", "results": ""}, default_args=common):
        spec = KubernetesCluster(conn_id=f"ours_{mode}".replace("-", "_"), **FIELDS)
        with dask_cluster("etl", spec, deferrable=deferrable) as cluster:
            run = DaskJobOperator(task_id="job", cluster=cluster, script=str(SCRIPT), deferrable=deferrable)
        DaskStoreResultsOperator(task_id="store", source=run.output, destination="{{ params.results }}")
