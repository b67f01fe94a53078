"""What can be wanted of a cluster on Kubernetes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from dask_provider.clusters import KubernetesCluster
from dask_provider.clusters.kubernetes_fields import parse_resources
from dask_provider.errors import InvalidInput

GPU = {"name": "gpu", "workers": 1, "resources": {"cpu": 4, "memory": "8 GiB", "nvidia.com/gpu": 1}}
DATA = {"name": "data", "persistentVolumeClaim": {"claimName": "lake"}}


def test_defaults() -> None:
    spec = KubernetesCluster()
    assert spec.worker_quantities == {part: {"cpu": "1", "memory": "2Gi"} for part in ("requests", "limits")}
    assert spec.scheduler_quantities == spec.job_quantities == spec.worker_quantities
    assert spec.dask_memory == 2 * 2**30 - 100 * 2**20, "a worker's process itself needs room in its container"
    assert (spec.least_workers, spec.node_ports, spec.pod_env) == (2, (None, None), {})
    assert repr(spec) == "KubernetesCluster()"


@pytest.mark.parametrize(
    ("given", "requests", "limits"),
    [
        ({"cpu": 2, "memory": "4 GiB"}, {"cpu": "2", "memory": "4Gi"}, {"cpu": "2", "memory": "4Gi"}),
        ({"cpu": "0.5", "memory": "500 MB"}, {"cpu": "500m", "memory": "500M"}, {"cpu": "500m", "memory": "500M"}),
        ({"cpu": 1.5, "memory": "1.5Gi"}, {"cpu": "1500m", "memory": "1536Mi"}, {"cpu": "1500m", "memory": "1536Mi"}),
        ({"memory": 2**30 + 1}, {"memory": "1073741825"}, {"memory": "1073741825"}),
        ({"ephemeral-storage": "10G"}, {"ephemeral-storage": "10G"}, {"ephemeral-storage": "10G"}),
        ({"requests": {"cpu": "100m"}, "limits": {"cpu": "1000m"}}, {"cpu": "100m"}, {"cpu": "1"}),
        ({"memory": "{{ params.memory }}"}, {"memory": "{{ params.memory }}"}, {"memory": "{{ params.memory }}"}),
    ],
)
def test_quantities_become_those_of_kubernetes(given: Any, requests: dict[str, str], limits: dict[str, str]) -> None:
    assert parse_resources("x", given) == {"requests": requests, "limits": limits}


def test_workers_follow_threads_and_memory_where_resources_say_nothing() -> None:
    spec = KubernetesCluster(threads=4, memory="6 GiB", worker_resources={"nvidia.com/gpu": 1})
    both = {"cpu": "4", "memory": "6Gi", "nvidia.com/gpu": "1"}
    assert spec.worker_quantities == {"requests": both, "limits": both}
    assert KubernetesCluster(threads=4).worker_quantities["limits"]["memory"] == "8Gi"
    burst = KubernetesCluster(worker_resources={"requests": {"cpu": "100m"}, "limits": {"memory": "1 GiB"}})
    assert burst.worker_quantities == {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    assert burst.dask_memory == 924 * 2**20
    assert KubernetesCluster(memory="100 MiB").dask_memory == 50 * 2**20


def test_worker_groups_are_the_spec_with_their_own_fields() -> None:
    spec = KubernetesCluster(
        workers=3, memory="1 GiB", env={"A": "1"}, worker_groups=[{**GPU, "env": {"B": "2"}, "args": ["--no-nanny"]}]
    )
    group = spec.groups()["gpu"]
    assert (group.worker_range, group.env, list(group.worker_args)) == ((1, 1), {"A": "1", "B": "2"}, ["--no-nanny"])
    assert group.worker_quantities["limits"] == {"cpu": "4", "memory": "8Gi", "nvidia.com/gpu": "1"}
    assert spec.least_workers == 4, "a job that needs the GPU must not start without it"
    assert dataclasses.replace(spec, min_ready_workers=1).least_workers == 1


@pytest.mark.parametrize(
    ("fields", "field", "allowed"),
    [
        ({"image": "Acme ETL"}, "image", "lower case"),
        ({"image": "dask:"}, "image", "lower case"),
        ({"namespace": "Team_A"}, "namespace", "DNS label"),
        ({"conn_id": ""}, "conn_id", "Airflow connection"),
        ({"image_pull_policy": "always"}, "image_pull_policy", "Always, IfNotPresent, Never"),
        ({"image_pull_secrets": "registry"}, "image_pull_secrets", "a list"),
        ({"service_account": "a b"}, "service_account", "name of an object"),
        ({"run_as_user": 0}, "run_as_user", "at least 1"),
        ({"worker_resources": {"memory": "4GBs"}}, "worker_resources['memory']", '"4 GiB"'),
        ({"worker_resources": {"memory": "500m"}}, "worker_resources['memory']", '"4 GiB"'),
        ({"scheduler_resources": {"cpu": "2 cores"}}, "scheduler_resources['cpu']", '"500m"'),
        ({"job_resources": {"cpu": 0}}, "job_resources['cpu']", "above zero"),
        ({"job_resources": {"gpu": 1}}, "job_resources['gpu']", "nvidia.com/gpu"),
        ({"worker_resources": {"nvidia.com/gpu": 0.5}}, "worker_resources['nvidia.com/gpu']", "whole number"),
        ({"worker_resources": {"cpu": 1, "limits": {}}}, "worker_resources", "not both"),
        ({"worker_resources": {"requests": {"cpu": 2}, "limits": {"cpu": 1}}}, "worker_resources['cpu']", "not above"),
        ({"memory": "1 GiB", "worker_resources": {"memory": "2 GiB"}}, "memory", "one of memory and worker_resources"),
        ({"node_selector": {"pool": True}}, "node_selector", "no text"),
        ({"labels": {"team": "a b"}}, "labels", "63"),
        ({"labels": {"dask.org/cluster-name": "x"}}, "labels", "neither the provider nor the operator"),
        ({"annotations": {"a/b/c": "x"}}, "annotations", "keys like"),
        ({"tolerations": [{"key": "a", "effect": "NoWay"}]}, "tolerations", "NoSchedule"),
        ({"tolerations": {"key": "a"}}, "tolerations", "a list"),
        ({"affinity": {"podAntiaffinity": {}}}, "affinity", "podAntiAffinity"),
        ({"spot": True}, "spot", "cloud.google.com/gke-spot"),
        ({"env": {"DASK_SCHEDULER_ADDRESS": "tcp://x:1"}}, "env", "set for each pod"),
        ({"env_from": [{"secretRef": "db"}]}, "env_from", "a mapping"),
        ({"env_from": [{"secret": {"name": "db"}}]}, "env_from", "secretRef"),
        ({"volumes": [DATA]}, "volumes", "volume_mounts mounts"),
        ({"volumes": [{"name": "data"}]}, "volumes", "one source"),
        ({"volume_mounts": [{"name": "data", "mountPath": "/data"}]}, "volume_mounts", "name of a volume"),
        ({"volumes": [DATA], "volume_mounts": [{"name": "data", "mountPath": "data"}]}, "volume_mounts", "absolute"),
        ({"packages": {"npm": ["left-pad"]}}, "packages", "pip, conda, apt"),
        ({"packages": {"pip": ["numpy pandas"]}}, "packages", "one an entry"),
        ({"packages": {"pip": "numpy"}}, "packages", "a list"),
        ({"packages": {"pip": ["x"]}, "env": {"EXTRA_PIP_PACKAGES": "y"}}, "packages", "either"),
        ({"packages": {"apt": ["git"]}, "run_as_user": 1000}, "packages", "only root"),
        ({"service_type": "nodeport"}, "service_type", "ClusterIP, NodePort"),
        ({"node_port": 30001}, "node_port", 'service_type="NodePort"'),
        ({"service_type": "NodePort", "node_port": 8786}, "node_port", "30000 to 32767"),
        ({"service_type": "NodePort", "node_port": 30001, "dashboard_node_port": "30001"}, "dashboard_node_port", ""),
        ({"worker_groups": [{"name": "gpu"}]}, "worker_groups", "name, workers"),
        ({"worker_groups": [{**GPU, "name": "default"}]}, "worker_groups", "12"),
        ({"worker_groups": [GPU, GPU]}, "worker_groups", "each once"),
        ({"worker_groups": [{**GPU, "resources": {"cpu": "x"}}]}, "worker_groups['gpu'].resources['cpu']", "CPUs"),
        ({"worker_groups": [GPU], "workers": (1, 4)}, "workers", "takes away workers of any group"),
        ({"manifest_overrides": {"scheduler": {}}}, "manifest_overrides", "metadata and spec"),
        ({"manifest": " "}, "manifest", "YAML"),
        ({"manifest": "dask.yaml", "image": "dask:1"}, "image", "say it there"),
        ({"manifest": "dask.yaml", "worker_groups": [GPU]}, "worker_groups", "say it there"),
    ],
)
def test_a_cluster_that_cannot_be(fields: dict[str, Any], field: str, allowed: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        KubernetesCluster(**fields)
    assert refused.value.field.partition("[].")[0] == f"KubernetesCluster.{field}"
    assert allowed in refused.value.allowed


def test_images() -> None:
    for image in (
        *("dask", "localhost/dask:1", "localhost:5000/dask", "ghcr.io/dask/dask:2026.8.0-py3.12", "{{ var.value.i }}"),
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/etl@sha256:" + "0" * 64,
    ):
        assert KubernetesCluster(image=image).image == image


def test_templates_anywhere_are_checked_once_they_are_rendered() -> None:
    spec = KubernetesCluster(
        image="{{ image }}",
        worker_resources={"cpu": "{{ cpu }}"},
        labels={"team": "{{ team }}"},
        volumes=[{"name": "{{ volume }}", "nfs": {"server": "nas", "path": "/"}}],
        volume_mounts=[{"name": "{{ volume }}", "mountPath": "{{ path }}"}],
        service_type="NodePort",
        node_port="{{ port }}",
        worker_groups=[{**GPU, "image": "{{ image }}"}],
    )
    values = {"image": "dask:1", "cpu": "2", "team": "a", "volume": "data", "path": "/data", "port": "30001"}

    def render(value: Any) -> Any:
        text = json.dumps(value)
        for name, filled in values.items():
            text = text.replace("{{ " + name + " }}", filled)
        return json.loads(text)

    done = spec.rendered(render)
    assert (done.image, done.node_ports, done.groups()["gpu"].image) == ("dask:1", (30001, None), "dask:1")
    assert done.worker_quantities["requests"]["cpu"] == "2"
    for name, field in (("cpu", "worker_resources['cpu']"), ("port", "node_port"), ("team", "labels")):
        values[name] = "?"
        with pytest.raises(InvalidInput) as refused:
            spec.rendered(render)
        assert refused.value.field == f"KubernetesCluster.{field}"
        values[name] = {"cpu": "2", "port": "30001", "team": "a"}[name]


def test_repr_shows_no_secret() -> None:
    spec = KubernetesCluster(
        env={"A": "hunter2"},
        worker_groups=[{"name": "gpu", "workers": 1, "env": {"B": "hunter2"}}],
        manifest_overrides={
            "spec": {"worker": {"spec": {"containers": [{"env": [{"name": "C", "value": "hunter2"}]}]}}}
        },
    )
    assert "hunter2" not in repr(spec)
    assert "'B': '***'" in repr(spec)
    assert "hunter2" not in repr(KubernetesCluster(manifest="kind: DaskCluster\n# hunter2\n"))
    assert spec.worker_groups[0]["env"] == {"B": "hunter2"}, "the spec itself stays as it was"
