"""What a cluster needs of the quotas of its namespace."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from dask_provider.clusters import KubernetesCluster
from dask_provider.errors import InvalidInput
from dask_provider.hooks.kubernetes import manifests, quota
from dask_provider.owner import PLANNED, Owner

OWNER = Owner("prod", "flights", "run-1", "etl")
#: 1 CPU and 2 GiB each, scheduler and job as well; the lease: 5 thousandths, 32 MiB, at most 64 MiB
SPEC: dict[str, Any] = {"image": "dask:1", "workers": 2}


def checked(quotas: list[dict[str, Any]], **fields: Any) -> list[str]:
    spec = KubernetesCluster(**{**SPEC, **fields})
    cluster = manifests.dask_cluster(spec, OWNER, namespace="dask")
    lease = manifests.lease(spec, OWNER, PLANNED, cluster, script="")
    return quota.check(quotas, lease, cluster, manifests.worker_groups(spec, OWNER, namespace="dask"))


def made(used: dict[str, str] | None = None, spec: dict[str, Any] | None = None, **hard: str) -> dict[str, Any]:
    named = {name.replace("_", "."): amount for name, amount in hard.items()}
    return {
        "metadata": {"name": "team"},
        "spec": {"hard": named, **(spec or {})},
        "status": {"hard": named, "used": used or {}},
    }


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2", "2"),
        ("500m", "0.5"),
        ("250u", "0.00025"),
        ("1k", "1000"),
        ("4Gi", str(2**32)),
        ("1e3", "1000"),
        ("1E", "1e18"),
    ],
)
def test_quantities_of_kubernetes(text: str, number: str) -> None:
    assert quota.quantity(text) == Decimal(number)


def test_what_just_fits() -> None:
    assert checked([made(requests_cpu="4005m", limits_memory="8256Mi", pods="5", services="0")]) == []
    assert checked([]) == []


@pytest.mark.parametrize(
    ("hard", "asked", "most"),
    [
        (
            {"requests_cpu": "4"},
            "requests.cpu of 4.005 (lease 0.005 + scheduler 1 + job 1 + worker 2 x 1)",
            "4 of the quota",
        ),
        ({"cpu": "4"}, "cpu of 4.005 ", "4 of the quota team"),
        ({"limits_memory": "8Gi"}, "limits.memory of 8256Mi (lease 64Mi + ", "8192Mi of the quota team"),
        ({"count/pods": "4"}, "count/pods of 5 ", "4 of the quota team"),
    ],
)
def test_what_can_never_fit(hard: dict[str, str], asked: str, most: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked([made(pods="100"), made(**hard)])
    assert asked in str(refused.value.value)
    assert most in refused.value.allowed


def test_what_others_have_taken_for_now() -> None:
    (said,) = checked([made({"pods": "8"}, pods="10")])
    needs = "it needs 5 (lease 1 + scheduler 1 + job 1 + worker 2 x 1)"
    assert said == f"pods: {needs}, there is 2 left of the 10 of the quota team"


def test_only_the_least_number_of_workers_counts() -> None:
    assert checked([made(pods="4")], workers=(1, 100)) == []
    assert checked([made(pods="3")], workers=100, min_ready_workers=0) == []
    gpu = [{"name": "gpu", "workers": 3, "resources": {"nvidia.com/gpu": 1}}]
    with pytest.raises(InvalidInput, match=r"requests\.nvidia\.com/gpu of 3 "):
        checked([{**made(), "spec": {"hard": {"requests.nvidia.com/gpu": "2"}}}], worker_groups=gpu)
    # Two workers of either kind: it may be those without a GPU.
    none = {**made(), "spec": {"hard": {"requests.nvidia.com/gpu": "0"}}}
    assert checked([none], worker_groups=gpu, min_ready_workers=2) == []


def test_a_quota_for_some_pods_only_is_left_to_the_server() -> None:
    assert checked([made(spec={"scopes": ["Terminating"]}, pods="1")]) == []
    scope = {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Exists"}]}}
    assert checked([made(spec=scope, pods="1")]) == []


def test_a_pod_needs_what_its_containers_need_together_or_what_comes_before_them() -> None:
    def container(**requests: str) -> dict[str, Any]:
        return {"resources": {"requests": requests}}

    pod = {
        "containers": [container(cpu="1", memory="1Gi"), container(cpu="500m")],
        "initContainers": [container(cpu="2", memory="1Mi")],
    }
    amounts = quota.amounts(pod)
    assert (amounts["requests.cpu"], amounts["requests.memory"]) == (2, 2**30)
    only_limits = quota.amounts({"containers": [{"resources": {"limits": {"cpu": "1"}}}]})
    assert only_limits == {"pods": 1, "requests.cpu": 1, "limits.cpu": 1}
