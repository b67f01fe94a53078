"""A cluster as it is created for an owner of the tests."""

from __future__ import annotations

from typing import Any

from dask_provider.clusters import KubernetesCluster
from dask_provider.hooks.kubernetes import manifests
from dask_provider.owner import Owner

OWNER = Owner("prod", "flights_daily", "scheduled__2026-08-01", "etl")
NAME = OWNER.name
ADDRESS = f"{NAME}-scheduler.team-a.svc:8786"


def cluster_of(spec: KubernetesCluster, manifest: dict[str, Any] | None = None) -> dict[str, Any]:
    return manifests.dask_cluster(spec, OWNER, namespace="team-a", manifest=manifest)


def parts(cluster: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    scheduler, worker = (cluster["spec"][part]["spec"] for part in ("scheduler", "worker"))
    return scheduler, scheduler["containers"][0], worker, worker["containers"][0]


def env_of(container: dict[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in container["env"]}
