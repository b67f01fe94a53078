"""The nodes of the emulator, each in namespaces of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.servers.dataproc import processes
from tests.servers.dataproc.node import hadoop, networks
from tests.servers.dataproc.node.machines import meminfo, size
from tests.servers.dataproc.nodes import ActionResult, InitializationAction, Node
from tests.servers.dataproc.objects import Objects
from tests.servers.gobuild import built
from tests.servers.kubernetes.cached import CACHE, HERE, locked, run
from tests.servers.kubernetes.daemons import PATH, Daemons, which

CHECKOUT = HERE.parents[2]
#: where dask.sh looks for an environment that the image brings
IMAGE_ENVIRONMENT = "/opt/dask"
#: seconds that a machine has to turn itself off, as Compute Engine gives
SHUTDOWN = 90.0
_INIT = Path(__file__).with_name("node-init.sh")
_RELAY = Path(__file__).with_name("relay.py")
LOCK = CACHE.parent / "dataproc-networks.lock"
_ACTION, _DRIVER = "DATAPROC_ACTION", "DATAPROC_DRIVER"
#: mirrors a folder by FUSE; see mount-nfs.sh
_LOOPBACK = ("loopback", "github.com/hanwen/go-fuse/v2/example/loopback", "2.12.1")


class NamespaceNodes:
    """See :class:`tests.servers.dataproc.nodes.Nodes`. Needs Linux and root.

    :param folder: for what must be remembered. The folder above it, the emulator's own, is seen and written by nodes.
    :param gcs_url: of a GCS server on this machine's loopback interface. Nodes have it under the same URL.
    :param image: a Python environment that nodes find at ``/opt/dask``, as a custom image would bring it.
    :param exports: NFS servers by address, each with its exports: name and folder of this machine.
    :param ports: further ports of this machine's loopback interface that nodes have at theirs.
    :param local_ssds: of each node, at ``/mnt/1`` and so on.
    :param hadoop: Hadoop's jars: nodes have a YARN then, as Dataproc's images do.
    """

    def __init__(
        self,
        folder: Path,
        gcs_url: str,
        *,
        image: Path | None = None,
        exports: Mapping[str, Mapping[str, Path]] | None = None,
        ports: Sequence[int] = (),
        local_ssds: int = 0,
        hadoop: Path | None = None,
    ) -> None:
        self._folder, self._gcs_url = folder, gcs_url
        self._image, self._exports, self._local_ssds = image, exports or {}, local_ssds
        self._hadoop = hadoop
        self._children: set[Process] = set()
        self._ports = [urlsplit(gcs_url).port or 80, *ports]

    async def start(self, node: Node) -> list[ActionResult]:
        await self.stop(node.name)
        await _to_its_end(self._boot, node)
        results: list[ActionResult] = []
        for action in node.actions:
            results.append(await self.act(node.name, action))
            if results[-1].exit_code != 0:
                break
        return results

    async def act(self, name: str, action: InitializationAction) -> ActionResult:
        """Run an initialization action on a node that is there."""
        mark = f"initialization-action-{time.time_ns()}"
        script, output = self._home(name) / mark, self._home(name) / f"{mark}.output"
        async with Objects(self._gcs_url) as objects:
            script.write_bytes(await objects.read(action.uri))
        # Not a pipe: what the action leaves in the background may write on, and nobody must wait for its end.
        process = await self._spawn(name, ["/bin/bash", str(script)], {_ACTION: mark}, output)
        try:
            code: int | None = await asyncio.wait_for(process.wait(), action.timeout)
        except asyncio.TimeoutError:
            code = None
            processes.send(processes.find(_ACTION, mark), signal.SIGKILL)
            await process.wait()
        return ActionResult(code, output.read_bytes())

    async def stop(self, name: str) -> None:
        if self._home(name).exists():
            await _to_its_end(self._shut_down, name, SHUTDOWN)

    async def kill(self, name: str) -> None:
        """End a node as a failing machine does: nothing in it gets a word."""
        if self._home(name).exists():
            await _to_its_end(self._shut_down, name, 0.0)

    async def alive(self, name: str) -> bool:
        return self.holder(name) is not None

    async def busy(self, name: str) -> bool:
        if self._hadoop is None:
            return False
        master = self._record(name)["instance"]["attributes"]["dataproc-master"]
        return bool((await asyncio.to_thread(hadoop.nodes, self.address(master))).get(name))

    async def run(self, name: str, driver: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        python = self.python(name)
        command = [python if word == "python" else word for word in argv]
        process = await self._spawn(name, command, {_DRIVER: driver, **env}, Path(os.devnull))
        # Until it has got there: from now on it runs, or has ended.
        ended = asyncio.ensure_future(process.wait())
        while not ended.done() and not await self.running(name, driver):
            await asyncio.wait([ended], timeout=0.01)
        ended.cancel()

    async def running(self, name: str, driver: str) -> bool:
        return bool(processes.find(_DRIVER, driver))

    async def end(self, name: str, driver: str, how: signal.Signals) -> None:
        processes.send(processes.find(_DRIVER, driver), how)

    def address(self, name: str) -> str:
        """Where this machine reaches the node."""
        return str(self._record(name)["address"])

    def set_metadata(self, name: str, attributes: Mapping[str, str]) -> None:
        """Replace the attributes of a running instance."""
        config = Path(f"/proc/{self.holder(name)}/root/etc/node-stand-in.json")
        changed = json.loads(config.read_text())
        changed["instance"]["attributes"] = dict(attributes)
        config.with_suffix(".new").write_text(json.dumps(changed))
        os.replace(config.with_suffix(".new"), config)

    def holder(self, name: str) -> int | None:
        """The first process of a node, as this machine counts, if it lives."""
        parent = self._daemons(name).pid("node") if self._home(name).exists() else None
        return _child(parent) if parent is not None else None

    def inside(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """A command line of this machine that runs ``argv`` on a node.

        :raises OSError: there is no such node.
        """
        holder = self.holder(name)
        if holder is None:
            raise OSError(f"there is no node {name}")
        everything = {
            "PATH": PATH,
            "HOME": "/root",
            "HOSTNAME": name,
            **self._record(name)["environment"],
            **(env or {}),
        }
        variables = [f"{key}={value}" for key, value in everything.items()]
        # No process outside of the node may have these variables: what belongs to it is found by them.
        return [which("nsenter"), "-t", str(holder), "-m", "-n", "-u", "-i", "-p", "env", "-i", *variables, *argv]

    def python(self, name: str) -> str:
        """The Python that has Dask, else the one that runs the tests."""
        instance = self._record(name).get("instance", {"attributes": {}})
        environment = instance["attributes"].get("dask-environment", IMAGE_ENVIRONMENT)
        there = Path(f"/proc/{self.holder(name)}/root{environment}/bin/python")
        return f"{environment}/bin/python" if os.path.lexists(there) else sys.executable

    def _boot(self, node: Node) -> None:
        cpus, memory = size(node.machine_type)
        home = self._home(node.name)
        with locked(LOCK):
            bridge = networks.bridge_name(self._folder, node.cluster_uuid)
            network = networks.ensure_bridge(bridge, self._folder)
            address = networks.free_address(network, [record["address"] for record in self._cluster(node.cluster_uuid)])
            (home / "exports").mkdir(parents=True)
            (home / "root").mkdir()
            (home / "node.json").write_text(json.dumps(self._description(node, address)))
            self._write_hosts(node.cluster_uuid)
        files = {"hostname": node.name, "online": f"0-{cpus - 1}", "meminfo": meminfo(memory), "ssds": self._local_ssds}
        for name, text in files.items():
            (home / name).write_text(f"{str(text).rstrip()}\n")
        if self._image is not None:
            (home / "image").symlink_to(self._image)
        self._prepare_exports(home)
        units: list[str] = []
        if self._hadoop is not None:
            (home / "hadoop").mkdir()
            units = hadoop.prepare(home / "hadoop", node, self._file_system(node.cluster_uuid), self._hadoop)
        daemons = self._daemons(node.name)
        unshare = [
            which("unshare"),
            "--mount",
            "--net",
            "--uts",
            "--ipc",
            "--pid",
            "--fork",
            "--propagation",
            "private",
        ]
        python = os.path.realpath(sys.executable)
        daemons.launch("node", [*unshare, str(_INIT), str(home), python, *self._seen()])
        self._wait(node.name, "its first process", lambda: self.holder(node.name) is not None)
        holder = self.holder(node.name)
        assert holder is not None
        networks.connect(bridge, address, holder)
        self._wait(node.name, "systemd", Path(f"/proc/{holder}/root/run/systemd/stand-in").exists)
        for port in self._ports:
            daemons.launch(f"relay-{port}", [python, "-I", str(_RELAY), str(holder), str(port)])
        if units:
            self._start_yarn(node, units)

    def _start_yarn(self, node: Node, units: Sequence[str]) -> None:
        """Dataproc runs initialization actions once its own daemons are up."""
        run([*self.inside(node.name, ["systemctl", "enable", "--now", *units])])

        def up() -> bool:
            master = self._record(node.master).get("address")
            if master is None:  # it starts at the same time
                return False
            if "hadoop-yarn-nodemanager" in units:
                return node.name in hadoop.nodes(master)
            return hadoop.is_up(master)

        try:
            self._wait(node.name, "YARN", up, 90)
        except OSError as error:
            logs = [f"/var/log/{unit}.log" for unit in units]
            raise OSError(f"{error}\n{run(self.inside(node.name, ['tail', '-n', '20', *logs]))}") from None

    def _description(self, node: Node, address: str) -> dict[str, Any]:
        account = {
            "email": f"dataproc@{node.project}.iam.gserviceaccount.com",
            "scopes": "https://www.googleapis.com/auth/cloud-platform",
            "token": {"access_token": "token-of-the-tests", "expires_in": 3600, "token_type": "Bearer"},
        }
        instance = {
            "name": node.name,
            "hostname": f"{node.name}.{node.zone}.c.{node.project}.internal",
            "zone": f"projects/1/zones/{node.zone}",
            "machine-type": f"projects/1/machineTypes/{node.machine_type}",
            "attributes": dict(node.metadata),
            "service-accounts": {"default": account},
        }
        return {
            "address": address,
            "cluster_uuid": node.cluster_uuid,
            "gcs_url": self._gcs_url,
            "nfs_servers": list(self._exports),
            "instance": instance,
            "project": {"project-id": node.project, "numeric-project-id": "1"},
            "environment": {
                "PATH": PATH,
                "LANG": "C.UTF-8",
                "STORAGE_EMULATOR_HOST": self._gcs_url,
                "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            },
        }

    def _prepare_exports(self, home: Path) -> None:
        for server, shares in self._exports.items():
            folder = home / "exports" / f"{server}:"
            folder.mkdir()
            for name, shared in shares.items():
                (folder / name).symlink_to(shared)
        if self._exports:
            program, reason = built(*_LOOPBACK)
            if program is None:
                raise OSError(reason)
            (home / "loopback").symlink_to(program)

    def _seen(self) -> list[str]:
        """Paths of this machine that a node would not see: of other file systems, or in folders that it has anew."""
        root, found = os.stat("/").st_dev, [f"rw:{self._folder.parent.resolve()}"]
        for path in {CHECKOUT, Path(sys.prefix), Path(sys.base_prefix).resolve(), self._hadoop or CHECKOUT}:
            if path.stat().st_dev != root or path.is_relative_to("/tmp") or path.is_relative_to("/run"):
                found.append(str(path))
        return found

    def _shut_down(self, name: str, seconds: float) -> None:
        daemons, holder = self._daemons(name), self.holder(name)
        if holder is not None and seconds:
            off = self.inside(name, ["systemctl", "poweroff"])
            with contextlib.suppress(subprocess.TimeoutExpired):  # so long a machine has, and no longer
                subprocess.run(off, stdin=DEVNULL, capture_output=True, timeout=seconds, check=False)
        if holder is not None:
            processes.send([holder], signal.SIGKILL)
        for daemon in daemons.names():
            daemons.end(daemon, signal.SIGKILL)
        with locked(LOCK):
            uuid = self._record(name).get("cluster_uuid", "")
            shutil.rmtree(self._home(name))
            if self._cluster(uuid):
                self._write_hosts(uuid)
            else:
                networks.remove_bridge(networks.bridge_name(self._folder, uuid))
                shutil.rmtree(self._file_system(uuid), ignore_errors=True)

    def _file_system(self, uuid: str) -> Path:
        """What a cluster's nodes have instead of HDFS."""
        return self._folder.parent / "hadoop" / (uuid or "none")

    def _cluster(self, uuid: str) -> list[dict[str, Any]]:
        """The records of the nodes of a cluster."""
        records = [self._record(home.name) for home in self._folder.iterdir()] if self._folder.exists() else []
        return [record for record in records if record and record["cluster_uuid"] == uuid]

    def _write_hosts(self, uuid: str) -> None:
        """In place: nodes have mounted these very files."""
        records = self._cluster(uuid)
        lines = ["127.0.0.1 localhost", "169.254.169.254 metadata.google.internal metadata"]
        for record in records:
            instance = record["instance"]
            lines.append(f"{record['address']} {instance['hostname']} {instance['name']}")
        for record in records:
            (self._home(record["instance"]["name"]) / "hosts").write_text("\n".join([*lines, ""]))

    async def _spawn(self, name: str, argv: Sequence[str], env: Mapping[str, str], output: Path) -> Process:
        command = self.inside(name, argv, env)
        target = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=DEVNULL, stdout=target, stderr=target, start_new_session=True
            )
        finally:
            os.close(target)
        # Whoever forgets a process of asyncio kills it.
        self._children = {child for child in self._children if child.returncode is None} | {process}
        return process

    def _wait(self, name: str, what: str, ready: Any, seconds: float = 20) -> None:
        until = time.monotonic() + seconds
        while not ready():
            if self._daemons(name).dead() or time.monotonic() > until:
                raise OSError(f"node {name} does not start ({what}): {self._daemons(name).log('node')}")
            time.sleep(seconds / 1000)

    def _daemons(self, name: str) -> Daemons:
        folder = self._home(name) / "processes"
        folder.mkdir(exist_ok=True)
        return Daemons(folder, folder)

    def _record(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads((self._home(name) / "node.json").read_text()))
        except (OSError, ValueError):  # never started, or the emulator was killed while it wrote
            return {}

    def _home(self, name: str) -> Path:
        return self._folder / name


def _child(parent: int) -> int | None:
    """The only child of a process, if it is in a network namespace of its own already."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        apart = children and os.readlink(f"/proc/{children[0]}/ns/net") != os.readlink("/proc/self/ns/net")
    except OSError:  # it ends in this moment
        return None
    return int(children[0]) if apart else None


async def _to_its_end(function: Callable[..., None], *arguments: Any) -> None:
    """Call it in a thread. Cancelled or not, it is over afterwards: what comes next is done to the same node."""
    called = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        await asyncio.shield(called)
    except asyncio.CancelledError:
        await asyncio.wait([called])
        raise
