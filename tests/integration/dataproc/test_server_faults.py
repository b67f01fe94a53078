"""What tests let go wrong at the emulator goes wrong as it does at Dataproc."""

import http.client

import pytest
from google.api_core import exceptions
from google.api_core.retry import Retry

from tests.servers.dataproc.clients import cluster_client, job_client, put_object, read_object, wait_for

pytest_plugins = ["tests.servers.gcs", "tests.servers.dataproc.fixtures"]

PLACE = {"project_id": "acme", "region": "europe-west1"}
REST = "/v1/projects/acme/regions/europe-west1"
NAMED = {**PLACE, "cluster_name": "etl"}


@pytest.fixture
def server(empty_dataproc, gcs_server):
    gcs_server.make_bucket("acme-staging")
    return empty_dataproc


@pytest.fixture
def clusters(server):
    return cluster_client(server)


def a_cluster(**config):
    return {"project_id": "acme", "cluster_name": "etl", "config": {"config_bucket": "acme-staging", **config}}


def create(clusters, **config):
    return clusters.create_cluster(**PLACE, cluster=a_cluster(**config))


@pytest.mark.parametrize(
    ("script", "timeout", "how"),
    [("echo about to fail; exit 3", 60, "failed"), ("echo about to hang; sleep 600", 1, "timed out")],
)
def test_an_initialization_action_fails(server, clusters, script, timeout, how):
    action = put_object(server, "gs://acme-staging/init.sh", script)
    actions = [{"executable_file": action, "execution_timeout": {"seconds": timeout}}]
    operation = create(clusters, initialization_actions=actions)
    with pytest.raises(exceptions.GoogleAPICallError, match=f"Initialization action {how}. Failed action '{action}'"):
        operation.result(timeout=60)
    cluster = clusters.get_cluster(**NAMED)
    assert cluster.status.state.name == "ERROR"
    uri = next(word for word in cluster.status.detail.split() if word.endswith("script-0_output."))[:-1]
    assert f"/{cluster.cluster_uuid}/etl-" in uri
    assert read_object(server, uri).startswith(b"about to")
    clusters.delete_cluster(**NAMED).result(timeout=60)
    assert not list((server.folder / "nodes").iterdir())


def test_an_initialization_action_fails_on_one_node(server, clusters):
    action = put_object(server, "gs://acme-staging/init.sh", "echo fine")
    server.fault("fail_action", target="etl-w-1", exit_code=7, output="no space left\n")
    with pytest.raises(exceptions.GoogleAPICallError, match="etl-w-1/dataproc-initialization-script-0_output"):
        create(clusters, initialization_actions=[{"executable_file": action}]).result(timeout=60)
    uuid = clusters.get_cluster(**NAMED).cluster_uuid
    uri = f"gs://acme-staging/google-cloud-dataproc-metainfo/{uuid}/etl-w-1/dataproc-initialization-script-0_output"
    assert read_object(server, uri) == b"fine\nno space left\n"


def test_stock_out(server, clusters):
    server.fault("fail_operation", method="clusters.create", code="UNAVAILABLE")
    with pytest.raises(exceptions.ServiceUnavailable, match="europe-west1-a' does not have enough resources"):
        create(clusters).result(timeout=60)
    assert clusters.get_cluster(**NAMED).status.state.name == "ERROR"
    clusters.delete_cluster(**NAMED).result(timeout=60)
    create(clusters).result(timeout=60)
    server.fault("fail_operation", method="clusters.update")
    mask = {"paths": ["config.worker_config.num_instances"]}
    more = {"config": {"worker_config": {"num_instances": 5}}}
    with pytest.raises(exceptions.ServiceUnavailable):
        clusters.update_cluster(request={**NAMED, "cluster": more, "update_mask": mask}).result(timeout=60)
    assert clusters.get_cluster(**NAMED).status.state.name == "ERROR_DUE_TO_UPDATE"
    with pytest.raises(exceptions.BadRequest, match="its state is ERROR_DUE_TO_UPDATE"):
        clusters.update_cluster(request={**NAMED, "cluster": more, "update_mask": mask})


def test_quota(server, clusters):
    machines = {"master_config": {"machine_type_uri": "n2-standard-4"}}
    machines["worker_config"] = {"num_instances": 2, "machine_type_uri": "n2-standard-8"}
    with server.settings(quota={"CPUS": 24, "INSTANCES": 2}):
        with pytest.raises(exceptions.BadRequest, match=r"'INSTANCES' quota. Requested 3.0, available 2.0"):
            create(clusters, **machines)
        server.admin("PATCH", "settings", {"quota": {"CPUS": 24}})
        create(clusters, **machines).result(timeout=60)
        mask = {"paths": ["config.worker_config.num_instances"]}
        more = {"config": {"worker_config": {"num_instances": 3}}}
        with pytest.raises(exceptions.BadRequest, match=r"Insufficient 'CPUS' quota. Requested 8.0, available 4.0"):
            clusters.update_cluster(request={**NAMED, "cluster": more, "update_mask": mask})
    assert clusters.get_cluster(**NAMED).status.state.name == "RUNNING"


def test_missing_permission(server, clusters):
    server.fault("refuse", method="clusters.create", code="PERMISSION_DENIED", count=None)
    status, answer = server.request("POST", f"{REST}/clusters", a_cluster())
    assert (status, answer["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert answer["error"]["details"][0]["metadata"]["permission"] == "dataproc.clusters.create"
    with pytest.raises(exceptions.Forbidden, match=r"Permission 'dataproc.clusters.create' denied"):
        create(clusters)
    assert not list(clusters.list_clusters(**PLACE))
    server.admin("DELETE", "faults")
    create(clusters).result(timeout=60)


def test_a_token_can_be_asked_for(server):
    with server.settings(token="secret"):
        for token in ("", "another"):
            status, answer = server.request("GET", f"{REST}/clusters", token=token)
            assert (status, answer["error"]["status"]) == (401, "UNAUTHENTICATED")
        assert server.request("GET", f"{REST}/clusters", token="secret") == (200, {})


def test_storms_pass(server, clusters):
    create(clusters).result(timeout=60)
    server.fault("refuse", method="clusters.get", code="UNAVAILABLE", count=2)
    server.fault("refuse", method="clusters.get", code="RESOURCE_EXHAUSTED", count=1)
    refused = []
    kinds = (exceptions.ServiceUnavailable, exceptions.TooManyRequests)
    retry = Retry(
        lambda error: isinstance(error, kinds), initial=0.01, on_error=lambda error: refused.append(error.code)
    )
    before = server.calls().get("clusters.get", 0)
    assert clusters.get_cluster(**NAMED, retry=retry).status.state.name == "RUNNING"
    assert refused == [503, 503, 429]
    assert server.calls()["clusters.get"] == before + 4


def test_an_answer_is_lost(server, clusters):
    jobs = job_client(server)
    script = put_object(server, "gs://acme-staging/job.py", "print(1)")
    job = {"placement": {"cluster_name": "etl"}, "pyspark_job": {"main_python_file_uri": script}}
    server.fault("lose_answer", method="clusters.create", target="etl")
    server.fault("lose_answer", method="jobs.submit")
    wanted = {**PLACE, "cluster": a_cluster(), "request_id": "create-1"}
    with pytest.raises(Exception, match="Connection aborted"):
        clusters.create_cluster(request=wanted)
    clusters.create_cluster(request=wanted).result(timeout=60)
    wanted = {**PLACE, "job": job, "request_id": "submit-1"}
    with pytest.raises(Exception, match="Connection aborted"):
        jobs.submit_job(request=wanted)
    again = jobs.submit_job(request=wanted)
    assert [each.job_uuid for each in jobs.list_jobs(**PLACE)] == [again.job_uuid]


def test_a_slow_create_is_cut_short_by_a_delete(server, clusters):
    server.fault("slow", method="clusters.create", seconds=600)
    operation = create(clusters)
    assert clusters.get_cluster(**NAMED).status.state.name == "CREATING"
    job = {"placement": {"cluster_name": "etl"}, "pyspark_job": {"main_python_file_uri": "gs://a/b.py"}}
    with pytest.raises(exceptions.BadRequest, match="cannot accept jobs in state CREATING"):
        job_client(server).submit_job(**PLACE, job=job)
    with server.settings(delays={"delete": 2}):
        deletion = clusters.delete_cluster(**NAMED)
        assert clusters.get_cluster(**NAMED).status.state.name == "DELETING"
        with pytest.raises(exceptions.BadRequest, match="other pending delete operations"):
            clusters.delete_cluster(**NAMED)
        with pytest.raises(exceptions.Conflict):
            create(clusters)
        deletion.result(timeout=60)
    assert operation.result(timeout=60).status.state.name == "DELETING"
    with pytest.raises(exceptions.NotFound):
        clusters.get_cluster(**NAMED)


def test_a_create_is_cancelled(server, clusters):
    server.fault("slow", method="clusters.create", seconds=600)
    operation = create(clusters)
    # Google's own client cannot: its REST transport expects a body in the rules for this method, and there is none.
    assert server.request("POST", f"/v1/{operation.operation.name}:cancel", {}) == (200, {})
    with pytest.raises(exceptions.GoogleAPICallError, match="cancelled"):
        operation.result(timeout=60)
    assert clusters.get_cluster(**NAMED).status.state.name == "ERROR"


def test_a_secondary_worker_is_preempted(server, clusters):
    action = put_object(server, "gs://acme-staging/init.sh", "date +%N >>times; sleep 600 &")
    actions = [{"executable_file": action}]
    secondary = {"num_instances": 2, "preemptibility": "SPOT"}
    made = create(clusters, initialization_actions=actions, secondary_worker_config=secondary).result(timeout=60)
    first, second = made.config.secondary_worker_config.instance_names
    nodes = server.folder / "nodes"
    before = (nodes / first / "times").read_text()
    server.admin("POST", "preempt", {"instance": first})
    wait_for(lambda: (nodes / first / "times").exists() and (nodes / first / "times").read_text() not in ("", before))
    server.admin("POST", "preempt", {"instance": second, "recreate": False})
    assert not (nodes / second).exists()
    assert clusters.get_cluster(**NAMED).status.state.name == "RUNNING"
    with pytest.raises(ValueError, match="not preemptible"):
        server.admin("POST", "preempt", {"instance": "etl-w-0"})


def test_what_a_driver_leaves_behind_is_seen(server, clusters):
    """By every test that ends; it goes with the node at the latest."""
    create(clusters).result(timeout=60)
    jobs = job_client(server)
    script = put_object(server, "gs://acme-staging/job.py", "import subprocess\nsubprocess.Popen(['sleep', '600'])")
    job = {"placement": {"cluster_name": "etl"}, "pyspark_job": {"main_python_file_uri": script}}
    made = jobs.submit_job(**PLACE, job=job)
    wait_for(lambda: jobs.get_job(**PLACE, job_id=made.reference.job_id).status.state.name == "DONE")
    with pytest.raises(AssertionError, match=made.job_uuid):
        server.assert_no_strays(0.5)
    clusters.delete_cluster(**NAMED).result(timeout=60)
    server.assert_no_strays()


def test_wrong_switches_are_refused(server):
    for path, body, message in (
        ("faults", {"kind": "earthquake"}, "earthquake"),
        ("faults", {"kind": "refuse", "code": "NO"}, "code: 'NO'"),
        ("faults", {"kind": "refuse", "often": 3}, "often"),
        ("preempt", {"instance": "nobody"}, "Not found: Instance nobody"),
    ):
        with pytest.raises(ValueError, match=message):
            server.admin("POST", path, body)
    with pytest.raises(ValueError, match="time_scale: must be above 0"):
        server.admin("PATCH", "settings", {"time_scale": 0})
    connection = http.client.HTTPConnection(server.address)
    connection.request("POST", f"{REST}/clusters", "{no json")
    assert connection.getresponse().status == 400
