"""One Airflow for all tests of DAGs on a real Kubernetes: it has a namespace with the rights of deploy/kubernetes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dev.airflow_server import AirflowServer
from tests.integration.kubernetes.deployed import HOST_PATHS, deploy
from tests.integration.kubernetes.place import Namespace
from tests.servers.airflow import running_airflow
from tests.servers.kubernetes import DASK_IMAGE, KubernetesServer
from tests.system.calm import scenarios

SMALL = {"requests": {"cpu": "50m", "memory": "200Mi"}, "limits": {"cpu": 2, "memory": "600Mi"}}


@dataclass
class Airflow:
    """An Airflow that has the namespace."""

    server: AirflowServer
    place: Namespace
    results: Path

    async def run(self, dag_id: str, **params: Any) -> Path:
        """Run a DAG to its end and look that nothing is left; returns the folder of its result."""
        client = self.server.client
        client.wait_for_dag(dag_id)
        common = {"namespace": self.place.name, "image": DASK_IMAGE, "results": str(self.results)}
        run_id = client.trigger(dag_id, {**common, **params})
        state = client.wait_for_run(dag_id, run_id, timeout=480)
        tasks = client.task_instances(dag_id, run_id)
        failed = [task for task in tasks if task.state != "success"]
        logs = [client.task_log(dag_id, run_id, task.task_id, map_index=task.map_index)[-2000:] for task in failed]
        assert (state, failed) == ("success", []), "\n".join(logs)
        await self.place.assert_nothing_left()
        return self.results / run_id.replace(":", "-").replace("+", "-")


@pytest.fixture(scope="session")
def kubernetes_airflow(
    kubernetes: KubernetesServer, tmp_path_factory: pytest.TempPathFactory, flights: Path
) -> Iterator[Airflow]:
    for major in (3, 2):
        scenarios.wait_all(major)  # several busy Airflows at once are more than two cores can bear
    shared = tmp_path_factory.mktemp("shared")
    with kubernetes.namespace("dags") as namespace:
        kubeconfig = deploy(kubernetes, namespace, tmp_path_factory.mktemp("overlay"), [HOST_PATHS])["airflow"]
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(kubeconfig)}}
        folders = {"shared": shared, "input": flights / "input"}
        fields = {
            "service_account": "dask-jobs",
            "worker_resources": SMALL,
            "scheduler_resources": SMALL,
            "job_resources": SMALL,
            "volumes": [{"name": name, "hostPath": {"path": str(path)}} for name, path in folders.items()],
            "volume_mounts": [{"name": name, "mountPath": str(path)} for name, path in folders.items()],
        }
        common = {"conn_id": "kubernetes_default", "namespace": namespace, "image": DASK_IMAGE, "workers": 1}
        env = {
            "KUBERNETES_EVENTS_CLUSTER": json.dumps({**common, **fields}),
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
            "DASK_KUBERNETES_FIELDS": json.dumps(fields),
        }
        config = {"AIRFLOW__DASK__STAGING": f"file://{shared}/staging"}
        with running_airflow(
            tmp_path_factory, flights, "airflow-kubernetes", Path(sys.executable), config, env
        ) as server:
            yield Airflow(server, Namespace(kubernetes, namespace, shared), tmp_path_factory.mktemp("results"))
