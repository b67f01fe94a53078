"""A cluster of the emulator with real nodes: our actions make it a Dask cluster, and a job of it computes there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.dataproc import DataprocServer, start_dataproc
from tests.servers.dataproc.clients import put_object, read_object, wait_for
from tests.servers.dataproc.node import FILESTORE
from tests.servers.dataproc.node.fixtures import DASK, NFS
from tests.servers.dataproc.node.leftovers import owned
from tests.servers.dataproc.node.networks import bridges
from tests.servers.dataproc.node.wheels import dask_version
from tests.servers.gcs import GCSServer

pytestmark = pytest.mark.whole
pytest_plugins = ["tests.servers.gcs", "tests.servers.dataproc.node.fixtures"]

REST = "/v1/projects/acme/regions/europe-west1"
JOB = """
from pathlib import Path
from distributed import Client
with Client("etl-m:8786") as client:
    names = sorted(worker["name"] for worker in client.scheduler_info(n_workers=-1)["workers"].values())
    client.submit(Path("/mnt/shared/by-a-worker").write_text, "on the share").result()
    print(names, client.submit(sum, [1, 2]).result(), Path("/mnt/shared/by-a-worker").read_text())
"""


@pytest.fixture
def server(actions: None, gcs_server: GCSServer, tmp_path: Path) -> Iterator[DataprocServer]:
    gcs_server.make_bucket("acme-staging")
    with owned(tmp_path / "nodes"):
        running = start_dataproc(tmp_path, gcs_server.url, nodes="tests.servers.dataproc.node:real_nodes")
        try:
            yield running
        finally:
            running.stop()


def ask(server: DataprocServer, verb: str, path: str, body: object = None) -> dict:
    status, answer = server.request(verb, f"{REST}/{path}", body)
    assert status == 200, answer
    return answer


def test_a_cluster_is_made_computes_and_is_gone(server: DataprocServer):
    metadata = {"dask-runtime": "standalone", "dask-version": dask_version()}
    metadata |= {"nfs_server": FILESTORE, "nfs_export_dir": "/export", "nfs_mount_point": "/mnt/shared"}
    config = {
        "configBucket": "acme-staging",
        "gceClusterConfig": {"metadata": metadata},
        "masterConfig": {"machineTypeUri": "n2-standard-4"},
        "workerConfig": {"numInstances": 2, "machineTypeUri": "n2-standard-4"},
        "initializationActions": [{"executableFile": uri, "executionTimeout": "120s"} for uri in (NFS, DASK)],
    }
    operation = ask(server, "POST", "clusters", {"clusterName": "etl", "config": config})
    path = operation["name"].split("/regions/europe-west1/")[1]
    done = wait_for(lambda: (found := ask(server, "GET", path)).get("done") and found)
    assert "error" not in done, done
    assert len(bridges(server.folder / "nodes")) == 1

    source = put_object(server, "gs://acme-staging/job.py", JOB)
    job = {"placement": {"clusterName": "etl"}, "pysparkJob": {"mainPythonFileUri": source}}
    job_id = ask(server, "POST", "jobs:submit", {"job": job})["reference"]["jobId"]
    ended = wait_for(lambda: (found := ask(server, "GET", f"jobs/{job_id}")).get("done") and found)
    output = read_object(server, f"{ended['driverOutputResourceUri']}.000000000").decode()
    assert (ended["status"]["state"], output) == ("DONE", "['etl-w-0', 'etl-w-1'] 3 on the share\n")
    assert (server.folder / "filestore" / "by-a-worker").read_text() == "on the share"

    ask(server, "DELETE", "clusters/etl")
    wait_for(lambda: server.request("GET", f"{REST}/clusters/etl")[0] == 404)
    wait_for(lambda: not bridges(server.folder / "nodes"))
    assert not list((server.folder / "nodes").iterdir())
