"""A real S3 server: versitygw over a folder."""

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

VERSION = "1.8.0"
KEY, SECRET = "dask-tests", "dask-tests-secret"


@dataclass(frozen=True)
class S3Server:
    """A running server.

    :param url: its endpoint.
    :param folder: holds a folder per bucket.
    """

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def make_bucket(self, name: str) -> str:
        """Create a bucket (the server takes any folder for one)."""
        (self.folder / name).mkdir(exist_ok=True)
        return name

    def connection(self, key: str = KEY, secret: str = SECRET) -> str:
        """An Airflow connection to it, as the value of ``AIRFLOW_CONN_...``."""
        extra = {"endpoint_url": self.url, "region_name": "us-east-1"}
        return json.dumps({"conn_type": "aws", "login": key, "password": secret, "extra": extra})


def start_s3(folder: Path) -> S3Server:
    """Start it on a free port of the loopback interface.

    :raises RuntimeError: it cannot be built or does not start.
    """
    program, reason = built("versitygw", "github.com/versity/versitygw/cmd/versitygw", VERSION)
    if program is None:
        raise RuntimeError(reason)
    (folder / "data").mkdir(parents=True)
    address = f"127.0.0.1:{free_port()}"
    env = {**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
    command = [str(program), "--port", address, "posix", str(folder / "data")]
    return S3Server(f"http://{address}", folder / "data", start(command, address, folder / "log", env))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """The S3 server of this test run."""
    from tests.conftest import require

    program, reason = built("versitygw", "github.com/versity/versitygw/cmd/versitygw", VERSION)
    require(f"versitygw {VERSION} ({reason})", program is not None)
    with tempfile.TemporaryDirectory(prefix="s3-") as folder:
        server = start_s3(Path(folder))
        try:
            yield server
        finally:
            stop(server.process)
