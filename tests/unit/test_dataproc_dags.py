"""The two DAGs for Dataproc: what they ask of Dataproc, whole requests, with the variables that Terraform sets."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dask_provider._compat import AIRFLOW_3
from dask_provider.errors import InvalidInput
from dask_provider.hooks.dataproc.job_requests import job_request
from dask_provider.hooks.dataproc.requests import OUR_PYTHON, cluster_request
from dask_provider.jobs import Job, make_bundle
from dask_provider.owner import PLANNED, Attempt, Owner

if AIRFLOW_3:
    from airflow.dag_processing.dagbag import DagBag
else:
    from airflow.models.dagbag import DagBag

ROOT = Path(__file__).parents[2]
SUBNETWORK = "projects/acme-dask-dev/regions/europe-west1/subnetworks/dask-dev-services"
RUNTIME = "dask-dev-runtime@acme-dask-dev.iam.gserviceaccount.com"
VARIABLES = {
    "gcp_project_id": "acme-dask-dev",
    "gcp_region": "europe-west1",
    "dataproc_staging_bucket": "acme-dask-dev-dataproc-staging",
    "subnetwork_services_uri": SUBNETWORK,
    "dataproc_runtime_sa_email": RUNTIME,
    "filestore_ip_address": "10.1.0.2",
}
BUCKET = "gs://acme-dask-dev-dataproc-staging"
SCRIPTS = {name: f"{BUCKET}/dask/setup/{name}-1.sh" for name in ("nfs", "dask", "elastic")}
VERSIONS = {"dask": "2026.8.0", "gcsfs": "2026.10.1"}
MIDNIGHT = datetime(2026, 3, 2, tzinfo=timezone.utc)
EPHEMERAL, AUTOSCALE = "dask_dataproc_ephemeral", "dask_dataproc_autoscale"


@pytest.fixture(autouse=True)
def no_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DASK_DATAPROC_FIELDS", raising=False)


def parse(name: str) -> Any:
    path = str(ROOT / "dags" / f"{name}.py")
    bag = DagBag(path) if AIRFLOW_3 else DagBag(path, include_examples=False)
    assert not bag.import_errors, bag.import_errors
    return bag.dags[name]


def context(dag: Any, **more: Any) -> dict[str, Any]:
    """Of a nightly run."""
    params = {key: param.value for key, param in dag.params.items()}
    fields = {"var": {"value": VARIABLES}, "params": params, "macros": SimpleNamespace(timedelta=timedelta)}
    fields["dag_run"] = SimpleNamespace(run_after=MIDNIGHT)
    return {**fields, "data_interval_end": MIDNIGHT, "ds": "2026-03-01", **more}


def cluster_of(dag: Any) -> dict[str, Any]:
    task = dag.get_task("etl.create_cluster")
    spec = task.cluster.rendered(lambda value: task.render_template(value, context(dag), task.get_template_env()))
    owner = Owner("dask-dev", dag.dag_id, "run", "etl")
    needed = {name: uri for name, uri in SCRIPTS.items() if name != "elastic" or spec.elastic}
    of_place: dict[str, Any] = {"project_id": spec.project_id, "scripts": needed, "bucket": "b", "versions": VERSIONS}
    made = cluster_request(spec, owner, PLANNED, **of_place)
    assert (made["clusterName"], made["labels"].pop("dask-provider-spec")) == (owner.name, spec.hash())
    for name in ("dask-provider-instance", "dask-provider-attempt", "dask-provider-started"):
        made["labels"].pop(name)
    for name in ("dask-provider-owner", "dask-provider-handle"):
        made["config"]["gceClusterConfig"]["metadata"].pop(name)
    return made


def arguments_of(dag: Any, **more: Any) -> list[str]:
    task = dag.get_task("etl.run")
    rendered: list[str] = task.render_template(task.arguments, context(dag, **more), task.get_template_env())
    return rendered


def machines(machine_type: str, disk_type: str, gigabytes: int) -> dict[str, Any]:
    return {
        "machineTypeUri": machine_type,
        "diskConfig": {"bootDiskType": disk_type, "bootDiskSizeGb": gigabytes},
    }


def action(name: str) -> dict[str, str]:
    return {"executableFile": SCRIPTS[name], "executionTimeout": "1200s"}


COMMON: dict[str, Any] = {
    "configBucket": "acme-dask-dev-dataproc-staging",
    "tempBucket": "acme-dask-dev-dataproc-staging",
    "softwareConfig": {
        "imageVersion": "2.2-debian12",
        "properties": {
            "dataproc:dataproc.logging.stackdriver.enable": "true",
            "dataproc:dataproc.monitoring.stackdriver.enable": "true",
            "dataproc:dataproc.cluster-ttl.consider-yarn-activity": "false",
        },
    },
    "endpointConfig": {"enableHttpPortAccess": True},
}
NETWORK: dict[str, Any] = {
    "subnetworkUri": SUBNETWORK,
    "internalIpOnly": True,
    "serviceAccount": RUNTIME,
    "serviceAccountScopes": ["https://www.googleapis.com/auth/cloud-platform"],
}
METADATA = {
    "dask-runtime": "standalone",
    "dask-version": "2026.8.0",
    "dask-packages": "gcsfs==2026.10.1 pandas==2.3.3 pyarrow==24.0.0",
    "dask-timeout": "960",
    "dask-worker-on-master": "false",
}


def test_the_cluster_of_ephemeral() -> None:
    assert cluster_of(parse(EPHEMERAL)) == {
        "projectId": "acme-dask-dev",
        "clusterName": Owner("dask-dev", EPHEMERAL, "run", "etl").name,
        "labels": {"environment": "production", "component": "dask", "lifecycle": "ephemeral"},
        "config": {
            **COMMON,
            "gceClusterConfig": {
                **NETWORK,
                "tags": ["dataproc"],
                "metadata": {
                    **METADATA,
                    "nfs_server": "10.1.0.2",
                    "nfs_export_dir": "/export",
                    "nfs_mount_point": "/mnt/shared",
                },
            },
            "masterConfig": {"numInstances": 1, **machines("n2-standard-4", "pd-balanced", 100)},
            "workerConfig": {"numInstances": 2, **machines("n2-standard-4", "pd-balanced", 100)},
            "initializationActions": [action("nfs"), action("dask")],
            "lifecycleConfig": {"idleDeleteTtl": "600s", "autoDeleteTtl": "14400s"},
        },
    }


def test_the_cluster_of_autoscale() -> None:
    dag = parse(AUTOSCALE)
    labels = {"environment": "production", "component": "dask", "scaling": "auto"}
    assert cluster_of(dag) == {
        "projectId": "acme-dask-dev",
        "clusterName": Owner("dask-dev", AUTOSCALE, "run", "etl").name,
        "labels": {**labels, "dask-provider-workers": "2-10"},
        "config": {
            **COMMON,
            "gceClusterConfig": {
                **NETWORK,
                "tags": ["dataproc", "autoscale"],
                "metadata": {**METADATA, "dask-elastic": SCRIPTS["elastic"]},
            },
            "masterConfig": {"numInstances": 1, **machines("n2-highmem-4", "pd-ssd", 100)},
            "workerConfig": {"numInstances": 2, **machines("n2-standard-8", "pd-balanced", 200)},
            # Dataproc adds and removes these alone while the cluster runs.
            "secondaryWorkerConfig": {
                "numInstances": 0,
                "preemptibility": "NON_PREEMPTIBLE",
                **machines("n2-standard-8", "pd-balanced", 200),
            },
            "initializationActions": [action("dask")],
            "lifecycleConfig": {"idleDeleteTtl": "1800s", "autoDeleteTtl": "28800s"},
        },
    }


@pytest.mark.parametrize(
    ("name", "script", "arguments"),
    [
        (
            EPHEMERAL,
            "dask_yarn_example.py",
            [
                *("--input", f"{BUCKET}/data/sample_input.csv"),
                *("--output", f"{BUCKET}/output/2026-03-01/results.csv"),
            ],
        ),
        (
            AUTOSCALE,
            "dask_large_scale_processing.py",
            [
                *("--input-pattern", f"{BUCKET}/large-data/2026-03-01/*.parquet"),
                *("--output-path", f"{BUCKET}/processed/2026-03-01/"),
                *("--min-workers", "2", "--max-workers", "10", "--adaptive-scaling", "true"),
            ],
        ),
    ],
)
def test_the_job(name: str, script: str, arguments: list[str]) -> None:
    dag, owner = parse(name), Owner("dask-dev", name, "run", "etl.run")
    task = dag.get_task("etl.run")
    assert task.render_template(task.script, context(dag), task.get_template_env()) == f"{BUCKET}/jobs/{script}"
    content = (ROOT / "jobs" / script).read_bytes()
    job = Job(script=(script, content), arguments=tuple(arguments_of(dag)), env=task.env)
    bundle = make_bundle(job, owner, f"{BUCKET}/dask/")
    labels = dag.get_task("etl.create_cluster").cluster.labels
    attempt = Attempt(1, fresh=True, last=False, started=1.5)
    of_place: dict[str, Any] = {"cluster": "c", "main": f"{BUCKET}/job.py", "python": OUR_PYTHON, "labels": labels}
    assert job_request(bundle, bundle.job_id(1), attempt, **of_place, properties={}) == {
        "job": {
            "reference": {"jobId": f"{owner.name}-1"},
            "placement": {"clusterName": "c"},
            "labels": {
                **labels,
                "dask-provider-instance": "7a7b4e381b6a140b",
                "dask-provider-owner": owner.name,
                "dask-provider-spec": bundle.spec_hash,
                "dask-provider-attempt": "1",
                "dask-provider-started": str(3 * 2**21),
            },
            "pysparkJob": {
                "mainPythonFileUri": f"{BUCKET}/job.py",
                "properties": {
                    "spark.submit.deployMode": "client",
                    "spark.pyspark.python": "/opt/dask/bin/python",
                    "spark.pyspark.driver.python": "/opt/dask/bin/python",
                },
            },
        }
    }
    of_job: dict[str, Any] = {"scheduler": "tcp://c-m:8786", "tls": None, "min_workers": 2, "ready_timeout": 60}
    told = json.loads(bundle.job_json(f"{owner.name}-1", **of_job, activity_file=None, cluster_env={}))
    assert told["program"] == {"kind": "script", "path": script, "arguments": arguments}
    assert bundle.files[script] == content


def test_days_without_a_logical_date_by_hand_and_in_airflow_3() -> None:
    def day(name: str, without: tuple[str, ...] = (), **more: Any) -> str:
        dag = parse(name)
        known = {key: value for key, value in context(dag, **more).items() if key not in without}
        task = dag.get_task("etl.run")
        target: str = task.render_template(task.arguments, known, task.get_template_env())[3]
        return target.removeprefix(f"{BUCKET}/").split("/")[1]

    assert day(EPHEMERAL, without=("ds",)) == "2026-03-02"
    # Airflow 3 calls a nightly run by the moment when it is due: its ds is the day that only begins.
    assert day(AUTOSCALE, ds="2026-03-02") == "2026-03-01"
    assert day(AUTOSCALE, data_interval_end=None) == "2026-03-01"
    assert day(AUTOSCALE, without=("data_interval_end", "ds")) == "2026-03-01"
    assert day(AUTOSCALE, params={"day": "2025-12-31"}) == "2025-12-31"


def test_when_they_run_and_that_variables_are_read_by_runs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(f"AIRFLOW_VAR_{name.upper()}", raising=False)
    schedules = [
        getattr(parse(name), "schedule" if AIRFLOW_3 else "schedule_interval") for name in (EPHEMERAL, AUTOSCALE)
    ]
    assert schedules == [None, "@daily"]
    for name in (EPHEMERAL, AUTOSCALE):
        used = {word.split("}}")[0].strip() for word in (ROOT / f"dags/{name}.py").read_text().split("var.value.")[1:]}
        assert used <= set(VARIABLES)
        assert used >= set(VARIABLES) - {"filestore_ip_address"}
        dag = parse(name)
        assert not dag.catchup
        assert dag.get_task("etl.run").owner == "data-platform"


class Unset:
    """Airflow's variables, when there are none; or nobody can tell."""

    def __init__(self, reachable: bool) -> None:
        self.reachable = reachable

    def __getattr__(self, name: str) -> Any:
        if not AIRFLOW_3:
            raise KeyError(f"Variable {name} does not exist") if self.reachable else ConnectionError("database")
        from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
        from airflow.sdk.execution_time.comms import ErrorResponse

        found = ErrorType.VARIABLE_NOT_FOUND if self.reachable else ErrorType.API_SERVER_ERROR
        raise AirflowRuntimeError(ErrorResponse(error=found, detail={"message": f"Variable {name} not found"}))


def test_a_variable_that_is_not_set_is_named_and_one_that_cannot_be_read_is_asked_for_again() -> None:
    dag = parse(EPHEMERAL)
    task = dag.get_task("etl.create_cluster")
    task._context = context(dag, var={"value": Unset(reachable=True)})
    with pytest.raises(
        InvalidInput, match=r"gcp_project_id.*allowed: templates whose values are there .*Variable gcp_"
    ):
        task._rendered(task.cluster)
    task._context = context(dag, var={"value": Unset(reachable=False)})
    with pytest.raises(Exception, match=r"API_SERVER_ERROR|database") as unknown:
        task._rendered(task.cluster)
    assert not isinstance(unknown.value, InvalidInput)


def test_fields_of_the_environment_are_laid_over_those_of_the_dag(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    monkeypatch.setenv("DASK_DATAPROC_FIELDS", json.dumps({"kms_key": key, "workers": 3, "nfs": None}))
    for name in (EPHEMERAL, AUTOSCALE):
        made = cluster_of(parse(name))["config"]
        assert made["encryptionConfig"] == {"gcePdKmsKeyName": key, "kmsKey": key}
        assert made["workerConfig"]["numInstances"] == 3
        assert "nfs_server" not in made["gceClusterConfig"]["metadata"]
