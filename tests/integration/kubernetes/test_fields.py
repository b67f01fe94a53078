"""What a user writes of pods, groups and nodes, and a DaskCluster of his own: as Kubernetes and operator take it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from dask_provider.clusters import KubernetesCluster
from dask_provider.errors import ClusterFailed, InvalidInput
from dask_provider.hooks import hook_of

from tests.integration.kubernetes.place import Namespace
from tests.integration.place import FIRST, until
from tests.servers.kubernetes import DASK_IMAGE, KubernetesServer
from tests.unit.hooks.kubernetes.test_own_manifest import PRINTED, VALID

USER = 1000
LOOKS = """
    import os
    from distributed import Client

    def seen():
        with open("/settings/colour") as file:
            return os.getuid(), os.environ["PASSWORD"], file.read()

    with Client() as client:
        for info in client.scheduler_info(n_workers=-1)["workers"].values():
            print("worker of", info["name"].partition("-worker-")[0], info["nthreads"], info["resources"])
        print("all see", {seen(), client.run_on_scheduler(seen), *client.run(seen).values()})
        print("big is", client.submit(lambda: os.environ["KIND"], resources={"BIG": 1}).result())
        print("retries", client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.allowed_failures))
    with open(os.environ["DASK_JOB_RESULTS"] + "answer.txt", "w") as file:
        file.write("42")
"""
ROWS = """
    from distributed import Client

    def rows():
        with open("/data/day.csv") as file:
            return len(file.readlines())

    with Client() as client:
        print("rows", sorted(client.run(rows).values()))
"""


def of_user(place: Namespace) -> list[dict[str, Any]]:
    """A Secret, a ConfigMap, and a claim for the folder that is shared with this machine."""
    there = {"namespace": place.name}
    volume = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    size = {"storage": "1Gi"}
    of_node = {**volume, "capacity": size, "hostPath": {"path": str(place.shared)}}
    claim = {**volume, "resources": {"requests": size}, "volumeName": place.name}
    made: list[dict[str, Any]] = [
        {"kind": "Secret", "metadata": {**there, "name": "password"}, "stringData": {"PASSWORD": "x7"}},
        {"kind": "ConfigMap", "metadata": {**there, "name": "look"}, "data": {"colour": "blue"}},
        {"kind": "PersistentVolume", "metadata": {"name": place.name}, "spec": of_node},
        {"kind": "PersistentVolumeClaim", "metadata": {**there, "name": "shared"}, "spec": claim},
    ]
    return [{"apiVersion": "v1", **each} for each in made]


@contextmanager
def marked(server: KubernetesServer, key: str) -> Iterator[None]:
    """The node has a label and a taint; what runs there already stays."""
    server.kubectl("label", "node", server.node, f"{key}=dask")
    server.kubectl("taint", "node", server.node, f"{key}=dask:NoSchedule")
    try:
        yield
    finally:
        server.kubectl("taint", "node", server.node, f"{key}-")
        server.kubectl("label", "node", server.node, f"{key}-")


@contextmanager
def held(place: Namespace, kind: str, name: str) -> Iterator[None]:
    """Somebody's finalizer keeps it from going."""
    patch = ("patch", kind, name, "-n", place.name, "--type=merge", "-p")
    place.server.kubectl(*patch, '{"metadata": {"finalizers": ["example.com/held"]}}')
    try:
        yield
    finally:
        place.server.kubectl(*patch, '{"metadata": {"finalizers": null}}')


def of_scheduler(container: Mapping[str, Any], **pod: Any) -> dict[str, Any]:
    """Overrides of a scheduler."""
    return {"scheduler": {"spec": {"containers": [{"name": "scheduler", **container}], **pod}}}


async def test_fields_of_pods_where_the_standard_restricted_holds(place: Namespace) -> None:
    hook, server, key = hook_of("kubernetes"), place.server, f"acme.com/{place.name}"
    server.kubectl("label", "namespace", place.name, "pod-security.kubernetes.io/enforce=restricted")
    (place.shared / "staging").mkdir()
    for folder in (place.shared, place.shared / "staging"):
        folder.chmod(0o777)  # another user than Airflow's writes there
    server.apply(*of_user(place))
    nodes = {"nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": "Exists"}]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": nodes}}
    retries = {"name": "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "value": "7"}
    spec = place.spec(
        run_as_user=USER,
        labels={"team": "a"},
        annotations={"acme.com/ticket": "No. 7"},
        env_from=[{"secretRef": {"name": "password"}}],
        volumes=[
            {"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}},
            {"name": "look", "configMap": {"name": "look"}},
        ],
        volume_mounts=[
            {"name": "shared", "mountPath": str(place.shared)},
            {"name": "look", "mountPath": "/settings"},
        ],
        node_selector={key: "dask"},
        tolerations=[{"key": key, "operator": "Exists"}],
        affinity=affinity,
        worker_args=["--resources", "SMALL=1"],
        worker_groups=[
            {"name": "big", "workers": 1, "args": ["--resources", "BIG=1"], "env": {"KIND": "large"}},
            {"name": "plain", "workers": 1, "threads": 2},
        ],
        manifest_overrides={"spec": of_scheduler({"env": [retries]})},
    )
    with marked(server, key):
        handle = await place.ready(spec)
        told = await place.run(handle, LOOKS)
    name = handle.name
    assert told.outcome.succeeded, told
    assert {line for line in told.lines if line.startswith("worker of")} == {
        f"worker of {name}-default 1 {{'SMALL': 1.0}}",
        f"worker of {name}-big 1 {{'BIG': 1.0}}",
        f"worker of {name}-plain 2 {{'SMALL': 1.0}}",
    }
    assert {f"all see {{({USER}, 'x7', 'blue')}}", "big is large", "retries 7"} <= set(told.lines)
    (answer,) = place.shared.glob("staging/**/answer.txt")
    assert (answer.read_text(), answer.stat().st_uid) == ("42", USER)
    assert len(place.pods()) == 6, "lease, scheduler, three workers, job"
    for pod in place.pods():
        assert pod["metadata"]["labels"]["team"] == "a", pod["metadata"]
        assert pod["metadata"]["annotations"]["acme.com/ticket"] == "No. 7", pod["metadata"]
        assert (pod["spec"]["nodeSelector"], pod["spec"]["affinity"]) == ({key: "dask"}, affinity)
    with pytest.raises(ClusterFailed, match=r"has the worker groups \['big', 'plain'\]"):
        await hook.scale(handle, 2, 2)

    with held(place, "daskworkergroup", f"{name}-big"):
        assert await hook.delete(handle, "deleted by the test") == "deleting"
        await until(lambda: not place.pods(), 60)
        with pytest.raises(ClusterFailed) as said:
            await hook.wait_gone(handle, 1)
        held_by = "is held by the finalizer example.com/held, which nobody takes off"
        assert str(said.value) == f"all that cluster {name} ran is gone; DaskWorkerGroup {name}-big {held_by}"
    assert await hook.wait_gone(handle, 60)
    server.kubectl("delete", "secret/password", "configmap/look", "pvc/shared", "-n", place.name)
    server.kubectl("delete", "pv", place.name)
    await place.assert_nothing_left(5)


async def test_spot_workers_with_an_on_demand_scheduler(place: Namespace) -> None:
    """Where Kubernetes' scheduler puts them; nobody runs them on the spot node."""
    hook, server, key = hook_of("kubernetes"), place.server, f"acme.com/{place.name}"
    spot, workers = f"{place.name}-spot", "dask.org/component=worker"
    plenty = {"cpu": "64", "memory": "256Gi", "pods": "100"}
    status = {"capacity": plenty, "allocatable": plenty, "conditions": [{"type": "Ready", "status": "True"}]}
    metadata = {"name": spot, "labels": {key: "true"}}

    def nodes(selector: str) -> list[str]:
        return [pod["spec"].get("nodeName", "none yet") for pod in place.pods(selector)]

    server.apply({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status})
    try:
        handle = await hook.create(place.spec(spot={key: "true"}), place.owner("cluster"), FIRST)
        job = await place.submit(handle, "pass")
        await until(lambda: nodes(workers) == [spot])
        others = ("dask.org/component=scheduler", "dask-provider/role=lease", f"job-name={job.job_id}")
        await until(lambda: [nodes(selector) for selector in others] == [[server.node]] * 3)
        server.kubectl("taint", "node", spot, f"{key}=true:NoSchedule")
        await hook.scale(handle, 2, 2)
        await until(lambda: nodes(workers) == [spot, spot])
        assert await hook.delete(handle, "deleted by the test") == "deleting"
        await until(lambda: all("deletionTimestamp" in pod["metadata"] for pod in place.pods(workers)))
        server.kubectl("delete", "pods", "-n", place.name, "-l", workers, "--force", "--grace-period=0")
        assert await hook.wait_gone(handle, 60)
    finally:
        server.kubectl("delete", "node", spot)


async def test_an_own_manifest(place: Namespace) -> None:
    hook = hook_of("kubernetes")
    small = {"requests": {"cpu": "50m", "memory": "200Mi"}, "limits": {"memory": "600Mi"}}
    fields: dict[str, Any] = {"conn_id": "kubernetes_tests", "workers": 2, "job_resources": small}
    with pytest.raises(InvalidInput, match=r"^KubernetesCluster\.manifest: .*image: .* line 18, column 9"):
        await hook.create(KubernetesCluster(manifest=PRINTED, **fields), place.owner("cluster"), FIRST)
    assert not place.objects()

    (place.shared / "day.csv").write_text("1\n2\n3\n")
    text = VALID.replace("<volume-name>", "csv").replace("/srv", str(place.shared))
    mount = {"name": "shared", "mountPath": str(place.shared)}
    volume = {"name": "shared", "hostPath": {"path": str(place.shared), "type": "Directory"}}
    soon = {"readinessProbe": {"initialDelaySeconds": 1, "periodSeconds": 1}}
    overrides = of_scheduler({**soon, "volumeMounts": [mount]}, volumes=[volume])  # the volume is for the job
    overrides["worker"] = {"spec": {"terminationGracePeriodSeconds": 2}}
    text = text.replace("ghcr.io/dask/dask:latest", DASK_IMAGE)
    spec = KubernetesCluster(manifest=text, manifest_overrides={"spec": overrides}, **fields)
    handle = await place.ready(spec)
    told = await place.run(handle, ROWS)
    assert told.outcome.succeeded, told
    assert "rows [3, 3]" in told.lines
    (service,) = [item for key, item in place.objects().items() if key.startswith("Service/")]
    assert service["spec"]["type"] == "NodePort"
    await place.delete(handle)
