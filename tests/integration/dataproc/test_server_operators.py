"""The emulator is Dataproc to the operators of the google provider, too."""

import json

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from airflow.providers.google.cloud.hooks.dataproc import DataprocAsyncHook, DataprocHook
from airflow.providers.google.cloud.operators.dataproc import (
    DataprocCreateClusterOperator,
    DataprocDeleteClusterOperator,
    DataprocSubmitJobOperator,
)
from airflow.providers.google.cloud.triggers.dataproc import DataprocClusterTrigger, DataprocSubmitTrigger

from tests.servers.dataproc.clients import (
    async_cluster_client,
    async_job_client,
    grpc_cluster_client,
    grpc_job_client,
    put_object,
    read_object,
)

pytestmark = pytest.mark.whole
pytest_plugins = ["tests.servers.gcs", "tests.servers.dataproc.fixtures"]

PLACE = {"project_id": "acme", "region": "europe-west1"}


class Instance:
    """The task instance, as far as these operators need it without a scheduler."""

    def __init__(self):
        self.pushed = {}

    def xcom_push(self, key, value):
        self.pushed[key] = value


@pytest.fixture
def server(empty_dataproc, gcs_server, monkeypatch):
    gcs_server.make_bucket("acme-staging")
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT", json.dumps({"conn_type": "google_cloud_platform"}))
    monkeypatch.setattr(
        DataprocHook, "get_cluster_client", lambda self, region=None: grpc_cluster_client(empty_dataproc)
    )
    monkeypatch.setattr(DataprocHook, "get_job_client", lambda self, region=None: grpc_job_client(empty_dataproc))
    return empty_dataproc


def execute(operator):
    instance = Instance()
    return operator.execute({"ti": instance, "task_instance": instance, "task": operator})


def create(**config):
    config = {"config_bucket": "acme-staging", "worker_config": {"num_instances": 2}, **config}
    named = {"cluster_name": "etl", "cluster_config": config, "labels": {"team": "data"}}
    return execute(DataprocCreateClusterOperator(task_id="create", **PLACE, **named))


def submit(server, source):
    uri = put_object(server, "gs://acme-staging/job.py", source)
    job = {"placement": {"cluster_name": "etl"}, "pyspark_job": {"main_python_file_uri": uri, "args": ["7"]}}
    return execute(DataprocSubmitJobOperator(task_id="submit", **PLACE, job=job))


def test_create_submit_delete(server):
    made = create()
    assert (made["cluster_name"], made["labels"]["team"]) == ("etl", "data")
    assert create()["cluster_uuid"] == made["cluster_uuid"]  # it finds the one that is there
    job_id = submit(server, "import sys; print('day', sys.argv[1])")
    job = grpc_job_client(server).get_job(**PLACE, job_id=job_id)
    assert job.status.state.name == "DONE"
    assert read_object(server, f"{job.driver_output_resource_uri}.000000000") == b"day 7\n"
    with pytest.raises(AirflowException, match="Job failed"):
        submit(server, "raise SystemExit(1)")
    execute(DataprocDeleteClusterOperator(task_id="delete", **PLACE, cluster_name="etl"))
    assert not list(grpc_cluster_client(server).list_clusters(**PLACE))
    assert server.calls()["clusters.delete"] == 1


def test_a_failed_create_is_diagnosed_and_deleted(server):
    action = put_object(server, "gs://acme-staging/init.sh", "exit 1")
    with pytest.raises(AirflowException, match="Initialization action failed"):
        create(initialization_actions=[{"executable_file": action}])
    assert not list(grpc_cluster_client(server).list_clusters(**PLACE))
    assert server.calls()["clusters.diagnose"] == 1


async def test_its_triggers(server, monkeypatch):
    """What the operators wait with when they are deferred."""
    made = create()
    uri = put_object(server, "gs://acme-staging/job.py", "raise SystemExit(1)")
    job = {"placement": {"cluster_name": "etl"}, "pyspark_job": {"main_python_file_uri": uri}}
    job_id = grpc_job_client(server).submit_job(**PLACE, job=job).reference.job_id

    async def clusters(self, region=None):
        return async_cluster_client(server)

    async def jobs(self, region=None):
        return async_job_client(server)

    monkeypatch.setattr(DataprocAsyncHook, "get_cluster_client", clusters)
    monkeypatch.setattr(DataprocAsyncHook, "get_job_client", jobs)
    common = {**PLACE, "gcp_conn_id": "google_cloud_default", "polling_interval_seconds": 1}
    event = await anext(DataprocClusterTrigger(cluster_name="etl", **common).run())
    assert (event.payload["cluster_state"], event.payload["cluster"]["cluster_uuid"]) == (
        "RUNNING",
        made["cluster_uuid"],
    )
    event = await anext(DataprocSubmitTrigger(job_id=job_id, **common).run())
    assert (event.payload["job_id"], event.payload["job_state"]) == (job_id, "ERROR")
