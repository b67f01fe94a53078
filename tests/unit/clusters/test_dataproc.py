"""The fields of DataprocCluster: what is refused before money is spent, and what follows from them."""

import json
from typing import Any

import pytest
from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.clusters.dataproc_fields import Machines, NfsMount
from dask_provider.errors import InvalidInput

REGION = "europe-west1"

REFUSED = [
    ("project_id", {"project_id": "Acme Data"}, "a project id like"),
    ("project_id", {"project_id": "123456789012"}, "not its number"),
    ("region", {"region": "europe-west1-b"}, 'a region like "europe-west1"'),
    ("zone", {"zone": "europe-west1"}, 'a zone like "europe-west1-b"'),
    ("image_version", {"image_version": "latest"}, "2.2-debian12"),
    ("subnetwork", {"subnetwork": "projects/p/subnetworks/x"}, "regions/R/subnetworks"),
    ("service_account", {"service_account": "runner"}, "e-mail"),
    ("kms_key", {"kms_key": "my-key"}, "cryptoKeys"),
    ("staging_bucket", {"staging_bucket": "gs://acme-staging"}, 'without "gs://"'),
    ("temp_bucket", {"temp_bucket": "gs://acme-temp"}, 'without "gs://"'),
    ("conn_id", {"conn_id": ""}, "an Airflow connection"),
    ("workers", {"workers": (1, 10)}, "at least 2"),
    ("workers", {"workers": (2, 10), "dask": "google"}, "one number with dask='google'"),
    ("workers", {"workers": (2, 10), "runtime": "yarn", "memory": "4 GiB"}, "autoscaling_policy="),
    ("secondary_workers", {"workers": (2, 10), "secondary_workers": 1}, "0 where workers is a pair"),
    ("min_ready_workers", {"workers": (2, 10), "min_ready_workers": 3}, "at most 2"),
    ("autoscaling_policy", {"autoscaling_policy": "etl"}, "workers=(2, 10) follows Dask"),
    ("autoscaling_policy", {"autoscaling_policy": "policies/etl", "runtime": "yarn"}, "autoscalingPolicies/NAME"),
    ("workers", {"workers": 0}, "at least 1"),
    ("tls", {"tls": True}, "no certificates"),
    ("secondary_workers", {"workers": 1, "secondary_workers": 2}, "0 with workers=1"),
    ("secondary_workers", {"secondary_workers": -1}, "a whole number"),
    ("min_ready_workers", {"min_ready_workers": 5, "secondary_workers": 2}, "at most 4"),
    ("preemptibility", {"preemptibility": "spot"}, "SPOT"),
    ("master.machine_type", {"master": "big"}, "a machine type"),
    ("worker.disk_gb", {"worker": {"disk_gb": 10}}, "at least 30"),
    ("worker", {"worker": {"cpus": 4}}, "machine_type, disk_gb"),
    ("worker", {"worker": "e2-micro"}, "names its CPUs"),
    ("secondary_worker.disk_type", {"secondary_worker": {"disk_type": "ssd"}}, "pd-ssd"),
    ("secondary_worker.machine_type", {"secondary_worker": "n2-highmem-4"}, "n2-standard-4, the type of worker"),
    ("env", {"env": {"A": "it's"}}, "without single quotes"),
    ("runtime", {"runtime": "spark"}, "standalone"),
    ("memory", {"runtime": "yarn"}, "YARN is asked for it"),
    ("dask", {"runtime": "yarn", "memory": "4 GiB", "dask": "google"}, "Dask of 2022"),
    ("dask", {"dask": "conda"}, "pypi"),
    ("packages", {"packages": ["dask-ml"]}, "pinned"),
    ("packages", {"packages": ["dask-ml==2025.1.0"], "dask": "image"}, "nothing is installed"),
    ("env", {"env": {"A": "1"}, "dask": "google"}, "starts workers as it likes"),
    ("initialization_actions", {"initialization_actions": ["setup.sh"]}, "gs://"),
    ("setup_timeout", {"setup_timeout": "ten minutes"}, "seconds above zero"),
    ("idle_timeout", {"idle_timeout": "1 min"}, "5 min to 14 days"),
    ("max_lifetime", {"max_lifetime": "5 min"}, "10 min to 14 days"),
    ("max_lifetime", {"max_lifetime": "15d"}, "10 min to 14 days"),
    ("tags", {"tags": ["Dask"]}, "a-z"),
    ("labels", {"labels": {"Team": "etl"}}, "a-z"),
    ("labels", {"labels": {"goog-x": "etl"}}, "goog-"),
    ("properties", {"properties": {"dask:dask.scheduler.port": "8786"}}, 'not "dask:"'),
    ("properties", {"properties": {"spark:spark.driver.cores": 4}}, "text as the value"),
    ("job_properties", {"job_properties": {"spark:spark.driver.memory": "8g"}}, 'without the "spark:"'),
    ("job_properties", {"job_properties": {"spark.submit.deployMode": "cluster"}}, "set for every job"),
    ("job_properties", {"job_properties": {"spark.driver.cores": 4}}, "text as the value"),
    ("metadata", {"metadata": {"dask-runtime": "yarn"}}, "do not begin"),
    ("nfs", {"nfs": {"server": "10.0.0.2"}}, "NfsMount"),
    ("nfs", {"nfs": "10.0.0.2:/share"}, "NfsMount"),
    ("shielded", {"shielded": "yes"}, "True or False"),
    ("max_cost", {"max_cost": 0}, "a number above 0"),
    ("max_cost", {"max_cost": "cheap"}, "a number above 0"),
    ("max_cost", {"max_cost": float("nan")}, "a number above 0"),
    ("cluster_config_overrides", {"cluster_config_overrides": {"gceClusterConfig": {}}}, "config and labels"),
]


@pytest.mark.parametrize(("field", "given", "allowed"), REFUSED)
def test_refused(field: str, given: dict[str, Any], allowed: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        DataprocCluster(**{"region": REGION, **given})
    assert refused.value.field == f"DataprocCluster.{field}"
    assert allowed in str(refused.value)


def test_templates_are_checked_once_they_are_rendered() -> None:
    names = ("project_id", "region", "subnetwork", "service_account", "staging_bucket")
    spec = DataprocCluster(
        **{name: f"{{{{ var.value.{name} }}}}" for name in names},
        workers="{{ low }}",
        nfs=NfsMount("{{ ip }}", "/share"),
        worker=Machines("{{ type }}"),
        threads=4,
    )
    values = {
        "{{ var.value.project_id }}": "acme-data",
        "{{ var.value.region }}": REGION,
        "{{ var.value.subnetwork }}": "services",
        "{{ var.value.service_account }}": "dask@acme-data.iam.gserviceaccount.com",
        "{{ var.value.staging_bucket }}": "acme-staging",
        "{{ low }}": "3",
        "{{ ip }}": "10.1.0.2",
        "{{ type }}": "n2-highmem-8",
    }

    def render(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(render, value))
        return values.get(value, value) if isinstance(value, str) else value

    rendered = spec.rendered(render)
    assert rendered.worker_range == (3, 3)
    assert rendered.nfs_mount == NfsMount("10.1.0.2", "/share")
    assert rendered.worker_machines.machine_type == "n2-highmem-8"
    with pytest.raises(InvalidInput, match=r"DataprocCluster\.region"):
        spec.rendered(lambda value: "Europe" if value == "{{ var.value.region }}" else render(value))


@pytest.mark.parametrize(
    ("given", "workers", "threads"),
    [
        ({}, (2, 2), 4),
        ({"workers": 1, "worker": "e2-standard-2"}, (1, 1), 2),
        ({"workers": 10, "secondary_workers": "3", "threads": 2}, (10, 13), 2),
        ({"secondary_workers": 8, "worker": "n2-custom-6-24576"}, (2, 10), 6),
        ({"worker": {"machine_type": "c3-standard-8-lssd"}, "min_ready_workers": 0}, (0, 2), 8),
    ],
)
def test_what_follows_from_the_fields(given: dict[str, Any], workers: tuple[int, int], threads: int) -> None:
    spec = DataprocCluster(region=REGION, **given)
    assert ((spec.ready_workers, spec.most_workers), spec.thread_count) == (workers, threads)


def test_what_is_given_replaces_what_a_size_has() -> None:
    spec = DataprocCluster.sized("large_etl", region=REGION, workers=3)
    assert (spec.worker_range, spec.worker_machines.machine_type) == ((3, 3), "n2-standard-8")


def test_an_unknown_size() -> None:
    with pytest.raises(InvalidInput, match="small_etl, medium_etl"):
        DataprocCluster.sized("huge", region=REGION)


def test_a_spec_is_plain_data_with_a_hash() -> None:
    spec = DataprocCluster(region=REGION, nfs=NfsMount("10.1.0.2", "/share"), worker=Machines(local_ssds=1))
    assert json.loads(json.dumps(spec.to_dict()))["worker"]["local_ssds"] == 1
    again = DataprocCluster(region=REGION, nfs=NfsMount("10.1.0.2", "/share"), worker=Machines(local_ssds=1))
    assert spec.hash() == again.hash() != DataprocCluster(region=REGION).hash()
