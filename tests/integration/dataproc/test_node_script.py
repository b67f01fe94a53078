"""What a node's worker asks the scheduler: it must get an answer also while there is work."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from tests.servers.listening import free_port

NODE = str(resources.files("dask_provider.hooks.dataproc") / "actions" / "dask" / "node.py")
ELASTIC = "dask_provider.runtime.dataproc_elastic"
ROUTES = "['distributed.http.scheduler.json', 'distributed.http.scheduler.api']"


@pytest.fixture
def node() -> Any:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("dask_node", NODE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=[(NODE,), (NODE, ELASTIC)], ids=["fixed", "elastic"])
def scheduler(
    request: pytest.FixtureRequest, node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, str]]:
    """Address and URL of a scheduler, as the services of a master start it."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES", ROUTES)
    port, dashboard = free_port(), free_port()
    command = [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dashboard-address", f"127.0.0.1:{dashboard}"]
    for preload in request.param:
        command += ["--preload", preload]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command, stderr=log, cwd=tmp_path)
    url, until = f"http://127.0.0.1:{dashboard}", time.monotonic() + 60
    while node.identity(url) is None:
        assert time.monotonic() < until, (tmp_path / "log").read_text()
        time.sleep(0.2)
    yield f"tcp://127.0.0.1:{port}", url
    process.terminate()
    process.wait(30)


def test_a_worker_joins_amid_work_and_comes_back_only_where_it_may(
    node: Any, scheduler: tuple[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address, url = scheduler
    served, ended = node.identity(url), {}

    def worker(name: str) -> subprocess.Popen[bytes]:
        run = [sys.executable, "-m", "dask", "worker", address, "--name", name, "--nthreads", "1"]
        command = [sys.executable, "-I", NODE, "work", url, name, *run, "--no-nanny", "--no-dashboard"]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path)

    with Client(address) as client:
        workers = [worker("etl-w-0")]
        client.wait_for_workers(1, timeout=60)
        load = client.map(lambda number: time.sleep(0.2), range(2000))
        workers.append(worker("etl-w-1"))
        client.wait_for_workers(2, timeout=60)
        time.sleep(1.5)  # their metrics have come
        assert node.identity(url) == served
        client.cancel(load)
        client.retire_workers(names=["etl-w-0", "etl-w-1"])
        ended = {each.wait(60) for each in workers}
    # Where machines go by their names, one that was not named is to work again: systemd starts it anew.
    assert ended == ({1} if "elastic" in request.node.name else {0})
