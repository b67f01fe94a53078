"""Nodes for tests of what runs on nodes: without the emulator, which makes them of a cluster."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dask_provider.hooks.dataproc.actions import script

from tests.servers.dataproc.node import real_nodes
from tests.servers.dataproc.node.leftovers import owned
from tests.servers.dataproc.node.namespaces import NamespaceNodes
from tests.servers.dataproc.nodes import ActionResult, InitializationAction, Node
from tests.servers.dataproc.objects import Objects
from tests.servers.gcs import GCSServer
from tests.servers.kubernetes.daemons import which

#: what nodes read
BUCKET = "dataproc-nodes"
#: the actions, as they are in the bucket
DASK, NFS = f"gs://{BUCKET}/dask.sh", f"gs://{BUCKET}/nfs.sh"


@dataclass
class Cluster:
    """Instances that would be one cluster.

    :param shared: the folder that :data:`FILESTORE` exports as ``/export``.
    :param metadata: of all of them.
    """

    nodes: NamespaceNodes
    folder: Path
    shared: Path
    gcs: GCSServer
    metadata: dict[str, str] = field(default_factory=dict)
    name: str = "etl"

    @property
    def master(self) -> str:
        return f"{self.name}-m"

    async def start(self, *names: str, actions: Sequence[str] = (DASK,), timeout: float = 120) -> dict[str, str]:
        """Start these instances at once; what their actions wrote, by name.

        :raises AssertionError: an action failed.
        """
        wanted = [InitializationAction(uri, timeout) for uri in actions]
        results = await asyncio.gather(*(self.nodes.start(self.node(name, wanted)) for name in names))
        assert all(one.exit_code == 0 for result in results for one in result), texts(results)
        return dict(zip(names, texts(results), strict=True))

    def node(self, name: str, actions: Sequence[InitializationAction] = ()) -> Node:
        """A description of an instance, of 4 processors and 16 GiB."""
        return Node(
            project="dask-tests",
            region="europe-west1",
            zone="europe-west1-b",
            cluster=self.name,
            cluster_uuid=f"uuid-{self.folder.name}",
            name=name,
            role="Master" if name == self.master else "Worker",
            master=self.master,
            machine_type="n2-standard-4",
            preemptible=False,
            metadata=self.attributes(name),
            actions=actions,
        )

    def attributes(self, name: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
        own = {"dataproc-role": "Master" if name == self.master else "Worker", "dataproc-master": self.master}
        own |= {"dataproc-cluster-name": self.name, "dataproc-worker-count": "2"}
        return {**own, **self.metadata, **(more or {})}

    async def act(self, name: str, action: str, more: Mapping[str, str] | None = None) -> tuple[int | None, str]:
        """Run an action on a node that is there, with these attributes on top: exit code and output."""
        self.nodes.set_metadata(name, self.attributes(name, more))
        result = await self.nodes.act(name, InitializationAction(action, 120))
        return result.exit_code, result.output.decode()

    def sh(self, name: str, command: str) -> subprocess.CompletedProcess[str]:
        """Run a line of shell on a node."""
        inside = self.nodes.inside(name, ["bash", "-c", command])
        return subprocess.run(inside, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def texts(results: Sequence[Sequence[ActionResult]]) -> list[str]:
    """What each node's actions wrote."""
    return ["".join(one.output.decode() for one in result) for result in results]


@pytest.fixture
def namespaces() -> None:
    """Skips the test where nodes cannot be."""
    from tests.conftest import require

    missing = [tool for tool in ("unshare", "nsenter", "ip") if not os.path.exists(which(tool))]
    able = sys.platform.startswith("linux") and os.geteuid() == 0 and not missing
    require(f"namespaces: Linux, root, unshare, nsenter and ip {missing or ''}", able)


@pytest.fixture
async def actions(namespaces: None, gcs_server: GCSServer) -> None:
    """:data:`DASK` and :data:`NFS` are in their bucket."""
    gcs_server.make_bucket(BUCKET)
    async with Objects(gcs_server.url) as objects:
        for name in ("dask", "nfs"):
            await objects.write(f"gs://{BUCKET}/{name}.sh", script(name).encode())


@pytest.fixture
def cluster(actions: None, gcs_server: GCSServer) -> Iterator[Cluster]:
    """A cluster without nodes yet, whose image has the packages of the tests."""
    with tempfile.TemporaryDirectory(prefix="dataproc-") as scratch:
        folder = Path(scratch) / "nodes"
        with owned(folder):
            yield Cluster(real_nodes(folder, gcs_server.url), folder, Path(scratch) / "filestore", gcs_server)
