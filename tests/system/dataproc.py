"""One Airflow for the tests of DAGs on Dataproc: it has an emulator of it, whose machines run real Dask, and a GCS."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest

from dev.airflow_server import AirflowServer
from tests.integration.dataproc.place import FILESTORE, MACHINE
from tests.servers.airflow import running_airflow
from tests.servers.dataproc.node.leftovers import owned
from tests.servers.dataproc.server import DataprocServer, start_dataproc
from tests.servers.gcs import GCSServer
from tests.system.calm import scenarios, underway
from tests.system.run import Run, wait_until

BUCKET, PROJECT, REGION = "dask-system", "dask-tests", "europe-west1"
CHECKOUT = Path(__file__).resolve().parents[2]
JOBS = ("dask_yarn_example.py", "dask_large_scale_processing.py")
BROKEN = "#!/bin/sh\necho 'no such package: dask-mll'\nexit 7\n"
#: the Airflow variables of Composer, but for the one that a test sets when it has seen what happens without
VARIABLES = {
    "gcp_project_id": PROJECT,
    "gcp_region": REGION,
    "dataproc_staging_bucket": BUCKET,
    "subnetwork_services_uri": f"projects/{PROJECT}/regions/{REGION}/subnetworks/services",
    "dataproc_runtime_sa_email": f"runtime@{PROJECT}.iam.gserviceaccount.com",
}


@dataclass
class Airflow:
    """An Airflow that has a Dataproc."""

    server: AirflowServer
    dataproc: DataprocServer
    bucket: Any
    """File system of the bucket of that name."""

    def get(self, what: str) -> list[dict[str, Any]]:
        """All ``clusters`` or ``jobs``, as the API shows them."""
        path = f"/v1/projects/{PROJECT}/regions/{REGION}/{what}"
        return list(self.dataproc.request("GET", path)[1].get(what, []))

    def assert_nothing_left(self) -> None:
        """No cluster, no job that runs, no staged program of one."""
        assert [each["clusterName"] for each in self.get("clusters")] == []
        assert [job["reference"]["jobId"] for job in self.get("jobs") if not job.get("done")] == []
        self.bucket.invalidate_cache()
        staged = self.bucket.find(f"{BUCKET}/staging")
        assert [path for path in staged if path.rpartition("/")[2].startswith("job-")] == []

    def set_variable(self, name: str, value: str) -> None:
        """As on the page of Airflow's UI."""
        self.server.client.call("POST", "/variables", {"key": name, "value": value})  # type: ignore[attr-defined]


class DataprocRun(Run):
    """A run whose clusters and jobs are at the emulator, in the folder that its machines see."""

    def __init__(self, airflow: Airflow, name: str, dag_id: str, mode: str = "deferred", **conf: Any) -> None:
        folder = airflow.dataproc.folder / "runs" / name
        folder.mkdir(parents=True)
        self.mode, self.place = mode, airflow
        super().__init__(airflow.server, folder, dag_id, **conf)

    def underway(self) -> None:
        """The job's program runs, and the task waits for it the way it is meant to."""
        underway(self, self.mode, "etl.run")

    def clusters(self) -> list[str]:
        """Names of those that live."""
        found = self.place.get("clusters")
        return [each["clusterName"] for each in found if self._names(each["config"]["gceClusterConfig"]["metadata"])]

    def jobs(self) -> list[str]:
        """States of all that Dataproc remembers."""
        name = self.xcom("etl.create_cluster")["name"]
        return [job["status"]["state"] for job in self.place.get("jobs") if job["placement"]["clusterName"] == name]

    def _names(self, metadata: dict[str, str]) -> bool:
        return self.run_id in metadata["dask-provider-owner"]

    def assert_gone(self, within: float = 60, *_: Path) -> None:
        """No cluster of the run lives, so nothing runs on one."""
        wait_until(lambda: not self.clusters(), "nothing is left of the run at Dataproc", within)


class Triggered(DataprocRun):
    """A run of one of the repository's DAGs, which know nothing of witnesses."""

    def __init__(self, airflow: Airflow, dag_id: str, logical_date: str | None = None, **params: Any) -> None:
        self.mode, self.place, self.dag_id = "deferred", airflow, dag_id
        self.server, self.client = airflow.server, airflow.server.client
        self.run_id = self.client.trigger(dag_id, params, logical_date=logical_date)


@pytest.fixture(scope="module")
def dataproc_airflow(
    gcs_server: GCSServer, tmp_path_factory: pytest.TempPathFactory, flights: Path
) -> Iterator[Airflow]:
    for major in (3, 2):
        scenarios.wait_all(major)  # several busy Airflows at once are more than two cores can bear
    gcs_server.make_bucket(BUCKET)
    bucket = fsspec.filesystem("gs", endpoint_url=gcs_server.url, token="anon", skip_instance_cache=True)
    for name in JOBS:
        bucket.pipe_file(f"{BUCKET}/jobs/{name}", (CHECKOUT / "jobs" / name).read_bytes())
    bucket.pipe_file(f"{BUCKET}/broken.sh", BROKEN.encode())
    small = {
        "master": MACHINE,
        "worker": MACHINE,
        "threads": 1,
        "memory": "600 MB",
        "dask": "image",
        "packages": [],
        "ready_timeout": 240,
    }
    events = {**small, "region": REGION, "workers": 1}
    emulated = {"STORAGE_EMULATOR_HOST": gcs_server.url, "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
    config = {
        "AIRFLOW__DASK__STAGING": f"gs://{BUCKET}/staging/",
        "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",  # as Terraform sets it on Composer
    }
    with tempfile.TemporaryDirectory(prefix="dataproc-") as folder, owned(Path(folder) / "nodes"):
        server = start_dataproc(Path(folder), gcs_server.url, "tests.integration.dataproc.place:nodes")
        elastic = {
            "DASK_DATAPROC_ELASTIC__ENDPOINT": server.url,
            "DASK_DISTRIBUTED__ADAPTIVE__TARGET_DURATION": "1h",  # no more machines than two cores can bear
        }
        env = {
            **emulated,
            # Here is no metadata server: somebody must tell google-auth at once.
            "GCE_METADATA_HOST": gcs_server.url.removeprefix("http://"),
            **{f"AIRFLOW_VAR_{name.upper()}": value for name, value in VARIABLES.items()},
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": server.connection(),
            "DASK_DATAPROC_FIELDS": json.dumps({**small, "env": {**emulated, **elastic}}),
            "DATAPROC_EVENTS_CLUSTER": json.dumps({**events, "env": emulated}),
            "DATAPROC_EVENTS_BROKEN_ACTION": f"gs://{BUCKET}/broken.sh",
        }
        python = Path(sys.executable)
        try:
            with running_airflow(tmp_path_factory, flights, "airflow-dataproc", python, config, env) as airflow:
                place = Airflow(airflow, server, bucket)
                yield place
                place.assert_nothing_left()
        finally:
            server.stop()


__all__ = ["BUCKET", "FILESTORE", "Airflow", "DataprocRun", "Triggered", "dataproc_airflow"]
