"""One job per file, in two modes of waiting, and with Dask. Where the jobs run is told by the environment."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

from dask_provider._compat import counts_deferred
from dask_provider.clusters import LocalCluster
from dask_provider.operators import DaskJobOperator
from dask_provider.task_groups import dask_cluster, for_each_file

PROGRAM = Path(__file__).resolve().parent.parent / "jobs" / "per_file.py"
FILES: dict[str, Any] = {"inputs": "{{ params.lake }}/in/*.csv", "output": "{{ params.lake }}/out/{stem}.txt"}
ARGUMENTS = ["{input}", "{output}", "{{ params.lake }}/witness"]


def dag(name: str) -> DAG:
    return DAG(name, schedule=None, start_date=datetime(2024, 1, 1), params={"lake": "/tmp"})


# Airflow 2.11 does not count deferred tasks, so there the second one is refused.
for mode, deferrable in (("running", False), ("deferred", True))[: 2 if counts_deferred() else 1]:
    with dag(f"per_file_{mode}"):
        for_each_file(
            "etl",
            **FILES,
            cmd=["python3", "-c", PROGRAM.read_text(), *ARGUMENTS],
            parallelism=2,
            deferrable=deferrable,
            **json.loads(os.environ.get("PER_FILE_FIELDS", '{"image": "none"}')),
        )

with dag("per_file_dask"), dask_cluster("etl", LocalCluster(workers=1, idle_timeout=40)) as cluster:
    job: dict[str, Any] = {"cluster": cluster, "script": str(PROGRAM), "arguments": ARGUMENTS, "deferrable": False}
    for_each_file("files", **FILES, operator=DaskJobOperator, parallelism=2, **job)
