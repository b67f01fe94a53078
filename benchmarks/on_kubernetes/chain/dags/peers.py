"""The peers' chain: the operators of the cncf.kubernetes provider, and a sensor for the pods of the cluster.

No store step: the job writes to where the result belongs. As a good DAG has it, the deletion is a teardown.
"""

from __future__ import annotations

import json
import os
from typing import Any

from airflow.providers.cncf.kubernetes.operators.job import KubernetesJobOperator
from airflow.providers.cncf.kubernetes.operators.resource import (
    KubernetesCreateResourceOperator,
    KubernetesDeleteResourceOperator,
)
from airflow.sdk import DAG, chain, task
from kubernetes.client import models as k8s  # type: ignore[import-not-found]

FIELDS = json.loads(os.environ["BENCHMARK_FIELDS"])
NAMESPACE = os.environ["BENCHMARK_NAMESPACE"]
SHARED = os.environ["BENCHMARK_SHARED"]
POLL = float(os.environ["BENCHMARK_POLL"])
NAME = "{{ params.name }}"
CLUSTER = os.environ["BENCHMARK_CLUSTER"].replace("@NAME@", NAME)


def all_ready(conn_id: str, name: str) -> bool:
    """Whether scheduler and workers are."""
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

    api = KubernetesHook(conn_id=conn_id).core_v1_client
    pods = api.list_namespaced_pod(NAMESPACE, label_selector=f"dask.org/cluster-name={name}").items
    ready = [pod for pod in pods if any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ())]
    return bool(len(ready) == FIELDS["workers"] + 1)


for mode, deferrable in (("running", False), ("deferrable", True)):
    conn_id = f"peers_{mode}"
    with DAG(f"peers-{mode}", schedule=None, params={"name": "", "results": ""}):
        resource: dict[str, Any] = {
            "yaml_conf": CLUSTER,
            "custom_resource_definition": True,
            "namespace": NAMESPACE,
            "kubernetes_conn_id": conn_id,
        }
        create = KubernetesCreateResourceOperator(task_id="create", **resource)

        @task.sensor(  # type: ignore[untyped-decorator]
            task_id="ready", poke_interval=5, timeout=300, mode="reschedule" if deferrable else "poke"
        )
        def ready(conn_id: str, name: str) -> bool:
            return all_ready(conn_id, name)

        job = KubernetesJobOperator(
            task_id="job",
            kubernetes_conn_id=conn_id,
            namespace=NAMESPACE,
            name=f"{NAME}-job",
            image=FIELDS["image"],
            image_pull_policy=FIELDS["image_pull_policy"],
            cmds=["python3", f"{SHARED}/job.py"],
            env_vars={
                "DASK_SCHEDULER_ADDRESS": f"tcp://{NAME}-scheduler.{NAMESPACE}.svc:8786",
                "DASK_JOB_RESULTS": "file://{{ params.results }}/",
            },
            container_resources=k8s.V1ResourceRequirements(**FIELDS["job_resources"]),
            volumes=[k8s.V1Volume(name="shared", host_path=k8s.V1HostPathVolumeSource(SHARED, "Directory"))],
            volume_mounts=[k8s.V1VolumeMount(name="shared", mount_path=SHARED)],
            backoff_limit=0,
            wait_until_job_complete=True,
            job_poll_interval=POLL,
            deferrable=deferrable,
        )
        delete = KubernetesDeleteResourceOperator(task_id="delete", **resource)
        chain(create, ready(conn_id, NAME), job, delete.as_teardown(setups=create))
