"""Autoscaling policies, from their making to their end, as steps of a DAG make and end them."""

from __future__ import annotations

from typing import Any

import pytest
from dask_provider.clusters.dataproc_policies import AutoscalingPolicy
from dask_provider.errors import ClusterFailed
from dask_provider.operators import DaskDeleteAutoscalingPolicyOperator, DaskSetAutoscalingPolicyOperator

from tests.servers.dataproc.clients import wait_for
from tests.servers.dataproc.server import DataprocServer

pytest_plugins = ["tests.servers.gcs", "tests.servers.dataproc.fixtures"]

WHERE = {"policy_id": "etl", "region": "europe-west1"}
REST = "/v1/projects/dask-tests/regions/europe-west1"


def set_policy(**fields: Any) -> str:
    policy = AutoscalingPolicy(**WHERE, **fields)
    return str(DaskSetAutoscalingPolicyOperator(task_id="set", policy=policy, conn_id="google_tests").work())


def delete_policy() -> None:
    DaskDeleteAutoscalingPolicyOperator(task_id="delete", conn_id="google_tests", **WHERE).work()


def test_made_changed_in_use_and_gone(empty_dataproc: DataprocServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server = empty_dataproc
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_TESTS", server.connection())

    def shown() -> Any:
        return server.request("GET", f"{REST}/autoscalingPolicies/etl")[1]

    name = set_policy(workers=(2, 4))
    assert shown()["workerConfig"]["maxInstances"] == 4
    assert set_policy(secondary_workers=(0, 20), cooldown="10 min", scale_down=0.5) == name
    found = shown()
    assert found["workerConfig"]["maxInstances"] == 2  # what is not said any more has its default
    assert found["secondaryWorkerConfig"]["maxInstances"] == 20
    assert found["basicAlgorithm"]["cooldownPeriod"] == "600s"
    assert found["basicAlgorithm"]["yarnConfig"]["scaleDownFactor"] == 0.5

    config = {"autoscalingConfig": {"policyUri": name}}
    status, answer = server.request("POST", f"{REST}/clusters", {"clusterName": "etl", "config": config})
    assert status == 200, answer
    with pytest.raises(ClusterFailed, match=r"autoscaling policy etl: .* in use by cluster .*FAILED_PRECONDITION"):
        delete_policy()
    wait_for(lambda: server.request("GET", f"{REST}/clusters/etl")[1]["status"]["state"] == "RUNNING")
    server.request("DELETE", f"{REST}/clusters/etl")
    wait_for(lambda: server.request("GET", f"{REST}/clusters/etl")[0] == 404)
    delete_policy()
    assert server.request("GET", f"{REST}/autoscalingPolicies/etl")[0] == 404
    delete_policy()  # again
