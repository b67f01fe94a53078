"""Objects that tests of the cluster itself create, without the provider."""

from __future__ import annotations

from typing import Any

from tests.servers.kubernetes import DASK_IMAGE

COMPUTE = """
import sys
from distributed import Client
with Client(timeout="60s") as client:
    client.wait_for_workers(int(sys.argv[1]), timeout=60)
    print("sum", sum(client.gather(client.map(sum, [range(n, n + 1000) for n in range(0, 10**6, 1000)]))), end=" ")
    print("on", len(client.scheduler_info(n_workers=-1)["workers"]), "workers")
"""


def dask_cluster(name: str, namespace: str, workers: int) -> dict[str, Any]:
    """A DaskCluster whose pods are ready and gone as fast as they can."""
    scheduler = {
        "name": "scheduler",
        "image": DASK_IMAGE,
        "args": ["dask", "scheduler"],
        "ports": [{"name": "tcp-comm", "containerPort": 8786}, {"name": "http-dashboard", "containerPort": 8787}],
        # Not the port that clients speak to: its log would fill with broken handshakes.
        "readinessProbe": {"httpGet": {"port": "http-dashboard", "path": "/health"}, "periodSeconds": 1},
    }
    worker_args = ["dask", "worker", "--name", "$(DASK_WORKER_NAME)", "--nthreads", "1", "--no-dashboard"]
    worker = {"name": "worker", "image": DASK_IMAGE, "args": worker_args}
    selector = {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    ports = [
        {"name": "tcp-comm", "port": 8786, "targetPort": "tcp-comm"},
        {"name": "http-dashboard", "port": 8787, "targetPort": "http-dashboard"},
    ]
    service = {"type": "ClusterIP", "selector": selector, "ports": ports}
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "scheduler": {"spec": _pod(scheduler), "service": service},
            "worker": {"replicas": workers, "spec": _pod(worker)},
        },
    }


def compute_job(cluster: str, namespace: str, workers: int) -> dict[str, Any]:
    """A Job named as the cluster that adds numbers on it."""
    made = job(cluster, namespace, ["python", "-c", COMPUTE, str(workers)])
    address = f"tcp://{cluster}-scheduler.{namespace}.svc.cluster.local:8786"
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "DASK_SCHEDULER_ADDRESS", "value": address}]
    return made


def job(name: str, namespace: str, command: list[str]) -> dict[str, Any]:
    """A Job that tries once."""
    container = {"name": "main", "image": DASK_IMAGE, "command": command}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"backoffLimit": 0, "template": {"spec": {**_pod(container), "restartPolicy": "Never"}}},
    }


def _pod(container: dict[str, Any]) -> dict[str, Any]:
    return {"terminationGracePeriodSeconds": 2, "containers": [{**container, "imagePullPolicy": "IfNotPresent"}]}
