"""Jobs beside a DaskCluster that somebody else made; that is looked at and never changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from dask_provider.clusters import ExistingKubernetesCluster
from dask_provider.errors import ClusterFailed, ClusterGone, InvalidInput
from dask_provider.hooks import hook_of
from dask_provider.hooks.base import NOT_OURS
from dask_provider.hooks.kubernetes.rights import EXISTING, role_rules

from tests.integration.kubernetes.manifests import dask_cluster
from tests.integration.kubernetes.place import Namespace
from tests.integration.place import FIRST, retry, until

SUM = """
    import os
    from distributed import Client
    with Client() as client:
        print("sum", sum(client.gather(client.map(lambda x: x * x, range(10)))))
    with open(os.environ["DASK_JOB_RESULTS"] + "answer.txt", "w") as file:
        file.write("285")
"""


@pytest.fixture
async def foreign(place: Namespace, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Any]]:
    """As kubectl or a chart makes it; its scheduler sees a folder of this machine. Airflow may only run jobs there."""
    kubeconfig = place.server.service_account(place.name, "beside", role_rules(EXISTING))
    extra = {"kube_config_path": str(kubeconfig), "namespace": place.name}
    monkeypatch.setenv("AIRFLOW_CONN_BESIDE", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    made = dask_cluster("shared", place.name, workers=1)
    made["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm", "argocd.argoproj.io/instance": "dask"}
    pod = made["spec"]["scheduler"]["spec"]
    pod["volumes"] = [{"name": "shared", "hostPath": {"path": str(place.shared), "type": "Directory"}}]
    pod["containers"][0]["volumeMounts"] = [{"name": "shared", "mountPath": str(place.shared)}]
    place.server.apply(made)
    yield place.server.get("daskcluster", "shared", "-n", place.name)
    place.server.kubectl("delete", "daskclusters,daskworkergroups", "--all", "-n", place.name)


def spec(**fields: Any) -> ExistingKubernetesCluster:
    small = {"requests": {"cpu": "50m", "memory": "200Mi"}, "limits": {"memory": "600Mi"}}
    return ExistingKubernetesCluster(
        **{"conn_id": "beside", "name": "shared", "job_resources": small, "ready_timeout": 120, **fields}
    )


async def test_a_job_beside_it(place: Namespace, foreign: dict[str, Any]) -> None:
    hook = hook_of(spec())
    handle = await place.ready(spec())
    assert handle.uid == foreign["metadata"]["uid"]
    job = await place.submit(handle, SUM)
    told = await place.follow(job)
    assert told.outcome.succeeded, told.outcome
    assert "sum 285" in told.lines
    assert (told.outcome.manifest["files"], told.outcome.manifest["bytes"]) == (1, 3)
    made = place.objects()[f"Job/{job.job_id}"]
    assert [owner["uid"] for owner in made["metadata"]["ownerReferences"]] == [handle.uid]
    assert 86000 < made["spec"]["activeDeadlineSeconds"] <= 86400
    assert "argocd.argoproj.io/instance" not in made["metadata"]["labels"]
    again = await place.submit(handle, SUM, attempt=retry(2))
    assert (again.adopted, again.job_id) == (True, job.job_id)
    found = await hook.find(spec(), place.owner("cluster"))
    assert (await hook.find_job(found, place.owner("work"))).job_id == job.job_id

    with pytest.raises(ClusterFailed, match="not ours to scale"):
        await hook.scale(handle, 2, 2)
    with pytest.raises(ClusterFailed, match="not ours to change"):
        await hook.change_node_ports(handle, node_port=30001)
    assert await hook.delete(handle, "deleted by its run") == NOT_OURS
    assert await hook.list(spec(), "tests") == []
    kept = place.server.get("daskcluster", "shared", "-n", place.name)
    assert (kept["spec"], kept["metadata"]["labels"]) == (foreign["spec"], foreign["metadata"]["labels"])
    assert "deletionTimestamp" not in kept["metadata"]

    place.server.kubectl("delete", "daskcluster", "shared", "-n", place.name)
    with pytest.raises(ClusterGone, match="shared is gone"):
        await place.submit(handle, SUM, task_id="other")
    await until(lambda: not [key for key in place.objects() if key.startswith(("Job/", "ConfigMap/"))])


async def test_what_cannot_be_used(place: Namespace, foreign: dict[str, Any]) -> None:
    hook = hook_of(spec())
    with pytest.raises(InvalidInput, match=r"ExistingKubernetesCluster\.name: 'other'.*kubectl get daskclusters"):
        await hook.create(spec(name="other"), place.owner(), FIRST)
    other = dask_cluster("other", place.name, workers=1)
    other["spec"]["scheduler"]["service"]["ports"][0]["name"] = "comm"
    place.server.apply(other)
    with pytest.raises(InvalidInput, match=r"DaskCluster other: .*'comm', 'http-dashboard'.* a port named tcp-comm"):
        await hook.create(spec(name="other"), place.owner(), FIRST)
    place.server.kubectl("delete", "daskcluster", "other", "-n", place.name)
    handle = await hook.create(spec(min_ready_workers=3, ready_timeout=25), place.owner(), FIRST)
    with pytest.raises(ClusterFailed, match=r"shared is not ready after 25 s: 1 of 3 workers joined"):
        await place.wait_ready(hook, handle)
