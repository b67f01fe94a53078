"""Clusters and jobs on the emulated Dataproc, whose machines are namespaces that run our initialization actions."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_provider.clusters.dataproc import DataprocCluster

from tests.integration.place import Place
from tests.servers.dataproc.node.namespaces import NamespaceNodes
from tests.servers.dataproc.server import DataprocServer

BUCKET = "dask-staging"
#: what the spec asks for; here it costs nothing
MACHINE = "n2-custom-2-4096"
FILESTORE = "10.9.8.7"


def nodes(folder: Path, gcs_url: str) -> NamespaceNodes:
    """Machines whose image has the packages of the tests, and a Filestore."""
    shared = folder.parent / "shared"
    shared.mkdir(exist_ok=True)
    return NamespaceNodes(folder, gcs_url, image=Path(sys.prefix), exports={FILESTORE: {"export": shared}})


@dataclass
class Dataproc(Place):
    """One emulator."""

    server: DataprocServer

    def __init__(self, server: DataprocServer) -> None:
        super().__init__(f"gs://google_tests@{BUCKET}/staging/")
        self.server = server

    def spec(self, **fields: Any) -> DataprocCluster:
        """A small cluster of two workers."""
        defaults: dict[str, Any] = {
            "conn_id": "google_tests",
            "region": "europe-west1",
            "master": MACHINE,
            "worker": MACHINE,
            "threads": 1,
            "memory": "600 MB",
            "dask": "image",
            "env": {"STORAGE_EMULATOR_HOST": self.server.gcs_url},
            "ready_timeout": 120,
        }
        return DataprocCluster(**{**defaults, **fields})

    def get(self, what: str) -> Any:
        """What the API says: ``clusters``, ``jobs/ID``."""
        return self.server.request("GET", f"/v1/projects/dask-tests/regions/europe-west1/{what}")[1]

    def assert_nothing_left(self, seconds: float = 60) -> None:
        """No cluster, no running job."""
        until = time.monotonic() + seconds
        while left := [each["clusterName"] for each in self.get("clusters").get("clusters", [])]:
            assert time.monotonic() < until, f"left after {seconds} s: {left}"
            time.sleep(0.2)
        jobs = self.get("jobs").get("jobs", [])
        assert not [job["reference"]["jobId"] for job in jobs if not job.get("done")]
