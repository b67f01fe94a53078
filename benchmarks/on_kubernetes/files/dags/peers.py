"""One job for each file with a mapped KubernetesJobOperator of the cncf.kubernetes provider."""

from __future__ import annotations

import json
import os
from pathlib import Path

from airflow.providers.cncf.kubernetes.operators.job import KubernetesJobOperator
from airflow.sdk import DAG, task
from kubernetes.client import models as k8s  # type: ignore[import-not-found]

FIELDS = json.loads(os.environ["BENCHMARK_FIELDS"])
PROGRAM = json.loads(os.environ["BENCHMARK_PROGRAM"])
SHARED = os.environ["BENCHMARK_SHARED"]
POLL = float(os.environ["BENCHMARK_POLL"])

for mode, deferrable in (("running", False), ("deferrable", True)):
    with DAG(f"peers-{mode}", schedule=None, params={"lake": ""}):

        @task
        def find(lake: str) -> list[list[str]]:
            """The files whose output is missing."""
            out = Path(lake) / "out"
            out.mkdir(exist_ok=True)
            inputs = sorted((Path(lake) / "in").glob("*.txt"))
            return [[str(path), str(out / path.name)] for path in inputs if not (out / path.name).exists()]

        KubernetesJobOperator.partial(
            task_id="run",
            kubernetes_conn_id=f"peers_{mode}",
            namespace=FIELDS["namespace"],
            name="one-file",
            image=FIELDS["image"],
            image_pull_policy=FIELDS["image_pull_policy"],
            cmds=PROGRAM,
            container_resources=k8s.V1ResourceRequirements(**FIELDS["job_resources"]),
            volumes=[k8s.V1Volume(name="shared", host_path=k8s.V1HostPathVolumeSource(SHARED, "Directory"))],
            volume_mounts=[k8s.V1VolumeMount(name="shared", mount_path=SHARED)],
            backoff_limit=0,
            wait_until_job_complete=True,
            job_poll_interval=POLL,
            deferrable=deferrable,
            max_active_tis_per_dagrun=int(os.environ["BENCHMARK_PARALLELISM"]),
        ).expand(arguments=find("{{ params.lake }}"))
