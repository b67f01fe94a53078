"""The Dataproc of a test run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.dataproc.server import DataprocServer, start_dataproc
from tests.servers.gcs import GCSServer


@pytest.fixture(scope="session")
def dataproc(gcs_server: GCSServer) -> Iterator[DataprocServer]:
    """An emulator beside the GCS server. Its nodes are plain processes."""
    with tempfile.TemporaryDirectory(prefix="dataproc-") as folder:
        server = start_dataproc(Path(folder), gcs_server.url)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def empty_dataproc(dataproc: DataprocServer) -> Iterator[DataprocServer]:
    """The same one, with nothing in it before and after the test.

    What a test leaves is what the API still lists: no process or folder is left of what has ended.
    """
    dataproc.reset()
    yield dataproc
    if dataproc.process.poll() is not None:
        dataproc.start_again()
    try:
        dataproc.assert_no_strays()
    finally:
        dataproc.reset()
    dataproc.assert_no_strays()
