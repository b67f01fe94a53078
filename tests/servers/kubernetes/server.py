"""A real Kubernetes on one machine, with the real Dask operator.

``node``: one node with pods, as root. It lives in mount, network and uts namespaces and in a control group of its own.
``api``: etcd, API server, controller manager and scheduler on the loopback interface, without root and without pods.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tests.servers.kubernetes.cached import CACHE, locked, run
from tests.servers.kubernetes.daemons import Daemons, remove_groups, which
from tests.servers.kubernetes.networks import Network, disconnect
from tests.servers.kubernetes.prepare import Prepared
from tests.servers.listening import free_port

# Held while nodes come and go.
NODES = CACHE / "nodes.lock"


class KubernetesServer:
    """A cluster, made by :func:`.start.start_kubernetes` or found by :func:`.start.running_kubernetes`.

    :ivar mode: ``node`` or ``api``.
    :ivar url: the API server, as this machine and pods reach it.
    :ivar ca: the certificate that signs it.
    :ivar kubeconfig: of an administrator.
    :ivar node: the name of the node.
    :ivar state: its folder; logs are in ``state/log``.
    """

    def __init__(self, name: str, mode: str, prepared: Prepared, lock: IO[str] | None = None) -> None:
        self.name, self.mode, self.prepared, self._lock = name, mode, prepared, lock
        self.state = state_of(name)
        self.node = f"{name}-node"
        self.kubeconfig = self.state / "admin.kubeconfig"
        self.ca = self.state / "pki" / "ca.crt"
        self.group = f"{name}/system" if mode == "node" else ""
        self.daemons = Daemons(self.state / "run", self.state / "log", self.group)
        self.network: Network | None = None
        self.url = ""

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True) -> str:
        """Run kubectl as the administrator and return what it printed.

        :raises RuntimeError: it failed and ``check`` is true.
        """
        command = self.kubectl_command(*arguments)
        done = subprocess.run(command, input=input, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments[:6])}: {done.stderr.strip()}")
        return done.stdout

    def kubectl_command(self, *arguments: str) -> list[str]:
        """kubectl as the administrator."""
        command = [self.prepared.kubectl, "--kubeconfig", str(self.kubeconfig)]
        return [*command, "--cache-dir", str(self.state / "kubectl"), *arguments]

    def get(self, *arguments: str) -> Any:
        """``kubectl get … -o json``, parsed."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Create or change these objects."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(listed))

    @contextmanager
    def namespace(self, prefix: str = "test", name: str = "") -> Iterator[str]:
        """A new namespace whose pods may start. It is deleted afterwards, without waiting for the last of it.

        :param name: instead of one that nobody else has.
        """
        name = name or f"{prefix}-{uuid.uuid4().hex[:8]}"
        self.kubectl("create", "namespace", name)
        try:
            # Long after an outage of the API server: its controllers come back one by one, and ever more slowly.
            self.wait(120, "service account", lambda: self.answers("get", "serviceaccount", "default", "-n", name))
            yield name
        finally:
            self.kubectl("delete", "namespace", name, "--wait=false", check=False)
            if self.mode == "node":  # no pod may use up its grace period
                self.kubectl("delete", "pods", "--all", "-n", name, "--grace-period=1", "--wait=false", check=False)

    def service_account(self, namespace: str, name: str, rules: Sequence[Mapping[str, Any]] = ()) -> Path:
        """A service account with exactly these rights in its namespace; returns a kubeconfig with its token."""
        from tests.servers.kubernetes.certificates import write_kubeconfig

        metadata = {"name": name, "namespace": namespace}
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": metadata}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        self.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
            {**rbac, "kind": "Role", "rules": list(rules)},
            {**rbac, "kind": "RoleBinding", "roleRef": role, "subjects": [subject]},
        )
        token = self.kubectl("create", "token", name, "-n", namespace).strip()
        path = self.state / f"{namespace}-{name}.kubeconfig"
        write_kubeconfig(path, self.url, self.ca, {"token": token}, namespace)
        return path

    def run_inside(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on the node: there the names of services resolve, as in a pod."""
        settings = {"capture_output": True, "text": True, "check": False, **options}
        return subprocess.run([*self.inside(), *command], **settings)

    def inside(self, namespaces: str = "mnu") -> list[str]:
        """What to put before a command so that it runs on the node.

        :param namespaces: letters of nsenter's options; ``n`` is only the node's network.
        """
        if self.mode != "node":
            return []
        return [which("nsenter"), *(f"-{letter}" for letter in namespaces), "-t", str(self.holder)]

    def import_image(self, tar: Path) -> None:
        """Give the node an image, such as one of :func:`make_dask_image`."""
        run([which("ctr"), "-a", self.socket, "-n", "k8s.io", "image", "import", str(tar)])

    def control(self, action: str, name: str) -> None:
        """``kill``, ``stop``, ``start`` or ``restart`` a process: etcd, apiserver, controllers, scheduler, containerd,
        kubelet, kube-proxy, coredns or operator."""
        if action not in ("kill", "stop", "start", "restart") or name not in self.daemons.names():
            raise ValueError(f"cannot {action} {name}: it is one of {', '.join(sorted(self.daemons.names()))}")
        if action != "start":
            self.daemons.end(name, signal.SIGKILL if action == "kill" else signal.SIGTERM)
        if action in ("start", "restart") and self.daemons.pid(name) is None:
            self.daemons.launch(name)

    def wait_ready(self) -> None:
        """Wait until the API server answers, as after a restart."""
        self.wait(60, "the API server", self.ready)

    @contextmanager
    def api_away(self) -> Iterator[None]:
        """The API server is killed. Afterwards all that speak to it begin anew: their pauses have grown to a minute."""
        self.control("kill", "apiserver")
        try:
            yield
        finally:
            self.control("start", "apiserver")
            self.wait_ready()
            for name in ("controllers", "scheduler", "kubelet", "kube-proxy", "coredns", "operator"):
                self.control("kill", name)
                self.control("start", name)

    @contextmanager
    def node_away(self) -> Iterator[None]:
        """The kubelet is stopped and the node is called lost; its containers go on, unseen."""
        usual = self.daemons.command("controllers")
        self.control("stop", "controllers")
        self.control("stop", "kubelet")
        try:
            # Else it takes them most of a minute, here and wherever a test merely slows a kubelet down.
            self.daemons.launch("controllers", [*usual, "--node-monitor-period=1s", "--node-monitor-grace-period=4s"])
            self.wait(60, "the loss of the node", lambda: not self.node_ready())
            yield
        finally:
            self.control("start", "kubelet")
            self.control("stop", "controllers")
            self.daemons.launch("controllers", usual)
            self.wait(60, "the node", self.node_ready)

    def node_ready(self) -> bool:
        """Does the cluster count on the node?"""
        path = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        return self.kubectl("get", "node", self.node, "-o", path, check=False) == "True"

    def start_operator(self) -> None:
        """Start the Dask operator on the node, with the rights that its Helm chart gives it."""
        if self.daemons.pid("operator") is not None:
            return
        port = 8085 if self.mode == "node" else free_ports(1)[0]
        kopf = [str(self.prepared.operator / "bin" / "kopf"), "run", "-m", "dask_kubernetes.operator.controller"]
        health = f"http://127.0.0.1:{port}/healthz"
        command = [*self.inside(), *kopf, "--all-namespaces", "--liveness", health]
        self.daemons.launch("operator", command, {"KUBECONFIG": str(self.state / "operator.kubeconfig")})
        ask = f"import urllib.request; urllib.request.urlopen({health!r}, timeout=2)"
        python = [str(self.prepared.operator / "bin" / "python"), "-c", ask]
        self.wait(60, "the Dask operator", lambda: not self.run_inside(python).returncode)

    def wait(self, seconds: float, what: str, holds: Callable[[], bool]) -> None:
        """Wait until something holds.

        :raises RuntimeError: it never did, or a process of the cluster died meanwhile.
        """
        until = time.monotonic() + seconds
        while not holds():
            if dead := self.daemons.dead():
                raise RuntimeError(f"{dead[0]} died while waiting for {what}: {self.daemons.log(dead[0])}")
            if time.monotonic() > until:
                raise RuntimeError(f"waited {seconds:g} s in vain for {what}; logs are in {self.state / 'log'}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End every process and remove all there was: mounts, networks, control groups and files."""
        self.clear()
        if self._lock:
            self._lock.close()

    def clear(self) -> None:
        """The same, of a killed run with the same name too."""
        self.daemons.end_all()
        if self.group:
            disconnect(self.name)
            remove_groups(self.name)
            with locked(NODES):
                if not list(Path("/sys/fs/cgroup/pids").glob("kt*/system")):  # or another node would lose its mounts
                    for folder in ("/var/lib/kubelet", "/var/lib/cni"):
                        with suppress(OSError):  # it was never made, or is in use by somebody else
                            os.rmdir(folder)
        run(["rm", "-rf", "--one-file-system", str(self.state)])

    @property
    def net(self) -> Network:
        """The networks of a node."""
        if self.network is None:
            raise RuntimeError("only a node has networks")
        return self.network

    @property
    def holder(self) -> int:
        """The process that holds the node's namespaces open."""
        pid = self.daemons.pid("node")
        if pid is None:
            raise RuntimeError(f"the node is gone: {self.daemons.log('node')}")
        return pid

    @property
    def socket(self) -> str:
        """Where containerd listens."""
        return str(self.state / "containerd" / "containerd.sock")

    def answers(self, *arguments: str) -> bool:
        """Does kubectl succeed with these arguments?"""
        return not subprocess.run(self.kubectl_command(*arguments), capture_output=True, check=False).returncode

    def ready(self, url: str = "") -> bool:
        """Does the API server answer, there or at another address of it?"""
        context = ssl.create_default_context(cafile=str(self.ca))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(f"{url or self.url}/readyz", timeout=1):
                return True
        except (OSError, urllib.error.URLError):
            return False


def state_of(name: str) -> Path:
    """Beside the cached images, so that they need not be copied, if paths of sockets then fit into 108 characters."""
    state = CACHE / "run" / name
    return state if len(str(state)) <= 70 else Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}"


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback interface."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)
