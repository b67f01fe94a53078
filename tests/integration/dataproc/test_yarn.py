"""The runtime ``yarn``: machines with a real ResourceManager and NodeManagers, and jobs through the hook."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from dask_provider.handles import ClusterHandle
from dask_provider.hooks import hook_of

from tests.conftest import require
from tests.integration.dataproc.place import BUCKET, Dataproc
from tests.servers.dataproc.clients import put_object
from tests.servers.dataproc.node import hadoop
from tests.servers.dataproc.node.leftovers import owned
from tests.servers.dataproc.node.namespaces import NamespaceNodes
from tests.servers.dataproc.server import DataprocServer, start_dataproc
from tests.servers.gcs import GCSServer
from tests.servers.yarn.jars import hadoop_jars

pytestmark = pytest.mark.whole
pytest_plugins = ["tests.servers.gcs"]

JOBS = Path(__file__).parents[3] / "jobs"
#: what every program tells of the applications that run meanwhile
APPLICATIONS = """
import json, os, urllib.request

def applications():
    url = "http://" + os.uname().nodename + ":8088/ws/v1/cluster/apps"
    def ask(path):
        return json.load(urllib.request.urlopen(url + path))
    found = {}
    for app in (ask("?states=RUNNING")["apps"] or {}).get("app", []):
        [timeout] = ask("/" + app["id"] + "/timeouts")["timeouts"]["timeout"]
        found[app["name"]] = [app["applicationTags"], timeout["type"], timeout["remainingTimeInSeconds"]]
    return found
"""
PLAIN = (
    APPLICATIONS
    + """
from distributed import Client

with Client() as client:
    names = [worker["host"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
    print(json.dumps([client.submit(sum, [1, 2, 3]).result(), len(names), applications()]), flush=True)
"""
)
#: makes a cluster of its own, and leaves it behind
OF_ITS_OWN = (
    APPLICATIONS
    + """
from distributed import Client
from dask_yarn import YarnCluster

small = {"worker_memory": "512 MiB", "scheduler_memory": "512 MiB", "worker_vcores": 1}
cluster = YarnCluster(n_workers=1, name="of-its-own", **small)
client = Client(cluster)
print(json.dumps([client.submit(sum, [1, 2, 3]).result(timeout=90), applications()]), flush=True)
os._exit(0)
"""
)
SLEEPS = "import time; print('at work', flush=True); time.sleep(600)"


@pytest.fixture(scope="module")
def machines(gcs_server: GCSServer) -> Iterator[DataprocServer]:
    """An emulator whose machines have Hadoop."""
    try:
        hadoop_jars()
    except RuntimeError as error:
        require(f"YARN ({error})", False)
    gcs_server.make_bucket(BUCKET)
    with tempfile.TemporaryDirectory(prefix="dataproc-") as folder, owned(Path(folder) / "nodes"):
        server = start_dataproc(Path(folder), gcs_server.url, "tests.integration.dataproc.place:yarn_nodes")
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def place(machines: DataprocServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dataproc]:
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_TESTS", machines.connection())
    found = Dataproc(machines)
    monkeypatch.setenv("AIRFLOW__DASK__STAGING", found.staging)
    yield found
    found.assert_nothing_left()


class OnYarn:
    """A cluster and its ResourceManager."""

    def __init__(self, place: Dataproc, handle: ClusterHandle) -> None:
        self.place, self.handle = place, handle
        nodes = NamespaceNodes(place.server.folder / "nodes", place.server.gcs_url)
        self.address = nodes.address(f"{handle.name}-m")

    def applications(self) -> dict[str, list[str]]:
        """All that there ever were: final status by name."""
        found: dict[str, list[str]] = {}
        for app in (hadoop.ask(self.address, "apps")["apps"] or {}).get("app", []):
            found.setdefault(app["name"], []).append(app["finalStatus"] if app["state"] != "RUNNING" else "RUNNING")
        return found

    async def run(self, script: str, **fields: Any) -> list[str]:
        """The lines that the program wrote itself."""
        told = await self.place.follow(await self.place.submit(self.handle, script, **fields), 120)
        assert told.outcome.succeeded, (told.outcome, told.lines)
        return told.lines


@contextlib.asynccontextmanager
async def on_yarn(place: Dataproc, **fields: Any) -> AsyncIterator[OnYarn]:
    machines = {"master": "n2-standard-2", "worker": "n2-standard-2"}
    handle = await place.ready(place.spec(runtime="yarn", memory="512 MiB", **machines, **fields))
    try:
        assert handle.scheduler_address is None
        yield OnYarn(place, handle)
    finally:
        await hook_of("dataproc").delete(handle, "the test is over")


async def test_jobs_bring_their_dask_and_end_it(place: Dataproc) -> None:
    async with on_yarn(place, tls=True) as yarn:
        await _plain(place, yarn)
        await _cancelled(place, yarn)


async def test_programs_with_and_without_a_cluster_of_their_own(place: Dataproc) -> None:
    async with on_yarn(place, workers=1) as yarn:
        await _of_its_own(place, yarn)
        await _the_example(place, yarn)


async def _plain(place: Dataproc, yarn: OnYarn) -> None:
    lines = await yarn.run(PLAIN, task_id="plain")
    total, workers, applications = json.loads(lines[-1])
    name = place.owner("plain").name
    assert (total, workers, list(applications)) == (6, 2, [name])
    tags, kind, seconds = applications[name]
    assert (set(tags.split(",")), kind) == ({name, f"{name}-1.1000"}, "LIFETIME")
    assert 86000 < seconds <= 86400
    assert yarn.applications() == {name: ["KILLED"]}  # with the job


async def _of_its_own(place: Dataproc, yarn: OnYarn) -> None:
    lines = await yarn.run(OF_ITS_OWN, task_id="own")
    name = place.owner("own").name
    assert any("which the program has left" in line for line in lines), lines
    total, applications = json.loads(next(line for line in lines if line.startswith("[6")))
    assert total == 6
    # By dask-yarn as it is: found by our tags, and YARN itself ends it when the cluster's time is over.
    tags, kind, seconds = applications["of-its-own"]
    assert (set(tags.split(",")), kind) == ({name, f"{name}-1.1000"}, "LIFETIME")
    assert 86000 < seconds <= 86400
    assert not [name for name, verdicts in yarn.applications().items() if "RUNNING" in verdicts]


async def _the_example(place: Dataproc, yarn: OnYarn) -> None:
    rows = "\n".join(f"{number},{number % 2}" for number in range(100))
    source = put_object(place.server, f"gs://{BUCKET}/table.csv", f"value,category\n{rows}\n")
    script = (JOBS / "dask_yarn_example.py").read_text()
    lines = await yarn.run(script, task_id="example", arguments=("--input", source))
    assert "100 rows of 2 columns, 2 of them numeric" in lines


async def _cancelled(place: Dataproc, yarn: OnYarn) -> None:
    hook, name = hook_of("dataproc"), place.owner("sleeps").name
    job = await place.submit(yarn.handle, SLEEPS, task_id="sleeps")
    async with contextlib.aclosing(hook.watch(job, position=0, eager=True)) as news:
        async for each in news:
            if "at work" in each.lines:
                break
    assert yarn.applications()[name] == ["RUNNING"]
    assert await hook.cancel(job) == "cancelled"
    assert (await place.follow(job)).outcome.state == "cancelled"
    until = time.monotonic() + 15
    while yarn.applications()[name] != ["KILLED"]:
        assert time.monotonic() < until, yarn.applications()
        await asyncio.sleep(0.2)
