"""This process as a node of the YARN cluster, and applications that are gone after each test."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dask_provider.jobs import ARCHIVE, runtime_archive
from dask_provider.runtime import yarn as dask_on_yarn
from dask_provider.runtime.yarn_spec import YarnSpec
from distributed import Client

from tests.servers.yarn import YarnServer


@pytest.fixture(scope="module")
def node(yarn: YarnServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[YarnServer]:
    """Hadoop's settings in the environment, as on every node of a cluster. Nothing may run on it afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in yarn.env.items():
            patch.setenv(name, value)
        patch.setenv("DASK_YARN__WORKER__WORKER_OPTIONS", '{"host": "127.0.0.1"}')  # of dask-yarn's workers
        patch.setenv("SKEIN_CONFIG", str(tmp_path_factory.mktemp("skein")))
        yield yarn
    assert_nothing_runs(yarn)


def assert_nothing_runs(yarn: YarnServer, seconds: float = 15) -> None:
    until = time.monotonic() + seconds
    while (left := yarn.applications()) or (processes := yarn.containers()):
        assert time.monotonic() < until, f"left after {seconds} s: {left or processes}"
        time.sleep(0.2)


@dataclasses.dataclass(frozen=True)
class Starter:
    """Starts applications of small workers below a folder."""

    folder: Path

    def __call__(self, **fields: Any) -> dask_on_yarn.Application:
        archive = self.folder / ARCHIVE
        archive.write_bytes(runtime_archive())
        small: dict[str, Any] = {"workers": (1, 1), "worker_memory": 512, "scheduler_memory": 512, "host": "127.0.0.1"}
        spec = YarnSpec(python=sys.executable, **{**small, **fields})
        return dask_on_yarn.start(spec, self.folder / f"application-{len(os.listdir(self.folder))}", archive)


@pytest.fixture(scope="module")
def starts(node: YarnServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    folder = tmp_path_factory.mktemp("applications")
    yield Starter(folder)
    for started in folder.glob("application-*"):
        if application := dask_on_yarn.started(started):
            dask_on_yarn.kill(application.identity)


def client_of(ready: dask_on_yarn.Ready) -> Client:
    from distributed.security import Security

    security = None
    if tls := ready.tls:
        security = Security(
            require_encryption=True,
            tls_ca_file=tls["ca_file"],
            tls_client_cert=tls["cert_file"],
            tls_client_key=tls["key_file"],
        )
    return Client(ready.scheduler, security=security, timeout=10)
