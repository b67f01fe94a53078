"""The emulator is Dataproc to Google's own client library."""

import gzip
import json
import time

import pytest
from google.api_core import exceptions
from google.cloud import dataproc_v1
from google.protobuf.duration_pb2 import Duration

from tests.servers.dataproc.clients import cluster_client, job_client, policy_client, put_object, read_object, wait_for
from tests.servers.dataproc.processes import alive

pytest_plugins = ["tests.servers.gcs", "tests.servers.dataproc.fixtures"]

PLACE = {"project_id": "acme", "region": "europe-west1"}
PARENT = "projects/acme/regions/europe-west1"
REST = f"/v1/{PARENT}"
STATES = dataproc_v1.JobStatus.State


@pytest.fixture
def server(empty_dataproc, gcs_server):
    gcs_server.make_bucket("acme-staging")
    return empty_dataproc


@pytest.fixture
def clusters(server):
    return cluster_client(server)


@pytest.fixture
def jobs(server):
    return job_client(server)


def a_cluster(name="etl", **config):
    return {"project_id": "acme", "cluster_name": name, "config": {"config_bucket": "acme-staging", **config}}


def make(clusters, name="etl", **config):
    return clusters.create_cluster(**PLACE, cluster=a_cluster(name, **config)).result(timeout=60)


def a_job(server, source, name="etl", job_id=None, **more):
    uri = put_object(server, f"gs://acme-staging/jobs/{abs(hash(source))}.py", source)
    job = {"placement": {"cluster_name": name}, "pyspark_job": {"main_python_file_uri": uri, **more}}
    return {**job, "reference": {"job_id": job_id}} if job_id else job


def text_of(server, uri):
    return read_object(server, uri).decode()


def ended(jobs, job):
    def done():
        now = jobs.get_job(**PLACE, job_id=job.reference.job_id)
        return now if now.done else None

    return wait_for(done)


def test_a_cluster_from_create_to_delete(server, clusters):
    script = put_object(
        server,
        "gs://acme-staging/init.sh",
        'echo "$DATAPROC_METADATA"; sleep 600 & echo "started $!"\n',
    )
    operation = clusters.create_cluster(
        **PLACE,
        cluster={
            **a_cluster(
                gce_cluster_config={"metadata": {"color": "blue"}},
                worker_config={"num_instances": 3, "machine_type_uri": "n2-standard-8"},
                secondary_worker_config={"num_instances": 1, "preemptibility": "SPOT"},
                initialization_actions=[{"executable_file": script}],
            ),
            "labels": {"team": "data"},
        },
    )
    assert operation.metadata.cluster_name == "etl"
    assert clusters.get_cluster(**PLACE, cluster_name="etl").cluster_uuid == operation.metadata.cluster_uuid
    with pytest.raises(exceptions.Conflict, match=f"Failed to create cluster: Cluster {PARENT}/clusters/etl"):
        clusters.create_cluster(**PLACE, cluster=a_cluster())

    made = operation.result(timeout=60)
    assert made.status.state.name == "RUNNING"
    assert [status.state.name for status in made.status_history] == ["CREATING"]
    assert made.config.master_config.instance_names == ["etl-m"]
    assert made.config.worker_config.instance_names == ["etl-w-0", "etl-w-1", "etl-w-2"]
    assert made.config.worker_config.machine_type_uri.endswith("/zones/europe-west1-a/machineTypes/n2-standard-8")
    assert made.labels["team"] == "data"
    assert made.labels["goog-dataproc-cluster-uuid"] == made.cluster_uuid
    assert operation.metadata.status.state.name == "DONE"
    assert [status.state.name for status in operation.metadata.status_history] == ["PENDING", "RUNNING"]

    folder = f"gs://acme-staging/google-cloud-dataproc-metainfo/{made.cluster_uuid}"
    pids = []
    for name, role in (
        ("etl-m", "Master"),
        ("etl-w-2", "Worker"),
        (made.config.secondary_worker_config.instance_names[0], "Worker"),
    ):
        output = text_of(server, f"{folder}/{name}/dataproc-initialization-script-0_output")
        assert f'"dataproc-role": "{role}"' in output
        assert '"color": "blue"' in output
        assert '"dataproc-master": "etl-m"' in output
        pids.append(int(output.rsplit("started ", 1)[1]))
    assert all(alive(pid) for pid in pids)

    with pytest.raises(exceptions.NotFound):
        clusters.delete_cluster(request={**PLACE, "cluster_name": "etl", "cluster_uuid": "another"})
    clusters.delete_cluster(**PLACE, cluster_name="etl").result(timeout=60)
    assert not any(alive(pid) for pid in pids)
    with pytest.raises(exceptions.NotFound, match=f"Not found: Cluster {PARENT}/clusters/etl"):
        clusters.get_cluster(**PLACE, cluster_name="etl")


def test_lists_are_filtered_and_paged(server, clusters, jobs):
    for name, team in (("one", "data"), ("two", "data"), ("three", "web")):
        cluster = {**a_cluster(name), "labels": {"team": team}}
        clusters.create_cluster(**PLACE, cluster=cluster).result(timeout=60)

    def names(text, **more):
        return [each.cluster_name for each in clusters.list_clusters(request={**PLACE, "filter": text, **more})]

    assert names("") == names("", page_size=1) == ["one", "three", "two"]
    assert names("labels.team = data AND status.state = ACTIVE") == ["one", "two"]
    assert names("labels.team = * clusterName = three") == ["three"]
    assert names("status.state = INACTIVE") == []
    assert not list(clusters.list_clusters(project_id="acme", region="us-east1"))
    for wrong in ("team = data", "labels.team > data", "AND", "status.state = RUNNING OR clusterName = one"):
        with pytest.raises(exceptions.BadRequest, match="Invalid filter"):
            names(wrong)

    job = ended(jobs, jobs.submit_job(**PLACE, job={**a_job(server, "print(1)", "one"), "labels": {"run": "1"}}))
    listed = {"filter": "status.state = NON_ACTIVE AND labels.run = 1", "cluster_name": "one"}
    assert [each.job_uuid for each in jobs.list_jobs(request={**PLACE, **listed})] == [job.job_uuid]
    assert not list(jobs.list_jobs(request={**PLACE, "cluster_name": "two"}))
    assert not list(jobs.list_jobs(request={**PLACE, "job_state_matcher": "ACTIVE"}))

    kinds = {
        each.metadata.value and each.name
        for each in clusters.list_operations({"name": f"{PARENT}/operations", "filter": "clusterName = two"}).operations
    }
    assert len(kinds) == 1


def test_the_output_of_a_job_grows_while_it_runs(server, clusters, jobs):
    make(clusters)
    gate = server.folder / "gate"
    source = (
        "import os, sys, time, helper\n"
        "print('begin', sys.argv[1:], helper.NAME, open('data.txt').read(), flush=True)\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.05)\n"
        "print('x' * 150)\nprint('end', file=sys.stderr)\n"
    )
    helper = put_object(server, "gs://acme-staging/lib/helper.py", "NAME = 'helper'\n")
    data = put_object(server, "gs://acme-staging/lib/data.txt", "of a file")
    with server.settings(output_bytes=100, output_seconds=0.1):
        wanted = a_job(server, source, job_id="run-1", args=["--day", "7"], python_file_uris=[helper], file_uris=[data])
        job = jobs.submit_job(**PLACE, job=wanted)
        assert (job.status.state, job.placement.cluster_uuid != "") == (STATES.PENDING, True)
        uri = job.driver_output_resource_uri
        assert uri.endswith("/jobs/run-1/driveroutput")
        first = wait_for(lambda: running_output(server, jobs, uri))
        assert first == "begin ['--day', '7'] helper of a file\n"
        with pytest.raises(exceptions.Conflict, match=f"Failed to submit job: Job {PARENT}/jobs/run-1"):
            jobs.submit_job(**PLACE, job=a_job(server, "print(2)", job_id="run-1"))
        with pytest.raises(exceptions.BadRequest):
            jobs.delete_job(**PLACE, job_id="run-1")
        gate.touch()
        job = ended(jobs, job)
    assert job.status.state == STATES.DONE
    assert [status.state.name for status in job.status_history] == ["PENDING", "SETUP_DONE", "RUNNING"]
    parts = [text_of(server, f"{uri}.{index:09d}") for index in range(2)]
    assert len(parts[0]) == 100
    assert "".join(parts) == f"{first}{'x' * 150}\nend\n"

    jobs.delete_job(**PLACE, job_id="run-1")
    with pytest.raises(exceptions.NotFound):
        jobs.get_job(**PLACE, job_id="run-1")


def running_output(server, jobs, uri):
    if jobs.get_job(**PLACE, job_id="run-1").status.state != STATES.RUNNING:
        return None
    try:
        return text_of(server, f"{uri}.000000000")
    except OSError:
        return None


def test_jobs_that_fail(server, clusters, jobs):
    make(clusters)
    tries = server.folder / "tries"
    source = f"open({str(tries)!r}, 'a').write('x'); raise SystemExit(3)"
    job = ended(jobs, jobs.submit_job(**PLACE, job=a_job(server, source)))
    assert job.status.state == STATES.ERROR
    assert "Google Cloud Dataproc Agent reports job failure" in job.status.details
    assert job.driver_output_resource_uri in job.status.details

    again = {**a_job(server, source), "scheduling": {"max_failures_per_hour": 2}}
    job = ended(jobs, jobs.submit_job(**PLACE, job=again))
    assert [status.state.name for status in job.status_history].count("ATTEMPT_FAILURE") == 2
    assert tries.read_text() == "xxxx"

    missing = {"placement": {"cluster_name": "etl"}, "pyspark_job": {"main_python_file_uri": "gs://acme-staging/no.py"}}
    job = ended(jobs, jobs.submit_job(**PLACE, job=missing))
    assert (job.status.state, "gs://acme-staging/no.py" in job.status.details) == (STATES.ERROR, True)

    operation = jobs.submit_job_as_operation(**PLACE, job=a_job(server, "print('fine')"))
    assert operation.result(timeout=60).status.state == STATES.DONE
    assert operation.metadata.job_id == operation.result().reference.job_id
    with pytest.raises(exceptions.GoogleAPICallError, match="job failure"):
        jobs.submit_job_as_operation(**PLACE, job=a_job(server, source)).result(timeout=60)


def test_a_job_is_cancelled(server, clusters, jobs):
    make(clusters)
    source = "import os, signal, time\nprint(os.getpid(), flush=True)\n{}\ntime.sleep(600)"
    with server.settings(kill_seconds=1, output_seconds=0.1):
        for line in ("pass", "signal.signal(signal.SIGTERM, lambda *a: print('asked', flush=True))"):
            job = jobs.submit_job(**PLACE, job=a_job(server, source.format(line)))
            uri, job_id = f"{job.driver_output_resource_uri}.000000000", job.reference.job_id
            pid = int(wait_for(lambda uri=uri: output_of(server, uri)))
            assert jobs.cancel_job(**PLACE, job_id=job_id).status.state == STATES.CANCEL_PENDING
            job = ended(jobs, job)
            assert job.status.state == STATES.CANCELLED
            assert [status.state.name for status in job.status_history][-2:] == ["CANCEL_PENDING", "CANCEL_STARTED"]
            assert not alive(pid)
        assert text_of(server, uri).endswith("asked\n")
    with pytest.raises(exceptions.BadRequest, match=r"in state: 'CANCELLED'; cancellable states: '\[PENDING,"):
        jobs.cancel_job(**PLACE, job_id=job_id)


def output_of(server, uri):
    try:
        return text_of(server, uri)
    except OSError:
        return ""


def test_the_same_request_id_is_the_same_request(server, clusters, jobs):
    first = clusters.create_cluster(request={**PLACE, "cluster": a_cluster(), "request_id": "create-1"})
    again = clusters.create_cluster(request={**PLACE, "cluster": a_cluster(), "request_id": "create-1"})
    assert first.operation.name == again.operation.name
    first.result(timeout=60)
    job = a_job(server, "print(1)")
    sent = [jobs.submit_job(request={**PLACE, "job": job, "request_id": "submit-1"}) for _ in range(2)]
    assert sent[0].job_uuid == sent[1].job_uuid
    assert len(list(jobs.list_jobs(**PLACE))) == 1
    wanted = {**PLACE, "cluster_name": "etl", "request_id": "delete-1"}
    names = [clusters.delete_cluster(request=wanted).operation.name]
    wait_for(lambda: not list(clusters.list_clusters(**PLACE)))
    names.append(clusters.delete_cluster(request=wanted).operation.name)
    assert names[0] == names[1] != first.operation.name
    with pytest.raises(exceptions.BadRequest, match="Invalid request ID"):
        clusters.create_cluster(request={**PLACE, "cluster": a_cluster("two"), "request_id": "not this"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clusterName": "Etl"}, "Cluster name 'Etl' must match pattern"),
        ({"clusterName": "e" * 52}, "must match pattern"),
        ({"clusterName": "etl-"}, "must match pattern"),
        ({"projectId": "other"}, "'other' of the cluster is not 'acme'"),
        ({"labels": {"Team": "x"}}, "Invalid label key 'Team'"),
        ({"labels": {"team": "a" * 64}}, "of label 'team'"),
        ({"labels": {f"l{number}": "" for number in range(33)}}, "No more than 32 labels"),
        ({"config": {"workers": {}}}, 'no field named "workers"'),
        ({"config": {"lifecycleConfig": {"idleDeleteTtl": "10m"}}}, "Invalid JSON payload"),
        ({"config": {"lifecycleConfig": {"idleDeleteTtl": "299s"}}}, "idle_delete_ttl must be from 300 to 1.2096e+06"),
        ({"config": {"lifecycleConfig": {"autoDeleteTtl": "599s"}}}, "auto_delete_ttl must be from 600"),
        ({"config": {"lifecycleConfig": {"autoDeleteTime": "2020-01-01T00:00:00Z"}}}, "auto_delete_time must be"),
        ({"config": {"workerConfig": {"numInstances": 1}}}, "minimum of 2 workers"),
        ({"config": {"masterConfig": {"numInstances": 2}}}, "masters must be 1 or 3"),
        ({"config": {"workerConfig": {"numInstances": 2, "preemptibility": "SPOT"}}}, "SPOT is not allowed for worker"),
        ({"config": {"masterConfig": {"machineTypeUri": "huge"}}}, "Machine type 'huge'"),
        ({"config": {"masterConfig": {"diskConfig": {"bootDiskType": "floppy"}}}}, "Boot disk type 'floppy'"),
        ({"config": {"gceClusterConfig": {"zoneUri": "us-east1-b"}}}, "must be within region 'europe-west1'"),
        ({"config": {"gceClusterConfig": {"networkUri": "a", "subnetworkUri": "b"}}}, "cannot both be given"),
        ({"config": {"initializationActions": [{"executableFile": "init.sh"}]}}, "must be a Cloud Storage URI"),
        ({"config": {"initializationActions": [{"executableFile": "gs://acme-staging/no"}]}}, "object does not exist"),
        ({"config": {"configBucket": "nobodys"}}, "bucket does not exist 'nobodys'"),
        ({"config": {"softwareConfig": {"properties": {"dask:port": "1"}}}}, "unknown prefix 'dask'"),
        ({"config": {"autoscalingConfig": {"policyUri": "projects/x/regions/y/autoscalingPolicies/z"}}}, "must be of"),
        ({"clusterName": "E", "labels": {"Team": "x"}}, "Multiple validation errors:\n - "),
    ],
)
def test_a_wrong_cluster_is_refused(server, change, message):
    status, answer = server.request("POST", f"{REST}/clusters", {"clusterName": "etl", **change})
    assert (status, answer["error"]["status"], answer["error"]["code"]) == (400, "INVALID_ARGUMENT", 400)
    assert message in answer["error"]["message"]
    assert server.request("GET", f"{REST}/clusters") == (200, {})


def test_wrong_requests_of_other_kinds(server, clusters, jobs):
    assert server.request("GET", f"{REST}/clusters?page_sise=1")[0] == 400
    assert server.request("POST", f"{REST}/jobs:submit", {"job": {}, "cluster": "x"})[0] == 400
    for wrong, message in (
        ({"placement": {"cluster_name": "etl"}}, "must have a type"),
        (a_job(server, "", job_id="a b"), "Invalid job ID"),
        (a_job(server, "", ""), "must name a cluster"),
        ({"placement": {"cluster_name": "etl"}, "pyspark_job": {"main_python_file_uri": "gs://a/b.sh"}}, "a .py file"),
    ):
        with pytest.raises(exceptions.BadRequest, match=message):
            jobs.submit_job(**PLACE, job=wrong)
    with pytest.raises(exceptions.NotFound, match="Not found: Cluster"):
        jobs.submit_job(**PLACE, job=a_job(server, ""))
    with pytest.raises(exceptions.NotFound, match="Not found: Job"):
        jobs.get_job(**PLACE, job_id="none")
    with server.settings(projects=["other"]), pytest.raises(exceptions.Forbidden):
        clusters.get_cluster(**PLACE, cluster_name="etl")


def test_a_cluster_is_updated(server, clusters):
    make(clusters, worker_config={"num_instances": 2}, lifecycle_config={"idle_delete_ttl": {"seconds": 600}})

    def update(paths, cluster, **more):
        mask = {"paths": paths}
        wanted = {**PLACE, "cluster_name": "etl", "cluster": cluster, "update_mask": mask, **more}
        return clusters.update_cluster(request=wanted).result(timeout=60)

    workers, secondary = "config.worker_config.num_instances", "config.secondary_worker_config.num_instances"
    counts = {"worker_config": {"num_instances": 4}, "secondary_worker_config": {"num_instances": 2}}
    now = update([workers, secondary], {"config": counts})
    assert now.config.worker_config.instance_names == ["etl-w-0", "etl-w-1", "etl-w-2", "etl-w-3"]
    spare = list(now.config.secondary_worker_config.instance_names)
    assert len(spare) == 2
    assert [status.state.name for status in now.status_history] == ["CREATING", "RUNNING", "UPDATING"]
    counts = {"worker_config": {"num_instances": 3}, "secondary_worker_config": {"num_instances": 1}}
    timeout = {"graceful_decommission_timeout": Duration(seconds=60)}
    now = update([workers, secondary], {"config": counts}, **timeout)
    assert now.config.worker_config.instance_names == ["etl-w-0", "etl-w-1", "etl-w-2"]
    assert now.config.secondary_worker_config.instance_names == spare[:1]
    assert {each.name for each in (server.folder / "nodes").iterdir()} == {
        "etl-m",
        "etl-w-0",
        "etl-w-1",
        "etl-w-2",
        spare[0],
    }

    now = update(["labels"], {"labels": {"team": "web"}})
    assert now.labels["team"] == "web"
    assert now.labels["goog-dataproc-cluster-name"] == "etl"
    ttl = "config.lifecycle_config.auto_delete_ttl"
    now = update(
        [ttl, "config.lifecycle_config.idle_delete_ttl"],
        {"config": {"lifecycle_config": {"auto_delete_ttl": {"seconds": 900}}}},
    )
    assert now.config.lifecycle_config.auto_delete_ttl.seconds == 900
    assert "idle_delete_ttl" not in now.config.lifecycle_config

    for paths, cluster, more, message in (
        (["config.master_config.num_instances"], {}, {}, "cannot be updated"),
        ([], {}, {}, "update_mask is required"),
        ([workers], {"config": {"worker_config": {"num_instances": 1}}}, {}, "minimum of 2"),
        ([workers], {"config": counts}, {"graceful_decommission_timeout": Duration(seconds=86401)}, "from 0 to 86400"),
    ):
        with pytest.raises(exceptions.BadRequest, match=message):
            update(paths, cluster, **more)
    with server.settings(delays={"update": 60}):
        body = {"labels": {}}
        assert server.request("PATCH", f"{REST}/clusters/etl?updateMask=labels", body)[0] == 200
        with pytest.raises(exceptions.BadRequest, match="its state is UPDATING"):
            update(["labels"], {"labels": {}})


def test_a_cluster_is_stopped_started_and_diagnosed(server, clusters, jobs):
    make(clusters)
    job = jobs.submit_job(**PLACE, job=a_job(server, "import time; time.sleep(600)"))
    wait_for(lambda: jobs.get_job(**PLACE, job_id=job.reference.job_id).status.state == STATES.RUNNING)
    found = clusters.diagnose_cluster(**PLACE, cluster_name="etl").result(timeout=60)
    diagnosis = json.loads(gzip.decompress(read_object(server, found.output_uri)))
    assert (diagnosis["cluster"]["clusterName"], diagnosis["alive"]["etl-m"]) == ("etl", True)
    stopped = clusters.stop_cluster(request={**PLACE, "cluster_name": "etl"}).result(timeout=60)
    assert stopped.status.state.name == "STOPPED"
    assert jobs.get_job(**PLACE, job_id=job.reference.job_id).status.state == STATES.ERROR
    with pytest.raises(exceptions.BadRequest, match="cannot accept jobs in state STOPPED"):
        jobs.submit_job(**PLACE, job=a_job(server, "print(1)"))
    with pytest.raises(exceptions.BadRequest, match="cannot be stopped in state STOPPED"):
        clusters.stop_cluster(request={**PLACE, "cluster_name": "etl"})
    clusters.start_cluster(request={**PLACE, "cluster_name": "etl"}).result(timeout=60)
    assert ended(jobs, jobs.submit_job(**PLACE, job=a_job(server, "print(1)"))).status.state == STATES.DONE


def test_clusters_end_by_themselves(server, clusters, jobs):
    idle = {"idle_delete_ttl": {"seconds": 300}, "auto_delete_ttl": {"seconds": 86400}}
    with server.settings(time_scale=150):
        make(clusters, "idle", lifecycle_config=idle)
        make(clusters, "old", lifecycle_config={"auto_delete_ttl": {"seconds": 600}})
        make(clusters, "busy", lifecycle_config=idle)
        job = jobs.submit_job(**PLACE, job=a_job(server, "import time; time.sleep(6)", "busy"))
        assert "idle_start_time" not in clusters.get_cluster(**PLACE, cluster_name="busy").config.lifecycle_config

        def left():
            return {each.cluster_name for each in clusters.list_clusters(**PLACE)}

        wait_for(lambda: left() == {"busy"})
        assert not jobs.get_job(**PLACE, job_id=job.reference.job_id).done
        assert ended(jobs, job).status.state == STATES.DONE
        began = clusters.get_cluster(**PLACE, cluster_name="busy").config.lifecycle_config.idle_start_time
        assert began.timestamp() == pytest.approx(time.time(), abs=2)
        wait_for(lambda: not left())
        assert time.time() - began.timestamp() >= 2


def test_autoscaling_policies(server, clusters):
    policies = policy_client(server)
    algorithm = {
        "yarn_config": {
            "scale_up_factor": 1.0,
            "scale_down_factor": 0.5,
            "graceful_decommission_timeout": Duration(seconds=120),
        }
    }
    wanted = {"id": "dask-policy", "basic_algorithm": algorithm, "worker_config": {"max_instances": 10}}
    made = policies.create_autoscaling_policy(parent=PARENT, policy=wanted)
    assert (made.name, made.worker_config.min_instances) == (f"{PARENT}/autoscalingPolicies/dask-policy", 2)
    with pytest.raises(exceptions.Conflict):
        policies.create_autoscaling_policy(parent=PARENT, policy=wanted)
    made.worker_config.max_instances = 20
    policies.update_autoscaling_policy(policy=made)
    by_location = made.name.replace("regions", "locations")
    assert policies.get_autoscaling_policy(name=by_location).worker_config.max_instances == 20
    yarn = {**algorithm["yarn_config"], "scale_up_factor": 2.0}
    wrong = {**wanted, "id": "other", "basic_algorithm": {"yarn_config": yarn}}
    with pytest.raises(exceptions.BadRequest, match="scale_up_factor must be from 0"):
        policies.create_autoscaling_policy(parent=PARENT, policy=wrong)

    make(clusters, autoscaling_config={"policy_uri": made.name})
    with pytest.raises(exceptions.BadRequest, match="in use by cluster"):
        policies.delete_autoscaling_policy(name=made.name)
    clusters.delete_cluster(**PLACE, cluster_name="etl").result(timeout=60)
    policies.delete_autoscaling_policy(name=made.name)
    assert not list(policies.list_autoscaling_policies(parent=PARENT))
    with pytest.raises(exceptions.NotFound):
        clusters.create_cluster(**PLACE, cluster=a_cluster(autoscaling_config={"policy_uri": made.name}))
