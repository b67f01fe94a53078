"""A real GCS server: fake-gcs-server over a folder."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.gobuild import built
from tests.servers.listening import free_port, start, stop

VERSION = "1.56.1"
# gcsfs asks for the kind of each bucket over gRPC, a minute long where nobody answers; it reads this when imported.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


@dataclass(frozen=True)
class GCSServer:
    """A running server. It checks no credentials.

    :param url: its endpoint; clients of the emulator convention take it as ``STORAGE_EMULATOR_HOST``.
    :param folder: holds a folder per bucket.
    """

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def make_bucket(self, name: str) -> str:
        """Create a bucket (the server takes any folder for one)."""
        (self.folder / name).mkdir(exist_ok=True)
        return name

    def connection(self) -> str:
        """An Airflow connection to it, as the value of ``AIRFLOW_CONN_...``."""
        extra = {"gcs.endpoint": self.url, "is_anonymous": True, "project": "dask-tests"}
        return json.dumps({"conn_type": "google_cloud_platform", "extra": extra})


def start_gcs(folder: Path) -> GCSServer:
    """Start it on a free port of the loopback interface.

    :raises RuntimeError: it cannot be built or does not start.
    """
    program, reason = built("fake-gcs-server", "github.com/fsouza/fake-gcs-server", VERSION)
    if program is None:
        raise RuntimeError(reason)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [str(program), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "filesystem"]
    command += ["-filesystem-root", str(folder / "data"), "-public-host", f"127.0.0.1:{port}"]
    process = start(command, f"127.0.0.1:{port}", folder / "log")
    return GCSServer(f"http://127.0.0.1:{port}", folder / "data", process)


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GCSServer]:
    """The GCS server of this test run."""
    from tests.conftest import require

    program, reason = built("fake-gcs-server", "github.com/fsouza/fake-gcs-server", VERSION)
    require(f"fake-gcs-server {VERSION} ({reason})", program is not None)
    with tempfile.TemporaryDirectory(prefix="gcs-") as folder:
        server = start_gcs(Path(folder))
        try:
            yield server
        finally:
            stop(server.process)
