"""The emulator as a process of its own, and a handle on it for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.dataproc import processes
from tests.servers.listening import free_port, start

CHECKOUT = Path(__file__).resolve().parents[3]
PLAIN = "tests.servers.dataproc.plain:PlainNodes"


@dataclass
class DataprocServer:
    """A running emulator. It asks for no credentials, unless its settings say so.

    :param url: its endpoint, for clients that take ``http://``.
    :param grpc_address: host and port of the same API over gRPC, without TLS.
    :param folder: of its state.
    :param gcs_url: of the GCS server that it and its nodes use.
    """

    url: str
    grpc_address: str
    folder: Path
    gcs_url: str
    command: list[str]
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """Host and port."""
        return self.url.removeprefix("http://")

    def connection(self, **extra: Any) -> str:
        """An Airflow connection to it, as the value of ``AIRFLOW_CONN_...``."""
        known = {"dataproc.endpoint": self.url, "gcs.endpoint": self.gcs_url, "is_anonymous": True}
        known["google.endpoint"] = self.url
        content = {**known, "project": "dask-tests", **extra}
        return json.dumps({"conn_type": "google_cloud_platform", "extra": content})

    def request(self, verb: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        """HTTP status and answer; the path begins with ``/v1/`` or ``/admin/``."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, headers, method=verb)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def admin(self, verb: str, path: str, body: Any = None) -> Any:
        """:raises ValueError: the emulator refuses it."""
        status, answer = self.request(verb, f"/admin/{path}", body)
        if status != 200:
            raise ValueError(answer)
        return answer

    def fault(self, kind: str, **description: Any) -> int:
        """Switch one on (tests.servers.dataproc.faults.Fault). Gives its number."""
        return int(self.admin("POST", "faults", {"kind": kind, **description})["number"])

    @contextmanager
    def settings(self, **changes: Any) -> Iterator[None]:
        """Others within the block (tests.servers.dataproc.settings.Settings)."""
        before = self.admin("GET", "settings")
        self.admin("PATCH", "settings", changes)
        try:
            yield
        finally:
            self.admin("PATCH", "settings", {name: before[name] for name in changes})

    def calls(self) -> Mapping[str, int]:
        """How often each method was asked for."""
        return dict(self.admin("GET", "calls"))

    def reset(self) -> None:
        """No cluster, job, operation, policy, fault or setting is left."""
        self.admin("POST", "reset")

    def nodes(self) -> set[str]:
        """Names of all that are there, whatever the API says."""
        return {home.name for home in (self.folder / "nodes").glob("*")}

    def drivers(self) -> set[str]:
        """The uuids of jobs of which a process lives, whatever the API says: also of those that it has forgotten."""
        known = {job.name for job in (self.folder / "jobs").glob("*")}
        return known & {driver.rpartition("-")[0] for driver in processes.values("DATAPROC_DRIVER").values()}

    def assert_no_strays(self, seconds: float = 10) -> None:
        """No node lives of a cluster that is gone, and no driver of a job that is over."""
        until = time.monotonic() + seconds
        while True:
            alive = self.admin("GET", "alive")
            strays = self.nodes() - set(alive["nodes"]), self.drivers() - set(alive["jobs"])
            if not any(strays):
                return
            assert time.monotonic() < until, f"nodes {strays[0]} of no cluster, drivers {strays[1]} of no active job"
            time.sleep(0.1)

    def kill(self) -> None:
        """As a crash would: nodes and drivers run on."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def start_again(self) -> None:
        """With the same address and state."""
        self.process = _started(self.command, self.address, self.folder)

    def stop(self) -> None:
        """It ends, and its nodes and drivers with it."""
        if self.process.poll() is not None:
            self.start_again()
        self.process.terminate()
        self.process.wait(60)


def start_dataproc(folder: Path, gcs_url: str, nodes: str = PLAIN) -> DataprocServer:
    """Start it on a free port of the loopback interface.

    :param nodes: who makes its nodes, ``module:factory`` (tests.servers.dataproc.nodes.Nodes).
    :raises RuntimeError: it does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    address, grpc_address = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "tests.servers.dataproc", "up", "--listen", address, "--gcs", gcs_url]
    command += ["--grpc", grpc_address, "--folder", str(folder), "--nodes", nodes]
    process = _started(command, address, folder)
    return DataprocServer(f"http://{address}", grpc_address, folder, gcs_url, command, process)


def _started(command: list[str], address: str, folder: Path) -> subprocess.Popen[bytes]:
    log = folder / f"log-{len(list(folder.glob('log-*')))}"
    return start(command, address, log, {**os.environ, "PYTHONPATH": str(CHECKOUT)}, seconds=60)
