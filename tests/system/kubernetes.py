"""One Airflow for all tests of DAGs on a real Kubernetes.

It has a namespace with the rights of deploy/kubernetes, and one where it may make nothing but plain jobs.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dask_provider.hooks.kubernetes.rights import PLAIN, role_rules

from dev.airflow_server import AirflowServer
from tests.integration.kubernetes.deployed import HOST_PATHS, deploy
from tests.integration.kubernetes.place import Namespace
from tests.servers.airflow import CHECKOUT, running_airflow
from tests.servers.kubernetes import DASK_IMAGE, KubernetesServer
from tests.system.calm import scenarios

SMALL = {"requests": {"cpu": "50m", "memory": "200Mi"}, "limits": {"cpu": 2, "memory": "600Mi"}}
SMALLEST = {"requests": {"cpu": "50m", "memory": "30Mi"}, "limits": {"memory": "400Mi"}}


@dataclass
class Airflow:
    """An Airflow that has the namespaces."""

    server: AirflowServer
    place: Namespace
    plain: Namespace
    """Where it may make nothing but plain jobs."""
    results: Path

    def begin(self, dag_id: str, **params: Any) -> str:
        """The id of a new run."""
        self.server.client.wait_for_dag(dag_id)
        common = {"namespace": self.place.name, "image": DASK_IMAGE, "results": str(self.results)}
        return self.server.client.trigger(dag_id, {**common, **params})

    def end(self, dag_id: str, run_id: str) -> Path:
        """Wait for a run, in which all must succeed; returns the folder of its result."""
        client = self.server.client
        state = client.wait_for_run(dag_id, run_id, timeout=480)
        tasks = client.task_instances(dag_id, run_id)
        failed = [task for task in tasks if task.state != "success"]
        logs = [client.task_log(dag_id, run_id, task.task_id, map_index=task.map_index)[-2000:] for task in failed]
        assert (state, failed) == ("success", []), "\n".join(logs)
        return self.results / run_id.replace(":", "-").replace("+", "-")


@pytest.fixture(scope="session")
def kubernetes_airflow(
    kubernetes: KubernetesServer, tmp_path_factory: pytest.TempPathFactory, flights: Path
) -> Iterator[Airflow]:
    for major in (3, 2):
        scenarios.wait_all(major)  # several busy Airflows at once are more than two cores can bear
    with kubernetes.namespace("dags") as namespace, kubernetes.namespace("files") as plain:
        place = Namespace(kubernetes, namespace, tmp_path_factory.mktemp("shared"))
        files = Namespace(kubernetes, plain, tmp_path_factory.mktemp("files"))
        overlay = tmp_path_factory.mktemp("overlay")
        kubeconfig = deploy(kubernetes, namespace, overlay, [HOST_PATHS])["airflow"]
        env = {
            **_of_clusters(place, kubeconfig, flights),
            **_of_files(files, kubernetes.service_account(plain, "airflow", role_rules(PLAIN))),
        }
        config = {"AIRFLOW__DASK__STAGING": f"file://{place.shared}/staging"}
        with running_airflow(
            tmp_path_factory, flights, "airflow-kubernetes", Path(sys.executable), config, env
        ) as server:
            yield Airflow(server, place, files, tmp_path_factory.mktemp("results"))
        kubernetes.kubectl("delete", "jobs", "--all", "-n", plain)  # a plain one is kept for its log
        for each in (place, files):
            asyncio.run(each.assert_nothing_left())


def _of_clusters(place: Namespace, kubeconfig: Path, flights: Path) -> dict[str, str]:
    """Environment of the DAGs that make clusters."""
    fields = {
        "service_account": "dask-jobs",
        "worker_resources": SMALL,
        "scheduler_resources": SMALL,
        "job_resources": SMALL,
        **_mounted(shared=place.shared, input=flights / "input"),
    }
    common = {"conn_id": "kubernetes_default", "namespace": place.name, "image": DASK_IMAGE, "workers": 1}
    return {
        "KUBERNETES_EVENTS_CLUSTER": json.dumps({**common, **fields}),
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": _connection(kubeconfig),
        "DASK_KUBERNETES_FIELDS": json.dumps(fields),
    }


def _of_files(place: Namespace, kubeconfig: Path) -> dict[str, str]:
    """Environment of the DAGs with one job per file."""
    code = CHECKOUT / "jobs"
    fields = {
        "image": DASK_IMAGE,
        "conn_id": "kubernetes_plain",
        "namespace": place.name,
        "job_resources": SMALLEST,
        **_mounted(shared=place.shared, code=code),
    }
    return {
        "AIRFLOW_CONN_KUBERNETES_PLAIN": _connection(kubeconfig),
        "PER_FILE_FIELDS": json.dumps(fields),
        "PREPROCESS_FIELDS": json.dumps({**fields, "env": {"PYTHONPATH": str(code)}, "retries": 0}),
    }


def _connection(kubeconfig: Path) -> str:
    return json.dumps({"conn_type": "kubernetes", "extra": {"kube_config_path": str(kubeconfig)}})


def _mounted(**folders: Path) -> dict[str, Any]:
    """Fields that show a pod these folders of this machine, at the same paths."""
    return {
        "volumes": [{"name": name, "hostPath": {"path": str(path)}} for name, path in folders.items()],
        "volume_mounts": [{"name": name, "mountPath": str(path)} for name, path in folders.items()],
    }
