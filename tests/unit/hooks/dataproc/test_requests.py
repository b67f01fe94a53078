"""Whole requests, as they go out."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.clusters.dataproc_fields import Machines, NfsMount
from dask_provider.errors import InvalidInput
from dask_provider.hooks.dataproc.requests import PUBLIC_ACTION, cluster_request, duration, python
from dask_provider.owner import PLANNED, Owner

OWNER = Owner("prod", "flights", "manual__2026-11-01", "etl")
SCRIPTS = {name: f"gs://staging/dask-provider/{name}-1.sh" for name in ("nfs", "dask")}
VERSIONS = {"dask": "2026.8.0", "gcsfs": "2026.10.1"}


def request(spec: DataprocCluster) -> dict[str, Any]:
    of_place: dict[str, Any] = {"project_id": "acme-data", "scripts": SCRIPTS, "bucket": "dask", "versions": VERSIONS}
    return cluster_request(spec, OWNER, PLANNED, **of_place)


def test_the_least_that_can_be_said() -> None:
    spec = DataprocCluster(region="europe-west1")
    machines = {
        "machineTypeUri": "n2-standard-4",
        "diskConfig": {"bootDiskType": "pd-balanced", "bootDiskSizeGb": 100},
    }
    assert request(spec) == {
        "projectId": "acme-data",
        "clusterName": OWNER.name,
        "labels": {
            "dask-provider-instance": "6754af9632a2745e",
            "dask-provider-attempt": "1",
            "dask-provider-started": "0",
            "dask-provider-spec": spec.hash(),
        },
        "config": {
            "configBucket": "dask",
            "tempBucket": "dask",
            "gceClusterConfig": {
                "internalIpOnly": True,
                "serviceAccountScopes": ["https://www.googleapis.com/auth/cloud-platform"],
                "metadata": {
                    "dask-provider-owner": json.dumps(OWNER.labels(), sort_keys=True),
                    "dask-provider-handle": '{"idle_timeout": 600.0, "min_workers": 2, "ready_timeout": 1800.0}',
                    "dask-packages": "gcsfs==2026.10.1",
                    "dask-runtime": "standalone",
                    "dask-timeout": "960",
                    "dask-version": "2026.8.0",
                    "dask-worker-on-master": "false",
                },
            },
            "masterConfig": {"numInstances": 1, **machines},
            "workerConfig": {"numInstances": 2, **machines},
            "softwareConfig": {
                "imageVersion": "2.2-debian12",
                "properties": {
                    "dataproc:dataproc.logging.stackdriver.enable": "true",
                    "dataproc:dataproc.monitoring.stackdriver.enable": "true",
                    "dataproc:dataproc.cluster-ttl.consider-yarn-activity": "false",
                },
            },
            "initializationActions": [{"executableFile": SCRIPTS["dask"], "executionTimeout": "1200s"}],
            "lifecycleConfig": {"idleDeleteTtl": "600s", "autoDeleteTtl": "86400s"},
            "endpointConfig": {"enableHttpPortAccess": True},
        },
    }


KEY = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
WHOLE: dict[str, Any] = {
    "region": "europe-west1",
    "zone": "europe-west1-b",
    "workers": 3,
    "min_ready_workers": 4,
    "ready_timeout": "20 min",
    "secondary_workers": 2,
    "preemptibility": "PREEMPTIBLE",
    "threads": 2,
    "memory": "6 GiB",
    "master": "n2-highmem-4",
    "worker": Machines("n2-standard-8", disk_gb=200, disk_type="pd-ssd", local_ssds=1),
    "secondary_worker": "n2-standard-8",
    "image_version": "2.2.63-debian12",
    "dask": "gs://acme-wheels/2026/",
    "packages": ["dask-ml==2025.1.0", "xgboost==3.1.0"],
    "initialization_actions": ["gs://acme/setup.sh"],
    "setup_timeout": "10 min",
    "subnetwork": "projects/p/regions/europe-west1/subnetworks/services",
    "internal_ip_only": False,
    "service_account": "dask@acme-data.iam.gserviceaccount.com",
    "tags": ["dataproc"],
    "labels": {"team": "etl"},
    "env": {"B": "2", "A": "1"},
    "kms_key": KEY,
    "staging_bucket": "acme-staging",
    "temp_bucket": "acme-temp",
    "shielded": True,
    "component_gateway": False,
    "monitoring": False,
    "nfs": NfsMount("10.1.0.2", "/share"),
    "properties": {"spark:spark.driver.memory": "8g"},
    "job_properties": {"spark.executor.cores": "4"},
    "metadata": {"colour": "blue"},
    "idle_timeout": "30 min",
    "max_lifetime": "4h",
    "cluster_config_overrides": {
        "config": {"gceClusterConfig": {"confidentialInstanceConfig": {"enableConfidentialCompute": True}}},
        "labels": {"cost": "low"},
    },
}
SINGLE: dict[str, Any] = {"workers": 1, "dask": "image", "image": "projects/p/global/images/dask", "logging": False}
YARN: dict[str, Any] = {"runtime": "yarn", "memory": "4 GiB", "autoscaling_policy": "etl", "tls": True}
#: fields that say with whom to speak, and what to do before
NOT_ASKED_FOR = {
    "conn_id": "by whose account",
    "project_id": "or the connection's: it is in the request's path and body, see test_dataproc_access.py",
    "max_cost": "compared before, see test_costs.py",
}


def test_no_field_is_forgotten() -> None:
    known = {field.name for field in fields(DataprocCluster)}
    assert {*WHOLE, *SINGLE, *YARN} == known - set(NOT_ASKED_FOR)
    assert set(NOT_ASKED_FOR) <= known
    plain = DataprocCluster(region="europe-west1")
    for given in (WHOLE, SINGLE, YARN):  # what is as it would be anyway proves nothing
        assert [name for name, value in given.items() if value == getattr(plain, name)] in (["region"], [])


def test_every_field_reaches_its_place() -> None:
    spec = DataprocCluster(**WHOLE)
    handle = {"idle_timeout": 1800.0, "min_workers": 4, "ready_timeout": 1200.0}
    balanced = {"bootDiskType": "pd-balanced", "bootDiskSizeGb": 100}
    assert request(spec) == {
        "projectId": "acme-data",
        "clusterName": OWNER.name,
        "labels": {
            "team": "etl",
            "cost": "low",
            "dask-provider-instance": "6754af9632a2745e",
            "dask-provider-attempt": "1",
            "dask-provider-started": "0",
            "dask-provider-spec": spec.hash(),
        },
        "config": {
            "configBucket": "acme-staging",
            "tempBucket": "acme-temp",
            "gceClusterConfig": {
                "zoneUri": "europe-west1-b",
                "subnetworkUri": "projects/p/regions/europe-west1/subnetworks/services",
                "internalIpOnly": False,
                "serviceAccount": "dask@acme-data.iam.gserviceaccount.com",
                "serviceAccountScopes": ["https://www.googleapis.com/auth/cloud-platform"],
                "tags": ["dataproc"],
                "shieldedInstanceConfig": {
                    "enableSecureBoot": True,
                    "enableVtpm": True,
                    "enableIntegrityMonitoring": True,
                },
                "confidentialInstanceConfig": {"enableConfidentialCompute": True},
                "metadata": {
                    "colour": "blue",
                    "dask-provider-owner": json.dumps(OWNER.labels(), sort_keys=True),
                    "dask-provider-handle": json.dumps(handle),
                    "dask-provider-job-properties": '{"spark.executor.cores": "4"}',
                    "dask-runtime": "standalone",
                    "dask-timeout": "480",
                    "dask-version": "2026.8.0",
                    "dask-wheelhouse": "gs://acme-wheels/2026/",
                    "dask-packages": "gcsfs==2026.10.1 dask-ml==2025.1.0 xgboost==3.1.0",
                    "dask-worker-threads": "2",
                    "dask-worker-memory": "6442450944B",
                    "dask-worker-on-master": "false",
                    "dask-env": "A=1\nB=2",
                    "nfs_server": "10.1.0.2",
                    "nfs_export_dir": "/share",
                    "nfs_mount_point": "/mnt/shared",
                },
            },
            "masterConfig": {"numInstances": 1, "machineTypeUri": "n2-highmem-4", "diskConfig": balanced},
            "workerConfig": {
                "numInstances": 3,
                "machineTypeUri": "n2-standard-8",
                "diskConfig": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 200, "numLocalSsds": 1},
            },
            "secondaryWorkerConfig": {
                "numInstances": 2,
                "preemptibility": "PREEMPTIBLE",
                "machineTypeUri": "n2-standard-8",
                "diskConfig": balanced,
            },
            "softwareConfig": {
                "imageVersion": "2.2.63-debian12",
                "properties": {
                    "spark:spark.driver.memory": "8g",
                    "dataproc:dataproc.logging.stackdriver.enable": "true",
                    "dataproc:dataproc.monitoring.stackdriver.enable": "false",
                    "dataproc:dataproc.cluster-ttl.consider-yarn-activity": "false",
                },
            },
            "initializationActions": [
                {"executableFile": uri, "executionTimeout": "600s"}
                for uri in (SCRIPTS["nfs"], "gs://acme/setup.sh", SCRIPTS["dask"])
            ],
            "encryptionConfig": {"gcePdKmsKeyName": KEY, "kmsKey": KEY},
            "lifecycleConfig": {"idleDeleteTtl": "1800s", "autoDeleteTtl": "14400s"},
        },
    }


def test_one_machine_that_does_it_all() -> None:
    config = request(DataprocCluster(region="europe-west1", **SINGLE))["config"]
    assert "workerConfig" not in config
    assert "imageVersion" not in config["softwareConfig"]
    assert config["masterConfig"]["imageUri"] == "projects/p/global/images/dask"
    assert config["softwareConfig"]["properties"] == {
        "dataproc:dataproc.allow.zero.workers": "true",
        "dataproc:dataproc.logging.stackdriver.enable": "false",
        "dataproc:dataproc.monitoring.stackdriver.enable": "true",
        "dataproc:dataproc.cluster-ttl.consider-yarn-activity": "false",
    }
    assert config["gceClusterConfig"]["metadata"]["dask-worker-on-master"] == "true"
    assert "dask-version" not in config["gceClusterConfig"]["metadata"]


def test_google_s_own_action() -> None:
    made = request(DataprocCluster(region="europe-west1", dask="google"))
    uri = "gs://goog-dataproc-initialization-actions-europe-west1/dask/dask.sh"
    assert [action["executableFile"] for action in made["config"]["initializationActions"]] == [uri]
    assert made["config"]["gceClusterConfig"]["metadata"]["dask-runtime"] == "standalone"
    assert python(made) == "/opt/conda/miniconda3/envs/dask/bin/python"
    another = PUBLIC_ACTION.format(region="europe-west1").replace("dask/dask", "connectors/connectors")
    spec = DataprocCluster(region="europe-west1", initialization_actions=[another])
    assert python(request(spec)) == "/opt/dask/bin/python"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"config": {"lifecycleConfig": None}}, "lifecycleConfig.idleDeleteTtl"),
        ({"config": {"lifecycleConfig": {"autoDeleteTtl": None}}}, "lifecycleConfig.autoDeleteTtl"),
        ({"config": {"gceClusterConfig": None}}, "metadata dask-provider-owner"),
        (
            {"config": {"gceClusterConfig": {"metadata": {"dask-provider-job-properties": '{"spark.x": "1"}'}}}},
            "metadata dask-provider-job-properties",
        ),
        ({"labels": {"dask-provider-instance": "x"}}, "label dask-provider-instance"),
        ({"labels": {f"label-{number}": "x" for number in range(27)}}, "at most 26 labels"),
    ],
)
def test_overrides_that_would_leave_the_cluster_to_nobody(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        request(DataprocCluster(region="europe-west1", cluster_config_overrides=overrides))


def test_durations_end_with_s() -> None:
    assert [duration(seconds) for seconds in (600, 0.5, 86400.0)] == ["600s", "0.5s", "86400s"]


def test_an_elastic_cluster_begins_with_its_minimum() -> None:
    spec = DataprocCluster(region="europe-west1", workers=(2, 10), worker="e2-standard-4", preemptibility="SPOT")
    scripts = {**SCRIPTS, "elastic": "gs://staging/dask-provider/elastic-1.py"}
    place: dict[str, Any] = {"project_id": "acme-data", "bucket": "dask", "versions": VERSIONS}
    made, fixed = cluster_request(spec, OWNER, PLANNED, scripts=scripts, **place), request(replace(spec, workers=2))
    machines = fixed["config"]["workerConfig"]
    assert made["config"].pop("secondaryWorkerConfig") == {**machines, "numInstances": 0, "preemptibility": "SPOT"}
    assert made["labels"].pop("dask-provider-workers") == "2-10"
    assert made["config"]["gceClusterConfig"]["metadata"].pop("dask-elastic") == scripts["elastic"]
    assert made["labels"].pop("dask-provider-spec") != fixed["labels"].pop("dask-provider-spec")
    assert made == fixed
    for label in ("2-10000", None):
        wrong = replace(spec, cluster_config_overrides={"labels": {"dask-provider-workers": label}})
        with pytest.raises(InvalidInput, match="another label dask-provider-workers"):
            cluster_request(wrong, OWNER, PLANNED, scripts=scripts, **place)


@pytest.mark.parametrize("name", ["etl", "projects/acme-data/regions/europe-west1/autoscalingPolicies/etl"])
def test_an_autoscaling_policy_is_named_in_full(name: str) -> None:
    config = request(DataprocCluster(region="europe-west1", **{**YARN, "autoscaling_policy": name}))["config"]
    full = name if "/" in name else "projects/acme-data/locations/europe-west1/autoscalingPolicies/etl"
    assert config["autoscalingConfig"] == {"policyUri": full}
    assert json.loads(config["gceClusterConfig"]["metadata"]["dask-provider-yarn"])["tls"] is True


@pytest.mark.parametrize(
    ("size", "master", "workers", "machines"),
    [
        ("small_etl", "n2-standard-2", 2, "n2-standard-2"),
        ("medium_etl", "n2-standard-4", 4, "n2-standard-4"),
        ("large_etl", "n2-standard-4", 8, "n2-standard-8"),
        ("ml_training", "n2-highmem-4", 6, "n2-highmem-4"),
        ("interactive", "n2-standard-4", 2, "n2-standard-4"),
    ],
)
def test_machines_of_common_kinds_of_work(size: str, master: str, workers: int, machines: str) -> None:
    config = request(DataprocCluster.sized(size, region="europe-west1"))["config"]
    groups = [name for name in config if name.endswith(("masterConfig", "orkerConfig"))]
    asked = {name: (config[name]["numInstances"], config[name]["machineTypeUri"]) for name in groups}
    assert asked == {"masterConfig": (1, master), "workerConfig": (workers, machines)}
