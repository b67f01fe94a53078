"""Whole requests, as they go out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.clusters.dataproc_fields import Machines, NfsMount
from dask_provider.errors import InvalidInput
from dask_provider.hooks.dataproc.requests import PUBLIC_ACTION, cluster_request, duration, python
from dask_provider.owner import Owner

OWNER = Owner("prod", "flights", "manual__2026-11-01", "etl")
SCRIPTS = {name: f"gs://staging/dask-provider/{name}-1.sh" for name in ("nfs", "dask")}
VERSIONS = {"dask": "2026.8.0", "gcsfs": "2026.10.1"}


def request(spec: DataprocCluster) -> dict[str, Any]:
    of_place: dict[str, Any] = {"project_id": "acme-data", "scripts": SCRIPTS, "bucket": "dask", "versions": VERSIONS}
    return cluster_request(spec, OWNER, 1, **of_place)


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
                    "dask-worker-threads": "4",
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


def test_every_field_reaches_its_place() -> None:
    key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    spec = DataprocCluster(
        region="europe-west1",
        zone="europe-west1-b",
        workers=2,
        secondary_workers=3,
        preemptibility="PREEMPTIBLE",
        threads=2,
        memory="6 GiB",
        master="n2-highmem-4",
        worker=Machines("n2-standard-8", disk_gb=200, disk_type="pd-ssd", local_ssds=1),
        secondary_worker="e2-standard-8",
        image_version="2.2.63-debian12",
        dask="gs://acme-wheels/2026/",
        packages=["dask-ml==2025.1.0", "xgboost==3.1.0"],
        initialization_actions=["gs://acme/setup.sh"],
        setup_timeout="10 min",
        subnetwork="projects/p/regions/europe-west1/subnetworks/services",
        internal_ip_only=False,
        service_account="dask@acme-data.iam.gserviceaccount.com",
        tags=["dataproc"],
        labels={"team": "etl"},
        env={"B": "2", "A": "1"},
        kms_key=key,
        staging_bucket="acme-staging",
        temp_bucket="acme-temp",
        shielded=True,
        component_gateway=False,
        logging=False,
        nfs=NfsMount("10.1.0.2", "/share"),
        properties={"spark:spark.driver.memory": "8g"},
        metadata={"colour": "blue"},
        idle_timeout="30 min",
        max_lifetime="4h",
        cluster_config_overrides={
            "config": {"gceClusterConfig": {"confidentialInstanceConfig": {"enableConfidentialCompute": True}}},
            "labels": {"cost": "low"},
        },
    )
    made = request(spec)
    config = made["config"]
    assert (made["labels"]["team"], made["labels"]["cost"]) == ("etl", "low")
    assert (config["configBucket"], config["tempBucket"]) == ("acme-staging", "acme-temp")
    network = config["gceClusterConfig"]
    found = network.pop("metadata")
    assert network == {
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
    }
    assert json.loads(found.pop("dask-provider-handle"))["min_workers"] == 2
    assert json.loads(found.pop("dask-provider-owner")) == OWNER.labels()
    assert found == {
        "colour": "blue",
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
    }
    assert config["masterConfig"]["machineTypeUri"] == "n2-highmem-4"
    assert config["workerConfig"] == {
        "numInstances": 2,
        "machineTypeUri": "n2-standard-8",
        "diskConfig": {"bootDiskType": "pd-ssd", "bootDiskSizeGb": 200, "numLocalSsds": 1},
    }
    assert config["secondaryWorkerConfig"] == {
        "numInstances": 3,
        "preemptibility": "PREEMPTIBLE",
        "machineTypeUri": "e2-standard-8",
        "diskConfig": {"bootDiskType": "pd-balanced", "bootDiskSizeGb": 100},
    }
    assert config["softwareConfig"]["imageVersion"] == "2.2.63-debian12"
    assert config["softwareConfig"]["properties"]["spark:spark.driver.memory"] == "8g"
    assert config["softwareConfig"]["properties"]["dataproc:dataproc.logging.stackdriver.enable"] == "false"
    actions = [(action["executableFile"], action["executionTimeout"]) for action in config["initializationActions"]]
    assert actions == [(uri, "600s") for uri in (SCRIPTS["nfs"], "gs://acme/setup.sh", SCRIPTS["dask"])]
    assert config["encryptionConfig"] == {"gcePdKmsKeyName": key, "kmsKey": key}
    assert config["lifecycleConfig"] == {"idleDeleteTtl": "1800s", "autoDeleteTtl": "14400s"}
    assert "endpointConfig" not in config


def test_one_machine_that_does_it_all() -> None:
    made = request(
        DataprocCluster(region="europe-west1", workers=1, dask="image", image="projects/p/global/images/dask")
    )
    config = made["config"]
    assert "workerConfig" not in config
    assert "imageVersion" not in config["softwareConfig"]
    assert config["masterConfig"]["imageUri"] == "projects/p/global/images/dask"
    assert config["softwareConfig"]["properties"]["dataproc:dataproc.allow.zero.workers"] == "true"
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
        ({"labels": {"dask-provider-instance": "x"}}, "label dask-provider-instance"),
        ({"labels": {f"label-{number}": "x" for number in range(27)}}, "at most 26 labels"),
    ],
)
def test_overrides_that_would_leave_the_cluster_to_nobody(overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        request(DataprocCluster(region="europe-west1", cluster_config_overrides=overrides))


def test_durations_end_with_s() -> None:
    assert [duration(seconds) for seconds in (600, 0.5, 86400.0)] == ["600s", "0.5s", "86400s"]
