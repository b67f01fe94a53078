"""Starts a cluster: each part of Kubernetes with its options, in the order in which they need each other."""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import IO, Any

from tests.servers.kubernetes.cached import CACHE, HERE, locked, remove, run
from tests.servers.kubernetes.daemons import make_groups, which
from tests.servers.kubernetes.images import CHECKOUT
from tests.servers.kubernetes.networks import Network, connect
from tests.servers.kubernetes.prepare import Prepared, prepare
from tests.servers.kubernetes.server import NODES, KubernetesServer, free_ports, state_of

ISSUER = "https://kubernetes.default.svc.cluster.local"


def start_kubernetes(
    mode: str = "node", *, keep: bool = False, say: Callable[[str], object] = lambda line: None
) -> KubernetesServer:
    """Start a cluster and wait until it is ready.

    :param mode: ``node`` or ``api``.
    :param keep: it outlives this process and is found again by :func:`running_kubernetes`. Otherwise the next start
        from this checkout clears away what this process has left behind.
    :param say: is told of everything that takes long.
    :raises RuntimeError: with the reason, when it cannot be had.
    """
    prepared = prepare(mode, say)
    name, lock = (_name(mode, "k"), None) if keep else _free_name(mode)
    server = KubernetesServer(name, mode, prepared, lock)
    try:
        _start(server)
    except BaseException:
        logs = Path(tempfile.gettempdir()) / f"{name}-log"
        remove(logs)
        subprocess.run(["cp", "-r", str(server.state / "log"), str(logs)], capture_output=True, check=False)
        server.stop()
        raise
    return server


def running_kubernetes(mode: str = "node") -> KubernetesServer | None:
    """The cluster of this checkout that was started to be kept, if it runs."""
    name = _name(mode, "k")
    try:
        record = json.loads((state_of(name) / "server.json").read_text())
    except OSError:
        return None
    store = record["store"] and Path(record["store"])
    server = KubernetesServer(name, mode, Prepared(Path(record["programs"]), Path(record["operator"]), store))
    server.url = record["url"]
    server.network = None if record["number"] is None else Network(record["number"])
    return server if server.daemons.pid("apiserver") else None


def stop_kept(mode: str = "node") -> bool:
    """Clear away the cluster that was started to be kept, or what is left of it. Was there any?"""
    name = _name(mode, "k")
    there = state_of(name).exists()
    KubernetesServer(name, mode, Prepared(Path(), Path(), None)).stop()
    return there


def shell_settings(server: KubernetesServer) -> str:
    """Lines for a shell that shall use this cluster."""
    path = f"{server.prepared.programs}:$PATH"
    return f'export KUBECONFIG={shlex.quote(str(server.kubeconfig))}\nexport PATH="{path}"'


def _name(mode: str, slot: str) -> str:
    """A short name that belongs to this checkout: of the control group, the interface and the node."""
    return f"kt{hashlib.sha256(f'{CHECKOUT} {mode}'.encode()).hexdigest()[:4]}{slot}"


def _free_name(mode: str) -> tuple[str, IO[str]]:
    """A name that no living process of this checkout uses, and what locks it as long as this process lives.

    Clears away what killed processes have left under all such names.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    free: dict[str, IO[str]] = {}
    for name in [_name(mode, str(slot)) for slot in range(10)]:
        lock = (CACHE / f"{name}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        if free and state_of(name).exists():
            KubernetesServer(name, mode, Prepared(Path(), Path(), None)).clear()
        if free:
            lock.close()
        else:
            free[name] = lock
    if not free:
        raise RuntimeError("ten servers run from this checkout")
    return free.popitem()


def _start(server: KubernetesServer) -> None:
    server.clear()
    for folder in ("run", "log", "conf", "etcd", "cni/conf", "cni/ipam", "containerd", "kubelet", "podlogs"):
        (server.state / folder).mkdir(parents=True, mode=0o755)
    for folder in ("volumeplugins", "varlib", "varlog"):
        (server.state / folder).mkdir()
    if server.mode == "node":
        _make_node(server)
        address, port, ports = server.net.address, 6443, [2379, 2380, 10257, 10259]
    else:
        port, *ports = free_ports(5)
        address = "127.0.0.1"
    server.url = f"https://{address}:{port}"
    record = {"url": server.url, "number": server.network.number if server.network else None}
    record |= {name: value and str(value) for name, value in vars(server.prepared).items()}
    _certificates(server, address)
    _launch_api(server, address, port, ports)
    if server.mode == "node":
        _configure(server)
        _start_containerd(server)
    server.wait(90, "the API server", server.ready)
    # Before the controller manager, whose garbage collector looks for new kinds only every 30 s: the first
    # deletion of a DaskCluster would hang that long.
    server.kubectl("apply", "--server-side", "-f", str(server.prepared.chart / "crds"))
    server.kubectl("apply", "--server-side", "-f", "-", input=_operator_rights(server.prepared.chart))
    kinds = "daskclusters,daskworkergroups,daskautoscalers,daskjobs"
    server.wait(60, "the Dask resources", lambda: server.answers("get", kinds, "-A"))
    _launch_controllers(server, ports)
    if server.mode == "node":
        _launch_node(server)
    server.wait(60, "the service account", lambda: server.answers("get", "serviceaccount", "default"))
    if server.mode == "node":
        server.wait(90, "the node", server.node_ready)
        server.wait(60, "kube-proxy", lambda: server.ready(f"https://{server.net.api_service}"))
        by_name = server.kubectl_command("--server", ISSUER, "get", "--raw", "/readyz", "--request-timeout", "2s")
        server.wait(60, "CoreDNS", lambda: not server.run_inside(by_name).returncode)
    (server.state / "server.json").write_text(json.dumps(record))


def _make_node(server: KubernetesServer) -> None:
    with locked(NODES):  # from here on nobody removes the folders that node-init.sh mounts over
        make_groups(server.group)
    resolv = server.state / "conf" / "resolv.cluster"
    resolv.touch()
    unshare = ["unshare", "--mount", "--net", "--uts", "--propagation", "private"]
    server.daemons.launch("node", [*unshare, "/bin/sh", str(HERE / "node-init.sh"), str(server.state), server.node])
    server.wait(20, "the node's namespaces", (server.state / "run" / "node.ready").exists)
    server.network = connect(server.name, server.holder)
    # Written in place: the node has mounted this very file.
    search = "default.svc.cluster.local svc.cluster.local cluster.local"
    resolv.write_text(f"search {search}\nnameserver {server.network.dns}\noptions ndots:5\n")


def _certificates(server: KubernetesServer, address: str) -> None:
    from tests.servers.kubernetes.certificates import Authority

    authority = Authority(server.state / "pki")
    authority.key_pair("sa")
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    names += ["localhost", *{"127.0.0.1", address}]
    if server.network:
        names.append(server.network.api_service)
        authority.server("kubelet-server", f"system:node:{server.node}", [server.node, address], "system:nodes")
    authority.server("apiserver", "kube-apiserver", names)
    authority.client("apiserver-kubelet", "kube-apiserver-kubelet-client", "system:masters")
    authority.client("proxy", "front-proxy-client")
    users = {
        "admin": ("kubernetes-admin", "system:masters"),
        "controllers": ("system:kube-controller-manager",),
        "scheduler": ("system:kube-scheduler",),
        "kubelet": (f"system:node:{server.node}", "system:nodes"),
        "kube-proxy": ("system:kube-proxy",),
        "coredns": ("system:coredns",),
        "operator": ("dask-operator",),
    }
    for name, (user, *groups) in users.items():
        authority.kubeconfig(server.state / f"{name}.kubeconfig", server.url, user, *groups)


def _launch_api(server: KubernetesServer, address: str, port: int, ports: Sequence[int]) -> None:
    client, peer = (f"http://127.0.0.1:{number}" for number in ports[:2])
    options = {"data-dir": server.state / "etcd", "logger": "zap", "log-level": "warn"}
    options |= {"listen-client-urls": client, "advertise-client-urls": client}
    options |= {"listen-peer-urls": peer, "initial-advertise-peer-urls": peer, "initial-cluster": f"default={peer}"}
    _launch(server, "etcd", "n", "etcd", options, "--unsafe-no-fsync")
    pki = server.state / "pki"
    options = {
        "etcd-servers": client,
        "bind-address": address,
        "advertise-address": address,
        "secure-port": port,
        "service-cluster-ip-range": server.network.services if server.network else "10.251.0.0/16",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "client-ca-file": pki / "ca.crt",
        "tls-cert-file": pki / "apiserver.crt",
        "tls-private-key-file": pki / "apiserver.key",
        "kubelet-client-certificate": pki / "apiserver-kubelet.crt",
        "kubelet-client-key": pki / "apiserver-kubelet.key",
        "kubelet-certificate-authority": pki / "ca.crt",
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-issuer": ISSUER,
        "service-account-key-file": pki / "sa.pub",
        "service-account-signing-key-file": pki / "sa.key",
        "requestheader-client-ca-file": pki / "ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": pki / "proxy.crt",
        "proxy-client-key-file": pki / "proxy.key",
        "profiling": "false",
    }
    _launch(server, "apiserver", "n", "kube-apiserver", options)


def _operator_rights(chart: Path) -> str:
    """The rights that the operator's Helm chart gives it, for the user of our operator."""
    role = re.sub(r"^{{.*}}\n", "", (chart / "templates" / "clusterrole.yaml").read_text(), flags=re.MULTILINE)
    role = re.sub(r"{{.*?}}", "dask-operator", role)
    return f"{role}---\n{(HERE / 'conf' / 'operator.yaml').read_text()}"


def _launch_controllers(server: KubernetesServer, ports: Sequence[int]) -> None:
    def common(name: str, port: int) -> dict[str, Any]:
        kubeconfig = server.state / f"{name}.kubeconfig"
        users = dict.fromkeys(("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"), kubeconfig)
        return {**users, "leader-elect": "false", "bind-address": "127.0.0.1", "secure-port": port}

    pki = server.state / "pki"
    options = {
        **common("controllers", ports[2]),
        "use-service-account-credentials": "true",
        "service-account-private-key-file": pki / "sa.key",
        "root-ca-file": pki / "ca.crt",
        "cluster-signing-cert-file": pki / "ca.crt",
        "cluster-signing-key-file": pki / "ca.key",
        "cluster-name": server.name,
        # With the default rate, the first service account comes 4 s later.
        "kube-api-qps": 200,
        "kube-api-burst": 400,
    }
    _launch(server, "controllers", "n", "kube-controller-manager", options)
    _launch(server, "scheduler", "n", "kube-scheduler", common("scheduler", ports[3]))


def _configure(server: KubernetesServer) -> None:
    network = server.net
    values = {name: getattr(network, name) for name in ("address", "pods", "pods_gateway", "dns")}
    values |= {"state": str(server.state), "name": server.name, "node": server.node}
    values |= {"store": str(server.state / "containerd" / "root"), "more_disabled_plugins": ""}
    for template in (HERE / "conf").iterdir():
        content = Template(template.read_text()).substitute(values)
        folder = "cni/conf" if template.suffix == ".conflist" else "conf"
        (server.state / folder / template.name).write_text(content)
    (server.state / "conf" / "resolv.upstream").touch()


def _start_containerd(server: KubernetesServer) -> None:
    store, root = server.prepared.store, server.state / "containerd" / "root"
    # Unpacked files are never written, so links to them will do; of its data bases it gets copies.
    if subprocess.run(["cp", "-al", str(store), str(root)], capture_output=True, check=False).returncode:
        remove(root)  # another file system
        run(["cp", "-a", str(store), str(root)])
    for base in root.rglob("*.db"):
        copy = base.with_suffix(".copy")
        copy.write_bytes(base.read_bytes())
        copy.replace(base)
    config = str(server.state / "conf" / "containerd.toml")
    server.daemons.launch("containerd", [*server.inside(), which("containerd"), "-c", config, "-l", "warn"])
    ask = [which("ctr"), "-a", server.socket, "version"]
    server.wait(30, "containerd", lambda: not subprocess.run(ask, capture_output=True, check=False).returncode)


def _launch_node(server: KubernetesServer) -> None:
    conf = server.state / "conf"
    options = {
        "config": conf / "kubelet.yaml",
        "kubeconfig": server.state / "kubelet.kubeconfig",
        "hostname-override": server.node,
        "node-ip": server.net.address,
        "root-dir": server.state / "kubelet",
        "cert-dir": server.state / "kubelet" / "pki",
    }
    _launch(server, "kubelet", "mnu", "kubelet", options)
    _launch(server, "kube-proxy", "mnu", "kube-proxy", {"config": conf / "kube-proxy.yaml"})
    server.kubectl("apply", "--server-side", "-f", str(conf / "node.yaml"))
    _launch(server, "coredns", "mnu", "coredns", {}, "-conf", str(conf / "Corefile"))


def _launch(
    server: KubernetesServer, name: str, namespaces: str, program: str, options: Mapping[str, Any], *more: str
) -> None:
    arguments = [f"--{option}={value}" for option, value in options.items()]
    server.daemons.launch(
        name, [*server.inside(namespaces), str(server.prepared.programs / program), *arguments, *more]
    )
