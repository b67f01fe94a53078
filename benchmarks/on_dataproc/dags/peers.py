"""The peers' chain: the three operators of the google provider, with what they poll by as they come.

No store step: the job writes to where the result belongs. As a good DAG has it, the deletion is a teardown.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.providers.google.cloud.operators.dataproc import (
    DataprocCreateClusterOperator,
    DataprocDeleteClusterOperator,
    DataprocSubmitJobOperator,
)
from airflow.sdk import DAG, chain

NAME = "{{ params.name }}"
MACHINES = {"machine_type_uri": "n2-standard-4"}
CONFIG = {
    "config_bucket": os.environ["BENCHMARK_BUCKET"],
    "master_config": {"num_instances": 1, **MACHINES},
    "worker_config": {"num_instances": 2, **MACHINES},
    "lifecycle_config": {"idle_delete_ttl": {"seconds": 600}, "auto_delete_ttl": {"seconds": 86400}},
}
JOB = {
    "placement": {"cluster_name": NAME},
    "pyspark_job": {
        "main_python_file_uri": os.environ["BENCHMARK_STAGED_JOB"],
        "args": ["{{ params.seconds }}", "gs://{{ params.results }}/"],
    },
}

for mode, deferrable in (("running", False), ("deferrable", True)):
    with DAG(f"peers-{mode}", schedule=None, params={"name": "", "results": "", "seconds": ""}):
        common: dict[str, Any] = {
            "project_id": os.environ["BENCHMARK_PROJECT"],
            "region": os.environ["BENCHMARK_REGION"],
            "gcp_conn_id": "google",
            "deferrable": deferrable,
        }
        create = DataprocCreateClusterOperator(task_id="create", cluster_name=NAME, cluster_config=CONFIG, **common)
        job = DataprocSubmitJobOperator(task_id="job", job=JOB, **common)
        delete = DataprocDeleteClusterOperator(task_id="delete", cluster_name=NAME, **common)
        chain(create, job, delete.as_teardown(setups=create))
