"""Clusters and jobs on the emulated Dataproc, whose machines are namespaces that run our initialization actions."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask_provider.clusters.dataproc import DataprocCluster
from dask_provider.hooks.dataproc import requests

from tests.integration.place import Place
from tests.servers.dataproc.node.namespaces import NamespaceNodes
from tests.servers.dataproc.server import DataprocServer
from tests.servers.yarn.jars import hadoop_jars

BUCKET = "dask-staging"
#: what the spec asks for; here it costs nothing
MACHINE = "n2-custom-2-4096"
FILESTORE = "10.9.8.7"
REGION = "europe-west1"
PUBLIC_ACTION = requests.PUBLIC_ACTION.format(region=REGION)


def nodes(folder: Path, gcs_url: str) -> NamespaceNodes:
    """Machines whose image has the packages of the tests, and a Filestore. They reach the emulator."""
    shared = folder.parent / "shared"
    shared.mkdir(exist_ok=True)
    port = int((folder.parent / "address").read_text().rpartition(":")[2])
    exports = {FILESTORE: {"export": shared}}
    return NamespaceNodes(folder, gcs_url, image=Path(sys.prefix), exports=exports, ports=[port])


def yarn_nodes(folder: Path, gcs_url: str) -> NamespaceNodes:
    """Machines that have a YARN, too, as Dataproc's own images."""
    return NamespaceNodes(folder, gcs_url, image=Path(sys.prefix), hadoop=hadoop_jars())


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
            "region": REGION,
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
        return self.server.request("GET", f"/v1/projects/dask-tests/regions/{REGION}/{what}")[1]

    def objects(self, prefix: str = "") -> list[str]:
        """URIs of what lies below the staging."""
        bucket, _, start = self.staging.partition("@")[2].partition("/")
        query = f"{self.server.gcs_url}/storage/v1/b/{bucket}/o?prefix={start}{prefix}"
        with urllib.request.urlopen(query, timeout=30) as answer:
            return [f"gs://{bucket}/{item['name']}" for item in json.load(answer).get("items", [])]

    def programs(self) -> list[str]:
        """The staged files of jobs."""
        return [uri for uri in self.objects() if uri.split("/")[-1].startswith("job-") and "/results/" not in uri]

    def notes(self) -> list[str]:
        """On which try has a cluster."""
        return self.objects("attempts/")

    def clean(self) -> None:
        """Programs and notes that a failed test has left."""
        for uri in self.programs() + self.notes():
            bucket, _, name = uri.removeprefix("gs://").partition("/")
            path = f"{self.server.gcs_url}/storage/v1/b/{bucket}/o/{name.replace('/', '%2F')}"
            urllib.request.urlopen(urllib.request.Request(path, method="DELETE"), timeout=30).close()

    def assert_nothing_left(self, seconds: float = 60) -> None:
        """No cluster, no node, no running job, no process of any job, no staged program, no note on a try."""
        until = time.monotonic() + seconds
        while left := [each["clusterName"] for each in self.get("clusters").get("clusters", [])]:
            assert time.monotonic() < until, f"left after {seconds} s: {left}"
            time.sleep(0.2)
        jobs = self.get("jobs").get("jobs", [])
        assert not [job["reference"]["jobId"] for job in jobs if not job.get("done")]
        self.server.assert_no_strays()  # of none of both, then
        assert not self.programs()
        assert not self.notes()


class PlainDataproc(Dataproc):
    """One whose clusters are names and folders: jobs run, and find no scheduler."""

    def spec(self, **fields: Any) -> DataprocCluster:
        """A cluster of no machine."""
        return super().spec(**{"dask": "google", "env": {}, "threads": None, "memory": None, "workers": 1, **fields})
