"""A cluster that somebody else runs: used by address or connection, left as it was."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from dask_provider.clusters import ExistingCluster
from dask_provider.errors import ClusterFailed, InvalidInput
from dask_provider.hooks import hook_of
from distributed.security import Security

from tests.integration.onehost import FIRST, Host, retry, until

SCRIPT = """
    import os
    from distributed import Client
    with Client() as client:
        print(client.scheduler.address, client.submit(sum, [1, 2]).result(), os.environ.get("COLOUR"))
"""


@contextlib.contextmanager
def running(folder: Path, *options: str, workers: int = 1, env: dict[str, str] | None = None) -> Iterator[str]:
    """The address of a scheduler with workers, started by hand."""
    file = folder / "scheduler.json"
    common = ["--scheduler-file", str(file), "--host", "127.0.0.1", *options]
    commands = [["scheduler", "--port", "0", "--dashboard-address", "127.0.0.1:0", *common]]
    commands += [["worker", "--nthreads", "1", "--no-dashboard", *common]] * workers
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open(folder / "log", "w"))
        for command in commands:
            words = [sys.executable, "-m", "dask", *command]
            process = subprocess.Popen(words, env={**os.environ, **(env or {})}, stdout=log, stderr=log, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        while not (file.exists() and file.read_text()):
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("site"), workers=2) as address:
        yield address


async def test_a_job_by_address_leaves_the_cluster_as_it_was(host: Host, address: str) -> None:
    hook = hook_of("existing")
    spec = ExistingCluster(address=address, min_ready_workers=2, env={"COLOUR": "red"}, dashboard_url="http://d/status")
    handle = await host.ready(spec)
    assert (handle.scheduler_address, handle.dashboard_url, handle.expires) == (address, "http://d/status", None)
    assert "red" not in json.dumps(handle.to_dict())
    told = await host.run(handle, SCRIPT)
    assert told.outcome.succeeded, told.outcome
    assert f"{address} 3 red" in told.lines
    await host.assert_nothing_runs(3)
    assert await hook.delete(handle, "over") == "not ours: left running"
    assert await hook.wait_gone(handle, 1)
    assert await hook.list(spec, "tests") == []
    with pytest.raises(ClusterFailed, match="not ours to scale"):
        await hook.scale(handle, 1, 1)
    again = await host.run(await host.ready(spec, attempt=retry(2)), SCRIPT, task_id="after delete")
    assert again.outcome.succeeded


async def test_cancelled_nothing_of_the_job_is_left(host: Host, address: str) -> None:
    handle = await host.ready(ExistingCluster(address=address))
    job = await host.submit(handle, "import time; print('here', flush=True); time.sleep(99)")
    await until(lambda: Path(job.location, "program.json").exists())
    assert await hook_of("existing").cancel(job) == "cancelled"
    assert (await host.follow(job)).outcome.state == "cancelled"
    await host.assert_nothing_runs(3)


async def test_too_few_workers(host: Host, address: str) -> None:
    handle = await host.ready(ExistingCluster(address=address, min_ready_workers=3, ready_timeout=4))
    told = await host.run(handle, "print('it ran')")
    assert told.outcome.state == "failed"
    assert "not enough workers joined within 4 s: Only 2/3 workers arrived after 4" in told.outcome.reason
    assert "it ran" not in told.lines


async def test_a_scheduler_that_is_not_there(host: Host) -> None:
    hook = hook_of("existing")
    handle = await hook.create(ExistingCluster(address="tcp://127.0.0.1:9", ready_timeout=2), host.owner(), FIRST)
    began = time.monotonic()
    with pytest.raises(
        ClusterFailed, match=r"the scheduler at tcp://127\.0\.0\.1:9 cannot be reached: .*Connect call failed"
    ):
        await host.wait_ready(hook, handle)
    assert 1 < time.monotonic() - began < 20
    told = await host.run(handle, "print('it ran')")
    assert told.outcome.state == "failed"
    assert told.outcome.reason.startswith("the scheduler at tcp://127.0.0.1:9 does not answer: ")


async def test_by_connection(host: Host, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(address.rpartition(":")[2])
    extra = {"dashboard_url": "http://site/status"}
    record = {"conn_type": "dask", "host": "127.0.0.1", "port": port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_DASK_SITE", json.dumps(record))
    handle = await host.ready(ExistingCluster(conn_id="dask_site"))
    assert (handle.scheduler_address, handle.dashboard_url) == (address, "http://site/status")
    assert (await host.run(handle, SCRIPT)).outcome.succeeded
    with pytest.raises(InvalidInput, match="conn_id: 'no_such_site' is not possible; allowed: an Airflow connection"):
        await host.ready(ExistingCluster(conn_id="no_such_site"))


async def test_a_connection_with_tls(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Security.temporary()
    files = {"ca": made.tls_ca_file, "cert": made.tls_client_cert, "key": made.tls_client_key}
    for name, text in files.items():
        (tmp_path / f"{name}.pem").write_text(text)
    ca, cert, key = (str(tmp_path / f"{name}.pem") for name in files)
    options = ["--protocol", "tls", "--tls-ca-file", ca, "--tls-cert", cert, "--tls-key", key]
    (tmp_path / "site").mkdir()
    with running(tmp_path / "site", *options) as address:
        extra = {"tls_ca_file": ca, "tls_cert_file": cert, "tls_key_file": key}
        port = int(address.rpartition(":")[2])
        record = {"conn_type": "dask", "host": "127.0.0.1", "port": port, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_DASK_TLS", json.dumps(record))
        handle = await host.ready(ExistingCluster(conn_id="dask_tls"))
        told = await host.run(handle, SCRIPT)
        assert told.outcome.succeeded, told.outcome
        assert f"{address} 3 None" in told.lines
        assert address.startswith("tls://")
        # Without the keys the door stays shut.
        keyless = await host.ready(ExistingCluster(address=address, ready_timeout=3))
        told = await host.run(keyless, SCRIPT, task_id="keyless")
        assert told.outcome.state == "failed"
        assert "TLS" in told.outcome.reason


async def test_another_python_that_is_not_there(host: Host, address: str) -> None:
    spec = ExistingCluster(address=address, python="/no/such/python")
    with pytest.raises(InvalidInput, match=r"ExistingCluster\.python: '/no/such/python'"):
        await host.ready(spec)


@pytest.mark.whole
async def test_the_scheduler_goes_while_the_job_runs(host: Host, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    with running(tmp_path / "site") as address:
        handle = await host.ready(ExistingCluster(address=address))
        script = "from distributed import Client\nprint(Client().submit(__import__('time').sleep, 99).result())"
        job = await host.submit(handle, script)
        await until(lambda: "started" in Path(job.location, "output.log").read_text())
        (scheduler, _) = [p for p in psutil.Process().children() if p.cwd() == str(tmp_path / "site")]
        scheduler.kill()
        told = await host.follow(job)
    assert told.outcome.state == "lost", told.outcome
    assert "the scheduler no longer answers" in told.outcome.reason
