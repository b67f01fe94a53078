"""The Dataproc that the tests of the hook share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.dataproc.place import BUCKET, Dataproc
from tests.servers.dataproc.node.leftovers import owned
from tests.servers.dataproc.server import DataprocServer, start_dataproc
from tests.servers.gcs import GCSServer


@pytest.fixture(scope="session")
def dataproc_machines(gcs_server: GCSServer) -> Iterator[DataprocServer]:
    """An emulator whose machines are namespaces."""
    gcs_server.make_bucket(BUCKET)
    with tempfile.TemporaryDirectory(prefix="dataproc-") as folder, owned(Path(folder) / "nodes"):
        server = start_dataproc(Path(folder), gcs_server.url, "tests.integration.dataproc.place:nodes")
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def place(dataproc_machines: DataprocServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataproc]:
    """With an Airflow connection to it; at the end nothing may be left there."""
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_TESTS", dataproc_machines.connection())
    dataproc_machines.reset()
    found = Dataproc(dataproc_machines)
    monkeypatch.setenv("AIRFLOW__DASK__STAGING", found.staging)
    yield found
    found.assert_nothing_left()
