"""One job for each file with `for_each_file`, in three ways of waiting."""

from __future__ import annotations

import json
import os
from typing import Any

from airflow.sdk import DAG
from dask_provider.task_groups import for_each_file

FIELDS = json.loads(os.environ["BENCHMARK_FIELDS"])
PROGRAM = json.loads(os.environ["BENCHMARK_PROGRAM"])
PARALLELISM = int(os.environ["BENCHMARK_PARALLELISM"])


def defer_at_once(context: Any) -> None:
    """Runs in the task's own process, just before the operator."""
    os.environ["AIRFLOW__DASK__SYNC_SECONDS"] = "0"


for mode, deferrable in (("running", False), ("deferrable", True), ("deferred", True)):
    hooks = {"pre_execute": defer_at_once} if mode == "deferred" else {}
    with DAG(f"ours-{mode}", schedule=None, params={"lake": ""}, default_args=hooks):
        for_each_file(
            "files",
            inputs="{{ params.lake }}/in/*.txt",
            output="{{ params.lake }}/out/{stem}.txt",
            cmd=[*PROGRAM, "{input}", "{output}"],
            parallelism=PARALLELISM,
            conn_id=f"ours_{mode}",
            deferrable=deferrable,
            **FIELDS,
        )
