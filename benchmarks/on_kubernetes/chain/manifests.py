"""The same DaskCluster and the same job for all sides. Pure."""

from __future__ import annotations

import json
from typing import Any

from dask_provider.clusters import KubernetesCluster
from dask_provider.hooks.kubernetes.manifests import dask_cluster
from dask_provider.owner import Owner

WORKERS = 2
#: stands for the name of cluster and job
NAME = "@NAME@"
_OWNER = Owner("benchmark", "chain", "run", "cluster")
_RESOURCES = {"requests": {"cpu": "50m", "memory": "200Mi"}, "limits": {"memory": "600Mi"}}


def fields(namespace: str, shared: str, image: str) -> dict[str, Any]:
    """What our side asks for: fields of KubernetesCluster.

    :param shared: folder of this machine that all pods see.
    """
    return {
        "namespace": namespace,
        "image": image,
        "image_pull_policy": "IfNotPresent",
        "workers": WORKERS,
        "min_ready_workers": WORKERS,
        **dict.fromkeys(("worker_resources", "scheduler_resources", "job_resources"), _RESOURCES),
        "volumes": [{"name": "shared", "hostPath": {"path": shared, "type": "Directory"}}],
        "volume_mounts": [{"name": "shared", "mountPath": shared}],
    }


def cluster(asked: dict[str, Any]) -> str:
    """The DaskCluster that our side makes of it, as a manifest for the others."""
    made = dask_cluster(KubernetesCluster(**asked), _OWNER, namespace=asked["namespace"])
    made["metadata"] = {"name": _OWNER.name, "namespace": asked["namespace"]}
    return json.dumps(made).replace(_OWNER.name, NAME)


def job(asked: dict[str, Any], results: str) -> str:
    """A Job with the program that the others run, too.

    :param results: folder where it leaves its result.
    """
    env = {
        "DASK_SCHEDULER_ADDRESS": f"tcp://{NAME}-scheduler.{asked['namespace']}.svc:8786",
        "DASK_JOB_RESULTS": f"file://{results}/",
    }
    container = {
        "name": "job",
        "image": asked["image"],
        "imagePullPolicy": asked["image_pull_policy"],
        "command": ["python3", f"{asked['volume_mounts'][0]['mountPath']}/job.py"],
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "resources": asked["job_resources"],
        "volumeMounts": asked["volume_mounts"],
    }
    pod = {"restartPolicy": "Never", "containers": [container], "volumes": asked["volumes"]}
    made = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": NAME, "namespace": asked["namespace"]},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }
    return json.dumps(made)
