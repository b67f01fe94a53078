"""Dask on the YARN of a cluster: whole requests, and what each job is told to start."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.errors import InvalidInput
from dask_provider.hooks.dataproc import failures, yarn
from dask_provider.hooks.dataproc.requests import cluster_request, environment, python
from dask_provider.owner import PLANNED, Owner
from dask_provider.runtime.yarn_spec import YarnSpec

OWNER = Owner("prod", "flights", "manual__2026-11-01", "etl")
JOB = Owner("prod", "flights", "manual__2026-11-01", "run")


def request(**fields: Any) -> dict[str, Any]:
    of_place: dict[str, Any] = {
        "project_id": "acme-data",
        "scripts": {"dask": "gs://staging/dask.sh"},
        "bucket": "dask",
    }
    spec = DataprocCluster(region="europe-west1", runtime="yarn", **{"memory": "4 GiB", **fields})
    return cluster_request(spec, OWNER, PLANNED, versions={"dask": "2026.8.0", "gcsfs": "2026.10.1"}, **of_place)


def test_the_request_of_a_cluster_of_yarn() -> None:
    made = request(workers=3, secondary_workers=2, env={"B": "2"}, max_lifetime="2h")
    config = made["config"]
    metadata = config["gceClusterConfig"]["metadata"]
    asked = {
        "workers": [3, 5],
        "worker_vcores": 4,
        "worker_memory": 4196,
        "idle_timeout": 600.0,
        "start_timeout": 1800.0,
        "max_lifetime": 7200.0,
        "tls": False,
    }
    assert json.loads(metadata.pop("dask-provider-yarn")) == asked
    assert json.loads(metadata.pop("dask-provider-handle"))["min_workers"] == 3
    assert json.loads(metadata.pop("dask-provider-owner")) == OWNER.labels()
    assert metadata == {
        "dask-runtime": "yarn",
        "dask-version": "2026.8.0",
        "dask-packages": "gcsfs==2026.10.1",
        "dask-env": "B=2",
    }
    assert config["softwareConfig"]["properties"] == {
        "dataproc:dataproc.logging.stackdriver.enable": "true",
        "dataproc:dataproc.monitoring.stackdriver.enable": "true",
        "dataproc:dataproc.cluster-ttl.consider-yarn-activity": "false",
        "capacity-scheduler:yarn.scheduler.capacity.root.default.default-application-lifetime": "7200",
        "capacity-scheduler:yarn.scheduler.capacity.root.default.maximum-application-lifetime": "7200",
    }
    assert config["workerConfig"]["numInstances"] == 3
    assert config["secondaryWorkerConfig"]["numInstances"] == 2


def test_what_a_job_starts() -> None:
    made = request(workers=2, threads=2, memory="1.5 GB", tls=True, env={"A": "1"})
    assert yarn.runs_on_yarn(made)
    started = YarnSpec.of(yarn.application(made, [JOB.name, f"{JOB.name}-2.5"], python(made), environment(made)))
    assert started == YarnSpec(
        python="/opt/dask/bin/python",
        name=JOB.name,
        workers=(2, 2),
        worker_vcores=2,
        worker_memory=1431 + 100,  # what is asked for is Dask's own
        tags=(JOB.name, f"{JOB.name}-2.5"),
        idle_timeout=600,
        start_timeout=1800,
        max_lifetime=86400,
        tls=True,
        env={"A": "1"},
    )


def test_what_jobs_need_cannot_be_overridden() -> None:
    with pytest.raises(InvalidInput, match="metadata dask-provider-yarn"):
        request(cluster_config_overrides={"config": {"gceClusterConfig": {"metadata": {"dask-provider-yarn": None}}}})


@pytest.mark.parametrize(
    ("ports", "runs_on_yarn", "shown"),
    [
        (
            {"YARN": "https://x7-dot-r.example.com/yarn/"},
            False,
            "https://x7-dot-r.example.com/gateway/default/dask/status",
        ),
        ({"Jupyter": "https://x7.example.com/gateway/default/jupyter/"}, True, None),
        ({}, False, None),
    ],
)
def test_the_dashboard_is_behind_the_gateway(ports: dict[str, str], runs_on_yarn: bool, shown: str | None) -> None:
    metadata = {"dask-provider-yarn": "{}"} if runs_on_yarn else {}
    config = {"endpointConfig": {"httpPorts": ports}, "gceClusterConfig": {"metadata": metadata}}
    assert failures.dashboard({"config": config}) == shown
