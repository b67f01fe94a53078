"""The test cluster itself: what the other tests of this folder take for granted."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.integration.kubernetes.manifests import compute_job, dask_cluster, job
from tests.servers.kubernetes import KubernetesServer, start_kubernetes

ORPHAN = """
import os, signal
from tests.servers.kubernetes import start_kubernetes
server = start_kubernetes("api")
print(server.daemons.pid("etcd"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_dask_cluster_computes_a_job(kubernetes: KubernetesServer, namespace: str) -> None:
    kubernetes.apply(dask_cluster("sums", namespace, workers=2), compute_job("sums", namespace, workers=2))

    kubernetes.wait(240, "the job", lambda: _ended(kubernetes, "sums", namespace))

    log = kubernetes.kubectl("logs", "job/sums", "-n", namespace)
    assert "sum 499999500000 on 2 workers" in log
    pods = kubernetes.get("pods", "-n", namespace, "-l", "dask.org/cluster-name=sums")["items"]
    assert sorted(pod["metadata"]["labels"]["dask.org/component"] for pod in pods) == ["scheduler", "worker", "worker"]

    kubernetes.kubectl("delete", "daskcluster", "sums", "-n", namespace, "--timeout=180s")
    gone = ["get", "pods", "-n", namespace, "-l", "dask.org/cluster-name=sums", "-o", "name"]
    kubernetes.wait(240, "the end of the pods", lambda: not kubernetes.kubectl(*gone).strip())


def test_the_dask_versions_are_those_of_the_tests(kubernetes: KubernetesServer, namespace: str) -> None:
    import distributed

    program = "import sys, dask, distributed, pandas; print(*sys.version_info[:2], dask.__version__)"
    kubernetes.apply(job("versions", namespace, ["python", "-c", program]))
    kubernetes.wait(240, "the job", lambda: _ended(kubernetes, "versions", namespace))
    assert kubernetes.kubectl("logs", "job/versions", "-n", namespace).split() == ["3", "11", distributed.__version__]


@pytest.mark.parametrize("mode", ["kubernetes", "kubernetes_api"])
def test_a_service_account_may_only_what_its_role_says(mode: str, request: pytest.FixtureRequest) -> None:
    server: KubernetesServer = request.getfixturevalue(mode)
    with server.namespace() as namespace:
        rules = [{"apiGroups": ["kubernetes.dask.org"], "resources": ["daskclusters"], "verbs": ["list"]}]
        kubeconfig = json.loads(server.service_account(namespace, "lister", rules).read_text())
        token = kubeconfig["users"][0]["user"]["token"]

        clusters = f"/apis/kubernetes.dask.org/v1/namespaces/{namespace}/daskclusters"
        assert _status(server, clusters, token) == 200
        assert _status(server, f"/api/v1/namespaces/{namespace}/secrets", token) == 403
        assert _status(server, "/apis/kubernetes.dask.org/v1/namespaces/default/daskclusters", token) == 403
        assert _status(server, clusters, "nonsense") == 401


def test_a_killed_api_server_comes_back_with_all_it_knew(kubernetes_api: KubernetesServer, api_namespace: str) -> None:
    kubernetes_api.apply(dask_cluster("kept", api_namespace, workers=1))
    before = kubernetes_api.get("daskcluster", "kept", "-n", api_namespace)["metadata"]["uid"]
    kubernetes_api.control("kill", "apiserver")
    assert not kubernetes_api.ready()
    kubernetes_api.control("start", "apiserver")
    kubernetes_api.wait_ready()
    assert kubernetes_api.get("daskcluster", "kept", "-n", api_namespace)["metadata"]["uid"] == before


def test_a_node_leaves_nothing_behind(kubernetes: KubernetesServer) -> None:
    """A second one beside that of the other tests, with a pod in it; also shows that two do not disturb each other."""
    settings = _kernel_settings()
    server = start_kubernetes("node")
    try:
        network = f"10.{server.net.number}."
        inside = os.readlink(f"/proc/{server.holder}/ns/net")
        with server.namespace() as namespace:
            server.apply(job("sleeper", namespace, ["sleep", "600"]))
            server.wait(240, "the pod", lambda: _running(server, namespace))
            traces = _traces(server, network, inside)
            # What is only in the node's own namespaces is never seen on the machine.
            assert [name for name, found in traces.items() if not found] == ["mounts", "rules"], traces
            assert _kernel_settings() == settings
            assert server.network != kubernetes.network
    finally:
        server.stop()
    assert {name: found for name, found in _traces(server, network, inside).items() if found} == {}
    assert kubernetes.ready()
    assert kubernetes.kubectl("get", "nodes", "-o", "name").split() == [f"node/{kubernetes.node}"]


def test_an_api_server_needs_no_privileges_and_the_next_start_clears_away_a_killed_one(
    kubernetes_api: KubernetesServer,
) -> None:
    checkout = Path(__file__).resolve().parents[3]
    unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    command = [*unprivileged, sys.executable, "-c", ORPHAN]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = done.stdout.strip()
    assert Path(f"/proc/{pid}").exists()

    server = start_kubernetes("api")
    try:
        assert not Path(f"/proc/{pid}").exists()
    finally:
        server.stop()


def _ended(server: KubernetesServer, name: str, namespace: str) -> bool:
    status = server.get("job", name, "-n", namespace)["status"]
    if status.get("failed"):
        pytest.fail(server.kubectl("logs", f"job/{name}", "-n", namespace, check=False), pytrace=False)
    return bool(status.get("succeeded"))


def _running(server: KubernetesServer, namespace: str) -> bool:
    pods = server.get("pods", "-n", namespace)["items"]
    return bool(pods) and all(pod["status"]["phase"] == "Running" for pod in pods)


def _status(server: KubernetesServer, path: str, token: str) -> int:
    request = urllib.request.Request(server.url + path, headers={"Authorization": f"Bearer {token}"})
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(server.ca))),
    )
    try:
        with opener.open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _traces(server: KubernetesServer, network: str, namespace: str) -> dict[str, list[str]]:
    """What of this node is to be seen on the machine."""
    processes, namespaces = [], []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().replace("\0", " ")
            if words and f":/{server.name}/" in (process / "cgroup").read_text():  # without: it is being reaped
                processes.append(words)
            if os.readlink(process / "ns" / "net") == namespace:
                namespaces.append(process.name)
        except OSError:  # it has just ended
            continue
    return {
        "processes": processes,
        "namespaces": namespaces,
        "groups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{server.name}")],
        "files": [str(path) for path in (server.state, Path("/run/netns")) if path.exists() and list(path.iterdir())],
        "interfaces": _lines(["ip", "-oneline", "link"], server.name),
        "routes": _lines(["ip", "route", "show", "table", "all"], network),
        "mounts": _lines(["cat", "/proc/self/mountinfo"], server.name),
        "rules": _lines(["nft", "list", "ruleset"], network) + _lines(["nft", "list", "ruleset"], "kube"),
    }


def _lines(command: list[str], what: str) -> list[str]:
    env = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if what in line]


def _kernel_settings() -> list[str]:
    """Those that a kubelet and kube-proxy change."""
    names = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")
    return [(Path("/proc/sys") / name).read_text() for name in names]
