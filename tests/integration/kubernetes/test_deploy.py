"""deploy/kubernetes on a real API server: it is taken as it is, and grants what is needed and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dask_provider.clusters import KubernetesCluster
from dask_provider.errors import ClusterFailed
from dask_provider.hooks import hook_of
from dask_provider.hooks.kubernetes.rights import role_rules

from tests.integration.kubernetes.deployed import deploy
from tests.integration.kubernetes.place import Namespace
from tests.integration.place import FIRST
from tests.servers.kubernetes import DASK_IMAGE, KubernetesServer

#: what every account may ask about itself
SELF = {"selfsubjectaccessreviews", "selfsubjectreviews", "selfsubjectrulesreviews"}
SMALL = {"requests": {"cpu": "50m", "memory": "200Mi"}, "limits": {"cpu": 1, "memory": "600Mi"}}


def granted(server: KubernetesServer, namespace: str, account: str) -> set[tuple[str, str, str]]:
    """All (API group, resource, verb) that the API server grants an account in its namespace."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    acting = ["--as", f"system:serviceaccount:{namespace}:{account}", "--validate=false", "-f", "-", "-o", "json"]
    answer = json.loads(server.kubectl("create", *acting, input=json.dumps(review)))
    rules = answer["status"]["resourceRules"]
    assert not any(rule.get("resourceNames") for rule in rules)
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if resource not in SELF
    }


async def test_rights_are_those_that_are_needed_and_no_other(
    kubernetes: KubernetesServer, namespace: str, tmp_path: Path
) -> None:
    deploy(kubernetes, namespace, tmp_path)
    needed = {(rule["apiGroups"][0], rule["resources"][0], verb) for rule in role_rules() for verb in rule["verbs"]}
    assert granted(kubernetes, namespace, "airflow") == needed
    assert granted(kubernetes, namespace, "dask-jobs") == set()
    assert granted(kubernetes, namespace, "default") == set()
    airflow = f"--as=system:serviceaccount:{namespace}:airflow"
    for question in (("list", "pods", "-n", "default"), ("list", "pods", "-A"), ("list", "nodes")):
        assert kubernetes.kubectl("auth", "can-i", *question, airflow, check=False).strip() == "no", question


async def test_a_cluster_lives_under_quota_limits_policy_and_the_baseline_standard(
    kubernetes: KubernetesServer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = deploy(kubernetes, namespace, tmp_path)["airflow"]
    # Airflow's own side gives no namespace: the kubeconfig names it.
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(kubeconfig)}}
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEPLOYED", json.dumps(connection))
    monkeypatch.setenv("AIRFLOW__DASK__STAGING", "file:///tmp/staging/")
    place = Namespace(kubernetes, namespace, tmp_path)
    fields: dict[str, Any] = {
        "conn_id": "kubernetes_deployed",
        "image": DASK_IMAGE,
        "service_account": "dask-jobs",
        "workers": 1,
        "worker_resources": SMALL,
        "scheduler_resources": SMALL,
        "job_resources": SMALL,
        "tls": True,
    }
    handle = await place.ready(KubernetesCluster(**fields))
    told = await place.run(handle, "print('sum', sum(range(10)))")
    assert told.outcome.succeeded, told.outcome
    pods = place.pods()
    (policy,) = kubernetes.get("networkpolicies", "-n", namespace)["items"]
    inside = set(policy["spec"]["podSelector"]["matchLabels"].items())
    assert len(pods) == 4  # lease, scheduler, worker, job
    assert all(inside <= set(pod["metadata"]["labels"].items()) for pod in pods), "all are reached by the policy"
    (quota,) = kubernetes.get("resourcequotas", "-n", namespace)["items"]
    assert {"requests.cpu", "limits.memory", "pods"} <= set(quota["status"]["used"])
    await place.delete(handle)

    shared = {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}
    mounted = {"volume_mounts": [{"name": "host", "mountPath": "/host"}]}
    refused = await hook_of("kubernetes").create(
        KubernetesCluster(**fields, **shared, **mounted), place.owner("host"), FIRST
    )
    with pytest.raises(ClusterFailed, match="violates PodSecurity"):
        await place.wait_ready(hook_of("kubernetes"), refused)
    await place.delete(refused)
    await place.assert_nothing_left()
