"""The Dataproc that the tests of the hook share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from dask_provider.hooks.dataproc import following

from tests.integration.dataproc.place import BUCKET, PUBLIC_ACTION, Dataproc, PlainDataproc
from tests.servers.dataproc.clients import put_object
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
    dataproc_machines.reset()
    yield from _connected(Dataproc(dataproc_machines), monkeypatch)


@pytest.fixture
def plain(empty_dataproc: DataprocServer, gcs_server: GCSServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataproc]:
    """Likewise, of clusters without machines and Dask: for what only the API has to do with."""
    gcs_server.make_bucket(BUCKET)
    gcs_server.make_bucket(PUBLIC_ACTION.removeprefix("gs://").partition("/")[0])
    put_object(empty_dataproc, PUBLIC_ACTION, "exit 0")
    monkeypatch.setattr(following, "LATE", 2.0)  # jobs that are ended while they begin say nothing in any case
    yield from _connected(PlainDataproc(empty_dataproc), monkeypatch)


def _connected(found: Dataproc, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataproc]:
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_TESTS", found.server.connection())
    monkeypatch.setenv("AIRFLOW__DASK__STAGING", found.staging)
    found.clean()
    yield found
    found.assert_nothing_left()
