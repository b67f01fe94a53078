"""A real YARN on the loopback interface: one ResourceManager and some NodeManagers that start real containers."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from dask_provider.runtime.processes import bound_to_me

from tests.servers.kubernetes.cached import remove
from tests.servers.kubernetes.daemons import Daemons
from tests.servers.kubernetes.server import free_ports
from tests.servers.yarn.jars import CACHE, HERE, hadoop_jars, java_home
from tests.servers.yarn.settings import HOST, NODE_PARTS, RM_PARTS, of_node, write_settings

CHECKOUT = HERE.parents[2]
OVER = ("FINISHED", "FAILED", "KILLED")


class YarnServer:
    """A cluster, made by :func:`start_yarn` or found by :func:`running_yarn`.

    :ivar url: of the ResourceManager's pages and REST API.
    :ivar state: its folder; logs are in ``state/log``.
    """

    def __init__(self, state: Path) -> None:
        self.state = state
        self.url = ""
        self.daemons = Daemons(state / "run", state / "log")
        self._env: dict[str, str] = {}

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to be a client of this cluster: ``yarn`` first on its PATH, and Hadoop's settings."""
        return {**self._env, "PATH": f"{self.state / 'bin'}:{os.environ.get('PATH', os.defpath)}"}

    def get(self, path: str) -> Any:
        """An answer of the ResourceManager's REST API, such as ``apps`` or ``metrics``."""
        with urllib.request.urlopen(f"{self.url}/ws/v1/cluster/{path}", timeout=10) as answer:
            return json.load(answer)

    def applications(self, tag: str = "") -> list[dict[str, Any]]:
        """Applications that are not over."""
        query = f"&applicationTags={tag}" if tag else ""
        found = self.get(f"apps?states=NEW,NEW_SAVING,SUBMITTED,ACCEPTED,RUNNING{query}")
        return list((found["apps"] or {}).get("app", []))

    def application(self, identity: str) -> dict[str, Any]:
        return dict(self.get(f"apps/{identity}")["app"])

    def containers(self) -> dict[int, str]:
        """Processes of containers, by number; also of those whose NodeManager is gone."""
        marker, daemons = f"{self.state}/nm-local/", {self.daemons.pid(name) for name in self.daemons.names()}
        found = {}
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                where = [*words, *process.environ().values()]
                gone = process.status() == psutil.STATUS_ZOMBIE
            except psutil.Error:
                continue
            if process.pid not in daemons and not gone and any(marker in text for text in where):
                found[process.pid] = " ".join(words)
        return found

    def stop(self) -> None:
        """End every daemon and every container, and remove all files."""
        self.daemons.end_all()
        until = time.monotonic() + 20
        while left := self.containers():
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            if time.monotonic() > until:
                raise RuntimeError(f"containers do not end: {left}")
            time.sleep(0.05)
        remove(self.state)

    def wait(self, seconds: float, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds.

        :raises RuntimeError: it never did, or a daemon died meanwhile.
        """
        until = time.monotonic() + seconds
        while not holds():
            if dead := self.daemons.dead():
                raise RuntimeError(f"{dead[0]} died while waiting for {what}: {self.daemons.log(dead[0])}")
            if time.monotonic() > until:
                raise RuntimeError(f"waited {seconds:g} s in vain for {what}; logs are in {self.state / 'log'}")
            time.sleep(0.1)


def start_yarn(
    nodes: int = 2, state: Path | None = None, say: Callable[[str], object] = lambda line: None
) -> YarnServer:
    """Start a cluster and wait until all of its nodes are there.

    :param state: a folder that does not exist yet; the cluster then ends with this process. Without one it outlives
        this process and is found again by :func:`running_yarn`.
    :param say: is told of everything that takes long.
    :raises RuntimeError: with the reason, when it cannot be had.
    """
    jars = hadoop_jars(say)
    server = YarnServer(state or _kept())
    if state is None:
        server.stop()  # what is left of one that died
    try:
        _start(server, jars, nodes, keep=state is None)
    except BaseException:
        logs = Path(tempfile.gettempdir()) / f"yarn-{os.getuid()}-log"
        remove(logs)
        if (server.state / "log").exists():
            shutil.move(server.state / "log", logs)
        server.stop()
        raise
    return server


def running_yarn() -> YarnServer | None:
    """The cluster of this checkout that was started to be kept, if it runs."""
    server = YarnServer(_kept())
    try:
        record = json.loads((server.state / "server.json").read_text())
    except OSError:
        return None
    server.url, server._env = record["url"], record["env"]
    return server if server.daemons.pid("resourcemanager") else None


def stop_kept() -> bool:
    """Clear away the cluster that was started to be kept, or what is left of it. Was there any?"""
    there = _kept().exists()
    YarnServer(_kept()).stop()
    return there


def shell_settings(server: YarnServer) -> str:
    """Lines for a shell that shall use this cluster."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in server._env.items()]
    return "\n".join([*lines, f"export PATH={shlex.quote(str(server.state / 'bin'))}:$PATH"])


def _kept() -> Path:
    return CACHE / f"run-{hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:8]}"


def _start(server: YarnServer, jars: Path, nodes: int, *, keep: bool) -> None:
    state, conf = server.state, server.state / "conf"
    for name in ("run", "log", "bin", "tmp", "fs/user", "app-logs"):
        (state / name).mkdir(parents=True)
    ports = iter(free_ports(len(RM_PARTS) + nodes * len(NODE_PARTS)))
    listens = dict(zip(RM_PARTS, ports))  # noqa: B905  the rest is the nodes'
    write_settings(conf, state, jars, list(listens.values()))
    program = state / "bin" / "yarn"
    program.symlink_to(HERE / "yarn.sh")
    server.url = f"http://{HOST}:{listens['webapp.']}"
    server._env = {"HADOOP_CONF_DIR": str(conf), "YARN_CONF_DIR": str(conf), "YARN_JARS": str(jars)}
    server._env |= {"JAVA_HOME": str(java_home()), "DASK_YARN__SCHEDULER__HOST": HOST}

    def launch(name: str, *arguments: str) -> None:
        command = [str(program), *arguments]
        server.daemons.launch(name, command if keep else bound_to_me(command), server._env)

    launch("resourcemanager", "resourcemanager")
    for number in range(1, nodes + 1):
        own = of_node(number, state, [next(ports) for _ in NODE_PARTS])
        launch(f"nodemanager-{number}", "nodemanager", *(f"-D{name}={value}" for name, value in own.items()))
    server.wait(90, f"{nodes} nodes", lambda: _active_nodes(server) == nodes)
    # Nodes may register before it calls itself active.
    server.wait(30, "the ResourceManager", lambda: server.get("info")["clusterInfo"]["haState"] == "ACTIVE")
    (state / "server.json").write_text(json.dumps({"url": server.url, "env": server._env}))


def _active_nodes(server: YarnServer) -> int:
    try:
        return int(server.get("metrics")["clusterMetrics"]["activeNodes"])
    except (OSError, ValueError, urllib.error.URLError):  # not up yet
        return 0
