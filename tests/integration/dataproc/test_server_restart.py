"""The emulator is killed and started again: nothing is lost, and what went on meanwhile is found."""

import time

import pytest

from tests.servers.dataproc.clients import put_object, read_object, wait_for
from tests.servers.dataproc.processes import alive

pytest_plugins = ["tests.servers.gcs", "tests.servers.dataproc.fixtures"]

REST = "/v1/projects/acme/regions/europe-west1"


@pytest.fixture
def server(empty_dataproc, gcs_server):
    gcs_server.make_bucket("acme-staging")
    return empty_dataproc


def ask(server, verb, path, body=None):
    status, answer = server.request(verb, f"{REST}/{path}", body)
    assert status == 200, answer
    return answer


def create(server, **config):
    body = {"clusterName": "etl", "config": {"configBucket": "acme-staging", **config}}
    return ask(server, "POST", "clusters?requestId=create-1", body)


def running(server):
    wait_for(lambda: ask(server, "GET", "clusters/etl")["status"]["state"] == "RUNNING")


def submit(server, source, job_id):
    uri = put_object(server, f"gs://acme-staging/{job_id}.py", source)
    job = {"placement": {"clusterName": "etl"}, "reference": {"jobId": job_id}}
    body = {"job": {**job, "pysparkJob": {"mainPythonFileUri": uri}}, "requestId": job_id}
    ask(server, "POST", "jobs:submit", body)
    wait_for(lambda: ask(server, "GET", f"jobs/{job_id}")["status"]["state"] == "RUNNING")
    return body


def ended(server, job_id):
    def done():
        job = ask(server, "GET", f"jobs/{job_id}")
        return job if job.get("done") else None

    return wait_for(done)


def test_jobs_run_on_and_end_while_it_is_away(server):
    create(server)
    running(server)
    gates = {name: server.folder / f"gate-{name}" for name in ("long", "short")}
    source = (
        "import os, time\nprint('begin', flush=True)\nwhile not os.path.exists({!r}): time.sleep(0.05)\nprint('end')"
    )
    bodies = {name: submit(server, source.format(str(gate)), name) for name, gate in gates.items()}
    server.kill()
    gates["short"].touch()
    time.sleep(0.5)
    server.start_again()
    short = ended(server, "short")
    assert short["status"]["state"] == "DONE"
    assert read_object(server, f"{short['driverOutputResourceUri']}.000000000") == b"begin\nend\n"
    assert ask(server, "GET", "jobs/long")["status"]["state"] == "RUNNING"
    gates["long"].touch()
    long = ended(server, "long")
    assert (long["status"]["state"], len(long["statusHistory"])) == ("DONE", 3)
    assert read_object(server, f"{long['driverOutputResourceUri']}.000000000") == b"begin\nend\n"
    assert ask(server, "POST", "jobs:submit", bodies["long"])["jobUuid"] == long["jobUuid"]


def test_a_driver_that_is_lost_is_an_error(server):
    pid = server.folder / "pid"
    create(server)
    running(server)
    submit(server, "import os, signal\nos.killpg(0, signal.SIGKILL)", "suicide")
    assert ended(server, "suicide")["status"]["state"] == "ERROR"
    submit(server, f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)", "waiting")
    wait_for(lambda: pid.exists() and pid.read_text())
    server.stop()
    assert not alive(int(pid.read_text()))
    server.start_again()
    cluster = ask(server, "GET", "clusters/etl")
    assert (cluster["status"]["state"], "etl-m" in cluster["status"]["detail"]) == ("ERROR", True)
    assert ended(server, "waiting")["status"]["state"] == "ERROR"


def test_operations_go_on(server):
    action = put_object(server, "gs://acme-staging/init.sh", "echo x >>times; sleep 1; touch finished")
    made = create(server, initializationActions=[{"executableFile": action}])
    nodes = server.folder / "nodes"
    wait_for(lambda: (nodes / "etl-w-1" / "times").exists())
    server.kill()
    server.start_again()
    assert create(server)["name"] == made["name"]
    running(server)
    assert (nodes / "etl-w-1" / "finished").exists()
    server.admin("PATCH", "settings", {"delays": {"delete": 1}})
    operation = ask(server, "DELETE", "clusters/etl")["name"].rpartition("/")[2]
    assert ask(server, "GET", "clusters/etl")["status"]["state"] == "DELETING"
    server.kill()
    assert list(nodes.iterdir())
    server.start_again()
    wait_for(lambda: ask(server, "GET", f"operations/{operation}").get("done"))
    assert server.request("GET", f"{REST}/clusters/etl")[0] == 404
    assert not list(nodes.iterdir())
