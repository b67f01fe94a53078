"""``airflow-dask preflight dataproc`` against the APIs that it asks: whatever is missing is named, with a remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dask_provider.cli import main
from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.clusters.dataproc_fields import NfsMount
from dask_provider.hooks.dataproc.preflight import preflight
from dask_provider.hooks.dataproc.preflight_checks import Check

from tests.servers.dataproc.neighbours import PROJECT
from tests.servers.dataproc.server import DataprocServer

pytest_plugins = ["tests.servers.gcs", "tests.servers.dataproc.fixtures"]

KEY = "projects/dask-tests/locations/europe-west1/keyRings/data/cryptoKeys/disks"
ROLE = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
AGENTS = [
    f"serviceAccount:service-{PROJECT['number']}@{name}.iam.gserviceaccount.com"
    for name in ("compute-system", "dataproc-accounts", "gs-project-accounts")
]
KEYS = {KEY: {"bindings": [{"role": ROLE, "members": AGENTS}]}}
LESS_KEYS = {KEY: {"bindings": [{"role": ROLE, "members": AGENTS[:2]}]}}
ABROAD = KEY.replace("europe-west1", "europe-west4")
ELSEWHERE = KEY.replace("europe-west1", "europe")


@pytest.fixture
def project(empty_dataproc: DataprocServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataprocServer]:
    """One in which nothing is missing."""
    server = empty_dataproc
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_TESTS", server.connection(**{"gcs.endpoint": server.url}))
    monkeypatch.setenv("AIRFLOW__DASK__STAGING", "gs://preflight-staging/dask/")
    server.admin("PATCH", "settings", {"project": {"keys": KEYS}})
    before = server.calls()
    yield server
    asked = {name for name, count in server.calls().items() if count > before.get(name, 0)}
    assert {name for name in asked if name.startswith(("clusters.", "jobs."))} <= {"clusters.list"}, "it only asks"


@pytest.fixture(autouse=True)
def bucket(gcs_server: Any) -> None:
    gcs_server.make_bucket("preflight-staging")


def spec(**fields: Any) -> DataprocCluster:
    whole: dict[str, Any] = {
        "conn_id": "google_tests",
        "region": "europe-west1",
        "zone": "europe-west1-b",
        "subnetwork": "services",
        "service_account": "runner@dask-tests.iam.gserviceaccount.com",
        "kms_key": KEY,
        "nfs": NfsMount("10.9.8.7", "/export"),
        "workers": 4,
        "worker": "n2-standard-8",
        "secondary_workers": 2,
    }
    return DataprocCluster(**{**whole, **fields})


async def test_where_nothing_is_missing_all_is_well(project: DataprocServer) -> None:
    found = await preflight(spec())
    assert {check.state for check in found} == {"ok"}, found
    names = ["credentials", "APIs", "rights at Dataproc", "region", "subnetwork", "quota", "buckets", "service account"]
    assert [check.name for check in found] == [*names, "KMS key", "NFS export", "costs"]
    # Dataproc chooses a zone, of which one has all machines; the key is one of several regions.
    lacking = {"europe-west1-b": ["n2-standard-8"], "europe-west1-c": ["n2-standard-4"]}
    project.admin("PATCH", "settings", {"project": {"keys": {ELSEWHERE: KEYS[KEY]}, "absent": lacking}})
    found = await preflight(spec(zone=None, kms_key=ELSEWHERE))
    assert {check.state for check in found} == {"ok"}, found
    assert (
        _one(found, "region").text == "zone europe-west1-d has n2-standard-4, n2-standard-8; Dataproc chooses the zone"
    )
    # What the spec does not want is not asked for; the machines then run as the project's default account.
    plain = DataprocCluster(conn_id="google_tests", region="europe-west1", internal_ip_only=False)
    small = await preflight(plain)
    assert [check.name for check in small] == [*names, "costs"]
    assert {check.state for check in small} == {"ok"}, small
    assert "415104041262-compute@developer" in small[-2].text


FAILURES = [
    ("APIs", {"disabled": ["cloudkms.googleapis.com"]}, {}, "not enabled: cloudkms", "gcloud services enable cloudkms"),
    (
        "rights at Dataproc",
        {"disabled": ["dataproc.googleapis.com"]},
        {},
        "dataproc.googleapis.com has not been used",
        "gcloud services enable dataproc.googleapis.com --project dask-tests",
    ),
    (
        "rights at Dataproc",
        {"denied": ["dataproc.jobs.create"]},
        {},
        "missing: dataproc.jobs.create",
        "dataproc.editor",
    ),
    (
        "rights at Dataproc",
        {"denied": ["dataproc.jobs.delete", "dataproc.autoscalingPolicies.use"]},
        {"runtime": "yarn", "memory": "4 GiB", "autoscaling_policy": "preflight"},
        "missing: dataproc.jobs.delete, dataproc.autoscalingPolicies.use",
        "dataproc.editor",
    ),
    ("region", {}, {"region": "europe-west9", "zone": None}, "no region europe-west9", "regions list"),
    ("region", {}, {"zone": "europe-west1-a"}, "no zone europe-west1-a", "europe-west1-c"),
    ("region", {"machine_types": ["n2-standard-4"]}, {}, "has no machines n2-standard-8", "machine-types list"),
    (
        "region",
        {"absent": {f"europe-west1-{zone}": ["n2-standard-8"] for zone in "bcd"}},
        {"zone": None},
        "zone europe-west1-d has no machines n2-standard-8",
        "--zones europe-west1-b,europe-west1-c,europe-west1-d",
    ),
    ("region", {"disabled": ["compute.googleapis.com"]}, {}, "has not been used", "gcloud services enable"),
    (
        "subnetwork",
        {},
        {"subnetwork": "lost"},
        "no subnetwork lost in europe-west1 of project dask-tests",
        "subnetwork",
    ),
    (
        "subnetwork",
        {},
        {"subnetwork": "projects/dask-tests/regions/us-central1/subnetworks/services"},
        "is not in europe-west1",
        "of that region",
    ),
    (
        "subnetwork",
        {},
        {"subnetwork": None, "image_version": "2.1-debian11"},
        "default has no Private Google Access",
        "--enable-private-ip-google",
    ),
    (
        "subnetwork",
        {},
        {"subnetwork": None, "image": "projects/p/global/images/dask"},
        "default has no Private Google Access",
        "--enable-private-ip-google",
    ),
    (
        "quota",
        {"regional_quotas": {**PROJECT["regional_quotas"], "N2_CPUS": [170, 200]}},
        {},
        "N2_CPUS: 52 wanted, 30 left of 200",
        "ask for more",
    ),
    ("quota", {"quotas": {"CPUS_ALL_REGIONS": [0, 12]}}, {}, "CPUS_ALL_REGIONS: 36 wanted, 12 left", "fewer"),
    ("quota", {}, {"worker": {"disk_gb": 2000}}, "SSD_TOTAL_GB: 12100 wanted, 5000 left", "fewer"),
    ("buckets", {}, {"temp_bucket": "no-such-bucket"}, "there is no bucket no-such-bucket", "buckets create"),
    (
        "buckets",
        {"denied": ["storage.objects.create"]},
        {},
        "preflight-staging: missing storage.objects.create",
        "storage.objectAdmin",
    ),
    (
        "buckets",
        {"denied": ["storage.buckets.get"]},
        {},
        "preflight-staging: missing storage.buckets.get",
        "storage.legacyBucketReader",
    ),
    ("service account", {}, {"service_account": "lost@dask-tests.iam.gserviceaccount.com"}, "is not there", "in use"),
    ("service account", {}, {"service_account": "old@dask-tests.iam.gserviceaccount.com"}, "is disabled", "in use"),
    ("service account", {"denied": ["iam.serviceAccounts.actAs"]}, {}, "may not start", "iam.serviceAccountUser"),
    ("KMS key", {"keys": {ABROAD: KEYS[KEY]}}, {"kms_key": ABROAD}, "is not in europe-west1", "a key of that region"),
    ("KMS key", {"keys": {}}, {}, "there is no key", "set DataprocCluster.kms_key"),
    ("KMS key", {"keys": {KEY: {"state": "DESTROYED"}}}, {}, "primary version DESTROYED", "ENCRYPT_DECRYPT"),
    ("NFS export", {}, {"nfs": NfsMount("10.9.8.7", "/data")}, "Filestore shared has no /data", "['/export']"),
    (
        "NFS export",
        {"filestores": {"shared": {"ip": "10.9.8.7", "shares": ["export"], "state": "REPAIRING"}}},
        {},
        "Filestore shared is REPAIRING",
        "READY",
    ),
    ("costs", {}, {"max_cost": 0.5}, "max_cost", ""),
]


@pytest.mark.parametrize(("name", "project_has", "fields", "text", "remedy"), FAILURES)
async def test_what_is_missing_is_named_with_its_remedy(
    project: DataprocServer, name: str, project_has: dict[str, Any], fields: dict[str, Any], text: str, remedy: str
) -> None:
    project.admin("PATCH", "settings", {"project": {"keys": KEYS, **project_has}})
    found = _one(await preflight(spec(**fields)), name)
    assert found.state == "failed", found
    assert text in found.text
    assert remedy in found.remedy


async def test_another_project_is_told(project: DataprocServer) -> None:
    with project.settings(projects=["acme-data"]):
        found = _one(await preflight(spec()), "rights at Dataproc")
    assert (found.state, "projects/dask-tests" in found.remedy) == ("failed", True), found


#: several types for the secondary workers, of which Dataproc takes what there is
FLEXIBLE = {
    "config": {
        "secondaryWorkerConfig": {
            "machineTypeUri": None,
            "instanceFlexibilityPolicy": {"instanceSelectionList": [{"machineTypes": ["n2-highmem-8"], "rank": 0}]},
        }
    }
}
UNKNOWN = [
    ("APIs", {"denied": ["serviceusage.services.get"]}, {}, "services.get"),
    ("region", {"denied": ["compute.regions.get"]}, {}, "compute.regions.get"),
    ("region", {}, {"cluster_config_overrides": FLEXIBLE}, "has n2-standard-4, n2-standard-8; others have no type"),
    ("subnetwork", {"denied": ["compute.subnetworks.get"]}, {}, "compute.subnetworks.get"),
    ("subnetwork", {}, {"subnetwork": None}, "Dataproc gives it that by itself, if it may"),
    ("growth", {}, {"workers": (2, 4), "secondary_workers": 0}, "needs dataproc.clusters.get, "),
    ("quota", {"denied": ["compute.projects.get"]}, {}, "compute.projects.get"),
    ("quota", {"regional_quotas": {"N2_CPUS": [0, 200]}}, {}, "the API does not tell: INSTANCES, SSD_TOTAL_GB"),
    ("rights at Dataproc", {"disabled": ["cloudresourcemanager.googleapis.com"]}, {}, "cloudresourcemanager"),
    ("NFS export", {"disabled": ["file.googleapis.com"]}, {}, "file.googleapis.com"),
    ("KMS key", {"denied": ["cloudkms.cryptoKeys.getIamPolicy"]}, {}, "getIamPolicy"),
    ("KMS key", {"keys": {KEY: {}}}, {}, f"maybe one further up: {', '.join(AGENTS)}"),
    ("KMS key", {"keys": LESS_KEYS}, {}, f"maybe one further up: {AGENTS[2]}"),
    ("NFS export", {"denied": ["file.instances.list"]}, {}, "file.instances.list"),
    ("NFS export", {}, {"nfs": NfsMount("10.0.0.9", "/export")}, "no Filestore of the project has 10.0.0.9"),
    ("costs", {}, {"worker": {"disk_type": "hyperdisk-balanced"}}, "cost unknown"),
]


@pytest.mark.parametrize(("name", "project_has", "fields", "text"), UNKNOWN)
async def test_what_nobody_tells_is_unknown_and_not_well(
    project: DataprocServer, name: str, project_has: dict[str, Any], fields: dict[str, Any], text: str
) -> None:
    project.admin("PATCH", "settings", {"project": {"keys": KEYS, **project_has}})
    found = _one(await preflight(spec(**fields)), name)
    assert found.state == "unknown", found
    assert text in found.text


async def test_a_policy_has_to_be_there_and_its_machines_count(project: DataprocServer) -> None:
    path = "/v1/projects/dask-tests/regions/europe-west1/autoscalingPolicies"
    grows = spec(workers=(2, 30), runtime="yarn", memory="4 GiB", secondary_workers=0, autoscaling_policy="preflight")
    found = await preflight(grows)
    assert _one(found, "autoscaling policy").state == "failed"
    assert _one(found, "costs").state == "unknown"
    quota = _one(found, "quota")
    assert (quota.state, "preflight decides how many" in quota.text) == ("unknown", True), quota
    yarn = {"scaleUpFactor": 0.5, "scaleDownFactor": 0.5, "gracefulDecommissionTimeout": "0s"}
    wanted = {"id": "preflight", "basicAlgorithm": {"yarnConfig": yarn}, "workerConfig": {"maxInstances": 30}}
    status, answer = project.request("POST", path, wanted)
    assert status == 200, answer
    try:
        found = await preflight(grows)
        assert _one(found, "autoscaling policy").text == "at most 30 workers"
        assert _one(found, "costs").state == "ok"
        assert "N2_CPUS: 244 wanted, 200 left" in _one(found, "quota").text
    finally:
        project.request("DELETE", f"{path}/preflight")


async def test_what_may_come_to_an_elastic_cluster_needs_room_of_its_kind(project: DataprocServer) -> None:
    # 36 for the primary ones and the master, 28 of them spot machines of 8 CPUs.
    grows = spec(workers=(4, 32), secondary_workers=0)
    quotas = {**PROJECT["regional_quotas"], "N2_CPUS": [0, 36], "PREEMPTIBLE_CPUS": [0, 223]}
    project.admin("PATCH", "settings", {"project": {"keys": KEYS, "regional_quotas": quotas}})
    found = _one(await preflight(grows), "quota")
    assert (found.state, found.text) == ("failed", "PREEMPTIBLE_CPUS: 224 wanted, 223 left of 223")


async def test_spot_machines_use_their_own_quota_if_there_is_one(project: DataprocServer) -> None:
    quotas = {**PROJECT["regional_quotas"], "N2_CPUS": [0, 36], "PREEMPTIBLE_CPUS": [0, 16]}
    project.admin("PATCH", "settings", {"project": {"keys": KEYS, "regional_quotas": quotas}})
    assert _one(await preflight(spec()), "quota").state == "ok"
    less = {**quotas, "PREEMPTIBLE_CPUS": [0, 15]}
    project.admin("PATCH", "settings", {"project": {"keys": KEYS, "regional_quotas": less}})
    assert "PREEMPTIBLE_CPUS: 16 wanted, 15 left" in _one(await preflight(spec()), "quota").text


async def test_storms_pass_and_one_who_is_away_is_unknown(
    project: DataprocServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.fault("refuse", method="compute.subnetworks.get", code="UNAVAILABLE", count=2)
    assert _one(await preflight(spec()), "subnetwork").state == "ok"
    monkeypatch.setattr("dask_provider.hooks.dataproc.preflight.PATIENCE", 0.1)
    project.fault("refuse", method="compute.subnetworks.get", code="UNAVAILABLE", count=None)
    found = _one(await preflight(spec()), "subnetwork")
    assert (found.state, "UNAVAILABLE" in found.text or "HTTP 503" in found.text) == ("unknown", True), found


def test_the_command_prints_a_table_and_tells_by_its_exit_code(
    project: DataprocServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps({"conn_id": "google_tests", "region": "europe-west1", "subnetwork": "lost"}))
    command = ["preflight", "dataproc", "--spec", str(path)]
    assert main([*command, "subnetwork=services", "workers=3"]) == 0
    well = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in well), well
    assert main(command) == 1
    printed = capsys.readouterr().out
    assert "failed   subnetwork          there is no subnetwork lost" in printed
    assert "-> set DataprocCluster.subnetwork to one that is there" in printed
    assert main([*command, "subnetwork=services", 'nfs={"server": "10.0.0.9", "export": "/x"}']) == 3
    assert "unknown  NFS export" in capsys.readouterr().out
    for wrong, named in (("workers=0", "DataprocCluster.workers"), ("colour=red", "colour"), ("region", "FIELD=VALUE")):
        assert main([*command, wrong]) == 2
        assert named in capsys.readouterr().err
    assert main(["preflight", "dataproc", "--spec", str(tmp_path / "none.json")]) == 2


async def test_without_an_account_nothing_else_is_asked(
    project: DataprocServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = project.calls()
    (found,) = await preflight(spec(conn_id="nobody_made_it"))
    assert (found.name, found.state) == ("credentials", "failed")
    assert "nobody_made_it" in found.text
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_TESTS", project.connection(project=""))
    (found,) = await preflight(spec())
    assert "project_id" in found.text
    assert project.calls() == before


def _one(checks: list[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found
