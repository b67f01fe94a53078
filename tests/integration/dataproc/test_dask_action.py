"""dask.sh, run on nodes."""

from __future__ import annotations

import asyncio
import functools
import http.server
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from distributed import Client

from tests.servers.dataproc.node.fixtures import BUCKET, DASK, Cluster
from tests.servers.dataproc.node.namespaces import NamespaceNodes
from tests.servers.dataproc.node.wheels import dask_version, wheelhouse
from tests.servers.dataproc.objects import Objects

pytest_plugins = ["tests.servers.gcs", "tests.servers.dataproc.node.fixtures"]

GIB = 2**30
JOB = """
from distributed import Client
if __name__ == "__main__":
    with Client() as client:
        futures = client.map(lambda number: number**2, range(10))
        names = [worker["name"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
        print(client.submit(sum, futures).result(), names)
"""


def connect(cluster: Cluster) -> Client:
    cluster.sh("etl-m", "until curl -sf etl-m:8787/health; do sleep 0.1; done")
    return Client(f"tcp://{cluster.nodes.address(cluster.master)}:8786", asynchronous=True, timeout="10s")


async def workers(client: Client) -> dict[str, dict]:
    found = (await client.scheduler.identity(n_workers=-1))["workers"]
    return {worker["name"]: {**worker, "address": address} for address, worker in found.items()}


async def joined(client: Client, *names: str) -> dict[str, dict]:
    async def seen() -> set[str]:
        return set(await workers(client))

    await until(seen, set(names))
    return await workers(client)


async def until(what: Callable[[], Awaitable[object]], wanted: object) -> None:
    for _ in range(200):
        if (found := await what()) == wanted:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{found} is not {wanted}")


def main_pid(cluster: Cluster, node: str, unit: str) -> int:
    return int(cluster.sh(node, f"systemctl show -p MainPID --value {unit}").stdout)


async def test_scheduler_and_workers_make_a_cluster(cluster: Cluster):
    cluster.metadata = {
        "dask-version": dask_version(),
        "dask-env": "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET=0.85\nDASK_NOTE=two words",
    }
    outputs = await cluster.start("etl-m", "etl-w-0")
    assert (
        "dask.sh: the scheduler answers at etl-m:8786, its dashboard and API at http://etl-m:8787" in outputs["etl-m"]
    )
    assert "dask.sh: the worker etl-w-0 has joined, local directory /mnt/1/dask" in outputs["etl-w-0"]

    script, out = cluster.folder.parent / "job.py", cluster.folder.parent / "job.out"
    script.write_text(JOB)
    env = {"DASK_SCHEDULER_ADDRESS": "tcp://etl-m:8786"}
    redirected = ["/bin/bash", "-c", 'exec "$@" >"$0" 2>&1', str(out), "python", str(script)]
    await cluster.nodes.run("etl-m", "job-1", redirected, env)
    await until(lambda: cluster.nodes.running("etl-m", "job-1"), False)
    assert out.read_text() == "285 ['etl-w-0']\n"

    async with connect(cluster) as client:
        worker = (await workers(client))["etl-w-0"]
        assert (worker["nthreads"], worker["memory_limit"]) == (4, 16 * GIB * 85 // 100)
        assert worker["local_directory"].startswith("/mnt/1/dask/")
        assert worker["services"]["dashboard"] == 8788
        setting = "__import__('dask').config.get('distributed.worker.memory.target')"
        assert list((await client.run(eval, setting)).values()) == [0.85]

        # Again: nothing is disturbed. Otherwise: only what changed.
        scheduler, before = main_pid(cluster, "etl-m", "dask-scheduler"), main_pid(cluster, "etl-w-0", "dask-worker")
        for node in ("etl-m", "etl-w-0"):
            code, output = await cluster.act(node, DASK)
            assert (code, "nothing to install" in output) == (0, True), output
        assert main_pid(cluster, "etl-w-0", "dask-worker") == before
        code, output = await cluster.act("etl-w-0", DASK, {"dask-worker-threads": "3", "dask-worker-memory": "2GiB"})
        worker = (await joined(client, "etl-w-0"))["etl-w-0"]
        assert (code, worker["nthreads"], worker["memory_limit"]) == (0, 3, 2 * GIB), output
        assert main_pid(cluster, "etl-m", "dask-scheduler") == scheduler

        # A node that is turned off hands over what only it had.
        await cluster.start("etl-w-1")
        found = await joined(client, "etl-w-0", "etl-w-1")
        future = await client.scatter("kept", workers=[found["etl-w-0"]["address"]])
        assert set((await client.who_has(future)).popitem()[1]) == {found["etl-w-0"]["address"]}
        await cluster.nodes.stop("etl-w-0")
        assert set(await workers(client)) == {"etl-w-1"}
        assert await future.result() == "kept"


@pytest.mark.whole
async def test_who_comes_back_and_who_stays_away(cluster: Cluster):
    cluster.metadata = {"dask-version": dask_version()}
    await cluster.start("etl-m", "etl-w-0")
    # The scheduler, and with it the worker that lost it.
    cluster.sh("etl-m", "kill -9 $(systemctl show -p MainPID --value dask-scheduler)")
    async with connect(cluster) as client:
        worker = (await joined(client, "etl-w-0"))["etl-w-0"]
        # A worker whose process dies.
        cluster.sh("etl-w-0", f"kill -9 {main_pid(cluster, 'etl-w-0', 'dask-worker')}")
        await joined(client)
        worker = (await joined(client, "etl-w-0"))["etl-w-0"]
        # Not a worker that was retired: the cluster shall be smaller.
        retire = f"""curl -s -d '{{"workers": ["{worker["address"]}"]}}' etl-m:8787/api/v1/retire_workers"""
        assert worker["address"] in cluster.sh("etl-m", retire).stdout
        await joined(client)
        ended = "until [[ $(systemctl is-active dask-worker) == inactive ]]; do sleep 0.1; done"
        assert cluster.sh("etl-w-0", f"timeout 20 bash -c '{ended}'").returncode == 0
        await asyncio.sleep(2.5)  # RestartSec
        assert cluster.sh("etl-w-0", "systemctl is-active dask-worker").stdout == "inactive\n"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[int]:
    """Port of an index of packages, as PyPI is one."""
    for wheel in wheelhouse().iterdir():
        folder = tmp_path / wheel.name.split("-")[0].replace("_", "-")
        folder.mkdir()
        (folder / wheel.name).symlink_to(wheel)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


async def test_packages_come_from_a_wheelhouse_or_an_index(cluster: Cluster, index: int):
    async with Objects(cluster.gcs.url) as objects:
        pinned = f"dask=={dask_version()}\ndistributed=={dask_version()}\n"
        await objects.write(f"gs://{BUCKET}/requirements.txt", pinned.encode())
        for wheel in wheelhouse().iterdir():
            await objects.write(f"gs://{BUCKET}/wheelhouse/{wheel.name}", wheel.read_bytes())
    python = sys._base_executable  # type: ignore[attr-defined]
    cluster.metadata = {"dask-environment": "/opt/fresh/dask", "dask-python": python, "dataproc-worker-count": "0"}
    wheels = {"dask-wheelhouse": f"gs://{BUCKET}/wheelhouse/", "dask-requirements": f"gs://{BUCKET}/requirements.txt"}
    more = {
        "etl-m": {**wheels, "dask-user": "dask"},
        "etl-w-0": {
            "dask-index-url": f"http://127.0.0.1:{index}",
            "dask-version": dask_version(),
            "dask-packages": "tblib>=3\nzict",
        },
    }
    cluster.nodes = NamespaceNodes(cluster.folder, cluster.gcs.url, ports=[index])
    await cluster.start(*more, actions=())
    for folder in Path(python).parents:  # as Dataproc's Python is, but maybe not that of the tests
        cluster.sh("etl-m", f"chmod o+x {folder}")
    half = "mkdir -p /opt/fresh/dask/bin && ln -s /usr/bin/python3 /opt/fresh/dask/bin/python"
    cluster.sh("etl-w-0", f"{half} && touch /opt/fresh/dask.unfinished")  # the node was turned off on the way

    for state in (f"Dask {dask_version()} was installed in /opt/fresh/dask", "nothing to install"):
        answers = await asyncio.gather(*(cluster.act(node, DASK, more[node]) for node in more))
        for code, output in answers:
            assert (code, state in output) == (0, True), output
    async with connect(cluster) as client:
        found = await joined(client, "etl-m", "etl-w-0")  # the master works too where there are no other workers
        assert found["etl-m"]["memory_limit"] == 16 * GIB * 60 // 100
        where = "__import__('sys').prefix, __import__('os').getuid()"
        ran = {worker: await client.submit(eval, where, workers=[worker], pure=False) for worker in found}
    user = int(cluster.sh("etl-m", "id -u dask").stdout)
    assert ran == {"etl-m": ("/opt/fresh/dask", user), "etl-w-0": ("/opt/fresh/dask", 0)}
    assert user != 0


@pytest.mark.whole
async def test_what_is_refused(cluster: Cluster):
    await cluster.start("etl-m", "etl-w-0", actions=())
    python = sys._base_executable  # type: ignore[attr-defined]
    fresh = {"dask-environment": "/opt/fresh", "dask-version": "2026.8.0", "dask-python": python}
    cluster.sh("etl-m", "mkdir -p /opt/bare && python3 -m venv --without-pip /opt/bare")
    cases = [
        ({"dask-runtime": "spark"}, "metadata dask-runtime: 'spark'; allowed: standalone, yarn"),
        ({"dask-runtime": "yarn"}, "metadata dask-runtime: yarn, but this node has no 'yarn'"),
        (
            {"dask-packages": "gcsfs>=1 dask==1.0"},
            f"comes with the image and lacks dask==1.0 (found: {dask_version()})",
        ),
        ({"dask-requirements": f"gs://{BUCKET}/x.txt"}, f"metadata dask-requirements: gs://{BUCKET}/x.txt is not inst"),
        ({"dask-version": ">=2026"}, "metadata dask-version: '>=2026'; allowed: a version of Dask as 2026.8.0"),
        ({"dask-worker-on-master": "no"}, "metadata dask-worker-on-master: 'no'; allowed: auto, true, false"),
        ({"dask-worker-memory": "lots"}, "metadata dask-worker-memory: 'lots'; allowed: bytes, or as 12GiB"),
        ({"dask-wheelhouse": "/mnt/wheels"}, "metadata dask-wheelhouse: '/mnt/wheels'; allowed: gs:// URI"),
        (
            {"dask-packages": "gcsfs --index-url=x"},
            "metadata dask-packages: 'gcsfs --index-url=x'; allowed: requirements",
        ),
        ({"dask-env": "A=b\nfoo bar"}, "metadata dask-env: 'A=b\nfoo bar'; allowed: lines of NAME=VALUE"),
        ({"dataproc-role": ""}, "metadata dataproc-role ('') and dataproc-master ('etl-m') must be there"),
        ({"dask-version": "2024.8.0"}, f"2024.8.0 is wanted, /opt/dask has dask and distributed {dask_version()}"),
        ({"dask-environment": "/opt/bare"}, "/opt/bare has a Python, but no dask and distributed"),
        (
            {"dask-environment": "/opt/fresh"},
            "metadata dask-version is missing, and /opt/fresh/bin/python is not there",
        ),
        ({**fresh, "dask-python": "/opt/no/python"}, "metadata dask-python: '/opt/no/python' is not on this node"),
        (
            {**fresh, "dask-wheelhouse": f"gs://{BUCKET}/nowhere"},
            f"dask-wheelhouse: gs://{BUCKET}/nowhere/* cannot be read",
        ),
        ({"dask-user": "dask;x"}, "metadata dask-user: 'dask;x'; allowed: the name of an account"),
    ]
    for more, reason in cases:
        code, output = await cluster.act("etl-m", DASK, more)
        assert (code, f"dask.sh: ERROR: {reason}" in output or reason in output) == (1, True), output
        assert "\ndask.sh: remedy: " in output

    # A wheelhouse that lacks something.
    async with Objects(cluster.gcs.url) as objects:
        for wheel in wheelhouse().iterdir():
            if not wheel.name.startswith("tornado"):
                await objects.write(f"gs://{BUCKET}/poor/{wheel.name}", wheel.read_bytes())
    poor = {**fresh, "dask-wheelhouse": f"gs://{BUCKET}/poor", "dask-version": dask_version()}

    async def on_the_master() -> None:
        code, output = await cluster.act("etl-m", DASK, poor)
        assert (code, f"gs://{BUCKET}/poor does not have all of: dask=={dask_version()}" in output) == (1, True), output
        assert "No matching distribution found for tornado" in output
        # Dask that cannot come up is not waited for.
        listener = "import socket, time; s = socket.create_server(('', 8786)); time.sleep(1000)"
        cluster.sh("etl-m", f'setsid python3 -c "{listener}" >/dev/null 2>&1 &')
        cluster.sh("etl-m", "timeout 60 bash -c 'until : </dev/tcp/etl-m/8786; do sleep 0.1; done' 2>/dev/null")
        code, output = await cluster.act("etl-m", DASK)
        assert (code, "the service dask-scheduler ends again and again" in output) == (1, True), output
        assert "Address already in use" in output  # the end of its log

    async def on_the_worker() -> None:
        code, output = await cluster.act("etl-w-0", DASK, {"dask-timeout": "2"})
        joining = "the worker etl-w-0 has not joined the scheduler at http://etl-m:8787 within 2 s"
        assert (code, joining in output) == (1, True), output
        # Without its metadata server no default is taken for the answer.
        cluster.sh("etl-w-0", "ip address delete 169.254.169.254/32 dev lo")
        code, output = await cluster.act("etl-w-0", DASK)
        assert (code, "the metadata server does not tell 'attributes/'" in output) == (1, True), output

    await asyncio.gather(on_the_master(), on_the_worker())


KNOX_UNIT = """[Unit]
Description=Stands for Knox
[Service]
ExecStart=/bin/sleep 1000
ExecStop=/bin/sh -c 'echo restarted >>/run/knox'
[Install]
WantedBy=multi-user.target
"""


async def test_the_component_gateway_gets_a_route_to_the_dashboard(cluster: Cluster, tmp_path: Path):
    cluster.metadata = {"dask-version": dask_version(), "dataproc-worker-count": "2"}
    await cluster.start("etl-m", actions=())
    topology, unit = "/etc/knox/conf/topologies/default.xml", "/etc/systemd/system/knox.service"
    own = "<topology>\n  <service><role>YARNUI</role></service>\n</topology>\n"
    made = f"mkdir -p /usr/lib/knox {Path(topology).parent} && cat >{topology} <<'X'\n{own}X\n"
    made += f"cat >{unit} <<'X'\n{KNOX_UNIT}X\n"
    assert cluster.sh("etl-m", f"{made}chown nobody {topology}; systemctl start knox").returncode == 0
    for again in range(2):
        code, output = await cluster.act("etl-m", DASK)
        assert (code, "the Component Gateway has the dashboard" in output) == (0, True), output
        assert cluster.sh("etl-m", "cat /run/knox").stdout == "restarted\n", f"run {again}"
    assert cluster.sh("etl-m", f"stat -c %U {topology}").stdout == "nobody\n"

    services = {}
    for found in ElementTree.fromstring(cluster.sh("etl-m", f"cat {topology}").stdout).findall("service"):
        services[found.findtext("role")] = found.findtext("url")
    assert services == {"YARNUI": None, "DASK": "http://localhost:8787", "DASKWS": "ws://localhost:8787"}
    rules: set[str | None] = set()
    applied: set[str | None] = set()
    paths = set()
    for name in ("dask", "daskws"):
        folder = f"/usr/lib/knox/data/services/{name}/1.0.0"
        service = ElementTree.fromstring(cluster.sh("etl-m", f"cat {folder}/service.xml").stdout)
        assert (service.get("role"), service.get("name")) == (name.upper(), name)
        paths |= {route.get("path") for route in service.iter("route")}
        applied |= {rewrite.get("apply") for rewrite in service.iter("rewrite")}
        written = ElementTree.fromstring(cluster.sh("etl-m", f"cat {folder}/rewrite.xml").stdout)
        rules |= {each.get("name") for each in written}
        applied |= {each.get("rule") for each in written.iter("apply")}
    assert paths == {"/dask", "/dask/**", "/dask/**?**", "/dask/**/ws"}
    assert applied == rules  # what is applied is there, and what is there is applied
