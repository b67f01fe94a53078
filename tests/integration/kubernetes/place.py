"""A namespace of a real Kubernetes as a place of clusters, and what is left in it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from dask_provider.clusters import KubernetesCluster
from dask_provider.hooks.kubernetes.rights import role_rules

from tests.integration.place import Place
from tests.servers.kubernetes import DASK_IMAGE, KubernetesServer

#: what the API server itself puts into every namespace
_ITS_OWN = {"kube-root-ca.crt"}
KINDS = "daskclusters,daskworkergroups,daskautoscalers,jobs,deployments,services,pods,configmaps,secrets"


class Namespace(Place):
    """A namespace in which Airflow has exactly the rights that are published.

    :ivar shared: folder of this machine that pods see under the same path.
    """

    def __init__(self, server: KubernetesServer, name: str, shared: Path) -> None:
        super().__init__(f"file://{shared}/staging/")
        self.server, self.name, self.shared = server, name, shared

    def spec(self, **fields: Any) -> KubernetesCluster:
        """A small and quick cluster, of which job, scheduler and workers share a folder with this machine."""
        volume = {"name": "shared", "hostPath": {"path": str(self.shared), "type": "Directory"}}
        small: dict[str, Any] = {"cpu": "50m", "memory": "200Mi"}
        defaults: dict[str, Any] = {
            "conn_id": "kubernetes_tests",
            "image": DASK_IMAGE,
            "image_pull_policy": "IfNotPresent",
            "workers": 1,
            "worker_resources": {"requests": small, "limits": {"memory": "600Mi"}},
            "scheduler_resources": {"requests": small, "limits": {"memory": "600Mi"}},
            "job_resources": {"requests": small, "limits": {"memory": "600Mi"}},
            "volumes": [volume],
            "volume_mounts": [{"name": "shared", "mountPath": str(self.shared)}],
            "ready_timeout": 120,
        }
        return KubernetesCluster(**{**defaults, **fields})

    def objects(self) -> dict[str, dict[str, Any]]:
        """All that is in the namespace, by ``Kind/name``."""
        items = self.server.get(KINDS, "-n", self.name)["items"]
        found = {f"{item['kind']}/{item['metadata']['name']}": item for item in items}
        return {key: item for key, item in found.items() if item["metadata"]["name"] not in _ITS_OWN}

    def pods(self, selector: str = "") -> list[dict[str, Any]]:
        """Pods, with a label selector."""
        found: list[dict[str, Any]] = self.server.get("pods", "-n", self.name, "-l", selector)["items"]
        return found

    def evict(self, pod: dict[str, Any]) -> None:
        """As the drain of a node does."""
        metadata = {"name": pod["metadata"]["name"], "namespace": self.name}
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
        path = f"/api/v1/namespaces/{self.name}/pods/{metadata['name']}/eviction"
        self.server.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction))

    async def assert_nothing_left(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while left := sorted(self.objects()):
            assert time.monotonic() < deadline, f"left after {seconds} s: {left}"
            await asyncio.sleep(0.2)


@asynccontextmanager
async def airflow_in(server: KubernetesServer, name: str, shared: Path) -> AsyncIterator[Namespace]:
    """This process with an Airflow connection to the namespace; at the end nothing may be left there."""
    kubeconfig = server.service_account(name, "airflow", role_rules())
    extra = {"kube_config_path": str(kubeconfig), "namespace": name}
    connection = json.dumps({"conn_type": "kubernetes", "extra": extra})
    place = Namespace(server, name, shared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_KUBERNETES_TESTS", connection)
        patch.setenv("AIRFLOW__DASK__STAGING", place.staging)
        yield place
        await place.assert_nothing_left()
